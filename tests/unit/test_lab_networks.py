"""PyramidNet and FixUp ResNet against facts derived by hand: sites, widths, parameters, initial weights."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from reluscope.errors import SpecificationError
from reluscope.lab.fixup import FixupResNet
from reluscope.lab.models import ResNet, build
from reluscope.lab.optimization import make_optimizer
from reluscope.lab.paper_trainings import paper_training
from reluscope.lab.pyramidnet import PyramidNet, pyramid_widths
from reluscope.lab.section import ActivationName
from reluscope.lab.specification import FixupModel, PyramidModel

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)


def shapes_seen(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Shape of what comes to every activation, by name, in the order of the forward pass."""
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_pre_hook(
                lambda module, args, name=name: seen.update({name: tuple(args[0].shape[1:])})
            )
    model(images)
    return seen


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def assert_normal(weight: torch.Tensor, deviation: float) -> None:
    # The sample deviation of n normal values varies by 1 / sqrt(2 n); 5 of that cannot fail by chance.
    assert weight.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * weight.numel()))


# PyramidNet ------------------------------------------------------------------------------------------------


def test_pyramidnet_20_widths():
    """16 + 84 k / 9, rounded: 25.3 34.7 44 53.3 62.7 72 81.3 90.7 100."""
    assert pyramid_widths(20, 84) == [25, 35, 44, 53, 63, 72, 81, 91, 100]
    assert pyramid_widths(8, 84) == [44, 72, 100]


def test_pyramidnet_20_has_10_sites():
    seen = shapes_seen(PyramidNet(), torch.randn(2, 3, 32, 32))
    widths, sides = [25, 35, 44, 53, 63, 72, 81, 91, 100, 100], [32] * 3 + [16] * 3 + [8] * 4
    assert list(seen.values()) == [(width, side, side) for width, side in zip(widths, sides, strict=True)]
    assert next(iter(seen)) == "stage1.0.act"
    assert list(seen)[-1] == "act"


def test_pyramidnet_20_parameters():
    """First conv and norm; per block norms of in, out, out (2 each) and two convs; final norm; linear."""
    total, before = 9 * 3 * 16 + 2 * 16, 16
    for width in (25, 35, 44, 53, 63, 72, 81, 91, 100):
        total += 2 * before + 9 * before * width + 2 * width + 9 * width * width + 2 * width
        before = width
    total += 2 * 100 + 100 * 10 + 10
    assert num_parameters(PyramidNet()) == total == 688_125
    assert sum(isinstance(module, nn.BatchNorm2d) for module in PyramidNet().modules()) == 3 * 9 + 2


def test_pyramidnet_weights():
    torch.manual_seed(0)
    for module in PyramidNet().modules():
        if isinstance(module, nn.Conv2d):
            assert_normal(module.weight, math.sqrt(2 / (9 * module.out_channels)))


