"""The paper's hash list, written anew from its Algorithm 1 in plain torch, as one would without our kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from reluscope.bench.peers import Reading
from reluscope.patterns import HashList

__all__ = ["count_by_hashlist", "count_by_own_hashlist"]

_CHUNK = 1 << 16  # evaluations hashed at a time, as batch by batch in a training: no huge intermediate arrays


def count_by_hashlist(values: Tensor, size: int) -> Reading:
    """Count by [A] Algorithm 1, where the values are: pattern -> hash mod size, counts added.

    The hash is a multilinear one over all bits, modulo 2^64, so that patterns collide only by chance.

    Args:
        values: pre-activations, units on axis 1.
        size: slots.

    Returns:
        Used slots, evaluations, and no keys: the list keeps none, and colliding patterns are merged.
    """
    num_units = values.shape[1]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (num_units,), generator=generator).to(values.device)
    counts = torch.zeros(size, dtype=torch.int64, device=values.device)
    one = torch.ones(1, dtype=torch.int64, device=values.device)
    for rows in values.movedim(1, -1).reshape(-1, num_units).split(_CHUNK):
        hashed = torch.where(rows > 0, weights, 0).sum(1)
        slots = (hashed >> 20).remainder(size)  # the upper bits are the random ones
        counts.index_add_(0, slots, one.expand_as(slots))
    used = counts[counts > 0]
    return Reading(len(used), int(used.sum()), None)


def count_by_own_hashlist(values: Tensor, size: int) -> Reading:
    """The same by `reluscope.HashList`, which packs and hashes with our kernels; CPU only."""
    hashlist = HashList(size)
    hashlist.update(values)
    counts = hashlist.counts
    return Reading(len(counts), int(counts.sum()), None)
