"""From raw rows to a sorted table, in native tasks: partition by key, sort each part, unite it with the table.

Axes: R raw rows, C columns, P patterns of the table, K pieces of the raw rows, Q parts, T threads. Parts are ranges of the
leading 11 bits that vary, and so small that sorting one stays in the second-level cache; they are independent until their
results are laid end to end. Uniting has a size pass and a write pass, so that the new table is allocated exactly. Limits:
R below 2^32.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np

from reluscope.kernels import pool, tables
from reluscope.kernels.jit import inlined, kernel
from reluscope.kernels.native import (
    HEADER,
    NativeTask,
    array_at,
    atomic_and,
    atomic_or,
    claim,
    enter,
    job_of,
)
from reluscope.kernels.pages import MIN_BYTES, paged_array, release_after, release_before, table_array
from reluscope.kernels.sort import BUCKETS, DIGIT
from reluscope.kernels.sort_rows import leading_bits, sort_rows
from reluscope.kernels.words import KEPT_BYTES, MIN_PARALLEL, PARTS_PER_THREAD, plan_parts, scratch_array

__all__ = ["compact_rows"]

# Rows of a piece, and wanted of a part: with what sorting them needs, 48 bytes a row of two columns.
PIECE = 1 << 14
# How often, while a table is written, the part of the old one that was read is given back.
STAGES = 16
# As KEPT_BYTES, for what is counted beside tables that stay: such memory would be there beside all of them.
KEPT_BYTES_STAYING = 1 << 20
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)

# The job's fields.
RAW, NUM_ROWS, WORD, BIT, DIGITS, PART_OF_DIGIT, PLACES, TARGET = range(HEADER, HEADER + 8)
EDGES, BOUNDS, SIZES, SCRATCH, LONGEST = range(HEADER + 8, HEADER + 13)
KEYS, COUNTS, NUM_KEYS, OUT_KEYS, OUT_COUNTS = range(HEADER + 13, HEADER + 18)
SOME_AND_EVERY = WORD  # of the task that looks for bits that vary


@functools.cache
def _varying_task(num_columns: int) -> NativeTask:
    """A block: the bits of each column that are on in some row of a piece, and in all."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        rows = array_at(job[RAW], (job[NUM_ROWS], num_columns), np.uint64)
        while True:
            piece = claim(job)
            if piece < 0:
                break
            for column in range(num_columns):
                some, every = np.uint64(0), FULL
                for index in range(piece * PIECE, min((piece + 1) * PIECE, job[NUM_ROWS])):
                    some |= rows[index, column]
                    every &= rows[index, column]
                atomic_or(job[SOME_AND_EVERY] + 8 * column, np.int64(some))
                atomic_and(job[SOME_AND_EVERY] + 8 * (num_columns + column), np.int64(every))

    return NativeTask(task)


@inlined
def _digit(rows, index, word, bit):  # pragma: no cover - compiled
    """The 11 bits of a row that parts are cut by."""
    return np.int64(leading_bits(rows, index, word, bit) >> np.uint64(64 - DIGIT))


@functools.cache
def _digits_task(num_columns: int) -> NativeTask:
    """A block: how many rows of a piece have each leading digit."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        rows = array_at(job[RAW], (job[NUM_ROWS], num_columns), np.uint64)
        word, bit = job[WORD], job[BIT]
        while True:
            piece = claim(job)
            if piece < 0:
                break
            sizes = array_at(job[DIGITS] + 8 * BUCKETS * piece, (BUCKETS,), np.int64)
            for index in range(piece * PIECE, min((piece + 1) * PIECE, job[NUM_ROWS])):
                sizes[_digit(rows, index, word, bit)] += 1

    return NativeTask(task)


@functools.cache
def _scatter_task(num_columns: int) -> NativeTask:
    """A block: the rows of a piece go to their parts."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        rows = array_at(job[RAW], (job[NUM_ROWS], num_columns), np.uint64)
        target = array_at(job[TARGET], (job[NUM_ROWS], num_columns), np.uint64)
        part_of_digit = array_at(job[PART_OF_DIGIT], (BUCKETS,), np.int64)
        word, bit = job[WORD], job[BIT]
        while True:
            piece = claim(job)
            if piece < 0:
                break
            places = array_at(job[PLACES] + 8 * BUCKETS * piece, (BUCKETS,), np.int64)
            for index in range(piece * PIECE, min((piece + 1) * PIECE, job[NUM_ROWS])):
                part = part_of_digit[_digit(rows, index, word, bit)]
                place = places[part]
                places[part] = place + 1
                for column in range(num_columns):
                    target[place, column] = rows[index, column]

    return NativeTask(task)


