"""The state of a count that grows batch by batch, in Numba: a sorted table and the raw keys not yet in it.

Raw keys (8 bytes for a one-word row) wait until there are as many as the table has rows, then all are sorted and
united with the table. So each key is merged a constant number of times on average, and where all keys are distinct
the state never takes twice the memory of the finished table.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from reluscope.kernels import pool, tables
from reluscope.kernels.compact import compact
from reluscope.kernels.cpu import (
    BLOCK_WORDS,
    MIN_VALUES_PER_THREAD,
    fingerprint_into,
    pack_range,
    threads_for,
)
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import Values

__all__ = ["SortedAccumulator"]

# Evaluations taken in between two looks at how many keys wait.
SEGMENT = 1 << 17
# Fewer raw keys than this are not worth a compaction.
MIN_RAW = 1 << 16
# Rows are indexed by 32 bits while they are sorted.
MAX_RAW = 1 << 31


@njit(nogil=True, cache=True)
def _add_groups(
    keys, start, positions, groups, group_bits, group_column, rows
):  # pragma: no cover - compiled
    """Rows uint64 (E, C) of keys uint64 (E, W) and the group of each evaluation's sample.

    keys and rows may be the same memory where both have one column.
    """
    num_words = keys.shape[1]
    shift = np.uint64(group_bits)
    for index in range(keys.shape[0]):
        group = np.uint64(groups[(start + index) // positions])
        if group_column:
            rows[index, 0] = group
            for word in range(num_words):
                rows[index, word + 1] = keys[index, word]
        elif group_bits == 0:
            for word in range(num_words):
                rows[index, word] = keys[index, word]
        else:
            carry = group
            for word in range(num_words):
                key = keys[index, word]
                rows[index, word] = (key << shift) | carry
                carry = key >> (np.uint64(64) - shift)
            if rows.shape[1] > num_words:
                rows[index, num_words] = carry


class SortedAccumulator:
    """Counts rows of any plan by sorting."""

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._keys = np.empty((0, plan.num_columns), np.uint64)
        self._counts = np.empty(0, np.int64)
        self._chunks: list[np.ndarray] = []
        self._num_raw = 0

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._counts.nbytes + sum(chunk.nbytes for chunk in self._chunks)

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        num_nan = 0
        for start in range(0, values.num_evaluations, SEGMENT):
            num_nan += self._add_segment(values, groups, start, min(start + SEGMENT, values.num_evaluations))
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Count patterns that are packed already, uint64 (E, W), without groups."""
        for start in range(0, len(words), SEGMENT):
            stop = min(start + SEGMENT, len(words))
            if self._plan.is_fingerprint:
                rows = np.empty((stop - start, 2), np.uint64)
                ranges = pool.split(stop - start, threads_for(words[start:stop].size, BLOCK_WORDS))
                hash_keys = self._plan.hash_keys
                pool.run(
                    [
                        partial(fingerprint_into, words[start + a : start + b], hash_keys, rows[a:b])
                        for a, b in ranges
                    ]
                )
            else:
                rows = words[start:stop].copy()
            self._append(rows)

    def finish(self) -> Finished:
        """The finished tables; more may be added afterwards."""
        self._compact()
        plan = self._plan
        if plan.num_groups == 0:
            return Finished(keys=self._keys, counts=self._counts)
        size = tables.marginal_size(self._keys, plan.group_bits, plan.group_column)
        keys, counts = np.empty((size, plan.key_words), np.uint64), np.empty(size, np.int64)
        patterns, groups = np.empty(len(self._keys), np.int64), np.empty(len(self._keys), np.int64)
        tables.marginal(
            self._keys, self._counts, plan.group_bits, plan.group_column, keys, counts, patterns, groups
        )
        return Finished(
            keys=keys, counts=counts, joint_pattern=patterns, joint_group=groups, joint_counts=self._counts
        )

    def _add_segment(self, values: Values, groups: np.ndarray | None, start: int, stop: int) -> int:
        rows = np.empty((stop - start, self._plan.num_columns), np.uint64)
        num_values = (stop - start) * values.num_units
        ranges = pool.split(stop - start, threads_for(num_values, MIN_VALUES_PER_THREAD))
        num_nan = sum(
            pool.run(
                [partial(self._make_rows, values, groups, start + a, start + b, rows[a:b]) for a, b in ranges]
            )
        )
        self._append(rows)
        return num_nan

    def _make_rows(
        self, values: Values, groups: np.ndarray | None, start: int, stop: int, rows: np.ndarray
    ) -> int:
        """Pack, hash and add groups, block by block in this thread's cache."""
        plan = self._plan
        if groups is None and not plan.is_fingerprint:
            return pack_range(values, start, stop, rows)
        block = max(1, BLOCK_WORDS // plan.num_words)
        scratch = pool.scratch("words", block * plan.num_words, np.uint64).reshape(block, plan.num_words)
        positions = max(1, values.num_evaluations // max(1, values.num_samples))
        num_nan = 0
        for first in range(start, stop, block):
            last = min(first + block, stop)
            words, target = scratch[: last - first], rows[first - start : last - start]
            num_nan += pack_range(values, first, last, words)
            if plan.is_fingerprint:
                hashed = target if groups is None else np.empty((last - first, 2), np.uint64)
                fingerprint_into(words, plan.hash_keys, hashed)
                words = hashed
            if groups is not None:
                _add_groups(words, first, positions, groups, plan.group_bits, plan.group_column, target)
        return num_nan

    def _append(self, rows: np.ndarray) -> None:
        self._chunks.append(rows)
        self._num_raw += len(rows)
        if self._num_raw >= min(max(MIN_RAW, len(self._keys)), MAX_RAW):
            self._compact()

    def _compact(self) -> None:
        if self._num_raw:
            self._keys, self._counts = compact(self._chunks, self._keys, self._counts, self._plan.row_bits)
            self._num_raw = 0
