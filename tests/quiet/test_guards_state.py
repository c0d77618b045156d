"""Guards of modules and random streams: each protects, and its damage shows when it is taken away."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict, deque
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reluscope.errors import MeasurementError
from reluscope.observe import ObservationMode, Probe, observation, observe, quiet
from reluscope.observe.parameters import ParameterKeeper

ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def look(model, rows=ROWS, **mode):
    observe(model, Probe(rows, batch_size=3), ObservationMode(**mode), lambda batch: None)


def without(monkeypatch, module, name):
    """Take one guard away."""
    monkeypatch.setattr(module, name, lambda *args: nullcontext())


class Writer(nn.Module):
    """Writes to every kind of attribute that a forward can reach."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self.register_buffer("running", torch.ones(5))
        self.view = self.running[1:3]
        self.count, self.loss, self.total = 0, None, torch.zeros(())
        self.losses, self.cache, self.seen = [], {"k": [torch.zeros(5)]}, set()
        self.ring, self.pair, self.array = deque(maxlen=3), (torch.zeros(2), 1), np.zeros(3)
        self.generator, self.random, self.rng = torch.Generator(), random.Random(1), np.random.default_rng(1)
        self.doomed = "here"

    def forward(self, x):
        self.running.mul_(0.5).add_(x.mean(0))
        self.view.add_(1)
        self.count += 1
        self.total += x.sum()
        self.loss = x.sum()
        self.losses.append(x)
        self.cache["k"][0].add_(1)
        self.cache["new"] = x
        self.seen.add(len(x))
        self.ring.append(x)
        self.pair[0].add_(1)
        self.array += 1
        torch.rand(3, generator=self.generator), self.random.random(), self.rng.random()
        self.fresh = True
        if hasattr(self, "doomed"):
            del self.doomed
        return F.relu(self.fc(x))


def portrait(model):
    """Everything in a module's __dict__, with identities, values and version counters."""
    found = []

    def visit(name, value):
        found.append((name, id(value)))
        if isinstance(value, torch.Tensor):
            version = None if value.is_inference() else value._version
            found.append((name, version, value.detach().clone().flatten().tolist(), value.data_ptr()))
        elif isinstance(value, dict):
            for key, one in value.items():
                visit(f"{name}.{key}", one)
        elif isinstance(value, (list, tuple, deque)):
            for i, one in enumerate(value):
                visit(f"{name}.{i}", one)
        elif isinstance(value, set):
            found.append((name, sorted(value)))
        elif isinstance(value, np.ndarray):
            found.append((name, value.tolist()))
        elif isinstance(value, torch.Generator):
            found.append((name, value.get_state().tolist()))
        elif isinstance(value, random.Random):
            found.append((name, value.getstate()))
        elif isinstance(value, np.random.Generator):
            found.append((name, str(value.bit_generator.state)))

    for path, module in model.named_modules():
        visit(path, module.__dict__)
    return found


def test_attributes_of_every_kind():
    model = Writer()
    before = portrait(model)
    look(model)
    assert portrait(model) == before
    model.running.add_(1)
    assert model.view.tolist() == [2.0, 2.0]  # still a view of it


def test_attributes_unguarded(monkeypatch):
    without(monkeypatch, observation, "kept_attributes")
    model = Writer()
    before = portrait(model)
    look(model)
    assert portrait(model) != before
    assert model.count == 2


def test_attributes_after_an_exception():
    class Fails(Writer):
        def forward(self, x):
            super().forward(x)
            raise KeyError("mine")

    model = Fails()
    before = portrait(model)
    with pytest.raises(KeyError, match="mine") as caught:
        look(model)
    assert portrait(model) == before
    assert caught.value.__notes__ == ["reluscope: raised during a measurement, in batch 0 of 2 of the probe."]


def test_attributes_after_an_interrupt():
    class Interrupted(Writer):
        def forward(self, x):
            super().forward(x)
            raise KeyboardInterrupt

    model = Interrupted()
    before = portrait(model)
    with pytest.raises(KeyboardInterrupt):
        look(model)
    assert portrait(model) == before


def test_a_list_that_someone_else_holds_is_put_back_too():
    model = Writer()
    held = model.losses
    look(model)
    assert held == []
    assert model.losses is held


