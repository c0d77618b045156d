"""Every activation in every spelling is seen, with the right kinks, and hands on its untouched input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reluscope.errors as errors
from reluscope.observe import ObservationMode, Probe, observe, sites

X = torch.linspace(-8, 8, 24).reshape(4, 6)


class Calls(nn.Module):
    """Runs one function as its forward."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def record(model, x=X, **mode):
    """(site, pre-activation) of every call, copied while it is valid."""
    found = []
    observe(
        model,
        Probe(x),
        ObservationMode(**mode),
        lambda batch: found.append((batch.site, batch.preactivations.clone())),
    )
    return found


ZERO = (0.0,)
SPELLINGS = {
    "F.relu": (lambda x: F.relu(x), "relu", ZERO),
    "F.relu inplace": (lambda x: F.relu(x, inplace=True), "relu", ZERO),
    "F.relu keyword": (lambda x: F.relu(input=x), "relu", ZERO),
    "F.relu_": (lambda x: F.relu_(x), "relu", ZERO),
    "torch.relu": (lambda x: torch.relu(x), "relu", ZERO),
    "torch.relu_": (lambda x: torch.relu_(x), "relu", ZERO),
    "x.relu": (lambda x: x.relu(), "relu", ZERO),
    "x.relu_": (lambda x: x.relu_(), "relu", ZERO),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.2), "leaky_relu", ZERO),
    "F.leaky_relu_": (lambda x: F.leaky_relu_(x, 0.2), "leaky_relu", ZERO),
    "F.prelu": (lambda x: F.prelu(x, torch.tensor([0.1])), "prelu", ZERO),
    "x.prelu": (lambda x: x.prelu(torch.tensor([0.1])), "prelu", ZERO),
    "F.rrelu": (lambda x: F.rrelu(x), "rrelu", ZERO),
    "torch.rrelu_": (lambda x: torch.rrelu_(x), "rrelu", ZERO),
    "F.relu6": (lambda x: F.relu6(x), "relu6", (0.0, 6.0)),
    "F.relu6 inplace": (lambda x: F.relu6(x, inplace=True), "relu6", (0.0, 6.0)),
    "F.hardtanh": (lambda x: F.hardtanh(x, -2, 3), "hardtanh", (-2.0, 3.0)),
    "F.hardtanh default": (lambda x: F.hardtanh(x), "hardtanh", (-1.0, 1.0)),
    "F.hardtanh_": (lambda x: F.hardtanh_(x, min_val=-0.5, max_val=0.5), "hardtanh", (-0.5, 0.5)),
    "F.threshold": (lambda x: F.threshold(x, 0.7, 20.0), "threshold", (0.7,)),
    "torch.threshold": (lambda x: torch.threshold(x, threshold=0.7, value=1.0), "threshold", (0.7,)),
    "torch.threshold_": (lambda x: torch.threshold_(x, 0.7, 1.0), "threshold", (0.7,)),
    "F.hardshrink": (lambda x: F.hardshrink(x), "hardshrink", (-0.5, 0.5)),
    "x.hardshrink": (lambda x: x.hardshrink(0.25), "hardshrink", (-0.25, 0.25)),
    "F.softshrink": (lambda x: F.softshrink(x, 2.0), "softshrink", (-2.0, 2.0)),
    "F.hardsigmoid": (lambda x: F.hardsigmoid(x), "hardsigmoid", (-3.0, 3.0)),
    "torch.clamp": (lambda x: torch.clamp(x, min=0), "clamp", ZERO),
    "torch.clamp positional": (lambda x: torch.clamp(x, 0.0), "clamp", ZERO),
    "torch.clamp_": (lambda x: torch.clamp_(x, min=0), "clamp", ZERO),
    "x.clamp": (lambda x: x.clamp(min=0), "clamp", ZERO),
    "x.clamp_": (lambda x: x.clamp_(0), "clamp", ZERO),
    "x.clamp tensor": (lambda x: x.clamp(min=torch.tensor(0.0)), "clamp", ZERO),
    "x.clamp min=0 max=inf": (lambda x: x.clamp(0, float("inf")), "clamp", ZERO),
    "torch.clip": (lambda x: torch.clip(x, min=0), "clamp", ZERO),
    "x.clip": (lambda x: x.clip(0), "clamp", ZERO),
    "x.clip_": (lambda x: x.clip_(0, 6), "clamp", (0.0, 6.0)),
    "x.clamp both": (lambda x: x.clamp(-1, 1), "clamp", (-1.0, 1.0)),
    "x.clamp_min": (lambda x: x.clamp_min(0), "clamp", ZERO),
    "torch.clamp_min_": (lambda x: torch.clamp_min_(x, 0), "clamp", ZERO),
    "torch.maximum": (lambda x: torch.maximum(x, torch.tensor(0.0)), "maximum", ZERO),
    "torch.maximum zeros": (lambda x: torch.maximum(x, torch.zeros_like(x)), "maximum", ZERO),
    "torch.maximum swapped": (lambda x: torch.maximum(torch.zeros(1), x), "maximum", ZERO),
    "x.maximum": (lambda x: x.maximum(torch.zeros(6)), "maximum", ZERO),
    "aten.relu": (lambda x: torch.ops.aten.relu(x), "relu", ZERO),
    "aten.relu keyword": (lambda x: torch.ops.aten.relu(self=x), "relu", ZERO),
    "aten.relu.default": (lambda x: torch.ops.aten.relu.default(x), "relu", ZERO),
    "aten.relu_": (lambda x: torch.ops.aten.relu_.default(x), "relu", ZERO),
    "aten.leaky_relu": (lambda x: torch.ops.aten.leaky_relu.default(x, 0.1), "leaky_relu", ZERO),
    "aten.prelu": (lambda x: torch.ops.aten.prelu.default(x, torch.ones(1)), "prelu", ZERO),
    "aten.relu6": (lambda x: torch.ops.aten.relu6.default(x), "relu6", (0.0, 6.0)),
    "aten.hardtanh": (lambda x: torch.ops.aten.hardtanh.default(x, 0.0, 6.0), "hardtanh", (0.0, 6.0)),
    "aten.hardtanh_": (lambda x: torch.ops.aten.hardtanh_(x), "hardtanh", (-1.0, 1.0)),
    "aten.threshold": (lambda x: torch.ops.aten.threshold.default(x, 0.5, 0), "threshold", (0.5,)),
    "aten.hardsigmoid": (lambda x: torch.ops.aten.hardsigmoid.default(x), "hardsigmoid", (-3.0, 3.0)),
    "aten.hardshrink": (lambda x: torch.ops.aten.hardshrink.default(x, 1), "hardshrink", (-1.0, 1.0)),
    "aten.softshrink": (lambda x: torch.ops.aten.softshrink.default(x), "softshrink", (-0.5, 0.5)),
    "aten.clamp": (lambda x: torch.ops.aten.clamp.default(x, 0), "clamp", ZERO),
    "aten.clamp_min": (lambda x: torch.ops.aten.clamp_min.default(x, 0), "clamp", ZERO),
    "aten.maximum": (lambda x: torch.ops.aten.maximum.default(x, torch.zeros(6)), "maximum", ZERO),
    "torch.max": (lambda x: torch.max(x, torch.zeros(1)), "maximum", ZERO),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_a_site(spelling):
    function, operation, kinks = SPELLINGS[spelling]
    [(site, before)] = record(Calls(function))
    assert (site.name, site.operation, site.kinks) == (operation, operation, kinks)
    assert site.width == 6 * len(kinks)
    assert torch.equal(before, X)  # also where the activation overwrites its input


