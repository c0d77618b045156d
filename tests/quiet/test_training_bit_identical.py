"""Training with a recorder that measures at every step is bit-identical to training without it."""

from __future__ import annotations

import contextlib
import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reluscope as rs

NUM_STEPS = 20
BATCH = 8


class ResidualNet(nn.Module):
    """Batch norm, functional ReLU, a residual sum, a shared in-place ReLU in the block."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(8, momentum=None)
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.bn1(self.stem(x)))
        x = x + self.conv2(F.relu(self.bn2(self.conv1(x))))
        return self.head(self.bn3(x).relu().mean((2, 3)))


class DropoutNet(nn.Module):
    """Module and functional dropout, and a random draw of the model's own in training."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(192, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.dropout, self.act = nn.Dropout(0.3), nn.LeakyReLU()

    def forward(self, x):
        x = self.dropout(self.act(self.first(x.flatten(1))))
        x = x + 0.01 * torch.randn_like(x)
        return self.head(F.dropout(self.act(self.second(x)), 0.2))


class SharedInPlaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.layers = nn.ModuleList([nn.Linear(192, 32), nn.Linear(32, 32), nn.Linear(32, 32)])
        self.head = nn.Linear(32, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.history = []

    def forward(self, x):
        self.calls += 1
        x = x.flatten(1)
        for layer in self.layers:
            x = self.act(layer(x))
        self.history.append(float(x.detach().mean()))
        return self.head(x)


class WeightNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.first = nn.utils.weight_norm(nn.Linear(192, 32))
            self.second = nn.utils.spectral_norm(nn.Linear(32, 32))
        self.third = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        return self.head(F.relu6(self.third(torch.clamp(self.second(x), min=0))))


NETWORKS = {
    "residual": ResidualNet,
    "dropout": DropoutNet,
    "shared": SharedInPlaceNet,
    "weight_norm": WeightNormNet,
}
VARIANTS = ("eager", "torch.compile", "module.compile", "autocast", "accumulation")


def train(network: str, variant: str, directory=None) -> tuple[dict, list]:
    """Train 20 steps; with `directory`, record every step there. Returns everything that must not differ."""
    torch.manual_seed(3)
    random.seed(4)
    np.random.seed(5)  # noqa: NPY002 (the legacy stream is what must stay untouched)
    torch._dynamo.reset()
    model = trained = NETWORKS[network]()
    if variant == "torch.compile":
        trained = torch.compile(model, backend="aot_eager")
    elif variant == "module.compile":
        model.compile(backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    images = torch.randn(64, 3, 8, 8)
    labels = torch.randint(0, 4, (64,))
    losses = []
    with contextlib.ExitStack() as stack:
        recorder = None
        if directory is not None:
            probe = rs.Probe(
                torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(9)), batch_size=6
            )
            recorder = stack.enter_context(
                rs.Recorder(trained, probe, run=directory / "run", schedule=rs.every(1), on_error="raise")
            )
        for step in range(NUM_STEPS):
            if recorder is not None:
                assert recorder.record(step) is not None
            chosen = torch.randperm(64)[:BATCH]
            parts = chosen.chunk(2) if variant == "accumulation" else (chosen,)
            for part in parts:
                with torch.autocast("cpu", torch.bfloat16, enabled=variant == "autocast"):
                    loss = F.cross_entropy(trained(images[part]), labels[part])
                    if recorder is not None and variant == "autocast":
                        rs.measure(trained, probe)  # inside the user's own region, with the graph pending
                (loss / len(parts)).backward()
                if recorder is not None and variant == "accumulation":
                    rs.measure(trained, probe)  # between two backward passes
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return fingerprint(model, optimizer), losses


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    state = {f"state.{name}": value.clone() for name, value in model.state_dict().items()}
    for index, slot in optimizer.state_dict()["state"].items():
        state.update({f"optimizer.{index}.{name}": value for name, value in slot.items()})
    state["rng.torch"] = torch.get_rng_state()
    state["rng.python"] = random.getstate()
    state["rng.numpy"] = np.random.get_state()[1].tolist()  # noqa: NPY002
    state["modes"] = [module.training for module in model.modules()]
    state["attributes"] = {name: sorted(module.__dict__) for name, module in model.named_modules()}
    state["hooks"] = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state["history"] = list(getattr(model, "history", ()))
    return state


def assert_identical(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == found[name].dtype, name
            assert torch.equal(
                value.contiguous().flatten().view(torch.uint8),
                found[name].contiguous().flatten().view(torch.uint8),
            ), name
        else:
            assert found[name] == value, name


@pytest.mark.filterwarnings("default")  # compilers warn about what they please
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_bit_identical_with_and_without(network, variant, tmp_path):
    plain, plain_losses = train(network, variant)
    watched, watched_losses = train(network, variant, tmp_path)
    assert watched_losses == plain_losses
    assert_identical(watched, plain)
    assert rs.open_run(tmp_path / "run").steps == list(range(NUM_STEPS))


@pytest.mark.filterwarnings("default")
def test_ten_measurements_compile_nothing():
    torch._dynamo.reset()
    model = ResidualNet()
    compiled = torch.compile(model, backend="aot_eager")
    inputs = torch.randn(4, 3, 8, 8)
    compiled(inputs).sum().backward()
    frames = dict(torch._dynamo.utils.counters["frames"])
    assert frames["ok"] > 0
    for _ in range(10):
        rs.measure(compiled, rs.Probe(torch.randn(5, 3, 8, 8), batch_size=5))
    assert dict(torch._dynamo.utils.counters["frames"]) == frames
    compiled(inputs)
    assert dict(torch._dynamo.utils.counters["frames"]) == frames


def test_a_graph_pending_over_a_measurement_still_runs_backward():
    """Nothing that autograd saved is touched: version counters included."""
    model = SharedInPlaceNet()
    loss = model(torch.randn(4, 3, 8, 8)).sum()
    rs.measure(model, rs.Probe(torch.randn(4, 3, 8, 8)))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradients_survive_a_measurement():
    model = ResidualNet()
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    before = [(parameter.grad, parameter.grad.clone()) for parameter in model.parameters()]
    rs.measure(model, rs.Probe(torch.randn(6, 3, 8, 8)))
    for parameter, (gradient, value) in zip(model.parameters(), before, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)