def test_shared_memory_stays_shared_during_the_pass():
    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("whole", torch.zeros(4))
            self.part = self.whole[1:3]
            self.fc = nn.Linear(5, 5)
            self.first_row = self.fc.weight.detach()[0]

        def forward(self, x):
            self.part.add_(1)
            assert self.whole.tolist() == [0, 1, 1, 0] or self.whole.tolist() == [0, 2, 2, 0]
            assert self.first_row.data_ptr() == self.fc.weight.data_ptr()
            return F.relu(self.fc(x))

    model = Shares()
    look(model)
    assert model.whole.tolist() == [0, 0, 0, 0]


def test_a_graph_in_waiting_survives():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(5))
            self.fc = nn.Linear(5, 5)

        def forward(self, x):
            out = F.relu(self.fc(x) * self.scale)
            if not self.training:
                self.scale.mul_(2)
            return out

    model = Net()
    loss = model(ROWS).sum()
    look(model)  # between forward and backward
    loss.backward()  # torch refuses when a saved tensor has been written to
    assert model.scale.tolist() == [1.0] * 5


def test_modules_outside_of_named_modules():
    class Hides(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.BatchNorm1d(5), nn.Dropout(0.9), Writer()]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return F.relu(x)

    model = Hides()
    before = [portrait(layer) for layer in model.layers]
    look(model, torch.randn(6, 5))
    assert [portrait(layer) for layer in model.layers] == before


# Train and eval mode ---------------------------------------------------------------------------------------


class Moody(nn.Module):
    """Overrides train and eval, as frozen backbones do."""

    def __init__(self):
        super().__init__()
        self.bn, self.dropout, self.fc = nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 5)
        self.calls = []
        self.bn.eval()

    def train(self, mode=True):
        self.calls.append(mode)
        return super().train(mode)

    def forward(self, x):
        self.modes = [module.training for module in self.modules()]
        Moody.seen = self.modes
        return F.relu(self.dropout(self.fc(self.bn(x))))


def modes(model):
    return [module.training for module in model.modules()]


def test_modes():
    model = Moody()
    before = modes(model)
    assert before == [True, False, True, True]
    look(model)
    assert Moody.seen == [False] * 4
    assert modes(model) == before
    assert model.calls == []


def test_modes_unguarded(monkeypatch):
    without(monkeypatch, quiet, "eval_mode")
    look(Moody())
    assert True in Moody.seen


def test_modes_after_an_exception():
    class Fails(Moody):
        def forward(self, x):
            raise RuntimeError("mine")

    model = Fails()
    before = modes(model)
    with pytest.raises(RuntimeError, match="mine"):
        look(model)
    assert modes(model) == before