def test_the_pyramids_shortcut_pools_and_pads_the_end():
    block = PyramidNet().stage2[0]
    x = torch.randn(2, 44, 7, 7)  # odd: the last row and column are pooled on their own
    skipped = block._skip(x)
    assert skipped.shape == (2, 53, 4, 4)
    assert not skipped[:, 44:].any()
    assert torch.allclose(skipped[:, :44, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    assert torch.equal(skipped[:, :44, 3, 3], x[:, :, 6, 6])


def test_a_pyramid_block_by_hand():
    block = PyramidNet().eval().stage1[0]
    x = torch.randn(2, 16, 8, 8)
    inner = block.conv2(block.bn2(block.conv1(block.bn1(x))).clamp(min=0))
    expected = block.bn3(inner)
    expected[:, :16] += x
    assert torch.allclose(block(x), expected)


# FixUp -----------------------------------------------------------------------------------------------------


def test_fixup_resnet_20_has_19_sites_of_resnets_widths():
    seen = shapes_seen(FixupResNet(), torch.randn(2, 3, 32, 32))
    # Unlike in a pre-activation net a block's first site stands behind its first, strided convolution.
    assert list(seen.values()) == [(16, 32, 32)] * 7 + [(32, 16, 16)] * 6 + [(64, 8, 8)] * 6
    assert list(seen)[:3] == ["act", "stage1.0.act1", "stage1.0.act2"]


def test_fixup_resnet_20_parameters():
    """ResNet-20's convolutions and linear layer; no norms; 4 biases and a scale per block, 3 biases beside."""
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    assert num_parameters(FixupResNet()) == convolutions + 64 * 10 + 10 + 9 * 5 + 3 == 268_394
    assert 268_394 == 269_722 - 2 * (7 * 16 + 6 * 32 + 6 * 64) + 48  # ResNet-20 without its batch norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in FixupResNet().modules())


def test_fixup_weights():
    torch.manual_seed(0)
    model = FixupResNet()
    assert_normal(model.conv.weight, math.sqrt(2 / (9 * 16)))
    for stage, width in ((model.stage1, 16), (model.stage2, 32), (model.stage3, 64)):
        for block in stage:
            assert_normal(block.conv1.weight, math.sqrt(2 / (9 * width)) / 3)  # 9 blocks: 9^(-1/2)
            assert not block.conv2.weight.any()
            assert [block.scale.item(), block.bias1a.item(), block.bias2b.item()] == [1, 0, 0]
    assert model.fc.weight.abs().max() <= 1 / 8  # torch's default: uniform in +-1/sqrt(64)
    assert model.fc.weight.any()


def test_a_fixup_block_begins_as_the_identity_of_what_is_positive():
    block, x = FixupResNet().stage1[1], torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x), x.clamp(min=0))


def test_a_fixup_block_by_hand():
    torch.manual_seed(1)
    block, x = FixupResNet().stage2[0], torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        nn.init.normal_(block.conv2.weight)
        values = (0.1, 0.2, 0.3, 1.5, 0.4)
        for name, value in zip(("bias1a", "bias1b", "bias2a", "scale", "bias2b"), values, strict=True):
            getattr(block, name).fill_(value)
    inner = (block.conv1(x + 0.1) + 0.2).clamp(min=0)
    expected = block.conv2(inner + 0.3) * 1.5 + 0.4
    expected[:, 8:24] += (x + 0.1)[:, :, ::2, ::2]  # the strided shortcut takes the biased input
    assert torch.allclose(block(x), expected.clamp(min=0), atol=1e-5)


def test_fixups_biases_and_scales_learn_at_a_tenth():
    model = FixupResNet()
    slow = make_optimizer(paper_training("fixup_resnet").optimizer, model).param_groups[1]
    assert slow["lr_factor"] == 0.1
    assert slow["weight_decay"] == 5e-4
    assert len(slow["params"]) == 9 * 5 + 3 + 1  # and the linear layer's bias
    assert any(parameter is model.fc.bias for parameter in slow["params"])


# Both ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [PyramidNet, FixupResNet])
@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_every_activation_trains_and_in_place_changes_no_gradient(net, activation):
    torch.manual_seed(0)
    model, reference = (
        net(8, activation=activation, in_channels=1),
        net(8, activation=activation, in_channels=1),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv2.weight"):
                parameter.normal_(std=0.1)
    reference.load_state_dict(model.state_dict())
    for module in reference.modules():
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            module.inplace = False
    images = torch.randn(4, 1, 28, 28)
    for one in (model, reference):
        one(images).square().sum().backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
        assert ours.grad.isfinite().all()


def test_build_passes_every_field_on():
    pyramid = build(
        PyramidModel(name="pyramidnet", alpha=9, batch_norm_momentum=0.05), (1, 28, 28), 7, seed=0
    )
    assert pyramid.fc.weight.shape == (7, 25)
    assert {m.momentum for m in pyramid.modules() if isinstance(m, nn.BatchNorm2d)} == {0.05}
    fixup = build(FixupModel(name="fixup_resnet", depth=8, activation="prelu"), (1, 28, 28), 10, seed=0)
    assert sum(isinstance(module, nn.PReLU) for module in fixup.modules()) == 7
    norms = [m for m in ResNet(8, batch_norm_momentum=0.05).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.05}


def test_what_cannot_be_built():
    with pytest.raises(SpecificationError, match="must not shrink"):
        PyramidNet(alpha=-1)
    with pytest.raises(SpecificationError, match=r"6b \+ 2 layers"):
        FixupResNet(21)
