"""The unit axis: from the operation before, carried along, by default, or given."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reluscope.errors import UnitAxisError, UnknownSiteError
from reluscope.observe import ObservationMode, Probe, observe, sites
from reluscope.observe.axes import AxisTags
from reluscope.observe.samples import SampleTags


class Net(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


IMAGE, TOKENS = (2, 3, 8, 8), (2, 5, 6)
CONV = {"conv": nn.Conv2d(3, 7, 1)}
LINEAR = {"fc": nn.Linear(6, 9)}
CONV1D, DECONV1D = {"c": nn.Conv1d(5, 4, 1)}, {"c": nn.ConvTranspose1d(5, 4, 2)}
NHWC = (2, 4, 4, 6)
CASES = {  # function, modules, input shape, axis, source
    "2-D default": (lambda m, x: x.relu(), {}, (4, 3), 1, "default 2-D"),
    "3-D default": (lambda m, x: x.relu(), {}, (4, 3, 5), 2, "default 3-D"),
    "4-D default": (lambda m, x: x.relu(), {}, IMAGE, 1, "default 4-D"),
    "5-D default": (lambda m, x: x.relu(), {}, (2, 3, 4, 5, 6), 1, "default 5-D"),
    "conv": (lambda m, x: m.conv(x).relu(), CONV, IMAGE, 1, "convolution"),
    "conv1d": (lambda m, x: m.c(x).relu(), CONV1D, TOKENS, 1, "convolution"),
    "transposed conv": (lambda m, x: m.c(x).relu(), DECONV1D, TOKENS, 1, "convolution"),
    "batch norm 3-D": (lambda m, x: m.n(x).relu(), {"n": nn.BatchNorm1d(5)}, TOKENS, 1, "batch_norm"),
    "group norm": (lambda m, x: m.n(x).relu(), {"n": nn.GroupNorm(1, 3)}, IMAGE, 1, "group_norm"),
    "instance norm": (lambda m, x: m.n(x).relu(), {"n": nn.InstanceNorm1d(5)}, TOKENS, 1, "instance_norm"),
    "linear on tokens": (lambda m, x: m.fc(x).relu(), LINEAR, TOKENS, 2, "linear"),
    "linear on N,H,W,C": (lambda m, x: m.fc(x).relu(), LINEAR, NHWC, 3, "linear"),
    "layer norm on N,H,W,C": (lambda m, x: m.n(x).relu(), {"n": nn.LayerNorm(6)}, NHWC, 3, "layer_norm"),
    "rms norm": (lambda m, x: m.n(x).relu(), {"n": nn.RMSNorm(6)}, NHWC, 3, "rms_norm"),
    "matmul": (lambda m, x: (x @ torch.ones(6, 4)).relu(), {}, (2, 3, 5, 6), 3, "matmul"),
    "einsum": (
        lambda m, x: torch.einsum("...c,cd->...d", x, torch.ones(6, 4)).relu(), {}, NHWC, 3, "matmul",
    ),
    "weight from the left": (
        lambda m, x: (m.p.weight @ x).relu(), {"p": nn.Linear(5, 7)}, (2, 5, 6), 1, "matmul",
    ),
    "sum of two": (lambda m, x: (m.fc(x) + 1).relu(), LINEAR, NHWC, 3, "linear"),
    "dropout, scale": (lambda m, x: F.dropout(m.fc(x) * 2, 0.5).relu(), LINEAR, NHWC, 3, "linear"),
    "pooling": (lambda m, x: F.max_pool1d(m.c(x), 2).relu(), CONV1D, TOKENS, 1, "convolution"),
    "in-place add": (lambda m, x: m.fc(x).add_(1).relu(), LINEAR, NHWC, 3, "linear"),
    "cat of channels": (lambda m, x: torch.cat([m.fc(x), m.fc(x)], -1).relu(), LINEAR, NHWC, 3, "linear"),
    "chunk": (lambda m, x: m.fc(x).chunk(3, -1)[1].relu(), LINEAR, NHWC, 3, "linear"),
    "permute": (lambda m, x: m.conv(x).permute(0, 2, 3, 1).relu(), CONV, IMAGE, 3, "convolution"),
    "torch.permute": (
        lambda m, x: torch.permute(m.conv(x), (0, 2, -1, 1)).relu(), CONV, IMAGE, 3, "convolution",
    ),
    "permute dims=": (
        lambda m, x: m.conv(x).permute(dims=(0, 3, 2, 1)).relu(), CONV, IMAGE, 3, "convolution",
    ),
    "transpose": (lambda m, x: m.fc(x).transpose(1, -1).relu(), LINEAR, TOKENS, 1, "linear"),
    "movedim": (lambda m, x: m.conv(x).movedim(1, -1).relu(), CONV, IMAGE, 3, "convolution"),
    "mT": (lambda m, x: m.fc(x).mT.relu(), LINEAR, TOKENS, 1, "linear"),
    "flatten(2)": (lambda m, x: m.conv(x).flatten(2).relu(), CONV, IMAGE, 1, "convolution"),
    "flatten(2), transpose": (
        lambda m, x: m.conv(x).flatten(2).transpose(1, 2).relu(), CONV, IMAGE, 2, "convolution",
    ),
    "tokens folded into the batch": (lambda m, x: m.fc(x).reshape(-1, 9).relu(), LINEAR, TOKENS, 1, "linear"),
    "windows": (
        lambda m, x: m.fc(x).view(2, 2, 2, 2, 2, 9).permute(0, 1, 3, 2, 4, 5).reshape(-1, 2, 2, 9).relu(),
        LINEAR, NHWC, 3, "linear",
    ),
    "unsqueeze": (lambda m, x: m.fc(x).unsqueeze(1).relu(), LINEAR, TOKENS, 3, "linear"),
    "squeeze": (lambda m, x: m.conv(x).squeeze(3).relu(), CONV, (2, 3, 8, 1), 1, "convolution"),
    "index": (lambda m, x: m.conv(x)[:, :, 0].relu(), CONV, IMAGE, 1, "convolution"),
    "index with None and dots": (
        lambda m, x: m.conv(x)[:, None, ..., 0].relu(), CONV, IMAGE, 2, "convolution",
    ),
    "select": (lambda m, x: m.conv(x).select(3, 0).relu(), CONV, IMAGE, 1, "convolution"),
    "stack": (lambda m, x: torch.stack([m.conv(x)] * 2, 1).relu(), CONV, IMAGE, 2, "convolution"),
    "einsum of channels": (
        lambda m, x: torch.einsum("nchw,oc->nohw", x, torch.ones(7, 3)).relu(), {}, IMAGE, 1, "matmul",
    ),
    "einsum, weight first": (
        lambda m, x: torch.einsum("oc, ...c -> ...o", torch.ones(7, 6), x).relu(), {}, TOKENS, 2, "matmul",
    ),
    "einsum of data": (
        lambda m, x: torch.einsum("nchw,nchv->ncwv", x, x).relu(), {}, IMAGE, 1, "default 4-D",
    ),
    "mean over a dimension": (lambda m, x: m.conv(x).mean(3).relu(), CONV, IMAGE, 1, "convolution"),
    "mean over two, kept": (
        lambda m, x: m.conv(x).mean(dim=(2, 3), keepdim=True).relu(), CONV, IMAGE, 1, "convolution",
    ),
    "mean before the units": (lambda m, x: m.fc(x).mean((1, 2)).relu(), LINEAR, NHWC, 1, "linear"),
    "amax": (lambda m, x: m.conv(x).amax(-2).relu(), CONV, IMAGE, 1, "convolution"),
    "max with indices": (lambda m, x: m.conv(x).max(2)[0].relu(), CONV, IMAGE, 1, "convolution"),
    "unbind": (lambda m, x: m.conv(x).unbind(2)[1].relu(), CONV, IMAGE, 1, "convolution"),
    "index tensor": (
        lambda m, x: m.conv(x)[:, :, torch.tensor([0, 2])].relu(), CONV, IMAGE, 1, "convolution",
    ),
    "units reduced": (
        lambda m, x: m.conv(x).mean(1).relu(), CONV, IMAGE, 2, "default 3-D, that of convolution was lost",
    ),
    "units split": (
        lambda m, x: m.conv(x).view(2, 1, 7, 4, 16).flatten(0, 1).relu(), CONV, IMAGE, 1, "convolution",
    ),
    "groups of units": (
        lambda m, x: m.fc(x).view(2, 5, 3, 3).relu(),
        LINEAR, TOKENS, 1, "default 4-D, that of linear was lost",
    ),
    "unsqueeze_": (lambda m, x: m.fc(x).unsqueeze_(1).relu(), LINEAR, TOKENS, 3, "linear"),
    "expand": (lambda m, x: m.fc(x).expand(4, 2, 9).relu(), LINEAR, (2, 6), 2, "linear"),
    "patches": (lambda m, x: F.unfold(x, 2).relu(), {}, IMAGE, 1, "unfold"),
    "masked weight from the left": (
        lambda m, x: ((m.p.weight * torch.ones(7, 5)) @ x).relu(),
        {"p": nn.Linear(5, 7)}, (2, 5, 6), 1, "matmul",
    ),
    "graph": (lambda m, x: (torch.ones(5, 5) @ x).relu(), {}, TOKENS, 2, "matmul"),
    "operator": (
        lambda m, x: torch.ops.aten.permute.default(m.conv(x), [0, 2, 3, 1]).relu(),
        CONV, IMAGE, 3, "convolution",
    ),
    "a known tag before a lost one": (
        lambda m, x: (m.fc(x).view(2, 5, 3, 3).sum() + m.fc(x).view(2, 45)[:, :5, None] + m.fc(x)).relu(),
        LINEAR, TOKENS, 2, "linear",
    ),
    "after another activation": (
        lambda m, x: m.fc(x).relu().mul(2).relu_(), LINEAR, NHWC, 3, "linear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_unit_axis(case):
    function, modules, shape, axis, source = CASES[case]
    frame = sites(Net(function, **modules), torch.randn(shape))
    assert (frame["channel_dim"].iloc[-1], frame["channel_dim_source"].iloc[-1]) == (axis, source)


def test_a_module_that_merges_channels_falls_back_to_the_default():
    frame = sites(Net(lambda m, x: m.conv(x).flatten(1, 2).relu(), **CONV), torch.randn(IMAGE))
    assert frame["channel_dim_source"][0] == "default 3-D, that of convolution was lost"


def model():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5), nn.ReLU())


def test_given_axis_negative_and_by_glob():
    frame = sites(model(), torch.randn(IMAGE), channel_dim=-1)
    assert list(frame["channel_dim"]) == [3, 1]
    assert list(frame["channel_dim_source"]) == ["given", "given"]
    frame = sites(model(), torch.randn(IMAGE), channel_dim={"1": 2})
    assert list(frame["channel_dim"]) == [2, 1]
    assert list(frame["num_units"]) == [8, 5]
    assert list(frame["channel_dim_source"]) == ["given", "linear"]


def test_a_full_name_wins_over_a_glob():
    frame = sites(model(), torch.randn(IMAGE), channel_dim={"*": 1, "1": 3})
    assert list(frame["channel_dim"]) == [3, 1]


def test_axis_that_a_site_lacks():
    with pytest.raises(UnitAxisError, match=r'channel_dim=3 does not fit the site "4".* 2 dim.* 1 to 1'):
        sites(model(), torch.randn(IMAGE), channel_dim=3)
    # not for a site that is not selected
    observe(model(), Probe(torch.randn(IMAGE)), ObservationMode(sites="1", channel_dim=3), lambda batch: None)


@pytest.mark.parametrize("axis", [0, True, 1.5, "1", {"*": 0}, {"*": None}, {3: 1}])
def test_axes_that_can_never_be(axis):
    with pytest.raises(UnitAxisError, match="channel_dim"):
        ObservationMode(channel_dim=axis)


def test_axis_for_no_site():
    with pytest.raises(UnknownSiteError, match='no site matches channel_dim="head'):
        observe(
            model(), Probe(torch.randn(IMAGE)), ObservationMode(channel_dim={"head.*": 1}), lambda batch: None
        )


def test_positions_and_folded_windows():
    frame = sites(Net(lambda m, x: m.fc(x).reshape(-1, 9).relu(), **LINEAR), torch.randn(4, 5, 6))
    assert list(frame["num_positions"]) == [5]
    frame = sites(Net(lambda m, x: m.fc(x).transpose(0, 1).relu(), **LINEAR), torch.randn(4, 6, 6))
    assert frame["num_positions"].isna().all()  # 6 rows of 4 samples: who is whose cannot be told


def test_a_tag_does_not_pass_to_a_tensor_that_takes_over_an_id():
    tags = AxisTags(SampleTags())
    weight = torch.ones(6, 6)
    for _ in range(50):
        tagged = torch.zeros(2, 4, 4, 6)
        tags.note(F.linear, (tagged, weight), {}, tagged)
        assert tags.find(tagged) == (3, "linear")
        number = id(tagged)
        del tagged
        other = torch.zeros(2, 4, 4, 6)
        if id(other) == number:
            assert tags.find(other) == (1, "default 4-D")
            return
    pytest.fail("no tensor took over an id; the test shows nothing")
