"""PyramidNet: a residual network whose width grows a little with every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reluscope.errors import SpecificationError
from reluscope.lab.layers import activation_module, initialise
from reluscope.lab.section import ActivationName, blocks_per_stage

__all__ = ["PyramidNet", "pyramid_widths"]

_FIRST_WIDTH = 16


def pyramid_widths(depth: int, alpha: int) -> list[int]:
    """Channels of each of the 3b blocks of a PyramidNet of depth 6b + 2: 16 + alpha k / (3b), rounded.

    >>> pyramid_widths(20, 84)
    [25, 35, 44, 53, 63, 72, 81, 91, 100]
    """
    num_blocks = 3 * blocks_per_stage(depth)
    return [round(_FIRST_WIDTH + alpha * (block + 1) / num_blocks) for block in range(num_blocks)]


class _PyramidBlock(nn.Module):
    """BN - conv - BN - activation - conv - BN, plus the block's own input: one site."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, activation: ActivationName, momentum: float
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, momentum=momentum)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.act = activation_module(activation)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.stride = stride
        self.extra_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.bn1(x))
        out = self.bn3(self.conv2(self.act(self.bn2(out))))
        return out + self._skip(x)

    def _skip(self, x: Tensor) -> Tensor:
        """Average-pooled where strided, an odd last row or column on its own; zero channels at the end."""
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))


class PyramidNet(nn.Module):
    """PyramidNet-(6b+2): 3b residual blocks whose widths rise linearly from 16 to 16 + alpha.

    Takes (batch, in_channels, height, width), returns (batch, num_classes) logits. One activation per block
    and one at the end: 3b + 1 sites, `stage1.0.act`, ..., `act`; PyramidNet-20 has 10, of widths 25 35 44 53
    63 72 81 91 100 100.

    Args:
        depth: 6b + 2 with b >= 1.
        alpha: how much wider the last block is than the first convolution, >= 0; 84 in [A].
        activation: "relu", "leaky_relu" (0.01) or "prelu" (one slope per layer, 0.25 at first).
        in_channels: 1 for MNIST, 3 for CIFAR-10.
        num_classes: logits per image.
        batch_norm_momentum: of the running statistics.

    Raises:
        SpecificationError: `depth` is not 6b + 2, alpha is negative, or the activation is unknown.

    Source: [A], and Han, Kim, Kim 2017 for the block. Weights: Kaiming normal by fan-out, for ReLU
    N(0, 2 / (9 out)).
    """

    def __init__(
        self,
        depth: int = 20,
        *,
        alpha: int = 84,
        activation: ActivationName = "relu",
        in_channels: int = 3,
        num_classes: int = 10,
        batch_norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if alpha < 0:
            raise SpecificationError(
                f"a PyramidNet with alpha = {alpha} cannot be built: it must not shrink."
            )
        widths = pyramid_widths(depth, alpha)
        self.conv = nn.Conv2d(in_channels, _FIRST_WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_FIRST_WIDTH, momentum=batch_norm_momentum)
        blocks, channels, per_stage = [], _FIRST_WIDTH, len(widths) // 3
        for index, width in enumerate(widths):
            stride = 2 if index in (per_stage, 2 * per_stage) else 1
            blocks.append(_PyramidBlock(channels, width, stride, activation, batch_norm_momentum))
            channels = width
        self.stage1 = nn.Sequential(*blocks[:per_stage])
        self.stage2 = nn.Sequential(*blocks[per_stage : 2 * per_stage])
        self.stage3 = nn.Sequential(*blocks[2 * per_stage :])
        self.bn2 = nn.BatchNorm2d(channels, momentum=batch_norm_momentum)
        self.act = activation_module(activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)  # torch's default initialisation, as in [A]
        initialise(
            (module for module in self.modules() if isinstance(module, nn.Conv2d)), "fan_out", activation
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.bn1(self.conv(x)))))
        return self.fc(torch.flatten(self.pool(self.act(self.bn2(x))), 1))
