"""The state of a count of narrow patterns, in Numba: one counter for every possible (group, pattern).

Axes: T threads, G groups (1 when none are counted), 2^width patterns. Without groups each thread has counters of its
own; with groups each thread takes whole groups, so that no two write the same counter. Counters are 32-bit until more
evaluations than that have been counted, then 64-bit. Limits: 2^16 counters without groups, 2^20 with (4 MB, within the
last-level cache).
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import numpy as np

from reluscope.kernels import pool
from reluscope.kernels.cpu import pack_range
from reluscope.kernels.jit import inlined, kernel
from reluscope.kernels.native import (
    HEADER,
    Job,
    NativeTask,
    array_at,
    atomic_add,
    claim_own,
    enter,
    field_of,
    job_of,
)
from reluscope.kernels.pack import pack_planes, pack_rows, pack_tight
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import Values

__all__ = ["DenseAccumulator", "is_dense"]

MAX_WIDTH = 16
MAX_COUNTERS = 1 << 20
MAX_UINT32 = (1 << 32) - 1
# Evaluations of a block, and those packed before they are counted: 16 KB of words stay in the first-level cache, and
# so do 8 KB where four patterns of 16 bits share a word, which is why whole blocks are packed then.
BLOCK = 1 << 12
PIECE = 1 << 11
# Evaluations of several kinks per round: their words are kept between packing and counting.
SEGMENT = 1 << 17
# A second thread pays from so many values on: it is ready within 10 us.
MIN_VALUES_PER_THREAD = 1 << 16

# The job's fields.
SOURCE, NUM_ROWS, NUM_UNITS, NUM_INNER, INFINITY, THRESHOLDS, TARGET = range(HEADER, HEADER + 7)
STARTS, SAMPLES, POSITIONS = range(HEADER + 7, HEADER + 10)
SCRATCH, COUNTERS, NUM_PATTERNS, NUM_NAN = range(HEADER + 10, HEADER + 14)


def is_dense(plan: KeyPlan) -> bool:
    """Whether a counter for every (group, pattern) is worth its memory."""
    return plan.width <= MAX_WIDTH and max(1, plan.num_groups) << plan.width <= MAX_COUNTERS


@inlined
def _count_tight(words, size, num_units, counters):  # pragma: no cover - compiled
    """Count `size` patterns of num_units bits that lie side by side in words uint64."""
    together = 64 // num_units
    one, bits, kept = counters.dtype.type(1), np.uint64(num_units), np.uint64((1 << num_units) - 1)
    num_full = size // together
    for index in range(num_full):
        word = words[index]
        if num_units == 16:  # the commonest by far
            counters[word & np.uint64(0xFFFF)] += one
            counters[(word >> np.uint64(16)) & np.uint64(0xFFFF)] += one
            counters[(word >> np.uint64(32)) & np.uint64(0xFFFF)] += one
            counters[word >> np.uint64(48)] += one
        else:
            for _ in range(together):
                counters[word & kept] += one
                word >>= bits
    word = words[num_full] if size > num_full * together else np.uint64(0)
    for _ in range(size - num_full * together):
        counters[word & kept] += one
        word >>= bits


@functools.cache
def _task(layout: str, value_type: Any, counter_type: Any) -> NativeTask:
    """Count a batch of a layout ("rows", "tight" rows of units that divide 64, "planes", or "words" packed already).

    A block is BLOCK evaluations; where SAMPLES are given, it is one group, of the samples[starts[block]:starts[block + 1]].
    """
    is_planes, is_words, is_tight = layout == "planes", layout == "words", layout == "tight"

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        num_rows, num_units, num_inner = job[NUM_ROWS], job[NUM_UNITS], job[NUM_INNER]
        infinity, target = value_type(job[INFINITY]), job[TARGET]
        thresholds = array_at(job[THRESHOLDS], (4,), value_type)
        packed = array_at(job[SOURCE], (num_rows, 1), np.uint64)
        planes = array_at(job[SOURCE], (num_rows // num_inner, num_units, num_inner), value_type)
        rows = array_at(job[SOURCE], (num_rows, num_units), value_type)
        words = array_at(job[SCRATCH] + 8 * PIECE * thread, (PIECE, 1), np.uint64)
        tight = array_at(job[SCRATCH] + 8 * PIECE * thread, (PIECE,), np.uint64)
        starts = array_at(job[STARTS], (job[1] + 1,), np.int64)
        samples = array_at(job[SAMPLES], (num_rows,), np.int64)
        num_patterns, positions, is_grouped = job[NUM_PATTERNS], job[POSITIONS], job[SAMPLES] != 0
        num_nan = np.int64(0)
        while True:
            block = claim_own(job, thread)
            if block < 0:
                break
            owner = block if is_grouped else thread
            counters = array_at(job[COUNTERS], (owner + 1, num_patterns), counter_type)[owner]
            first_piece, last_piece = (starts[block], starts[block + 1]) if is_grouped else (block, block + 1)
            for piece in range(first_piece, last_piece):
                start, stop = block * BLOCK, min(block * BLOCK + BLOCK, num_rows)
                if is_grouped:
                    start, stop = samples[piece] * positions, samples[piece] * positions + positions
                step = BLOCK if is_tight else PIECE
                for first in range(start, stop, step):
                    last = min(first + step, stop)
                    if is_tight:
                        num_nan += np.int64(
                            pack_tight(rows, first, last, thresholds, infinity, target, tight)
                        )
                        _count_tight(tight, last - first, num_units, counters)
                        continue
                    if is_words:
                        for index in range(last - first):
                            counters[packed[first + index, 0]] += counter_type(1)
                        continue
                    if is_planes:
                        num_nan += np.int64(
                            pack_planes(planes, first, last, thresholds, infinity, target, words)
                        )
                    else:
                        num_nan += np.int64(pack_rows(rows, first, last, thresholds, infinity, target, words))
                    for index in range(last - first):
                        counters[words[index, 0]] += counter_type(1)
        atomic_add(field_of(job, NUM_NAN), num_nan)

    return NativeTask(task)


@kernel
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


@kernel
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

    _job: Job | None  # the last batch's, while it can be run again

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._threads = pool.num_threads()
        self._scratch = np.empty((self._threads, PIECE), np.uint64)
        self._scratch_address = self._scratch.ctypes.data
        # (G, 2^width) with groups, (T, 2^width) without: one row per thread, added up when something is asked.
        self._set_counters(np.zeros((max(1, plan.num_groups), 1 << plan.width), np.uint32))
        self._num_evaluations = 0

    @property
    def nbytes(self) -> int:
        return self._counters.nbytes

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        form = values.form
        if len(form.kinks) > 1:
            return self._add_several_kinks(values, groups)
        source = [
            values.address,
            form.num_evaluations,
            form.num_units,
            form.num_inner,
            form.format.infinity,
            form.thresholds_address,
            0,
        ]
        layout = "tight" if form.layout == "rows" and 64 % form.num_units == 0 else form.layout
        return self._run(layout, form.format.bits.type, source, form.num_values, groups)

    def again(self, address: int, target: int) -> int | None:
        """Count a batch that lies as the last one did, from an address on; where a target is given, write its ReLU there.

        Returns the number of NaN; None where nothing was done, and `add` must do it.
        """
        job = self._job
        if job is None or self._num_evaluations + job.fields[NUM_ROWS] > MAX_UINT32:
            return None
        fields = job.fields
        self._num_evaluations += fields[NUM_ROWS]
        fields[SOURCE], fields[TARGET], fields[NUM_NAN] = address, target, 0
        return job.run()[NUM_NAN]

    def add_words(self, words: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Count patterns that are packed already, uint64 (E, 1); `groups` int64 (samples,)."""
        self._run("words", np.uint64, [words.ctypes.data, len(words), 1, 1, 0, 0, 0], 8 * len(words), groups)

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
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

    def _run(
        self, layout: str, value_type: Any, source: list[int], work: int, groups: np.ndarray | None
    ) -> int:
        num_rows, self._job = source[1], None
        if num_rows == 0:
            return 0
        self._reserve(num_rows)
        threads = max(1, min(self._threads, work // MIN_VALUES_PER_THREAD))
        if groups is None and len(self._counters) < threads:
            self._add_counters(threads)
        task = _task(layout, value_type, self._counters.dtype.type)
        state = [self._scratch_address, self._counters_address, self._counters.shape[1], 0]
        if groups is None:
            job = task.job(-(-num_rows // BLOCK), threads, [*source, 0, 0, 1, *state])
            self._job = None if layout == "words" else job
            return job.run()[NUM_NAN]
        # Samples of one group follow each other, so that a group's counters stay in cache.
        samples = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[samples], np.arange(len(self._counters) + 1))
        grouping = [starts.ctypes.data, samples.ctypes.data, num_rows // len(groups)]
        return task.run(len(self._counters), threads, [*source, *grouping, *state])[NUM_NAN]

    def _add_several_kinks(self, values: Values, groups: np.ndarray | None) -> int:
        """Sample by sample where there are groups: a segment holds whole samples."""
        positions = (
            values.form.num_evaluations // max(1, values.form.num_samples) if groups is not None else 1
        )
        step = max(1, SEGMENT // max(1, positions)) * max(1, positions)
        num_nan = 0
        for start in range(0, values.form.num_evaluations, step):
            stop = min(start + step, values.form.num_evaluations)
            words = np.empty((stop - start, 1), np.uint64)
            ranges = pool.split(stop - start, pool.num_threads())
            tasks = [partial(pack_range, values, start + a, start + b, words[a:b]) for a, b in ranges]
            num_nan += sum(pool.run(tasks))
            self.add_words(words, None if groups is None else groups[start // positions : stop // positions])
        return num_nan

    def _set_counters(self, counters: np.ndarray) -> None:
        self._counters, self._counters_address = counters, counters.ctypes.data
        self._job = None

    def _add_counters(self, num_threads: int) -> None:
        """Counters of so many threads, (T, 2^width)."""
        shape = (num_threads - len(self._counters), self._counters.shape[1])
        self._set_counters(np.concatenate([self._counters, np.zeros(shape, self._counters.dtype)]))

    def _reserve(self, num_evaluations: int) -> None:
        """Widen the counters before one could overflow."""
        self._num_evaluations += num_evaluations
        if self._num_evaluations > MAX_UINT32 and self._counters.dtype == np.uint32:
            self._gather()
            self._set_counters(self._counters.astype(np.int64))

    def _gather(self) -> None:
        """Bring the counts of all threads together."""
        if self._plan.num_groups == 0 and len(self._counters) > 1:
            self._set_counters(self._counters.sum(axis=0, keepdims=True, dtype=self._counters.dtype))
