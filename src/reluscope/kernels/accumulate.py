"""The state of a count that grows batch by batch, in Numba: a sorted table and the raw rows not yet in it.

Raw rows wait until there are a quarter of what the table has, or as many; then all are sorted and united with it, and the
old table's pages go back while the new one is written. So each row is merged a constant number of times on average, and
where all are distinct the state never takes twice the memory of the finished table. Rows of one word have an accumulator
of their own, in `accumulate_words`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from reluscope.kernels import pool, tables
from reluscope.kernels.compact import STAGES, compact_rows
from reluscope.kernels.cpu import (
    BLOCK_WORDS,
    MIN_ROWS_PER_THREAD,
    MIN_VALUES_PER_THREAD,
    fingerprint_into,
    pack_range,
    packer,
    threads_for,
)
from reluscope.kernels.jit import kernel
from reluscope.kernels.pages import paged_array, release_before
from reluscope.kernels.plan import Finished, KeyPlan, Load
from reluscope.kernels.values import Values

__all__ = ["MAX_RAW", "MIN_RAW", "RowAccumulator", "make_rows", "split_groups"]

# Evaluations taken in between two looks at how many keys wait.
SEGMENT = 1 << 17
# Fewer raw keys than this are not worth a compaction.
MIN_RAW = 1 << 15
# Raw rows that may wait for each row of the table, by the words of a key: beside a finished table of 16 bytes a pattern
# rows of two words, 16 bytes each, weigh more than beside one of 24.
WAITING = {1: 0.25, 2: 1.0}
# Rows are indexed by 32 bits while they are sorted.
MAX_RAW = 1 << 31

# Writes evaluations start..stop to rows uint64 (stop - start, C); returns the number of NaN.
MakeRows = Callable[[int, int, np.ndarray], int]


@kernel
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


class RowAccumulator:
    """Counts rows of several words by sorting."""

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._keys = np.empty((0, plan.num_columns), np.uint64)
        self._counts = np.empty(0, np.int64)
        self._is_shared = False  # whether the table was given out, so that it must stay
        self._raw = np.empty((0, plan.num_columns), np.uint64)
        self._num_raw = 0

    @property
    def nbytes(self) -> int:
        raw = self._num_raw * self._plan.num_columns * 8
        return self._keys.nbytes + self._counts.nbytes + raw

    @property
    def load(self) -> Load:
        """What is held, in rows."""
        return Load(len(self._keys), self._num_raw, 8 * self._plan.num_columns)

    def take_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The table of everything counted: rows uint64 (J, C), counts int64 (J,); the accumulator is empty then."""
        self._compact()
        found = (self._keys.copy(), self._counts.copy()) if self._is_shared else (self._keys, self._counts)
        self._keys, self._counts, self._is_shared = self._keys[:0].copy(), self._counts[:0].copy(), False
        return found

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""

        if groups is None and not self._plan.is_fingerprint and len(values.form.kinks) == 1:
            return self._add_all(packer(values), values.form.num_evaluations, values.form.num_units)

        def make(start: int, stop: int, rows: np.ndarray) -> int:
            return make_rows(self._plan, values, groups, start, stop, rows)

        return self._add_all(make, values.form.num_evaluations, values.form.num_units)

    def add_words(self, words: np.ndarray) -> None:
        """Count patterns that are packed already, uint64 (E, W), without groups."""

        def make(start: int, stop: int, rows: np.ndarray) -> int:
            if self._plan.is_fingerprint:
                fingerprint_into(words[start:stop], self._plan.hash_keys, rows)
            else:
                rows[...] = words[start:stop]
            return 0

        # Copying a word takes about as long as packing sixteen values.
        self._add_all(make, len(words), 16 * words.shape[1])

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
        self._compact()
        self._is_shared = True
        plan, keys, counts = self._plan, self._keys, self._counts
        if plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        if last:
            self._keys = self._counts = np.empty(0, np.int64)
        return split_groups(plan, keys, counts, pairs=pairs, is_last_use=last)

    def _add_all(self, make: MakeRows, num_evaluations: int, work: int) -> int:
        """Count all rows that `make` writes, segment by segment; `work` is the values it reads for one."""
        num_nan = 0
        for first in range(0, num_evaluations, SEGMENT):
            last = min(first + SEGMENT, num_evaluations)
            threads = threads_for((last - first) * work, MIN_VALUES_PER_THREAD)
            ranges = [(first + a, first + b) for a, b in pool.split(last - first, threads)]
            rows = self._next_rows(last - first)
            num_nan += sum(pool.run([partial(make, a, b, rows[a - first : b - first]) for a, b in ranges]))
            if self._num_raw >= self._most_raw:
                self._compact()
        return num_nan

    @property
    def _most_raw(self) -> int:
        """Raw rows that may wait."""
        return min(max(MIN_RAW, int(WAITING[self._plan.key_words] * len(self._keys))), MAX_RAW)

    def _next_rows(self, num_rows: int) -> np.ndarray:
        """Room for so many raw rows behind those that wait."""
        if self._num_raw + num_rows > len(self._raw):
            # Memory is taken as it is written to: the room for all that may come until the next union costs nothing.
            more = paged_array((self._most_raw + 2 * num_rows, self._plan.num_columns), np.uint64)
            more[: self._num_raw] = self._raw[: self._num_raw]
            self._raw = more
        rows = self._raw[self._num_raw : self._num_raw + num_rows]
        self._num_raw += num_rows
        return rows

    def _compact(self) -> None:
        """Bring everything counted into the table."""
        if self._num_raw == 0:
            return
        raw, self._raw, self._num_raw = self._raw[: self._num_raw], self._raw[:0].copy(), 0
        self._keys, self._counts = compact_rows(
            raw, self._keys, self._counts, is_last_use=not self._is_shared
        )
        self._is_shared = False


