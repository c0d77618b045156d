"""Real pre-activations: those of one site of a network, as the instrument sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reluscope.errors import BenchmarkError
from reluscope.observe import ObservationMode, Probe, SiteBatch, observe

__all__ = ["STAGE_SITES", "preactivations_at"]

# The last site of each stage of a 20-layer network of the lab; in ResNet-20 of width 16, 32 and 64.
STAGE_SITES = {"stage1": "stage1.2.act2", "stage2": "stage2.2.act2", "stage3": "act"}


def preactivations_at(model: nn.Module, images: Tensor, site: str, num_evaluations: int) -> Tensor:
    """Pre-activations of one convolutional site, batch norm on batches of 128, channels-last.

    Args:
        model: channels-last.
        images: (n, channels, height, width), as many as there are.
        site: its name.
        num_evaluations: how many are wanted; whole batches, so there may be up to a batch more, or fewer where
            the images do not suffice.

    Returns:
        float32 (samples, units, height, width).
    """
    batches: list[Tensor] = []

    def keep(batch: SiteBatch) -> None:
        have = sum(one.numel() // one.shape[1] for one in batches)
        if have < num_evaluations:
            batches.append(batch.preactivations.clone())  # valid only during this call

    observe(model, Probe(images), ObservationMode(sites=site), keep)
    if not batches:
        raise BenchmarkError(f'nothing was collected at "{site}": num_evaluations={num_evaluations}.')
    return torch.cat(batches).contiguous(memory_format=torch.channels_last)
