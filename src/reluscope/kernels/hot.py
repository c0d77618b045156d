"""Frequent keys counted in cache before the rest is sorted, in Numba.

Axes: R raw keys, P patterns of the table so far, S slots. A direct-mapped cache holds, in slot hash(key), the
key of the table that was most frequent so far; a raw key that is found there is counted, every other one is
passed on. On skewed distributions most keys end here, for 2 ns instead of a sort and a merge. The cache
itself is fixed between two compactions, so threads share it and only count apart. Limit: rows of one word.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["HotKeys"]

SLOT_BITS = 13
SLOTS = 1 << SLOT_BITS
# Passing a key through costs about a sixth of sorting and merging it.
MIN_HIT_RATE = 0.2
# 2^64 / golden ratio: multiplicative hashing spreads patterns that differ in few bits.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(64 - SLOT_BITS)


@njit(nogil=True, cache=True)
def _fill(keys, counts, slots, places):  # pragma: no cover - compiled
    """Put into each slot the most frequent of its keys in a table uint64 (P,), and that key's row there.

    Returns how many of the counted evaluations had one of these keys. An unused slot holds key 0 and place
    -1: where 0 is no key of the table it could still be found, so slot 0 is given a key of another slot.
    """
    slots[:] = np.uint64(0)
    slots[0] = np.uint64(1)  # key 0 hashes to slot 0, key 1 does not
    places[:] = -1
    for index in range(keys.size):
        slot = (keys[index] * MULTIPLIER) >> SHIFT
        if places[slot] < 0 or counts[places[slot]] < counts[index]:
            slots[slot] = keys[index]
            places[slot] = index
    covered = 0
    for slot in range(slots.size):
        if places[slot] >= 0:
            covered += counts[places[slot]]
    return covered


@njit(nogil=True, cache=True)
def _sift(raw, slots, hits):  # pragma: no cover - compiled
    """Count raw keys uint64 (R,) found in slots; move the others to the front, return their number."""
    kept = 0
    for index in range(raw.size):
        key = raw[index]
        slot = (key * MULTIPLIER) >> SHIFT
        is_hit = slots[slot] == key
        hits[slot] += np.uint32(is_hit)
        raw[kept] = key
        kept += not is_hit
    return kept


@njit(nogil=True, cache=True)
def _add_hits(places, hits, counts):  # pragma: no cover - compiled
    """Add the hits of every used slot to the counts of its key."""
    for slot in range(places.size):
        if places[slot] >= 0:
            counts[places[slot]] += hits[slot]


class HotKeys:
    """The cache of frequent keys of one table."""

    def __init__(self) -> None:
        self._slots = np.empty(SLOTS, np.uint64)
        self._places = np.empty(SLOTS, np.int64)
        self._hits = np.zeros(SLOTS, np.int64)
        self.is_useful = False
        self.has_hits = False

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes + self._places.nbytes + self._hits.nbytes

    def fill(self, keys: np.ndarray, counts: np.ndarray, num_evaluations: int) -> None:
        """Choose keys from a table uint64 (P,); judge by its counts whether looking keys up will pay."""
        covered = _fill(keys, counts, self._slots, self._places)
        self.is_useful = covered > MIN_HIT_RATE * num_evaluations

    def sift(self, raw: np.ndarray) -> tuple[int, np.ndarray]:
        """Move keys that are not in the cache to the front; their number, and the others' hits uint32 (S,).

        Safe for several threads at once: the hits are handed to `collect` by one of them.
        """
        hits = np.zeros(SLOTS, np.uint32)
        return _sift(raw, self._slots, hits), hits

    def collect(self, hits: np.ndarray) -> None:
        """Take over the hits of one `sift`."""
        self._hits += hits
        self.has_hits = True

    def flush(self, counts: np.ndarray) -> None:
        """Add all hits to the counts int64 (P,) of the table the cache was filled from, and forget them."""
        _add_hits(self._places, self._hits, counts)
        self._hits[:] = 0
        self.has_hits = False
