"""The state of a count of narrow patterns, in Numba: one counter for every possible (group, pattern).

Axes: G groups (1 when none are counted), 2^width patterns. Counters are 32-bit until more evaluations than
that have been counted, then 64-bit. Limits: 2^16 counters without groups, 2^20 with (4 MB, within the
last-level cache).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from reluscope.kernels import pool
from reluscope.kernels.cpu import BLOCK_WORDS, MIN_VALUES_PER_THREAD, pack_range, threads_for
from reluscope.kernels.pack import pack_planes, pack_rows
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import Values

__all__ = ["DenseAccumulator", "is_dense"]

MAX_WIDTH = 16
MAX_COUNTERS = 1 << 20
# Evaluations per round: their words are kept between packing and counting.
SEGMENT = 1 << 17
MAX_UINT32 = (1 << 32) - 1
# Evaluations packed before they are counted: 64 KB of words stay in the first levels of the cache.
BLOCK = 1 << 13


def is_dense(plan: KeyPlan) -> bool:
    """Whether a counter for every (group, pattern) is worth its memory."""
    return plan.width <= MAX_WIDTH and max(1, plan.num_groups) << plan.width <= MAX_COUNTERS


@njit(nogil=True, cache=True)
def _histogram(words, counters):  # pragma: no cover - compiled
    """Count words uint64 (E, 1) in counters (1, 2^width)."""
    for index in range(words.shape[0]):
        counters[0, words[index, 0]] += 1


@njit(nogil=True, cache=True)
def _count_rows(values, start, stop, thresholds, infinity, counters):  # pragma: no cover - compiled
    """Pack and count evaluations start..stop of values uint (E, U), block by block; returns the number of NaN."""
    words = np.empty((BLOCK, 1), np.uint64)
    num_nan = np.uint64(0)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        num_nan += pack_rows(values, first, last, thresholds, infinity, words)
        _histogram(words[: last - first], counters)
    return num_nan


@njit(nogil=True, cache=True)
def _count_planes(values, start, stop, thresholds, infinity, counters):  # pragma: no cover - compiled
    """As `_count_rows`, of values uint (S, U, T)."""
    words = np.empty((BLOCK, 1), np.uint64)
    num_nan = np.uint64(0)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        num_nan += pack_planes(values, first, last, thresholds, infinity, words)
        _histogram(words[: last - first], counters)
    return num_nan


@njit(nogil=True, cache=True)
def _grouped_histogram(
    words, start, positions, groups, owners, owner, counters
):  # pragma: no cover - compiled
    """Count words uint64 (E, 1) of the groups this thread owns; word i is of evaluation start + i."""
    index = 0
    while index < words.shape[0]:
        sample = (start + index) // positions
        stop = min((sample + 1) * positions - start, words.shape[0])
        group = groups[sample]
        if owners[group] == owner:
            for place in range(index, stop):
                counters[group, words[place, 0]] += 1
        index = stop


@njit(nogil=True, cache=True)
def _sizes(counters):  # pragma: no cover - compiled
    """Number of patterns, and of (pattern, group) pairs, that were counted."""
    num_patterns, num_joint = 0, 0
    for pattern in range(counters.shape[1]):
        seen = False
        for group in range(counters.shape[0]):
            if counters[group, pattern]:
                seen = True
                num_joint += 1
        num_patterns += seen
    return num_patterns, num_joint


@njit(nogil=True, cache=True)
def _tables(counters, keys, counts, patterns, groups, joint_counts):  # pragma: no cover - compiled
    """Write the tables of everything counted, ordered by pattern and group."""
    size, joint = 0, 0
    for pattern in range(counters.shape[1]):
        total = 0
        for group in range(counters.shape[0]):
            count = np.int64(counters[group, pattern])
            if count:
                total += count
                if patterns.size:
                    patterns[joint], groups[joint] = size, group
                if joint_counts.size:
                    joint_counts[joint] = count
                    joint += 1
        if total:
            keys[size, 0] = pattern
            counts[size] = total
            size += 1


class DenseAccumulator:
    """Counts patterns of at most 16 bits in place."""

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._counters = np.zeros((max(1, plan.num_groups), 1 << plan.width), np.uint32)
        self._others: list[np.ndarray] = []  # counters of the other threads, added up when something is asked
        self._num_evaluations = 0

    @property
    def nbytes(self) -> int:
        return self._counters.nbytes * (1 + len(self._others))

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        self._reserve(values.num_evaluations)
        num_nan = 0
        for start in range(0, values.num_evaluations, SEGMENT):
            stop = min(start + SEGMENT, values.num_evaluations)
            num_values = (stop - start) * values.num_units
            ranges = [
                (start + a, start + b)
                for a, b in pool.split(stop - start, threads_for(num_values, MIN_VALUES_PER_THREAD))
            ]
            if groups is None:
                num_nan += self._add_plain(values, ranges)
            else:
                num_nan += self._add_grouped(values, groups, ranges)
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Count patterns that are packed already, uint64 (E, 1), without groups."""
        self._reserve(len(words))
        ranges = pool.split(len(words), threads_for(len(words), BLOCK_WORDS))
        self._run_plain([partial(_histogram, words[start:stop]) for start, stop in ranges])

    def finish(self, *, pairs: bool) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added afterwards."""
        self._gather()
        num_patterns, num_joint = _sizes(self._counters)
        if self._plan.num_groups == 0:
            num_joint = 0
        keys, counts = np.empty((num_patterns, 1), np.uint64), np.empty(num_patterns, np.int64)
        patterns, groups = (np.empty(num_joint if pairs else 0, np.int64) for _ in range(2))
        joint_counts = np.empty(num_joint, np.int64)
        _tables(self._counters, keys, counts, patterns, groups, joint_counts)
        if self._plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        if not pairs:
            return Finished(keys=keys, counts=counts, joint_counts=joint_counts)
        return Finished(
            keys=keys, counts=counts, joint_pattern=patterns, joint_group=groups, joint_counts=joint_counts
        )

    def _reserve(self, num_evaluations: int) -> None:
        """Widen the counters before one could overflow."""
        self._num_evaluations += num_evaluations
        if self._num_evaluations > MAX_UINT32 and self._counters.dtype == np.uint32:
            self._gather()
            self._counters = self._counters.astype(np.int64)

    def _gather(self) -> None:
        """Bring the counts of all threads together."""
        for counters in self._others:
            self._counters += counters
        self._others.clear()

    def _add_plain(self, values: Values, ranges: list[tuple[int, int]]) -> int:
        if len(values.kinks) > 1:
            return sum(
                self._run_plain([partial(self._count_several_kinks, values, *edges) for edges in ranges])
            )
        # One call of compiled code for each thread: what it does in Python, it does while the others wait.
        kernel = _count_planes if values.layout == "planes" else _count_rows
        infinity = values.bits.dtype.type(values.format.infinity)
        thresholds = values.thresholds()[0]
        tasks = [partial(kernel, values.bits, start, stop, thresholds, infinity) for start, stop in ranges]
        return int(sum(self._run_plain(tasks)))

    @staticmethod
    def _count_several_kinks(values: Values, start: int, stop: int, counters: np.ndarray) -> int:
        words = pool.scratch("words", stop - start, np.uint64).reshape(-1, 1)
        num_nan = pack_range(values, start, stop, words)
        _histogram(words, counters)
        return num_nan

    def _run_plain(self, tasks: list[partial]) -> list:
        """Run each task with counters of its own; the first has the state's."""
        while len(self._others) < len(tasks) - 1:
            self._others.append(np.zeros_like(self._counters))
        counters = [self._counters, *self._others]
        return pool.run([partial(task, own) for task, own in zip(tasks, counters, strict=False)])

    def _add_grouped(self, values: Values, groups: np.ndarray, ranges: list[tuple[int, int]]) -> int:
        first, last = ranges[0][0], ranges[-1][1]
        words = pool.scratch("segment", last - first, np.uint64).reshape(-1, 1)
        num_nan = sum(
            pool.run([partial(pack_range, values, a, b, words[a - first : b - first]) for a, b in ranges])
        )
        positions = values.num_evaluations // values.num_samples
        owners = _owners(
            groups[first // positions : (last - 1) // positions + 1], len(self._counters), len(ranges)
        )
        pool.run(
            [
                partial(_grouped_histogram, words, first, positions, groups, owners, owner, self._counters)
                for owner in range(len(ranges))
            ]
        )
        return num_nan


def _owners(groups: np.ndarray, num_groups: int, num_owners: int) -> np.ndarray:
    """The thread that counts each group, so that no two write the same counter: contiguous, of even size."""
    sizes = np.bincount(groups, minlength=num_groups)
    middles = np.cumsum(sizes) - sizes / 2
    return np.minimum((middles * num_owners / max(1, groups.size)).astype(np.int64), num_owners - 1)
