"""The networks of [A] against facts derived by hand: sites, widths, parameter counts, initial weights."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from reluscope.errors import SpecificationError
from reluscope.lab.layers import subsample_and_pad
from reluscope.lab.models import MLP, ConvNet, ResNet, ToyNet, build
from reluscope.lab.specification import ActivationName, ConvolutionalModel, MLPModel

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)


def sites_seen(model: nn.Module, images: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Name and input shape of every activation call, in the order of the forward pass."""
    seen, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, ACTIVATIONS):
            note = lambda module, args, name=name: seen.append((name, tuple(args[0].shape[1:])))  # noqa: E731
            handles.append(module.register_forward_pre_hook(note))
    model(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("net", [ResNet, ConvNet, ToyNet])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
def test_a_net_of_depth_6b_plus_2_has_6b_plus_1_sites(net, blocks):
    seen = sites_seen(net(6 * blocks + 2), torch.randn(2, 3, 32, 32))
    assert len(seen) == 6 * blocks + 1
    assert len({name for name, _ in seen}) == len(seen)


def test_resnet_20_widths_and_resolutions():
    seen = sites_seen(ResNet(20, in_channels=1), torch.randn(2, 1, 28, 28))
    # A block's first site still sees what comes in; its second sees the strided conv's output.
    expected = [(16, 28, 28)] * 7 + [(32, 14, 14)] * 6 + [(64, 7, 7)] * 6
    assert [shape for _, shape in seen] == expected
    assert [name for name, _ in seen][:2] == ["stage1.0.act1", "stage1.0.act2"]
    assert seen[-1][0] == "act"


def test_toynet_is_32_wide_everywhere():
    assert {shape[0] for _, shape in sites_seen(ToyNet(14), torch.randn(2, 3, 32, 32))} == {32}


def parameters_by_hand(filters: tuple[int, int, int], blocks: int, in_channels: int) -> int:
    """Convolutions 9 in out; batch norms 2 per channel, one before each activation; linear with bias."""
    total, channels = 9 * in_channels * filters[0], filters[0]
    for width in filters:
        for _ in range(blocks):
            total += 2 * channels + 9 * channels * width + 2 * width + 9 * width * width
            channels = width
    return total + 2 * channels + channels * 10 + 10


@pytest.mark.parametrize(
    ("net", "filters"), [(ResNet, (16, 32, 64)), (ConvNet, (16, 32, 64)), (ToyNet, (32, 32, 32))]
)
@pytest.mark.parametrize(("blocks", "in_channels"), [(1, 1), (3, 3)])
def test_parameter_counts(net, filters, blocks, in_channels):
    model = net(6 * blocks + 2, in_channels=in_channels)
    assert sum(p.numel() for p in model.parameters()) == parameters_by_hand(filters, blocks, in_channels)


def test_resnet_20_on_cifar_has_the_published_size():
    # "0.27M" in He et al. 2016, table 6: pre-activation moves the batch norms, 7 x 16, 6 x 32, 6 x 64, and
    # adds none.
    assert sum(p.numel() for p in ResNet(20).parameters()) == 269_722


@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_weights_are_kaiming_normal_by_fan_out(activation):
    torch.manual_seed(0)
    slope = {"relu": 0.0, "leaky_relu": 0.01, "prelu": 0.25}[activation]
    model = ResNet(20, activation=activation)
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        weight = conv.weight.detach()
        expected = math.sqrt(2 / (1 + slope**2) / (9 * conv.out_channels))
        # The sample deviation of n normal values varies by 1 / sqrt(2 n); 5 of that cannot fail by chance.
        tolerance = 5 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(expected, rel=tolerance)
        assert conv.bias is None
    assert model.fc.weight.abs().max() <= 1 / math.sqrt(64)  # torch's default: uniform in +-1/sqrt(fan-in)


def test_the_strided_shortcut_subsamples_and_pads_both_ends():
    x = torch.randn(2, 16, 8, 8)
    skipped = subsample_and_pad(x, 2, 16)
    assert skipped.shape == (2, 32, 4, 4)
    assert torch.equal(skipped[:, 8:24], x[:, :, ::2, ::2])
    assert not skipped[:, :8].any()
    assert not skipped[:, 24:].any()
    block = ResNet(8).stage2[0]
    assert (block.stride, block.extra_channels) == (2, 16)


def test_convnet_is_resnet_without_the_shortcuts():
    torch.manual_seed(0)
    resnet = ResNet(8).eval()
    convnet = ConvNet(8).eval()
    convnet.load_state_dict(resnet.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(resnet(images), convnet(images))
    for module in resnet.modules():
        if hasattr(module, "shortcut"):
            module.shortcut = False
    assert torch.equal(resnet(images), convnet(images))


def test_mlp_sites_and_initial_weights():
    torch.manual_seed(0)
    model = MLP(784, hidden_layers=3, width=200)
    seen = sites_seen(model, torch.randn(2, 1, 28, 28))
    assert seen == [("hidden1.act", (200,)), ("hidden2.act", (200,)), ("hidden3.act", (200,))]
    for linear in (module for module in model.modules() if isinstance(module, nn.Linear)):
        expected = math.sqrt(2 / linear.in_features)
        tolerance = 5 / math.sqrt(2 * linear.weight.numel())
        assert linear.weight.std().item() == pytest.approx(expected, rel=tolerance)
        assert not linear.bias.any()


@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_activations_are_modules_of_their_own_and_train(activation):
    model = ResNet(8, activation=activation, in_channels=1)
    modules = [module for module in model.modules() if isinstance(module, ACTIVATIONS)]
    assert len(modules) == 7
    # In-place activations must not disturb the backward pass.
    model(torch.randn(2, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("inplace", [True, False])
def test_in_place_activations_change_no_gradient(inplace):
    torch.manual_seed(0)
    reference = ConvNet(8, in_channels=1)
    model = ConvNet(8, in_channels=1)
    model.load_state_dict(reference.state_dict())
    for module in reference.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = not inplace
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = inplace
    images = torch.randn(4, 1, 28, 28)
    model(images).square().sum().backward()
    reference(images).square().sum().backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("depth", [2, 7, 19, 21, -4])
def test_a_depth_that_cannot_be_built(depth):
    with pytest.raises(SpecificationError, match=r"6b \+ 2 layers.*Closest: \d+"):
        ResNet(depth)


def test_other_arguments_that_cannot_be_built():
    with pytest.raises(
        SpecificationError, match=r'unknown activation "gelu". Allowed: relu, leaky_relu, prelu'
    ):
        ResNet(8, activation="gelu")
    with pytest.raises(SpecificationError, match=r"width = 0 cannot be built"):
        MLP(784, width=0)


def test_build_gives_equal_weights_for_equal_seeds_and_moves_no_generator():
    before = torch.get_rng_state()
    spec = ConvolutionalModel(name="toynet", depth=8)
    one, same, other = (build(spec, (1, 28, 28), 10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(one, ToyNet)
    assert torch.equal(one.conv.weight, same.conv.weight)
    assert not torch.equal(one.conv.weight, other.conv.weight)
    assert torch.equal(one.fc.weight, same.fc.weight)


def test_build_an_mlp_takes_all_pixels():
    model = build(MLPModel(name="mlp", hidden_layers=2, width=7), (3, 32, 32), 10, seed=0)
    assert model(torch.randn(4, 3, 32, 32)).shape == (4, 10)
