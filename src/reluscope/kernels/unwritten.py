"""Sorted raw keys, and a table of what came before them, in place of the table that both make, which is written when
somebody asks for it.

What a measurement reports of a distribution follows from its spectrum: how many patterns occurred once, twice... That is
tallied while each sorted part lies in the cache. A table takes 16 bytes a pattern, raw keys 4 or 8, and pages that are
touched for the first time cost more than the sorting. Axes: R raw keys, B rows of the table of what came before, Q parts,
T threads, P patterns.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from reluscope.kernels import pool
from reluscope.kernels.jit import inner
from reluscope.kernels.native import HEADER, NativeTask, array_at, claim, enter, job_of
from reluscope.kernels.pages import table_array
from reluscope.kernels.sort import copy_keys, sort_keys
from reluscope.kernels.tables import raw_union
from reluscope.kernels.words import MIN_PARALLEL, PIECE, UnionJob, top_of

__all__ = ["UnwrittenTable"]

# Patterns that occurred less often are tallied by a counter each (2 KB a thread), the few others are listed.
TALLIED = 256
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)

# The job's fields; the task that writes has places in place of the sizes.
PARTITIONED, NUM_RAW, SORTED, EDGES, SIZES, SCRATCH, LONGEST, TOP = range(HEADER, HEADER + 8)
TALLIES, OFTEN, NUM_OFTEN, BEFORE, BEFORE_COUNTS, NUM_BEFORE, BOUNDS = range(HEADER + 8, HEADER + 15)
PLACES, KEYS, COUNTS = SIZES, SCRATCH, LONGEST


@inner
def _tally(raw, keys, counts, tally, often):  # pragma: no cover - compiled
    """Tally how often each key of sorted raw (R,), R >= 1, and a table with keys uint64 (B,) together occurs.

    tally[m] grows by the number of those that do so m < TALLIED times; the others are listed in `often`, and what its two
    ends get means nothing. Returns how many there are, and how many are listed. Without branches on the keys, as
    `raw_union`.
    """
    low = np.uint64(raw[0])
    if keys.size:
        low = min(low, keys[0])
    last = ~low  # unlike the first key
    size, total, num_often, index, place = 0, 0, 0, 0, 0
    while index < raw.size or place < keys.size:
        has_key, has_other = index < raw.size, place < keys.size
        key = np.uint64(raw[index]) if has_key else FULL
        other = keys[place] if has_other else FULL
        take, take_other = np.int64(has_key and key <= other), np.int64(has_other and other <= key)
        key = min(key, other)
        is_new = np.int64(key != last)
        if total >= TALLIED:
            often[num_often] = total
            num_often += is_new
        tally[min(total, TALLIED)] += is_new
        size += is_new
        total = total * (1 - is_new) + take + (counts[place] if take_other else 0)
        last = key
        index += take
        place += take_other
    if total >= TALLIED:
        often[num_often] = total
        num_often += 1
    tally[min(total, TALLIED)] += 1
    return size, num_often


@functools.cache
def _sort_task(raw_type: Any) -> NativeTask:
    """A block: a part is sorted, its spectrum tallied, and its keys go to where they stay."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        raw = array_at(job[PARTITIONED], (job[NUM_RAW],), raw_type)
        out = array_at(job[SORTED], (job[NUM_RAW],), raw_type)
        scratch = array_at(job[SCRATCH] + raw.itemsize * job[LONGEST] * thread, (job[LONGEST],), raw_type)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        before = array_at(job[BEFORE], (job[NUM_BEFORE],), np.uint64)
        before_counts = array_at(job[BEFORE_COUNTS], (job[NUM_BEFORE],), np.int64)
        sizes = array_at(job[SIZES], (job[1],), np.int64)
        num_often = array_at(job[NUM_OFTEN], (job[1],), np.int64)
        often = array_at(job[OFTEN], (job[NUM_RAW] // TALLIED + job[NUM_BEFORE] + 1,), np.int64)
        tally = array_at(job[TALLIES] + 8 * (TALLIED + 1) * thread, (TALLIED + 1,), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            span = raw[edges[part] : edges[part + 1]]
            sort_keys(span, scratch, job[TOP])
            share = slice(bounds[part], bounds[part + 1])
            # At most one for each TALLIED raw keys and each row of what came before, so that the parts' lists do not meet.
            place = edges[part] // TALLIED + bounds[part]
            sizes[part], num_often[part] = _tally(
                span, before[share], before_counts[share], tally, often[place:]
            )
            copy_keys(span, out[edges[part] : edges[part + 1]])

    return NativeTask(task)


@functools.cache
def _write_task(raw_type: Any) -> NativeTask:
    """A block: the table of a part's sorted keys and what came before goes to its place."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        raw = array_at(job[SORTED], (job[NUM_RAW],), raw_type)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        before = array_at(job[BEFORE], (job[NUM_BEFORE],), np.uint64)
        before_counts = array_at(job[BEFORE_COUNTS], (job[NUM_BEFORE],), np.int64)
        places = array_at(job[PLACES], (job[1] + 1,), np.int64)
        keys = array_at(job[KEYS], (places[job[1]],), np.uint64)
        counts = array_at(job[COUNTS], (places[job[1]],), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            own, share = slice(edges[part], edges[part + 1]), slice(bounds[part], bounds[part + 1])
            place = slice(places[part], places[part + 1])
            raw_union(raw[own], before[share], before_counts[share], keys[place], counts[place])

    return NativeTask(task)


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, 1), np.uint64), np.empty(0, np.int64)


class UnwrittenTable:
    """The table of raw keys and of what came before them, before it is written; safe for several threads.

    Attributes:
        num_patterns: distinct keys, P.
        num_evaluations: how many keys there were, with those that came before.
        spectrum: how often patterns occurred, int64 (M,), increasing, and how many did so, int64 (M,).

    Args:
        raw: uint32 or uint64 (R,), R >= 1; belongs to this object from now on and is overwritten.
        varying: the bits set that are not the same in all raw keys.
        before: a table, keys uint64 (B, 1) and counts int64 (B,); it is only read.
        stays: of its table, as of `table_array`.
    """

    def __init__(
        self,
        raw: np.ndarray,
        varying: int,
        *,
        before: tuple[np.ndarray, np.ndarray] | None = None,
        stays: bool = True,
    ) -> None:
        self._stays = stays
        self._raw: np.ndarray | None = raw
        self._before = before or _nothing()
        self._table: tuple[np.ndarray, np.ndarray] | None = None
        self._lock = threading.Lock()
        self._threads = pool.num_threads() if raw.size >= MIN_PARALLEL else 1
        self.num_evaluations = raw.size + int(self._before[1].sum())
        job = UnionJob(raw, *self._before, top_of(raw, varying, self._before[0]))
        if raw.size > PIECE or self._threads > 1:
            job.partition(self._threads)
        self._edges, self._bounds = job.edges, job.bounds
        self._sort(job)

    @property
    def nbytes(self) -> int:
        """Bytes held: those of the raw keys and of what came before, or of the table once it is written."""
        arrays = self._table or (self._raw, *self._before)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def raw(self) -> np.ndarray | None:
        """The sorted raw keys, (R,), where nothing came before; None once the table is written. Not to be written to."""
        return None if len(self._before[0]) else self._raw

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """keys uint64 (P, 1) and counts int64 (P,), written by the first call."""
        with self._lock:
            if self._table is None:
                self._table = self._write()
                self._raw, self._before = None, _nothing()
            return self._table

    def _write(self) -> tuple[np.ndarray, np.ndarray]:
        assert self._raw is not None
        num_parts, raw = len(self._sizes), self._raw
        keys = table_array((self.num_patterns, 1), np.uint64, stays=self._stays)
        counts = table_array((self.num_patterns,), np.int64, stays=self._stays)
        places = np.concatenate([[0], np.cumsum(self._sizes)])
        fields = [0, raw.size, raw.ctypes.data, self._edges.ctypes.data, places.ctypes.data]
        fields += [keys.ctypes.data, counts.ctypes.data, 0, 0, 0, 0, *self._fields_of_before()]
        _write_task(raw.dtype.type).run(num_parts, self._threads, fields)
        return keys, counts

    def _fields_of_before(self) -> list[int]:
        keys, counts = self._before
        return [keys.ctypes.data, counts.ctypes.data, len(keys), self._bounds.ctypes.data]

    def _sort(self, job: UnionJob) -> None:
        raw, edges, kind = job.partitioned, self._edges, job.partitioned.dtype.type
        num_parts, longest = len(edges) - 1, int(np.diff(edges).max())
        threads = min(self._threads, num_parts)
        scratch, tallies = np.empty((threads, longest), kind), np.zeros((threads, TALLIED + 1), np.int64)
        sizes, num_often = np.empty(num_parts, np.int64), np.empty(num_parts, np.int64)
        often = np.empty(raw.size // TALLIED + len(self._before[0]) + 1, np.int64)
        assert self._raw is not None
        fields = [raw.ctypes.data, raw.size, self._raw.ctypes.data, edges.ctypes.data, sizes.ctypes.data]
        fields += [scratch.ctypes.data, longest, job.top]
        fields += [tallies.ctypes.data, often.ctypes.data, num_often.ctypes.data, *self._fields_of_before()]
        _sort_task(kind).run(num_parts, threads, fields)
        self._sizes, self.num_patterns = sizes, int(sizes.sum())
        tally = tallies[:, :TALLIED].sum(axis=0)
        tally[0] = 0
        few = np.flatnonzero(tally)
        starts = edges[:-1] // TALLIED + self._bounds[:-1]
        lists = [
            often[start : start + number] for start, number in zip(starts, num_often, strict=True) if number
        ]
        many, num_many = np.unique(np.concatenate(lists) if lists else often[:0], return_counts=True)
        self.spectrum = np.concatenate([few, many]), np.concatenate([tally[few], num_many])
        for array in self.spectrum:  # given out to whoever measures
            array.flags.writeable = False
