"""Random crop and horizontal flip, for a whole batch at once and from a private generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["crop_flip"]


def crop_flip(images: Tensor, generator: torch.Generator, *, fill: Tensor, padding: int = 4) -> Tensor:
    """Each image padded on all sides, cut back to its size at a random place, and mirrored with probability
    1/2.

    Args:
        images: (batch, channels, height, width); not changed.
        generator: where the randomness comes from; torch's global stream is not touched.
        fill: (channels,) what the border holds: black, in the units of the normalised images.
        padding: pixels added on each side, >= 0; [A] uses 4.

    Returns:
        A new tensor of the same shape and dtype. Source: [A], section 4.
    """
    batch, channels, height, width = images.shape
    border = fill.to(images.dtype).view(1, channels, 1, 1)
    # Padding with zeros what is measured relative to black gives a border of black in every channel.
    padded = F.pad(images - border, (padding,) * 4) + border
    top, left = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(batch)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
