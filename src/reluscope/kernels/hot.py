"""Frequent keys counted in cache before the rest is sorted, in Numba.

Axes: P patterns of the table so far, C columns of a row, S slots, T threads. A direct-mapped cache holds, in slot
hash(key), the key of the table that was most frequent so far; a raw key that is found there is counted, every other one
is passed on. On skewed distributions most keys end here, for 2 ns instead of a sort and a merge. The cache itself is
fixed between two compactions, so threads share it and only count apart.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inlined, kernel

__all__ = ["SLOTS", "HotKeys", "sift", "sift_rows"]

SLOT_BITS = 13
SLOTS = 1 << SLOT_BITS
# Passing a key through costs about a sixth of sorting and merging it.
MIN_HIT_RATE = 0.2
# 2^64 / golden ratio: multiplicative hashing spreads patterns that differ in few bits.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(64 - SLOT_BITS)
# Hits are 32-bit counters: after so many evaluations they are added to the table.
MAX_HITS = 1 << 31


@inlined
def _slot_of(rows, index):  # pragma: no cover - compiled
    """The slot of a row; 0 for a row of zeros."""
    hashed = np.uint64(0)
    for column in range(rows.shape[1]):
        hashed = (hashed ^ rows[index, column]) * MULTIPLIER
    return np.int64(hashed >> SHIFT)


@kernel
def _fill(keys, counts, slots, places):  # pragma: no cover - compiled
    """Put into each slot (S, C) the most frequent of its keys in a table uint64 (P, C), and that key's row there.

    Returns how many of the counted evaluations repeated one of these keys: a key seen once tells nothing. An unused
    slot holds key 0 and place -1: where 0 is no key of the table it could still be found, so slot 0 is given a key of
    another slot.
    """
    for slot in range(places.size):
        places[slot] = -1
        for column in range(slots.shape[1]):
            slots[slot, column] = 0
    slots[0, 0] = np.uint64(1)  # key 0 hashes to slot 0, key 1 does not
    for index in range(keys.shape[0]):
        slot = _slot_of(keys, index)
        if places[slot] < 0 or counts[places[slot]] < counts[index]:
            for column in range(slots.shape[1]):
                slots[slot, column] = keys[index, column]
            places[slot] = index
    covered = 0
    for slot in range(places.size):
        if places[slot] >= 0:
            covered += counts[places[slot]] - 1
    return covered


@inlined
def sift(words, size, slots, hits):  # pragma: no cover - compiled
    """Count the first `size` words uint64 (B, 1) found in slots; move the others to the front, return their number."""
    kept = 0
    for index in range(size):
        key = words[index, 0]
        slot = (key * MULTIPLIER) >> SHIFT
        is_hit = slots[slot] == key
        hits[slot] += np.uint32(is_hit)
        words[kept, 0] = key
        kept += not is_hit
    return kept


@inlined
def sift_rows(rows, kept_rows, slots, hits):  # pragma: no cover - compiled
    """Count the rows uint64 (B, C) found in slots (S, C); the others go to the front of kept_rows, which may be rows.

    Returns how many these are.
    """
    kept = 0
    for index in range(rows.shape[0]):
        slot = _slot_of(rows, index)
        differing = np.uint64(0)
        for column in range(slots.shape[1]):
            value = rows[index, column]
            differing |= slots[slot, column] ^ value
            kept_rows[kept, column] = value
        is_hit = differing == 0
        hits[slot] += np.uint32(is_hit)
        kept += not is_hit
    return kept


@kernel
def _add_hits(places, hits, counts):  # pragma: no cover - compiled
    """Add the hits uint32 (T, S) of every used slot to the counts of its key, and set them to 0."""
    for thread in range(hits.shape[0]):
        for slot in range(places.size):
            if places[slot] >= 0:
                counts[places[slot]] += hits[thread, slot]
            hits[thread, slot] = 0


class HotKeys:
    """The cache of frequent keys of one table."""

    def __init__(self, num_columns: int = 1) -> None:
        self.slots = np.empty((SLOTS, num_columns), np.uint64)
        self.is_useful = False
        self._places = np.empty(SLOTS, np.int64)
        self._hits = np.zeros((1, SLOTS), np.uint32)
        self.slots_address, self._hits_address = self.slots.ctypes.data, self._hits.ctypes.data

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self._places.nbytes + self._hits.nbytes

    def fill(self, keys: np.ndarray, counts: np.ndarray, num_evaluations: int) -> None:
        """Choose keys from a table uint64 (P, C); judge by its counts whether looking keys up will pay."""
        covered = _fill(keys, counts, self.slots, self._places)
        self.is_useful = covered > MIN_HIT_RATE * num_evaluations

    def hits_for(self, num_threads: int) -> int:
        """The address of the counters of so many threads, uint32 (T, S), which `flush` empties."""
        if len(self._hits) < num_threads:
            self._hits = np.concatenate(
                [self._hits, np.zeros((num_threads - len(self._hits), SLOTS), np.uint32)]
            )
            self._hits_address = self._hits.ctypes.data
        return self._hits_address

    def flush(self, counts: np.ndarray) -> None:
        """Add all hits to the counts int64 (P,) of the table the cache was filled from, and forget them."""
        _add_hits(self._places, self._hits, counts)