MODULES = {
    "ReLU": (nn.ReLU(), ZERO),
    "ReLU inplace": (nn.ReLU(inplace=True), ZERO),
    "LeakyReLU": (nn.LeakyReLU(0.2, inplace=True), ZERO),
    "PReLU": (nn.PReLU(), ZERO),
    "RReLU": (nn.RReLU(), ZERO),
    "ReLU6": (nn.ReLU6(), (0.0, 6.0)),
    "Hardtanh": (nn.Hardtanh(-2, 2), (-2.0, 2.0)),
    "Threshold": (nn.Threshold(0.3, 0.0), (0.3,)),
    "Hardshrink": (nn.Hardshrink(0.4), (-0.4, 0.4)),
    "Softshrink": (nn.Softshrink(0.4), (-0.4, 0.4)),
    "Hardsigmoid": (nn.Hardsigmoid(), (-3.0, 3.0)),
}


@pytest.mark.parametrize("kind", MODULES)
def test_activation_modules_go_by_their_own_path(kind):
    module, kinks = MODULES[kind]
    [(site, before)] = record(nn.Sequential(module))
    assert (site.name, site.module, site.kinks) == ("0", "0", kinks)
    assert torch.equal(before, X)


SMOOTH = [nn.GELU(), nn.SiLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.Mish(), nn.Softplus(), nn.Hardswish()]
SMOOTH += [nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink()]


