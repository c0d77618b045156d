"""A batch becomes raw rows of several words, in one native task: pack, hash, add the group, count what is frequent.

Axes: E evaluations, W words of a pattern, C columns of a row, R raw rows, S slots. A block of evaluations stays in its
core's first-level cache from packing until what is kept of it is written. Limits: one kink; R below 2^32.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from reluscope.kernels import pool
from reluscope.kernels.cpu import fingerprint_rows
from reluscope.kernels.fingerprint import hash_lanes
from reluscope.kernels.hot import ROW_SLOTS, HotKeys, sift_rows
from reluscope.kernels.jit import kernel
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
from reluscope.kernels.pack import pack_planes, pack_rows
from reluscope.kernels.pages import paged_array, table_array
from reluscope.kernels.plan import KeyPlan
from reluscope.kernels.values import Values

__all__ = ["RawRows", "add_groups"]

# Words of a block of evaluations: 16 KB.
BLOCK_WORDS = 1 << 11
# A second thread pays from so many values on: it is ready within 10 us.
MIN_VALUES_PER_THREAD = 1 << 16
# Copying a word takes about as long as packing sixteen values.
VALUES_OF_A_WORD = 16

# The job's fields.
SOURCE, NUM_ROWS, NUM_UNITS, NUM_INNER, INFINITY, THRESHOLDS, TARGET = range(HEADER, HEADER + 7)
START, STOP, NUM_WORDS, BLOCK, HASH_LANES = range(HEADER + 7, HEADER + 12)
GROUPS, POSITIONS, GROUP_BITS, GROUP_COLUMN = range(HEADER + 12, HEADER + 16)
HOT, SCRATCH, SCRATCH_WORDS = range(HEADER + 16, HEADER + 19)
RAW, RAW_SIZE, NUM_NAN = range(HEADER + 19, HEADER + 22)


@kernel
def add_groups(keys, start, positions, groups, group_bits, group_column, rows):  # pragma: no cover - compiled
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


@functools.cache
def _task(layout: str, value_type: Any, num_columns: int, is_hashed: bool) -> NativeTask:
    """The task for a layout ("rows", "planes", or "words" packed already), a type, and rows with or without hashing."""
    is_planes, is_words = layout == "planes", layout == "words"

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        num_rows, num_units, num_inner = job[NUM_ROWS], job[NUM_UNITS], job[NUM_INNER]
        num_words, block_size = job[NUM_WORDS], job[BLOCK]
        infinity, target = value_type(job[INFINITY]), job[TARGET]
        thresholds = array_at(job[THRESHOLDS], (4,), value_type)
        scratch = job[SCRATCH] + 8 * job[SCRATCH_WORDS] * thread
        words = array_at(scratch, (block_size, num_words), np.uint64)
        hashed = array_at(scratch + 8 * block_size * num_words, (block_size, 2), np.uint64)
        rows = array_at(scratch + 8 * block_size * (num_words + 2), (block_size, num_columns), np.uint64)
        num_nan = np.int64(0)
        while True:
            block = claim_own(job, thread)
            if block < 0:
                break
            start = job[START] + block * block_size
            stop = min(start + block_size, job[STOP])
            size = stop - start
            if is_words:
                patterns = array_at(job[SOURCE], (num_rows, num_words), np.uint64)[start:stop]
            else:
                patterns = words[:size]
                if is_planes:
                    planes = array_at(job[SOURCE], (num_rows // num_inner, num_units, num_inner), value_type)
                    how = thresholds, infinity, target
                    num_nan += np.int64(pack_planes(planes, start, stop, *how, patterns))
                else:
                    values = array_at(job[SOURCE], (num_rows, num_units), value_type)
                    how = thresholds, infinity, target
                    num_nan += np.int64(pack_rows(values, start, stop, *how, patterns))
            if is_hashed:
                lanes = array_at(job[HASH_LANES], (1 + 2 * num_words, 8), np.uint64)
                fingerprint_rows(patterns, lanes, hashed)
                patterns = hashed[:size]
            if job[GROUPS] != 0:
                groups = array_at(job[GROUPS], (num_rows,), np.int64)
                how = (np.int64(job[GROUP_BITS]), job[GROUP_COLUMN] != 0)
                add_groups(patterns, start, job[POSITIONS], groups, how[0], how[1], rows)
                patterns = rows[:size]
            # The same with a number of columns that is known when this is compiled.
            keys = array_at(patterns.ctypes.data, (block_size, num_columns), np.uint64)
            if job[HOT] != 0:
                copy = job[HOT] + 8 * ROW_SLOTS * (num_columns + 1) * thread
                hot = array_at(copy, (ROW_SLOTS, num_columns + 1), np.uint64)
                size = sift_rows(keys, size, rows, hot)
                keys = rows
            place = atomic_add(field_of(job, RAW_SIZE), np.int64(size))
            kept = array_at(job[RAW] + 8 * num_columns * place, (size, num_columns), np.uint64)
            for index in range(size):
                for column in range(num_columns):
                    kept[index, column] = keys[index, column]
        atomic_add(field_of(job, NUM_NAN), num_nan)

    return NativeTask(task)


class RawRows:
    """The raw rows that wait. `stays` as of `table_array`.

    Attributes:
        size: how many there are.
        num_nan: NaN among the values they came from.
    """

    def __init__(self, plan: KeyPlan, *, stays: bool = True) -> None:
        self._plan, self._stays = plan, stays
        self._hash_lanes = hash_lanes(plan.hash_keys) if plan.is_fingerprint else np.empty(0, np.uint64)
        self._threads = pool.num_threads()
        self._block = max(1, BLOCK_WORDS // plan.num_words)
        # Words (or rows that come complete), hashed words and rows of a block, and a cache line so that no two threads write
        # to one.
        widest = max(plan.num_words, plan.num_columns)
        self._scratch_words = self._block * (widest + 2 + plan.num_columns) + 8
        self._scratch = np.empty((self._threads, self._scratch_words), np.uint64)
        self.size = self.num_nan = 0
        self._job: Job | None = None
        self._job_hot: HotKeys | None = None  # the frequent rows that it looks for
        self.release()

    @property
    def nbytes(self) -> int:
        return self.size * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one raw row."""
        return 8 * self._plan.num_columns

    def take(self) -> np.ndarray:
        """All rows, uint64 (R, C); their memory is written over by the next ones."""
        rows = self._rows[: self.size]
        self.size = 0
        return rows

    def release(self) -> None:
        """Give back the memory, once nothing is waiting."""
        self._rows = np.empty((0, self._plan.num_columns), np.uint64)

    def add_values(
        self, values: Values, start: int, stop: int, groups: np.ndarray | None, hot: HotKeys | None, room: int
    ) -> None:
        """Add the rows of evaluations start..stop of values with one kink, of groups int64 (samples,).

        Rows found in `hot` are counted there instead. Where memory must be taken, it is for `room` rows.
        """
        form = values.form
        source = [values.address, form.num_evaluations, form.num_units, form.num_inner]
        source += [form.format.infinity, form.thresholds_address, 0]
        grouping = [0, 1, 0, 0]
        if groups is not None:
            positions = max(1, form.num_evaluations // max(1, form.num_samples))
            grouping = [groups.ctypes.data, positions, self._plan.group_bits, int(self._plan.group_column)]
        task = _task(form.layout, form.format.bits.type, self._plan.num_columns, self._plan.is_fingerprint)
        span = [start, stop, self._plan.num_words]
        self._add(task, source, span, grouping, (stop - start) * form.num_units, hot, room)

    def again(self, address: int, target: int, hot: HotKeys | None) -> int | None:
        """As `RawKeys.again`."""
        job = self._job
        if job is None or hot is not self._job_hot or self.size + job.fields[NUM_ROWS] > len(self._rows):
            return None
        fields = job.fields
        fields[SOURCE], fields[TARGET], fields[RAW] = address, target, self._rows.ctypes.data
        fields[RAW_SIZE], fields[NUM_NAN] = self.size, 0
        job.run()
        self.size, num_nan = fields[RAW_SIZE], fields[NUM_NAN]
        self.num_nan += num_nan
        return num_nan

    def add_words(self, words: np.ndarray, hot: HotKeys | None, room: int, *, are_rows: bool = False) -> None:
        """Add patterns uint64 (E, W) without groups, or rows uint64 (E, C) that are complete."""
        is_hashed = self._plan.is_fingerprint and not are_rows
        source = [words.ctypes.data, len(words), 1, 1, 0, 0, 0]
        task = _task("words", np.uint64, self._plan.num_columns, is_hashed)
        work = VALUES_OF_A_WORD * words.size
        self._add(task, source, [0, *words.shape], [0, 1, 0, 0], work, hot, room)

    def _add(
        self,
        task: NativeTask,
        source: list[int],
        span: list[int],
        grouping: list[int],
        work: int,
        hot: HotKeys | None,
        room: int,
    ) -> None:
        num_rows = span[1] - span[0]
        if len(self._rows) < self.size + num_rows:
            # Memory is taken as it is written to: room that is not used costs nothing.
            shape = max(room, 2 * self.size) + num_rows, self._plan.num_columns
            more = (
                paged_array(shape, np.uint64) if self._stays else table_array(shape, np.uint64, stays=False)
            )
            more[: self.size] = self._rows[: self.size]
            self._rows = more
        threads = max(1, min(self._threads, work // MIN_VALUES_PER_THREAD))
        fields = [*source, *span, self._block, self._hash_lanes.ctypes.data, *grouping]
        fields += [0 if hot is None else hot.copies_for(threads)]
        fields += [self._scratch.ctypes.data, self._scratch_words, self._rows.ctypes.data, self.size, 0]
        self._job, self._job_hot = task.job(-(-num_rows // self._block), threads, fields), hot
        done = self._job.run()
        self.size = done[RAW_SIZE]
        self.num_nan += done[NUM_NAN]
