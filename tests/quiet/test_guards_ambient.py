"""Guards of what surrounds the model: hooks, compilation, autocast, modes, caches, warnings."""

from __future__ import annotations

import functools
import warnings
from contextlib import contextmanager, nullcontext, suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as module_internals
from torch.nn.utils import parametrizations, parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from reluscope.observe import ObservationMode, Probe, observe, quiet

ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def look(model, rows=ROWS, **mode):
    names = []
    observe(
        model, Probe(rows, batch_size=3), ObservationMode(**mode), lambda batch: names.append(batch.site.name)
    )
    return names


def without(monkeypatch, name):
    """Take one guard away."""
    monkeypatch.setattr(quiet, name, lambda *args: nullcontext())


class Body(nn.Sequential):
    """A module of the user's own: Dynamo skips frames that are torch's."""

    def forward(self, x):
        for module in self:
            x = module(x)
        return x


def mlp():
    return Body(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


# Hooks -----------------------------------------------------------------------------------------------------


@contextmanager
def hooked(model, calls):
    """Every kind of hook a user may have, on one child and on all modules."""
    child = model[0]
    handles = [
        child.register_forward_pre_hook(lambda m, a: calls.append("pre")),
        child.register_forward_pre_hook(lambda m, a, k: calls.append("pre kw"), with_kwargs=True),
        child.register_forward_hook(lambda m, a, o: calls.append("post")),
        child.register_forward_hook(lambda m, a, k, o: calls.append("post kw"), with_kwargs=True),
        child.register_forward_hook(functools.partial(lambda x, m, a, o: calls.append("partial"), 1)),
        child.register_forward_hook(lambda m, a, o: calls.append("always"), always_call=True),
        child.register_full_backward_hook(lambda m, i, o: calls.append("backward")),
        child.register_full_backward_pre_hook(lambda m, o: calls.append("backward pre")),
    ]
    if calls is not None:
        handles += [
            module_internals.register_module_forward_pre_hook(lambda m, a: calls.append("global pre")),
            module_internals.register_module_forward_hook(lambda m, a, o: calls.append("global post")),
            module_internals.register_module_full_backward_hook(lambda m, i, o: calls.append("global back")),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hook_state(model):
    own = [
        (name, id(value), list(value.items()))
        for module in model.modules()
        for name, value in module.__dict__.items()
        if "hook" in name and isinstance(value, dict)
    ]
    ambient = [
        (name, id(value), list(value.items()))
        for name, value in vars(module_internals).items()
        if name.startswith("_global") and isinstance(value, dict)
    ]
    return own, ambient


def test_hooks():
    model, calls = mlp(), []
    with hooked(model, calls):
        before = hook_state(model)
        look(model)
        assert calls == []
        assert hook_state(model) == before
        model(ROWS.clone().requires_grad_()).sum().backward()
        assert {"pre", "pre kw", "post", "post kw", "partial", "always", "backward", "backward pre"} <= {
            *calls
        }
        assert {"global pre", "global post", "global back"} <= {*calls}
    assert not model[0]._forward_hooks  # the handles still found their hooks


@pytest.mark.parametrize("name", ["silent_hooks", "silent_global_hooks"])
def test_hooks_unguarded(name, monkeypatch):
    without(monkeypatch, name)
    model, calls = mlp(), []
    with hooked(model, calls):
        look(model)
    assert ("pre" in calls) == (name == "silent_hooks")
    assert ("global pre" in calls) == (name == "silent_global_hooks")


def test_hooks_after_an_exception():
    class Fails(nn.Module):
        def forward(self, x):
            raise OSError("mine")

    model, calls = nn.Sequential(Fails()), []
    with hooked(model, calls):
        before = hook_state(model)
        with pytest.raises(OSError, match="mine"):
            look(model)
        assert calls == []
        assert hook_state(model) == before


# Compilation -----------------------------------------------------------------------------------------------


def counting_backend(compiled):
    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    return backend


# Dynamo looks at `.grad` of what it traces, and warns about itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("how", ["torch.compile", "in place", "child", "function", "method"])
def test_compiled_models_gain_no_frames(how):
    torch._dynamo.reset()
    compiled = []
    compile_it = functools.partial(torch.compile, backend=counting_backend(compiled))
    model = mlp()
    names = ["1"]
    if how == "torch.compile":
        model = compile_it(model)
    elif how == "in place":
        model.compile(backend=counting_backend(compiled))
    elif how == "child":
        model, names = nn.Sequential(compile_it(model)), ["0.1"]
    elif how == "method":
        model.forward = compile_it(model.forward)
    else:

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.function = mlp(), compile_it(lambda x: F.relu(x) * 2)

            def forward(self, x):
                return self.function(self.body(x))

        model, names = Net(), ["body.1", "relu"]
    model(ROWS).sum().backward()
    frames, counters = len(compiled), dict(torch._dynamo.utils.counters["frames"])
    assert frames
    for _ in range(10):
        assert look(model) == names * 2
    model(ROWS).sum().backward()
    assert len(compiled) == frames
    assert dict(torch._dynamo.utils.counters["frames"]) == counters


@pytest.mark.parametrize(("name", "how"), [("framed_forwards", "in place"), ("eager_only", "function")])
def test_compilation_unguarded(name, how, monkeypatch):
    """Without the guard the compiler runs inside the measurement."""
    torch._dynamo.reset()
    compiled = []
    monkeypatch.setattr(
        quiet, name, lambda *args: nullcontext() if name == "eager_only" else _frames_only(*args)
    )
    monkeypatch.setattr(quiet, "eager_only", nullcontext)
    model = mlp()
    if how == "in place":
        model.compile(backend=counting_backend(compiled))
    else:
        body = model.forward
        model.forward = torch.compile(body, backend=counting_backend(compiled))
    before = sum(torch._dynamo.utils.counters["frames"].values())
    with suppress(Exception):  # Dynamo may trip over what it finds
        look(model)
    assert sum(torch._dynamo.utils.counters["frames"].values()) > before


@contextmanager
def _frames_only(forwards):
    """`framed_forwards` without its care for `m.compile()`."""
    pairs = list(forwards)
    for module, forward in pairs:
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module, _ in pairs:
            del module.__dict__["forward"]


def test_in_place_compilation_is_restored():
    model = mlp()
    model.compile(backend="eager")
    call = model._compiled_call_impl
    look(model)
    assert model._compiled_call_impl is call
    assert "forward" not in model.__dict__


# Autocast --------------------------------------------------------------------------------------------------


def gradients(model, measure, **mode):
    """Two forward passes in one autocast region, with a look in between."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = model(ROWS)
        if measure:
            look(model, **mode)
        second = model(ROWS * 2)
        (first.float().sum() + (second.float() ** 2).sum()).backward()
    return [None if one.grad is None else one.grad.clone() for one in model.parameters()]


def assert_equal_gradients(left, right):
    assert all(a is not None and b is not None for a, b in zip(left, right, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_autocast(autocast):
    model = mlp()
    dtypes = []
    expected = gradients(model, measure=False)
    assert_equal_gradients(gradients(model, measure=True, autocast=autocast), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observation = observe(model, Probe(ROWS), ObservationMode(autocast=autocast), lambda batch: None)
        dtypes.append(observation.sites[0].dtype)
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_cache_enabled()
    assert dtypes == ["float32" if autocast is None else "bfloat16"]


def test_a_look_first_leaves_no_cast_in_the_cache():
    """A cast made under no_grad and found by the training step would cut its gradient off."""
    model = mlp()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        look(model, autocast=torch.bfloat16)
        model(ROWS).float().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_autocast_unguarded(monkeypatch):
    without(monkeypatch, "ambient_autocast")
    model = mlp()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observation = observe(model, Probe(ROWS), ObservationMode(), lambda batch: None)
    assert observation.sites[0].dtype == "bfloat16"  # the bits would depend on where one measures


def test_a_decorated_forward_leaves_no_cast_in_the_cache():
    class Decorated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 4)

        @torch.autocast("cpu", dtype=torch.bfloat16)
        def forward(self, x):
            return F.relu(self.fc(x))

    model = Decorated()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        look(model)
        model(ROWS).float().sum().backward()
    assert model.fc.weight.grad is not None


# Modes -----------------------------------------------------------------------------------------------------


class Logger(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls.append(func)
        return func(*args, **(kwargs or {}))


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def test_modes_of_the_caller():
    model, probe = mlp(), Probe(ROWS)
    with Logger() as outer, Counter() as counter, Logger() as inner:
        observe(model, probe, ObservationMode(), lambda batch: None)
        seen = [str(func) for mode in (outer, inner) for func in mode.calls] + counter.calls
        assert not [name for name in seen if "linear" in name or "relu" in name or "addmm" in name]
        count = len(outer.calls), len(inner.calls), len(counter.calls)
        model(ROWS)
        assert all(
            a > b
            for a, b in zip((len(outer.calls), len(inner.calls), len(counter.calls)), count, strict=True)
        )
    assert torch._C._len_torch_function_stack() == 0


def test_modes_unguarded(monkeypatch):
    without(monkeypatch, "ambient_modes")
    with Logger() as logger, Counter() as counter:
        look(mlp())
    assert any("relu" in str(func) for func in logger.calls)
    assert any("addmm" in name for name in counter.calls)


def test_default_device_stays():
    class Makes(nn.Module):
        def forward(self, x):
            Makes.device = torch.zeros(2).device
            return F.relu(x)

    with torch.device("meta"):
        look(Makes())
        assert torch.zeros(1).device.type == "meta"
    assert Makes.device.type == "meta"
    assert torch.zeros(1).device.type == "cpu"


def test_threads_see_no_mode():
    import threading

    seen = []

    class Spawns(nn.Module):
        def forward(self, x):
            thread = threading.Thread(target=lambda: seen.append(torch._C._len_torch_function_stack()))
            thread.start()
            thread.join()
            return F.relu(x)

    look(Spawns())
    assert seen == [0, 0]


# Caches and warnings ------------------------------------------------------------------------------


def cached_step(model):
    """A training step whose weights are computed once, in a cached region that a measurement used first."""
    model.zero_grad()
    with parametrize.cached():
        look(model)
        model(ROWS).sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def test_parametrization_cache():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4)), nn.ReLU())
    assert all(grad is not None for grad in cached_step(model))
    assert parametrize._cache == {}


def test_parametrization_cache_unguarded(monkeypatch):
    without(monkeypatch, "parametrization_cache")
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4)), nn.ReLU())
    assert any(grad is None for grad in cached_step(model))


class Checkpointed(nn.Module):
    def forward(self, x):
        return checkpoint(F.relu, x, use_reentrant=True)


def test_reentrant_checkpoints_do_not_warn():
    assert look(Checkpointed()) == ["relu", "relu"]  # a warning would be an error here


def test_reentrant_checkpoints_unguarded(monkeypatch):
    without(monkeypatch, "quiet_checkpoints")
    with pytest.warns(UserWarning, match="requires_grad=True"):
        look(Checkpointed())


def test_the_filters_of_warnings_are_left_alone():
    before = list(warnings.filters)
    look(Checkpointed())
    assert warnings.filters == before


def test_the_deterministic_flags_and_dtypes_are_left_alone():
    state = (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
    )
    look(mlp())
    assert state == (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
    )