@pytest.mark.parametrize("module", SMOOTH, ids=lambda module: type(module).__name__)
def test_smooth_activations_on_request_only(module):
    frame = sites(nn.Sequential(module), X)
    assert list(frame["site"]) == ["0"]
    assert not frame["observed"][0]
    assert "smooth=True" in frame["reason"][0]
    [(site, before)] = record(nn.Sequential(module), smooth=True)
    assert (site.name, site.kinks, site.smooth) == ("0", ZERO, True)
    assert torch.equal(before, X)


NOT_SITES = {
    "log guard": lambda x: x.clamp(min=1e-6),
    "upper bound": lambda x: x.clamp(max=0),
    "integers": lambda x: (x.long().clamp(min=0), x)[1],
    "vector": lambda x: (x.sum(1).clamp(min=0), x)[1],
    "not the batch": lambda x: (torch.ones(3, 5).clamp(min=0), x)[1],
    "reduction": lambda x: x.max(1),
    "maximum of two": lambda x: torch.maximum(x, x + 1),
    "no bound": lambda x: x.clamp(-float("inf"), float("inf")),
}


@pytest.mark.parametrize("case", NOT_SITES)
def test_clamps_that_are_no_activations(case):
    with pytest.raises(errors.NoSitesError, match="No activation at all was met"):
        record(Calls(NOT_SITES[case]))


def test_clamped_weights_are_no_site():
    class Positive(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return torch.relu(F.linear(x, self.weight.clamp(min=0)))

    assert [site.name for site, _ in record(Positive())] == ["relu"]


LISTED = {
    "x * (x > 0)": (lambda x: x * (x > 0), "mul"),
    "(x > 0) * x": (lambda x: (x > 0) * x, "mul"),
    "x * (x > 0).float()": (lambda x: x * (x > 0).float(), "mul"),
    "where(x > 0, x, 0)": (lambda x: torch.where(x > 0, x, 0.0), "where"),
    "where(x >= 0, x, 0.1 x)": (lambda x: torch.where(torch.ge(x, 0), x, 0.1 * x), "where"),
    "x * (x > zeros_like(x))": (lambda x: x * (x > torch.zeros_like(x)), "mul"),
    "x * (0 < x)": (lambda x: x * torch.lt(torch.zeros_like(x), x), "mul"),
    "x * (x > tensor(0))": (lambda x: x * (x > torch.tensor(0.0)), "mul"),
    "where(x > zeros, x, zeros)": (
        lambda x: torch.where(x > torch.zeros(6), x, torch.zeros(())),
        "where",
    ),
    "x * heaviside": (lambda x: x * torch.heaviside(x, torch.tensor(0.0)), "mul"),
    "(x + x.abs()) / 2": (lambda x: (x + x.abs()) / 2, "add"),
    "abs(x) + x": (lambda x: abs(x).add_(x), "add"),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0), "masked_fill"),
}