@functools.cache
def _sort_task(num_columns: int) -> NativeTask:
    """A block: a part is sorted, and how many rows it and its share of the table make together."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        rows = array_at(job[TARGET], (job[NUM_ROWS], num_columns), np.uint64)
        longest = job[LONGEST]
        scratch = job[SCRATCH] + 8 * (2 + num_columns) * longest * thread
        windows = array_at(scratch, (longest,), np.uint64)
        spare_windows = array_at(scratch + 8 * longest, (longest,), np.uint64)
        spare = array_at(scratch + 16 * longest, (longest, num_columns), np.uint64)
        keys = array_at(job[KEYS], (job[NUM_KEYS], num_columns), np.uint64)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        sizes = array_at(job[SIZES], (job[1],), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            span = rows[edges[part] : edges[part + 1]]
            sort_rows(span, spare, windows, spare_windows)
            sizes[part] = tables.rows_union_size(span, keys[bounds[part] : bounds[part + 1]])

    return NativeTask(task)


@functools.cache
def _unite_task(num_columns: int) -> NativeTask:
    """A block: a part and its share of the table are written together to their place in the new one."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        rows = array_at(job[TARGET], (job[NUM_ROWS], num_columns), np.uint64)
        keys = array_at(job[KEYS], (job[NUM_KEYS], num_columns), np.uint64)
        counts = array_at(job[COUNTS], (job[NUM_KEYS],), np.int64)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        places = array_at(job[PLACES], (job[1] + 1,), np.int64)
        out_keys = array_at(job[OUT_KEYS], (places[job[1]], num_columns), np.uint64)
        out_counts = array_at(job[OUT_COUNTS], (places[job[1]],), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            own, share = slice(edges[part], edges[part + 1]), slice(bounds[part], bounds[part + 1])
            place = slice(places[part], places[part + 1])
            tables.rows_union(rows[own], keys[share], counts[share], out_keys[place], out_counts[place])

    return NativeTask(task)


@kernel
def _bounds_of_parts(keys, part_of_digit, word, bit, bounds):  # pragma: no cover - compiled
    """Where the share of each part begins in the table's keys uint64 (P, C), int64 (Q + 1,)."""
    bounds[0], bounds[bounds.size - 1] = 0, keys.shape[0]
    for digit in range(1, BUCKETS):
        part = part_of_digit[digit]
        if part == part_of_digit[digit - 1]:
            continue
        low, high = 0, keys.shape[0]
        while low < high:
            middle = (low + high) // 2
            if _digit(keys, middle, word, bit) < digit:
                low = middle + 1
            else:
                high = middle
        bounds[part] = low


def compact_rows(
    rows: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
    *,
    is_last_use: bool,
    keeps_rows: bool = False,
    stays: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """The table of raw rows uint64 (R, C), R >= 1, united with a sorted table uint64 (P, C), int64 (P,).

    The rows are overwritten or their memory is given back, unless keeps_rows. With is_last_use the old table gives its
    pages back while the new one grows, and must not be read any more. `stays` as of `table_array`.
    """
    threads = pool.num_threads() if len(rows) >= MIN_PARALLEL else 1
    stages = STAGES if is_last_use and keys.nbytes >= MIN_BYTES else 1
    job = _Compaction(rows, keys, counts)
    if job.num_rows > PIECE or threads > 1 or stages > 1:
        job.partition(threads, stages, kept_bytes=KEPT_BYTES_STAYING if stays else KEPT_BYTES)
        if rows.nbytes > KEPT_BYTES_STAYING and not keeps_rows:
            release_after(rows, 0)
    elif keeps_rows:
        job.copy_rows()
    del rows  # the memory of those who have no other use for them
    job.sort(threads)
    return job.unite(threads, stages, is_last_use=is_last_use, stays=stays)


class _Compaction:
    """The arrays of one compaction, and the fields that tell its tasks where they lie."""

    def __init__(self, rows: np.ndarray, keys: np.ndarray, counts: np.ndarray) -> None:
        self._rows, self._keys, self._counts = rows, keys, counts
        self.num_rows, self._num_columns = rows.shape
        self._edges = np.array([0, self.num_rows], np.int64)
        self._bounds = np.array([0, len(keys)], np.int64)
        self._sizes = np.empty(0, np.int64)

    def copy_rows(self) -> None:
        self._rows = self._rows.copy()

    def partition(self, num_threads: int, min_parts: int, *, kept_bytes: int) -> None:
        """Parts by key, in other memory."""
        rows, num_pieces = self._rows, -(-self.num_rows // PIECE)
        wanted = max(num_pieces, PARTS_PER_THREAD * num_threads, min_parts)
        word, bit = divmod(self._top(num_threads) - 1, 64)
        bit += 1
        digits = np.zeros((num_pieces, BUCKETS), np.int64)
        part_of_digit, places = np.empty(BUCKETS, np.int64), np.empty((num_pieces, BUCKETS), np.int64)
        edges = np.empty(BUCKETS + 1, np.int64)
        target = scratch_array(rows.size, np.uint64, most=kept_bytes)
        fields = [rows.ctypes.data, self.num_rows, word, bit, digits.ctypes.data]
        _digits_task(self._num_columns).run(num_pieces, num_threads, fields)
        num_parts = plan_parts(digits, wanted, part_of_digit, places, edges)
        fields += [part_of_digit.ctypes.data, places.ctypes.data, target.ctypes.data]
        _scatter_task(self._num_columns).run(num_pieces, num_threads, fields)
        self._rows, self._edges = target.reshape(rows.shape), edges[: num_parts + 1].copy()
        self._bounds = np.zeros(num_parts + 1, np.int64)
        if len(self._keys):
            _bounds_of_parts(self._keys, part_of_digit, word, bit, self._bounds)

    def sort(self, num_threads: int) -> None:
        num_parts, longest = len(self._edges) - 1, int(np.diff(self._edges).max())
        threads = min(num_threads, num_parts)
        self._sizes = np.empty(num_parts, np.int64)
        scratch = paged_array((threads, 2 + self._num_columns, longest), np.uint64)
        fields = [0, self.num_rows, 0, 0, 0, 0, 0, self._rows.ctypes.data]
        fields += [self._edges.ctypes.data, self._bounds.ctypes.data, self._sizes.ctypes.data]
        fields += [scratch.ctypes.data, longest, self._keys.ctypes.data, 0, len(self._keys)]
        _sort_task(self._num_columns).run(num_parts, threads, fields)

    def unite(
        self, num_threads: int, stages: int, *, is_last_use: bool, stays: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        num_parts = len(self._sizes)
        places = np.concatenate([[0], np.cumsum(self._sizes)])
        make = paged_array if stays else partial(table_array, stays=False)
        out_keys, out_counts = make((places[-1], self._num_columns), np.uint64), make((places[-1],), np.int64)
        for first, last in pool.split(num_parts, stages):
            fields = [0, self.num_rows, 0, 0, 0, 0, places[first:].ctypes.data, self._rows.ctypes.data]
            fields += [self._edges[first:].ctypes.data, self._bounds[first:].ctypes.data, 0, 0, 0]
            fields += [self._keys.ctypes.data, self._counts.ctypes.data, len(self._keys)]
            fields += [out_keys.ctypes.data, out_counts.ctypes.data]
            _unite_task(self._num_columns).run(last - first, num_threads, fields)
            if is_last_use:
                release_before(self._keys, int(self._bounds[last]))
                release_before(self._counts, int(self._bounds[last]))
        return out_keys, out_counts

    def _top(self, num_threads: int) -> int:
        """One more than the highest bit in which rows, or they and the table, differ; 1 where none does."""
        columns = self._num_columns
        both = np.concatenate([np.zeros(columns, np.uint64), np.full(columns, FULL)])
        fields = [self._rows.ctypes.data, self.num_rows, both.ctypes.data]
        _varying_task(columns).run(-(-self.num_rows // PIECE), num_threads, fields)
        varying = both[:columns] & ~both[columns:]
        for place in (0, -1) if len(self._keys) else ():
            varying |= self._rows[0] ^ self._keys[place]
        return max(
            (64 * column + int(bits).bit_length() for column, bits in enumerate(varying) if bits), default=1
        )