def test_a_scripted_child_keeps_its_mode_and_buffers():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))
            self.dropout = nn.Dropout(0.5)

        def forward(self, x):
            self.count.add_(1)
            return self.dropout(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(Inner())
    model = nn.Sequential(scripted, nn.ReLU())
    version = scripted.count._version
    values = []
    observe(model, Probe(ROWS), ObservationMode(), lambda batch: values.append(batch.preactivations.clone()))
    assert torch.equal(values[0], ROWS)  # no dropout: eval mode reached it
    assert scripted.training
    assert scripted.dropout.training
    assert scripted.count.item() == 0
    assert scripted.count._version == version


# Batch norm ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_running_statistics(mode):
    model = nn.Sequential(nn.BatchNorm1d(5), nn.ReLU())
    before = {name: (value.clone(), value._version) for name, value in model.state_dict().items()}
    look(model, batch_norm=mode)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value._version == before[name][1]


# Parameters and gradients ----------------------------------------------------------------------------------


class MaxNorm(nn.Module):
    """Constrains its weights in forward, as EEGNet does; `how` is the spelling."""

    def __init__(self, how):
        super().__init__()
        self.fc, self.how = nn.Linear(5, 5), how

    def forward(self, x):
        weight = self.fc.weight
        with torch.no_grad():
            if self.how == "data=":
                weight.data = torch.renorm(weight.data, 2, 0, 0.1)
            elif self.how == "data.op_":
                weight.data.clamp_(-0.01, 0.01)
            elif self.how == "copy_":
                weight.copy_(weight * 0.5)
            elif self.how == "setitem":
                weight[0] = 0
            elif self.how == "iadd":
                weight += 1
            elif self.how == "out":
                torch.mul(weight, 0.5, out=weight)
            elif self.how == "view":
                weight.view(-1)[3:5].zero_()
            elif self.how == "new":
                self.fc.weight = nn.Parameter(weight * 0.5)
            elif self.how == "init":
                nn.init.zeros_(weight)
        return F.relu(self.fc(x))


WRITES = ["data=", "data.op_", "copy_", "setitem", "iadd", "out", "view", "new", "init"]


@pytest.mark.parametrize("how", WRITES)
def test_weights_that_forward_changes(how):
    model = MaxNorm(how)
    before = portrait(model)
    look(model)
    assert portrait(model) == before


@pytest.mark.parametrize(
    "how", [how for how in WRITES if how != "new"]
)  # that one is `kept_attributes`' work
def test_weights_that_forward_changes_unguarded(how, monkeypatch):
    without(monkeypatch, ParameterKeeper, "keep")
    model = MaxNorm(how)
    before = model.fc.weight.detach().clone()
    look(model)
    assert not torch.equal(model.fc.weight, before)


def test_a_backward_graph_survives_a_constraint():
    model = MaxNorm("copy_")
    model.how = ""
    loss = (model(ROWS) ** 2).sum()
    model.how = "copy_"
    look(model)
    loss.backward()


def test_weights_changed_out_of_sight():
    class Foreach(MaxNorm):
        def forward(self, x):
            torch._foreach_mul_([self.fc.weight.detach()], 0.5)
            return F.relu(self.fc(x))

    class Hidden(MaxNorm):
        def forward(self, x):
            with torch._C.DisableTorchFunction():
                self.fc.weight.mul_(0.5)
            return F.relu(self.fc(x))

    model = Foreach("")
    before = portrait(model)
    look(model)
    assert portrait(model) == before
    with pytest.raises(MeasurementError, match=r'changed the parameter "fc\.weight" or its gradient'):
        look(Hidden(""))


def test_gradients():
    class Backward(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x):
            assert not torch.is_grad_enabled()
            with torch.enable_grad():
                self.fc(x).sum().backward()
            return F.relu(self.fc(x))

    fresh = Backward()
    look(fresh)
    assert fresh.fc.weight.grad is None
    started = Backward()
    started.fc(ROWS).sum().backward()
    with pytest.raises(MeasurementError, match="or its gradient"):
        look(started)
    plain = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    plain(ROWS).sum().backward()
    grads = [
        (parameter.grad, parameter.grad._version, parameter.grad.clone()) for parameter in plain.parameters()
    ]
    look(plain)
    for parameter, (grad, version, values) in zip(plain.parameters(), grads, strict=True):
        assert parameter.grad is grad
        assert grad._version == version
        assert torch.equal(grad, values)
        assert parameter.requires_grad


# Random streams --------------------------------------------------------------------------------------------


class Draws(nn.Module):
    def forward(self, x):
        return F.relu(x + torch.randn(5) + random.random() + np.random.rand())  # noqa: NPY002


def draws():
    return torch.rand(3).tolist(), random.random(), np.random.rand(2).tolist()  # noqa: NPY002


def seed():
    torch.manual_seed(5)
    torch.randn(1)  # leaves half of a pair of normal numbers in the generator
    random.seed(5)
    random.gauss(0, 1)
    np.random.seed(5)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002


def test_random_streams():
    seed()
    expected = draws()
    seed()
    look(Draws())
    assert draws() == expected


def test_random_streams_unguarded(monkeypatch):
    without(monkeypatch, quiet, "random_streams")
    seed()
    expected = draws()
    seed()
    look(Draws())
    found = draws()
    assert all(a != b for a, b in zip(found, expected, strict=True))


# What a forward may find -----------------------------------------------------------------------------------


def test_order_of_attributes_is_kept():
    model = Writer()
    order = list(model.__dict__)
    look(model)
    assert list(model.__dict__) == order
    assert "forward" not in model.__dict__
    assert isinstance(model._forward_hooks, OrderedDict)


def test_guards_nest_within_inference_mode():
    model = Writer()
    before = portrait(model)
    with torch.inference_mode():
        look(model)
    assert portrait(model) == before
    assert torch.is_grad_enabled()
