"""How the cost of counting grows with the number of evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from reluscope.bench.distributions import activations_of, words_of
from reluscope.bench.rows import Row, rows_of
from reluscope.patterns import PatternCounter

__all__ = ["CASE", "scaling_rows"]

_WIDTH = 32
_BATCH = 100_000  # evaluations per batch: 13 MB, as a batch of a network would be
_NUM_POOLS = 8
_NUM_FLIPS = 8  # each pool is shown in so many disguises: then every pattern has been seen
_FIRST = 100_000
_MOST_ROUNDS = 5
CASE = f"zipf/{_WIDTH}, at most {_NUM_POOLS * _NUM_FLIPS} batches of new patterns"


def scaling_rows(
    most_evaluations: int, seconds: float, device: str, tell: Callable[[float], None]
) -> list[Row]:
    """Seconds to count 10^5, 10^6, ... evaluations of width 32, batch by batch, finished table included.

    Memory is bounded: Zipf-distributed batches come round again, with units flipped so that 64 batches differ;
    making them is not timed.

    Args:
        most_evaluations: where to stop; a last size that is no power of ten is that one itself.
        seconds: how long one size may take; the next is left out when it would take longer.
        device: where the pre-activations lie.
        tell: the share that is done.
    """
    pools = [
        activations_of(words_of("zipf", _WIDTH, _BATCH, seed=seed), _WIDTH).to(device)
        for seed in range(_NUM_POOLS)
    ]
    generator = torch.Generator().manual_seed(0)
    flips = (torch.randint(0, 2, (_NUM_FLIPS, _WIDTH), generator=generator) * 2.0 - 1.0).to(device)
    rows: list[Row] = []
    _count(pools, flips, _BATCH)  # compiles
    sizes = _sizes(most_evaluations)
    for index, size in enumerate(sizes):
        if rows and rows[-1].median_s * size / rows[-1].work > seconds:
            break
        times = [_count(pools, flips, size)]
        while len(times) < _MOST_ROUNDS and sum(times) + times[-1] < seconds:
            times.append(_count(pools, flips, size))
        found = {"PatternCounter": np.asarray(times)}
        rows += rows_of("scaling", CASE, found, baseline="PatternCounter", work=size, unit="evaluations")
        tell((index + 1) / len(sizes))
    return rows


def _sizes(most: int) -> list[int]:
    sizes = [_FIRST]
    while sizes[-1] * 10 <= most:
        sizes.append(sizes[-1] * 10)
    return sizes + ([most] if most > sizes[-1] else [])


def _count(pools: Sequence[torch.Tensor], flips: torch.Tensor, size: int) -> float:
    """Seconds that a counter works, without the time to make its batches."""
    counter = PatternCounter(_WIDTH)
    seconds = 0.0
    for index, start in enumerate(range(0, size, _BATCH)):
        pool = pools[index % len(pools)]
        batch = (pool * flips[index // len(pools) % len(flips)])[: size - start]
        began = time.perf_counter()
        counter.update(batch)
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    counter.counts()
    return seconds + time.perf_counter() - began
