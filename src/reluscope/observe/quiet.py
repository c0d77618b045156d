"""Guards: whatever a measurement may not leave behind, each in a context manager of its own.

`observation.py` enters them all. They are looked up in this module when entered, so that a test can take one
away and see the damage that it prevents.
"""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd import _unsafe_preserve_version_counter
from torch.nn.modules import module as module_internals

from reluscope.observe.hooks import LOCAL_HOOKS, computing_hooks

__all__ = [
    "ambient_autocast",
    "ambient_modes",
    "eager_only",
    "eval_mode",
    "framed_forwards",
    "kept_script_buffers",
    "parametrization_cache",
    "quiet_checkpoints",
    "random_streams",
    "silent_global_hooks",
    "silent_hooks",
]

_SEED = 0


@contextmanager
def random_streams() -> Iterator[None]:
    """Run under fixed seeds and put every global random stream back.

    The streams are those of torch (CPU and each device in use), NumPy and `random`. The fixed seed makes a
    model that draws numbers in eval mode show the same bits at every measurement.
    """
    generators = [torch.default_generator]
    # Asking a device that is not in use would initialise it.
    if torch.cuda.is_initialized():
        generators.extend(torch.cuda.default_generators)
    if hasattr(torch, "xpu") and torch.xpu.is_initialized():
        generators.extend(torch.xpu.default_generators)
    if torch.backends.mps.is_available():
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    for generator in generators:
        generator.manual_seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002
    random.seed(_SEED)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """`training` False on every module, without calling `eval()` or `train()`, which users override."""
    before = [(module, module.training) for module in modules]
    try:
        for module, _ in before:
            _set_training(module, False)
        yield
    finally:
        for module, training in before:
            _set_training(module, training)


def _set_training(module: nn.Module, training: bool) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        module.training = training  # lives in C++
    elif module.__dict__.get("training") is not training:
        module.__dict__["training"] = training


@contextmanager
def kept_script_buffers(scripted: Iterable[nn.Module]) -> Iterator[None]:
    """Values and version counters of the buffers of scripted modules, which cannot be exchanged."""
    buffers = [buffer for module in scripted for buffer in module.buffers()]
    before = [(_unsafe_preserve_version_counter(buffer), buffer, buffer.clone()) for buffer in buffers]
    versions = [buffer._version for buffer in buffers]
    try:
        yield
    finally:
        for (counter, buffer, values), version in zip(before, versions, strict=True):
            if buffer._version != version:
                with counter:
                    buffer.copy_(values)


@contextmanager
def silent_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Only hooks that compute the module itself run (weight_norm, spectral_norm, pruning, FSDP)."""
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    try:
        for module in modules:
            present = {name: module.__dict__[name] for name in LOCAL_HOOKS if name in module.__dict__}
            if any(present.values()):
                before.append((module, present))
                kept = computing_hooks(module)
                for name, hooks in present.items():
                    module.__dict__[name] = OrderedDict(
                        (key, hook) for key, hook in hooks.items() if key in kept
                    )
        yield
    finally:
        for module, present in before:
            module.__dict__.update(present)


@contextmanager
def silent_global_hooks() -> Iterator[None]:
    """No hook that is registered for all modules runs."""
    names = [
        name
        for name, value in vars(module_internals).items()
        if name.startswith("_global_") and isinstance(value, dict) and "registration" not in name
    ]
    before = {name: getattr(module_internals, name) for name in names}
    try:
        for name in names:
            setattr(module_internals, name, OrderedDict())
        yield
    finally:
        for name, hooks in before.items():
            setattr(module_internals, name, hooks)


@contextmanager
def framed_forwards(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Each module runs the given forward; `m.compile()` is set aside, since it would bypass it."""
    names = ("forward", "_compiled_call_impl")
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    try:
        for module, forward in forwards:
            before.append(
                (module, {name: module.__dict__[name] for name in names if name in module.__dict__})
            )
            module.__dict__["forward"] = forward
            if "_compiled_call_impl" in module.__dict__:
                module.__dict__["_compiled_call_impl"] = None
        yield
    finally:
        for module, present in before:
            if "forward" not in present:
                module.__dict__.pop("forward", None)
            module.__dict__.update(present)


def eager_only() -> AbstractContextManager[Any]:
    """Compiled functions run eagerly: nothing is compiled, no frame is added to what Dynamo counts."""
    # Whoever has compiled something has imported Dynamo; importing it here would take a second.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def ambient_autocast(device_type: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast off on every device type, whatever is ambient, or on for `device_type` with the given dtype.

    Without a cache: torch versions that keep casts made under `no_grad` would hand ours, which carry no
    gradient, to the training step in the caller's region.
    """
    enabled = {kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.is_autocast_enabled(kind)}
    with ExitStack() as stack:
        for kind in sorted(enabled | {device_type}):
            if kind == device_type and dtype is not None:
                stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
            elif kind in enabled:
                stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield


@contextmanager
def ambient_modes() -> Iterator[None]:
    """The caller's function and dispatch modes (counters, loggers) do not see the pass.

    `torch.set_default_device` is such a mode too, and stays: the model makes its new tensors there.
    """
    from torch.utils._device import DeviceContext
    from torch.utils._python_dispatch import _disable_current_modes

    stack = [torch._C._get_function_stack_at(i) for i in range(torch._C._len_torch_function_stack())]
    kept = [mode for mode in stack if isinstance(mode, DeviceContext)]
    _replace_function_modes(kept)
    try:
        with _disable_current_modes():
            yield
    finally:
        _replace_function_modes(stack)


def _replace_function_modes(modes: list[Any]) -> None:
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in modes:
        torch._C._push_on_torch_function_stack(mode)


@contextmanager
def parametrization_cache() -> Iterator[None]:
    """Inside `parametrize.cached()` our weights, which carry no gradient, must not stay in the cache."""
    from torch.nn.utils import parametrize

    before = (parametrize._cache_enabled, parametrize._cache)
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = before


@contextmanager
def quiet_checkpoints() -> Iterator[None]:
    """Reentrant checkpoints warn when no input wants a gradient, which is our doing and not the user's."""
    from torch.utils import checkpoint

    before = checkpoint.check_backward_validity
    checkpoint.check_backward_validity = lambda inputs: None
    try:
        yield
    finally:
        checkpoint.check_backward_validity = before
