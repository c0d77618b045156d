"""Parts that the networks of the lab share: activations, initial weights, the parameter-free shortcut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from reluscope.errors import SpecificationError
from reluscope.lab.section import ActivationName

__all__ = ["activation_module", "initialise", "subsample_and_pad"]

# Slope on the negative side: what Kaiming's gain sqrt(2 / (1 + a^2)) needs to know about each activation.
_NEGATIVE_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "prelu": 0.25}


def activation_module(name: ActivationName) -> nn.Module:
    """A fresh activation module, in place where torch can.

    What feeds it in the lab's networks (batch norm, linear, a sum) never needs its own output for the
    backward pass.

    Raises:
        SpecificationError: the name is unknown.
    """
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(_NEGATIVE_SLOPES[name], inplace=True)
    if name == "prelu":
        return nn.PReLU(init=_NEGATIVE_SLOPES[name])  # one slope per layer
    raise SpecificationError(f'unknown activation "{name}". Allowed: {", ".join(get_args(ActivationName))}.')


def initialise(
    modules: Iterable[nn.Conv2d | nn.Linear], mode: Literal["fan_in", "fan_out"], activation: ActivationName
) -> None:
    """Kaiming-normal weights, zero biases.

    The mode is explicit because fan-in in the convolutional nets would put the zigzag that [A] finds in
    trained nets into the initialisation already.
    """
    slope = _NEGATIVE_SLOPES[activation]
    for module in modules:
        nn.init.kaiming_normal_(module.weight, a=slope, mode=mode, nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def subsample_and_pad(x: Tensor, stride: int, extra_channels: int) -> Tensor:
    """The parameter-free shortcut: every `stride`-th pixel, zero channels added equally at both ends.

    Args:
        x: (batch, channels, height, width).
        stride: of the block beside the shortcut.
        extra_channels: how many channels more the block gives than it takes.
    """
    if stride > 1:
        x = x[:, :, ::stride, ::stride]
    if extra_channels:
        before = extra_channels // 2
        x = F.pad(x, (0, 0, 0, 0, before, extra_channels - before))
    return x