def make_rows(
    plan: KeyPlan, values: Values, groups: np.ndarray | None, start: int, stop: int, rows: np.ndarray
) -> int:
    """Pack, hash and add groups, block by block in this thread's cache; returns the number of NaN.

    Writes evaluations start..stop to rows uint64 (stop - start, C).
    """
    if groups is None and not plan.is_fingerprint:
        return pack_range(values, start, stop, rows)
    block = max(1, BLOCK_WORDS // plan.num_words)
    scratch = pool.scratch("words", block * plan.num_words, np.uint64).reshape(block, plan.num_words)
    positions = max(1, values.form.num_evaluations // max(1, values.form.num_samples))
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


def split_groups(
    plan: KeyPlan, rows: np.ndarray, row_counts: np.ndarray, *, pairs: bool, is_last_use: bool
) -> Finished:
    """Both finished tables from (pattern, group) rows uint64 (J, C), cut between patterns for the threads.

    With is_last_use the rows give their pages back while the tables grow, and must not be read any more.
    """
    how = (plan.group_bits, plan.group_column)
    num_threads = threads_for(len(rows), MIN_ROWS_PER_THREAD)
    stages = STAGES if is_last_use and num_threads > 1 else 1
    cuts = [start for start, _ in pool.split(len(rows), stages * num_threads)]
    edges = [tables.pattern_start(rows, cut, *how) for cut in cuts] + [len(rows)]
    spans = [slice(start, stop) for start, stop in pairwise(edges)]
    sizes = pool.run([partial(tables.marginal_size, rows[span], *how) for span in spans])
    places = [0, *np.cumsum(sizes).tolist()]
    keys, counts = paged_array((places[-1], plan.key_words), np.uint64), paged_array((places[-1],), np.int64)
    num_pairs = len(rows) if pairs else 0
    patterns, groups = paged_array((num_pairs,), np.int64), paged_array((num_pairs,), np.int64)
    tasks = []
    for span, (start, stop) in zip(spans, pairwise(places), strict=True):
        of_rows = (rows[span], row_counts[span], *how, start)
        tasks.append(
            partial(
                tables.marginal, *of_rows, keys[start:stop], counts[start:stop], patterns[span], groups[span]
            )
        )
    for first in range(0, len(tasks), num_threads):
        pool.run(tasks[first : first + num_threads])
        if is_last_use:
            release_before(rows, edges[min(first + num_threads, len(tasks))])
    if not pairs:
        return Finished(keys=keys, counts=counts, joint_counts=row_counts)
    return Finished(
        keys=keys, counts=counts, joint_pattern=patterns, joint_group=groups, joint_counts=row_counts
    )
