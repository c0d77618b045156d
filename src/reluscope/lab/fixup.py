"""FixUp ResNet: a residual network without normalisation, kept in bounds by how it is initialised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reluscope.lab.layers import activation_module, initialise, subsample_and_pad
from reluscope.lab.section import ActivationName, blocks_per_stage

__all__ = ["FixupResNet"]


def _scalar(value: float) -> nn.Parameter:
    """One number that is trained: a bias or a multiplier for a whole tensor."""
    return nn.Parameter(torch.full((1,), value))


class _FixupBlock(nn.Module):
    """conv - activation - conv, a scalar bias on either side of each conv, times a scalar; then sum, activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: ActivationName) -> None:
        super().__init__()
        self.bias1a = _scalar(0.0)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bias1b = _scalar(0.0)
        self.act1 = activation_module(activation)
        self.bias2a = _scalar(0.0)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.scale = _scalar(1.0)
        self.bias2b = _scalar(0.0)
        self.act2 = activation_module(activation)
        self.stride = stride
        self.extra_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        biased = x + self.bias1a
        out = self.act1(self.conv1(biased) + self.bias1b)
        out = self.conv2(out + self.bias2a) * self.scale + self.bias2b
        return self.act2(out + self._skip(x, biased))

    def _skip(self, x: Tensor, biased: Tensor) -> Tensor:
        """The input as it came; where its shape must change, the biased one, as the authors of FixUp do."""
        if self.stride == 1 and not self.extra_channels:
            return x
        return subsample_and_pad(biased, self.stride, self.extra_channels)


class FixupResNet(nn.Module):
    """FixUp ResNet-(6b+2): no normalisation, post-activation blocks of 16, 32, 64 filters.

    Takes (batch, in_channels, height, width), returns (batch, num_classes) logits. Its 6b + 1 sites are `act`
    after the first convolution, then `stage1.0.act1`, `stage1.0.act2`, ...

    With m = 3b blocks: the first convolution of a block is Kaiming normal by fan-out times m^(-1/2) (for ReLU
    and depth 20: N(0, 2 / (9 out)) / 3), the second zero, so that every block begins as the identity. Scalar
    biases stand before and after each convolution and before the pool, a scalar multiplier in each block.
    They, and the bias of the linear layer, want a tenth of the learning rate: `optimizer.bias_lr_factor`.

    Args:
        depth: 6b + 2 with b >= 1.
        activation: "relu", "leaky_relu" (0.01) or "prelu" (one slope per layer, 0.25 at first).
        in_channels: 1 for MNIST, 3 for CIFAR-10.
        num_classes: logits per image.

    Raises:
        SpecificationError: `depth` is not 6b + 2, or the activation is unknown.

    Source: [A], and Zhang, Dauphin, Ma 2019. The linear layer has torch's default initialisation like all
    nets of [A]; the authors of FixUp begin with a zero one.
    """

    def __init__(
        self,
        depth: int = 20,
        *,
        activation: ActivationName = "relu",
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        per_stage = blocks_per_stage(depth)
        self.bias1a = _scalar(0.0)
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bias1b = _scalar(0.0)
        self.act = activation_module(activation)
        stages, channels = [], 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for block in range(per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(_FixupBlock(channels, width, stride, activation))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3 = stages
        self.bias2 = _scalar(0.0)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self._initialise(activation, num_blocks=3 * per_stage)

    def _initialise(self, activation: ActivationName, *, num_blocks: int) -> None:
        initialise([self.conv], "fan_out", activation)
        for block in self.modules():
            if isinstance(block, _FixupBlock):
                initialise([block.conv1], "fan_out", activation)
                with torch.no_grad():
                    block.conv1.weight.mul_(num_blocks**-0.5)
                nn.init.zeros_(block.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x + self.bias1a) + self.bias1b)
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.pool(x + self.bias2).flatten(1))
