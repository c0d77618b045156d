"""Two sorted tables compared in one pass, without their union: how many patterns both have, and how often together.

Axes: P and Q patterns, R and S raw keys, C columns. A site's state is a table, keys uint64 (P, C) and counts int64 (P,),
or sorted raw keys uint32 or uint64 (R,), each as often as it occurred. All changes and similarities of two states follow
from the two numbers found here and from what each state knows of itself.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from reluscope.kernels import pool, tables
from reluscope.kernels.jit import kernel

__all__ = ["Sorted", "compare_sorted"]

# Below this many entries a second thread costs more than it saves (about 50 us to wake it).
MIN_PER_THREAD = 1 << 15
PARTS_PER_THREAD = 4

# Keys, and counts; no counts where the keys are raw.
Sorted = tuple[np.ndarray, np.ndarray | None]


@kernel
def _compare_raw(raw, other):  # pragma: no cover - compiled
    """Two sorted arrays of raw keys: taking equal ones pairwise finds each key as often as the lesser count says."""
    index, place, num_common, overlap = 0, 0, 0, 0
    if raw.size == 0 or other.size == 0:
        return num_common, overlap
    last = raw[0]  # the key found before; at first none was
    while index < raw.size and place < other.size:
        key, other_key = raw[index], other[place]
        is_same = np.int64(key == other_key)
        num_common += is_same & (np.int64(key != last) | np.int64(overlap == 0))
        overlap += is_same
        last = key if is_same else last
        index += np.int64(key <= other_key)
        place += np.int64(other_key <= key)
    return num_common, overlap


@kernel
def _compare_raw_with_table(raw, keys, counts):  # pragma: no cover - compiled
    """Sorted raw keys (R,) and a table of one column, keys uint64 (Q,), counts int64 (Q,)."""
    index, num_common, overlap = 0, 0, 0
    for place in range(keys.size):
        key = keys[place]
        while index < raw.size and np.uint64(raw[index]) < key:
            index += 1
        start = index
        while index < raw.size and np.uint64(raw[index]) == key:
            index += 1
        num_common += index > start
        overlap += min(index - start, counts[place])
    return num_common, overlap


@kernel
def _compare_tables(keys, counts, other_keys, other_counts):  # pragma: no cover - compiled
    """Two tables of one column; without branches on the keys, since which comes next is a coin toss."""
    index, place, num_common, overlap = 0, 0, 0, 0
    while index < keys.size and place < other_keys.size:
        key, other_key = keys[index], other_keys[place]
        is_same = np.int64(key == other_key)
        num_common += is_same
        overlap += is_same * min(counts[index], other_counts[place])
        index += np.int64(key <= other_key)
        place += np.int64(other_key <= key)
    return num_common, overlap


@kernel
def _compare_rows(keys, counts, other_keys, other_counts):  # pragma: no cover - compiled
    """Two tables of several columns."""
    index, place, num_common, overlap = 0, 0, 0, 0
    while index < keys.shape[0] and place < other_keys.shape[0]:
        comparison = tables.compare_rows(keys, index, other_keys, place)
        if comparison == 0:
            num_common += 1
            overlap += min(counts[index], other_counts[place])
        index += comparison <= 0
        place += comparison >= 0
    return num_common, overlap


def compare_sorted(state: Sorted, other: Sorted) -> tuple[int, int]:
    """Patterns that two states of a site have in common, and the sum of the lesser of their counts.

    Args:
        state, other: keys uint64 (P, C) with counts int64 (P,), or sorted raw keys uint32 or uint64 (R,) and None.
    """
    longer, shorter = (state, other) if len(state[0]) >= len(other[0]) else (other, state)
    num_parts = min(PARTS_PER_THREAD * pool.num_threads(), 1 + len(longer[0]) // MIN_PER_THREAD)
    cuts = [start for start, _ in pool.split(len(longer[0]), num_parts)][1:]
    firsts = [longer[0][cut : cut + 1] for cut in cuts]
    pieces = [_pieces(one, [_lower_bound(one[0], first) for first in firsts]) for one in (longer, shorter)]
    found = pool.run([partial(_compare_piece, *pair) for pair in zip(*pieces, strict=True)])
    return sum(int(common) for common, _ in found), sum(int(overlap) for _, overlap in found)


def _pieces(state: Sorted, cuts: list[int]) -> list[Sorted]:
    """A state cut at these places."""
    keys, counts = state
    spans = [slice(*edges) for edges in pairwise([0, *cuts, len(keys)])]
    return [(keys[span], None if counts is None else counts[span]) for span in spans]


def _lower_bound(keys: np.ndarray, first: np.ndarray) -> int:
    """Where keys that are not below `first`, of the same columns or raw, begin."""
    if keys.ndim == 2 and keys.shape[1] > 1:
        return int(tables.lower_bound(keys, first))
    return int(np.searchsorted(keys.reshape(-1), keys.dtype.type(first.reshape(-1)[0]), side="left"))


def _compare_piece(state: Sorted, other: Sorted) -> Any:
    (keys, counts), (other_keys, other_counts) = state, other
    if counts is None and other_counts is None:
        return _compare_raw(keys, other_keys)
    if counts is None:
        return _compare_raw_with_table(keys, other_keys.reshape(-1), other_counts)
    if other_counts is None:
        return _compare_raw_with_table(other_keys, keys.reshape(-1), counts)
    if keys.shape[1] == 1:
        return _compare_tables(keys.reshape(-1), counts, other_keys.reshape(-1), other_counts)
    return _compare_rows(keys, counts, other_keys, other_counts)
