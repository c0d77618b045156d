"""Frequent keys counted in cache before the rest is sorted, in Numba.

Axes: P patterns of the table so far, C columns of a row, S slots, T threads. A direct-mapped cache holds, in slot
hash(key), the key of the table that was most frequent so far; a raw key that is found there is counted, every other one
is passed on. On skewed distributions most keys end here, for 2 ns instead of a sort and a merge. Which keys it holds is
fixed between two compactions. Each thread has a copy of its own, (S, C + 1): a slot's key and behind it how often it was
found, so that a look takes one cache line.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inlined, kernel

__all__ = ["ROW_SLOTS", "SLOTS", "HotKeys", "sift", "sift_rows"]

# A copy stays in the second-level cache: 128 KB of 32-bit keys, 256 KB of 64 bits or of rows of three words.
SLOTS = 1 << 14
ROW_SLOTS = 1 << 13
# Passing a key through costs about a sixth of sorting and merging it.
MIN_HIT_RATE = 0.2
# 2^64 / golden ratio: multiplicative hashing spreads patterns that differ in few bits.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT, ROW_SHIFT = (np.uint64(65 - slots.bit_length()) for slots in (SLOTS, ROW_SLOTS))
# Hits are 32-bit counters: after so many evaluations they are added to the table.
MAX_HITS = 1 << 31


@inlined
def _slot_of(rows, index, shift):  # pragma: no cover - compiled
    """The slot of a row; 0 for a row of zeros."""
    hashed = np.uint64(0)
    for column in range(rows.shape[1]):
        hashed = (hashed ^ rows[index, column]) * MULTIPLIER
    return np.int64(hashed >> shift)


@kernel
def _fill(keys, counts, cells, places, shift):  # pragma: no cover - compiled
    """Put into each slot of every copy (T, S, C + 1) the most frequent of its keys in a table uint64 (P, C).

    places int64 (S,) gets that key's row there. Returns how many of the counted evaluations repeated one of these keys: a
    key seen once tells nothing. An unused slot holds key 0 and place -1: where 0 is no key of the table it could still be
    found, so slot 0 is given a key of another slot.
    """
    num_columns = keys.shape[1]
    for slot in range(places.size):
        places[slot] = -1
    for index in range(keys.shape[0]):
        slot = _slot_of(keys, index, shift)
        if places[slot] < 0 or counts[places[slot]] < counts[index]:
            places[slot] = index
    covered = 0
    for slot in range(places.size):
        place = places[slot]
        covered += counts[place] - 1 if place >= 0 else 0
        for thread in range(cells.shape[0]):
            for column in range(num_columns):
                cells[thread, slot, column] = keys[place, column] if place >= 0 else np.uint64(0)
            cells[thread, slot, num_columns] = 0
    if places[0] < 0:
        for thread in range(cells.shape[0]):
            cells[thread, 0, 0] = 1  # key 0 hashes to slot 0, key 1 does not
    return covered


@inlined
def sift(words, size, kept_words, cells):  # pragma: no cover - compiled
    """Count the first `size` words found in cells (S, 2); the others go to the front of kept_words, which may be words.

    Returns how many these are.
    """
    kind = cells.dtype.type
    kept = 0
    for index in range(size):
        key = words[index]
        slot = (np.uint64(key) * MULTIPLIER) >> SHIFT
        is_hit = cells[slot, 0] == kind(key)
        cells[slot, 1] += kind(is_hit)
        kept_words[kept] = key
        kept += not is_hit
    return kept


@inlined
def sift_rows(rows, size, kept_rows, cells):  # pragma: no cover - compiled
    """`sift` of the first `size` rows uint64 (B, C), with cells (S, C + 1).

    Columns are worth a constant where these are made: the loops over them take half as long again otherwise.
    """
    num_columns = kept_rows.shape[1]
    kept = 0
    for index in range(size):
        slot = _slot_of(rows, index, ROW_SHIFT)
        differing = np.uint64(0)
        for column in range(num_columns):
            value = rows[index, column]
            differing |= cells[slot, column] ^ value
            kept_rows[kept, column] = value
        is_hit = differing == 0
        cells[slot, num_columns] += np.uint64(is_hit)
        kept += not is_hit
    return kept


@kernel
def _add_hits(places, cells, counts):  # pragma: no cover - compiled
    """Add what every copy (T, S, C + 1) has found to the counts of its keys, and set it to 0."""
    last = cells.shape[2] - 1
    for thread in range(cells.shape[0]):
        for slot in range(places.size):
            if places[slot] >= 0:
                counts[places[slot]] += np.int64(cells[thread, slot, last])
            cells[thread, slot, last] = 0


class HotKeys:
    """The cache of frequent keys of one table, uint32 or uint64, or of rows of `num_columns` if it is not None."""

    def __init__(self, dtype: type, num_columns: int | None = None) -> None:
        self.is_useful = False
        num_slots, self._shift = (SLOTS, SHIFT) if num_columns is None else (ROW_SLOTS, ROW_SHIFT)
        self._places = np.empty(num_slots, np.int64)
        self._cells = np.zeros((1, num_slots, (num_columns or 1) + 1), dtype)

    @property
    def nbytes(self) -> int:
        return self._cells.nbytes + self._places.nbytes

    def fill(self, keys: np.ndarray, counts: np.ndarray, num_evaluations: int) -> None:
        """Choose keys from a table uint64 (P, C); judge by its counts whether looking keys up will pay."""
        covered = _fill(keys, counts, self._cells, self._places, self._shift)
        self.is_useful = covered > MIN_HIT_RATE * num_evaluations

    def copies_for(self, num_threads: int) -> int:
        """The address of the copies of so many threads, (T, S, C + 1), whose hits `flush` takes."""
        if len(self._cells) < num_threads:
            more = np.repeat(self._cells[:1], num_threads - len(self._cells), axis=0)
            more[:, :, -1] = 0
            self._cells = np.concatenate([self._cells, more])
        return self._cells.ctypes.data

    def flush(self, counts: np.ndarray) -> None:
        """Add all hits to the counts int64 (P,) of the table the cache was filled from, and forget them."""
        _add_hits(self._places, self._cells, counts)