@pytest.mark.parametrize("case", LISTED)
def test_rectifiers_spelled_out_are_listed(case):
    function, operation = LISTED[case]
    frame = sites(Calls(function), X)
    assert list(frame["operation"]) == [operation]
    assert not frame["observed"][0]
    assert "F.relu" in frame["reason"][0]


def test_setitem_is_listed():
    def rectify(x):
        x[x < 0] = 0
        return x

    assert list(sites(Calls(rectify), X)["operation"]) == ["setitem"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x + 1) * (x > 0),  # the mask of another tensor
        lambda x: torch.where(x > 3, x, 0.0),  # no comparison with 0
        lambda x: (x > 0).float(),
        lambda x: x * (x > torch.zeros_like(x).add_(1)),
        lambda x: x * (x > torch.ones_like(x)),
        lambda x: (x + 1) + x.abs(),
    ],
)
def test_other_masks_are_not_listed(function):
    assert len(sites(Calls(function), X)) == 0


@pytest.mark.parametrize(
    "cell", [nn.RNN(6, 5, nonlinearity="relu"), nn.RNN(6, 5), nn.LSTM(6, 5), nn.GRU(6, 5)]
)
def test_recurrent_layers_are_listed(cell):
    frame = sites(nn.Sequential(cell), torch.randn(4, 3, 6))
    assert list(frame["observed"]) == [False]
    assert "fused" in frame["reason"][0]
    with pytest.raises(errors.NoSitesError, match="fused"):
        record(nn.Sequential(cell), torch.randn(4, 3, 6))


def test_relu_without_a_unit_axis_is_listed():
    frame = sites(Calls(lambda x: F.relu(x.sum(1)) + F.relu(x.sum())), X)
    assert len(frame) == 1
    assert "no axis of units" in frame["reason"][0]
    assert "no axis of units" in sites(Calls(lambda x: F.relu(x[:, :0])), X)["reason"][0]


def test_negative_zero_kink_of_a_zero_shrink():
    [(site, _)] = record(Calls(lambda x: F.softshrink(x, 0.0)))
    assert site.kinks == (0.0, 0.0)
    assert site.width == 12


def test_an_exported_module_is_observed_like_its_original():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 7, 1), nn.BatchNorm2d(7)

        def forward(self, x):
            return F.relu6(F.relu(self.norm(self.conv(x)), inplace=True) - 1)

    x, model = torch.randn(4, 3, 5, 5), Net().eval()
    exported = torch.export.export(model, (x,)).module()
    for batch_norm in ("batch", "running"):
        found = [record(one, x, batch_norm=batch_norm) for one in (model, exported)]
        for (site, before), (other, again) in zip(*found, strict=True):
            assert other.kinks == site.kinks
            assert (other.channel_dim, other.channel_dim_source) == (1, site.channel_dim_source)
            torch.testing.assert_close(before, again)


TRANSFORMED = {
    "vmap of relu": lambda x: torch.func.vmap(F.relu)(x),
    "vmap of clamp": lambda x: torch.func.vmap(lambda one: one.clamp(min=0))(x),
    "vmap of clamp with tensor": lambda x: torch.func.vmap(lambda one: one.clamp(min=one.sum()))(x),
    "vmap of maximum": lambda x: torch.func.vmap(lambda one: torch.maximum(one, torch.zeros_like(one)))(x),
    "vmap of an ensemble": lambda x: torch.func.vmap(lambda w: F.relu(x @ w))(torch.ones(3, 6, 5)),
    "grad": lambda x: torch.func.grad(lambda one: F.relu(one).sum())(x),
}


@pytest.mark.parametrize("case", TRANSFORMED)
def test_inside_a_transformation_is_listed(case):
    model = Calls(lambda x: F.relu(TRANSFORMED[case](x).reshape(-1, 6)[:4] * 0 + x))
    frame = sites(model, X)
    assert sorted(frame["observed"]) == [False, True]
    assert "torch.func" in frame["reason"][1]
    [(site, before)] = record(model)
    assert torch.equal(before, X)
    assert site.num_positions is None or site.num_positions == 1
