"""A batch becomes raw keys, in one native task: pack, add the group, count what is frequent, keep the rest.

Axes: E evaluations, U units, S outer and T inner axis of the "planes" layout, R raw keys kept, S slots. A row is one
word: the pattern, above its group. Raw keys are 32-bit where rows fit, which halves all that sorting moves. A block of
evaluations stays in its core's first-level cache from packing until what is kept of it is written. Limits: one kink,
rows of 64 bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from reluscope.kernels import pool
from reluscope.kernels.hot import MULTIPLIER, SLOTS, HotKeys, sift
from reluscope.kernels.jit import inlined, kernel
from reluscope.kernels.native import (
    HEADER,
    Job,
    NativeTask,
    array_at,
    atomic_add,
    atomic_and,
    atomic_or,
    claim_own,
    enter,
    field_of,
    job_of,
)
from reluscope.kernels.pack import pack_planes, pack_rows, pack_tight
from reluscope.kernels.pages import table_array
from reluscope.kernels.values import Values

__all__ = ["RawKeys"]

FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Evaluations of a block: 16 KB of words.
BLOCK = 1 << 11
# A second thread pays from so many values on: it is ready within 10 us.
MIN_VALUES_PER_THREAD = 1 << 16

# In arrays of so many bytes, which have pages of their own, there is room for so many at least.
PAGED_BYTES = 1 << 22
ROOM_BYTES = 1 << 25

# One in so many keys is sampled, by the leading bits of its hash.
SAMPLED = 128
SAMPLED_PIECE = 1 << 16  # keys at a time
SAMPLE_SHIFT = np.uint64(64 - 7)

# The job's fields.
SOURCE, NUM_ROWS, NUM_UNITS, NUM_INNER, INFINITY, THRESHOLDS, TARGET = range(HEADER, HEADER + 7)
GROUPS, POSITIONS, GROUP_BITS = range(HEADER + 7, HEADER + 10)
HOT, SCRATCH = range(HEADER + 10, HEADER + 12)
RAW, RAW_SIZE, ANY, ALL, NUM_NAN = range(HEADER + 12, HEADER + 17)


@inlined
def _add_group(words, size, first, groups, positions, group_bits):  # pragma: no cover - compiled
    """Put below each pattern the group of its sample; word i is of evaluation first + i."""
    index = 0
    while index < size:
        sample = (first + index) // positions
        stop = min((sample + 1) * positions - first, size)
        group = np.uint64(groups[sample])
        for place in range(index, stop):
            words[place, 0] = (words[place, 0] << group_bits) | group
        index = stop


@functools.cache
def _task(layout: str, value_type: Any, raw_type: Any) -> NativeTask:
    """The task for a layout ("rows", "tight" rows as wide as a raw key, "planes", or "words" packed already) and two types."""
    is_planes, is_words, is_tight = layout == "planes", layout == "words", layout == "tight"

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        num_rows, num_units, num_inner = job[NUM_ROWS], job[NUM_UNITS], job[NUM_INNER]
        infinity, target = value_type(job[INFINITY]), job[TARGET]
        thresholds = array_at(job[THRESHOLDS], (4,), value_type)
        scratch = job[SCRATCH] + 8 * BLOCK * thread
        words = array_at(scratch, (BLOCK, 1), np.uint64)
        raw = array_at(job[RAW], (1,), raw_type)
        hot = array_at(job[HOT] + 2 * raw.itemsize * SLOTS * thread, (SLOTS, 2), raw_type)
        num_nan, some, every = np.int64(0), np.uint64(0), FULL
        while True:
            block = claim_own(job, thread)
            if block < 0:
                break
            start = block * BLOCK
            stop = min(start + BLOCK, num_rows)
            size = stop - start
            if is_tight and job[HOT] == 0 and size == BLOCK:
                place = atomic_add(field_of(job, RAW_SIZE), np.int64(size))
                rows = array_at(job[SOURCE], (num_rows, num_units), value_type)
                tight = array_at(job[RAW] + raw.itemsize * place, (size * num_units // 64,), np.uint64)
                num_nan += np.int64(pack_tight(rows, start, stop, thresholds, infinity, target, tight))
                both = np.uint64(0), FULL
                for index in range(tight.size):
                    both = both[0] | tight[index], both[1] & tight[index]
                if raw.itemsize == 4:  # two keys to a word
                    half = np.uint64(32)
                    low = FULL >> half
                    both = (both[0] | both[0] >> half) & low, both[1] & (both[1] >> half) & low
                some |= both[0]
                every &= both[1]
                continue
            if is_tight:
                rows = array_at(job[SOURCE], (num_rows, num_units), value_type)
                tight = array_at(scratch, (BLOCK,), np.uint64)
                num_nan += np.int64(pack_tight(rows, start, stop, thresholds, infinity, target, tight))
                keys = array_at(scratch, (BLOCK,), raw_type)
                if job[HOT] != 0:
                    size = sift(keys, size, keys, hot)
                place = atomic_add(field_of(job, RAW_SIZE), np.int64(size))
                kept = array_at(job[RAW] + raw.itemsize * place, (size,), raw_type)
                for index in range(size):
                    kept[index] = keys[index]
                    some |= np.uint64(keys[index])
                    every &= np.uint64(keys[index])
                continue
            if is_words:
                packed = array_at(job[SOURCE] + 8 * start, (size,), np.uint64)
                if job[HOT] != 0:
                    size = sift(packed, size, words.reshape(-1), hot)
                else:
                    for index in range(size):
                        words[index, 0] = packed[index]
            elif is_planes:
                planes = array_at(job[SOURCE], (num_rows // num_inner, num_units, num_inner), value_type)
                num_nan += np.int64(pack_planes(planes, start, stop, thresholds, infinity, target, words))
            else:
                rows = array_at(job[SOURCE], (num_rows, num_units), value_type)
                num_nan += np.int64(pack_rows(rows, start, stop, thresholds, infinity, target, words))
            if job[GROUPS] != 0:
                groups = array_at(job[GROUPS], (num_rows,), np.int64)
                _add_group(words, size, start, groups, job[POSITIONS], np.uint64(job[GROUP_BITS]))
            if job[HOT] != 0 and not is_words:
                size = sift(words.reshape(-1), size, words.reshape(-1), hot)
            place = atomic_add(field_of(job, RAW_SIZE), np.int64(size))
            # An array that begins there: an index that is a sum keeps the loop from being vectorised.
            kept = array_at(job[RAW] + raw.itemsize * place, (size,), raw_type)
            for index in range(size):
                word = words[index, 0]
                kept[index] = raw_type(word)
                some |= word
                every &= word
        atomic_or(field_of(job, ANY), np.int64(some))
        atomic_and(field_of(job, ALL), np.int64(every))
        atomic_add(field_of(job, NUM_NAN), num_nan)

    return NativeTask(task)


@kernel
def _sample(keys):  # pragma: no cover - compiled
    """The keys whose hash is among a 128th of all."""
    found = np.empty(keys.size, keys.dtype)
    size = 0
    for index in range(keys.size):
        found[size] = keys[index]
        size += (np.uint64(keys[index]) * MULTIPLIER) >> SAMPLE_SHIFT == 0
    return found[:size].copy()


class RawKeys:
    """The raw keys that wait, and what is known about them. `stays` as of `table_array`.

    Attributes:
        size: how many there are.
        num_nan: NaN among the values they came from.
    """

    def __init__(self, row_bits: int, *, stays: bool = True) -> None:
        self._stays = stays
        self._type = np.uint32 if row_bits <= 32 else np.uint64
        self._threads = pool.num_threads()
        self._scratch = np.empty((self._threads, BLOCK), np.uint64)
        self._scratch_address = self._scratch.ctypes.data
        self.release()
        self.size = self.num_nan = 0
        self._any, self._all = 0, -1
        self._sampled: list[np.ndarray] = []  # of the first so many
        self._num_sampled = 0
        self._job: Job | None = None
        self._job_hot: HotKeys | None = None  # the frequent keys that it looks for

    @property
    def nbytes(self) -> int:
        return self.size * self._keys.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one raw key."""
        return self._keys.itemsize

    @property
    def row_type(self) -> type:
        """Of a raw key, uint32 or uint64."""
        return self._type

    @property
    def varying(self) -> int:
        """The bits that are not the same in all keys."""
        return (self._any & ~self._all) & (2**64 - 1) if self.size else 0

    def estimate_distinct(self) -> int:
        """About how many of them differ: the keys of a 128th of all hash values, sorted and counted."""
        keys = self._keys[self._num_sampled : self.size]
        # By one thread: half a nanosecond a key is less than waking another one takes.
        pieces = range(0, keys.size, SAMPLED_PIECE)
        self._sampled += [_sample(keys[start : start + SAMPLED_PIECE]) for start in pieces]
        self._num_sampled = self.size
        sampled = np.sort(np.concatenate(self._sampled)) if self._sampled else keys
        return SAMPLED * int(1 + np.count_nonzero(sampled[1:] != sampled[:-1])) if sampled.size else 0

    def copy(self) -> np.ndarray:
        """All keys, uint32 or uint64 (R,), in memory of their own."""
        return self._keys[: self.size].copy()

    def take(self) -> np.ndarray:
        """All keys, uint32 or uint64 (R,); their memory is written over by the next ones."""
        keys = self._keys[: self.size]
        self.size, self._any, self._all = 0, 0, -1
        self._sampled, self._num_sampled = [], 0
        return keys

    def release(self) -> None:
        """Give back the memory, once nothing is waiting."""
        self._keys = np.empty(0, self._type)
        self._address = self._keys.ctypes.data

    def add_values(
        self,
        values: Values,
        start: int,
        stop: int,
        groups: np.ndarray | None,
        group_bits: int,
        hot: HotKeys | None,
    ) -> None:
        """Add the rows of evaluations start..stop of values with one kink, above groups int64 (samples,).

        Start and stop are multiples of the positions of a sample where groups are given, and of the inner axis in
        layout "planes". Rows found in `hot` are counted there instead.
        """
        form = values.form
        bits = form.format.bits
        source = [
            values.address + start * form.num_units * bits.itemsize,
            stop - start,
            form.num_units,
            form.num_inner,
            form.format.infinity,
            form.thresholds_address,
            0,
        ]
        grouping = [0, 1, 0]
        if groups is not None:
            positions = form.num_evaluations // form.num_samples
            grouping = [groups.ctypes.data + groups.itemsize * (start // positions), positions, group_bits]
        is_tight = form.layout == "rows" and groups is None and form.num_units == 8 * self._keys.itemsize
        task = _task("tight" if is_tight else form.layout, bits.type, self._type)
        self._add(task, [*source, *grouping], (stop - start) * form.num_units, hot)

    def again(self, address: int, target: int, hot: HotKeys | None) -> int | None:
        """Add as many rows that lie as the last ones did, from an address on; where a target is given, write their ReLU there.

        Returns the number of NaN; None where nothing was done, and `add_values` must do it.
        """
        job = self._job
        if job is None or hot is not self._job_hot or self.size + job.fields[NUM_ROWS] > self._keys.size:
            return None
        fields = job.fields
        fields[SOURCE], fields[TARGET], fields[RAW], fields[NUM_NAN] = address, target, self._address, 0
        fields[RAW_SIZE], fields[ANY], fields[ALL] = self.size, self._any, self._all
        job.run()
        self.size, self._any, self._all, num_nan = fields[RAW_SIZE : NUM_NAN + 1]
        self.num_nan += num_nan
        return num_nan

    def add_words(self, words: np.ndarray, hot: HotKeys | None) -> None:
        """Add rows uint64 (E,) that are complete."""
        fields = [words.ctypes.data, len(words), 1, 1, 0, 0, 0, 0, 1, 0]
        self._add(_task("words", np.uint64, self._type), fields, 8 * len(words), hot)

    def _add(self, task: NativeTask, fields: list[int], work: int, hot: HotKeys | None) -> None:
        num_rows = fields[NUM_ROWS - HEADER]
        if self._keys.size < self.size + num_rows:
            # Room that is not written to takes no memory, and a page that is copied is taken twice.
            size = max(self.size + num_rows, 4 * self._keys.size)
            if self._stays and size * self._keys.itemsize >= PAGED_BYTES:
                size = max(size, ROOM_BYTES // self._keys.itemsize)
            more = table_array((size,), self._type, stays=self._stays)
            more[: self.size] = self._keys[: self.size]
            self._keys, self._address = more, more.ctypes.data
        threads = max(1, min(self._threads, work // MIN_VALUES_PER_THREAD))
        frequent = 0 if hot is None else hot.copies_for(threads)
        raw = [self._scratch_address, self._address, self.size, self._any, self._all, 0]
        self._job = task.job(-(-num_rows // BLOCK), threads, [*fields, frequent, *raw])
        self._job_hot = hot
        self.size, self._any, self._all, num_nan = self._job.run()[RAW_SIZE : NUM_NAN + 1]
        self.num_nan += num_nan
