"""The networks that the lab trains: ResNet, ConvNet and ToyNet of [A] at any depth 6b + 2, and a plain MLP.

[A] is Hartmann, Franzen, Brodehl 2021. All three convolutional nets use 3 x 3 convolutions without bias,
batch norm, a global average pool and one linear layer, and have 6b + 1 activation sites. Every activation is
a module of its own, so that a site's name is simply where it stands: `stage2.0.act1`. PyramidNet and FixUp ResNet
stand in `pyramidnet.py` and `fixup.py`; `build` makes any of them from a specification.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reluscope.errors import SpecificationError
from reluscope.lab.fixup import FixupResNet
from reluscope.lab.layers import activation_module, initialise, subsample_and_pad
from reluscope.lab.pyramidnet import PyramidNet
from reluscope.lab.section import ActivationName, blocks_per_stage
from reluscope.lab.specification import MLPModel, ModelSpecification

__all__ = ["MLP", "ConvNet", "ResNet", "ToyNet", "build"]


class _PreActivationBlock(nn.Module):
    """BN - activation - conv - BN - activation - conv, plus the block's own input when `shortcut`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        activation: ActivationName,
        *,
        shortcut: bool,
        momentum: float,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, momentum=momentum)
        self.act1 = activation_module(activation)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.act2 = activation_module(activation)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.stride = stride
        self.extra_channels = out_channels - in_channels
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.act1(self.bn1(x)))
        out = self.conv2(self.act2(self.bn2(out)))
        if not self.shortcut:
            return out
        return out + subsample_and_pad(x, self.stride, self.extra_channels)


class _ConvolutionalNet(nn.Module):
    """conv - three stages of b blocks - BN - activation - pool - fc; stages 2 and 3 begin with stride 2."""

    filters: tuple[int, int, int] = (16, 32, 64)
    shortcut: bool = False

    def __init__(
        self,
        depth: int = 20,
        *,
        activation: ActivationName = "relu",
        in_channels: int = 3,
        num_classes: int = 10,
        batch_norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        num_blocks = blocks_per_stage(depth)
        self.conv = nn.Conv2d(in_channels, self.filters[0], 3, padding=1, bias=False)
        stages, channels = [], self.filters[0]
        for stage, width in enumerate(self.filters):
            blocks = []
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(
                    _PreActivationBlock(
                        channels,
                        width,
                        stride,
                        activation,
                        shortcut=self.shortcut,
                        momentum=batch_norm_momentum,
                    )
                )
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3 = stages
        self.bn = nn.BatchNorm2d(channels, momentum=batch_norm_momentum)
        self.act = activation_module(activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        self.fc = nn.Linear(channels, num_classes)  # torch's default initialisation, as in [A]
        initialise(convolutions, "fan_out", activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv(x))))
        return self.fc(self.pool(self.act(self.bn(x))).flatten(1))


class ResNet(_ConvolutionalNet):
    """ResNet-(6b+2) with pre-activation (v2) blocks: 16, 32, 64 filters and parameter-free shortcuts.

    Takes (batch, in_channels, height, width), 28 x 28 or 32 x 32 in the papers, any size in fact; returns
    (batch, num_classes) logits. Its 6b + 1 sites are `stage1.0.act1`, `stage1.0.act2`, ..., `act`; their
    widths are 16 at the first 2b + 1, 32 at the next 2b, 64 at the last 2b.

    Args:
        depth: 6b + 2 with b >= 1 (8, 14, 20, 26, 32, ...).
        activation: "relu", "leaky_relu" (0.01) or "prelu" (one slope per layer, 0.25 at first).
        in_channels: 1 for MNIST, 3 for CIFAR-10.
        num_classes: logits per image.
        batch_norm_momentum: of the running statistics.

    Raises:
        SpecificationError: `depth` is not 6b + 2, or the activation is unknown.

    Source: [A], and He et al. 2016 for the block. Weights: Kaiming normal by fan-out.
    """

    shortcut = True


class ConvNet(_ConvolutionalNet):
    """ConvNet-(6b+2): `ResNet` without its shortcuts; arguments, sites and errors are the same. Source: [A]."""


class ToyNet(_ConvolutionalNet):
    """ToyNet-(6b+2): `ConvNet` with 32 filters everywhere; arguments and errors are the same. Source: [A]."""

    filters = (32, 32, 32)


class MLP(nn.Module):
    """A fully connected net: `hidden_layers` times linear - activation, then one linear layer.

    Takes (batch, ...) and flattens it; returns (batch, num_classes) logits. Its sites are `hidden1.act`, ...
    Weights: Kaiming normal by fan-in, zero bias.

    Args:
        in_features: pixels of an image times its channels.
        hidden_layers: how many hidden layers; 2, 5 or 9 in [B]; the L of [C] counts linear modules,
            hidden_layers + 1.
        width: units per hidden layer.
        activation: "relu", "leaky_relu" (0.01) or "prelu" (one slope per layer, 0.25 at first).
        num_classes: logits per image.

    Raises:
        SpecificationError: a size below 1, or an unknown activation.

    Source: Haasbroek, Davel 2020 [B] and Lou et al. 2022 [C].
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden_layers: int = 5,
        width: int = 80,
        activation: ActivationName = "relu",
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        sizes = {
            "in_features": in_features,
            "hidden_layers": hidden_layers,
            "width": width,
            "num_classes": num_classes,
        }
        for what, size in sizes.items():
            if size < 1:
                raise SpecificationError(
                    f"an MLP with {what} = {size} cannot be built: it must be at least 1."
                )
        self.flatten = nn.Flatten()
        for layer in range(hidden_layers):
            linear = nn.Linear(in_features if layer == 0 else width, width)
            stack = nn.Sequential()
            stack.add_module("linear", linear)
            stack.add_module("act", activation_module(activation))
            self.add_module(f"hidden{layer + 1}", stack)
        self.fc = nn.Linear(width, num_classes)
        initialise(
            (module for module in self.modules() if isinstance(module, nn.Linear)), "fan_in", activation
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():  # in the order they were added
            x = layer(x)
        return x


_CONVOLUTIONAL: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNet,
    "convnet": ConvNet,
    "toynet": ToyNet,
    "pyramidnet": PyramidNet,
    "fixup_resnet": FixupResNet,
}


def build(
    specification: ModelSpecification, image_shape: tuple[int, int, int], num_classes: int, *, seed: int
) -> nn.Module:
    """The network that a specification describes, freshly initialised from `seed`.

    torch's own generators are not moved.

    Args:
        specification: the `model` section of a training specification.
        image_shape: (channels, height, width) of the images.
        num_classes: logits per image.
        seed: of the initial weights; equal seeds give equal weights, bit for bit.

    Raises:
        SpecificationError: a depth or size that cannot be built.
    """
    channels, height, width = image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(specification, MLPModel):
            return MLP(
                channels * height * width,
                hidden_layers=specification.hidden_layers,
                width=specification.width,
                activation=specification.activation,
                num_classes=num_classes,
            )
        settings = specification.model_dump(exclude={"name"})
        return _CONVOLUTIONAL[specification.name](in_channels=channels, num_classes=num_classes, **settings)
