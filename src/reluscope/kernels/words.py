"""From raw one-word keys to a sorted table, in native tasks: partition by key, sort each part, unite with the table.

Axes: R raw keys (uint32 or uint64), P patterns of the table, K pieces of the raw keys, Q parts. Parts are ranges of the
leading 11 bits that vary and hold about 2^16 keys, so that sorting one stays in the second-level cache; they are
independent until their results lie end to end. Uniting has a size pass and a write pass, so that the new table is
allocated exactly.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from reluscope.kernels import pool, tables
from reluscope.kernels.jit import kernel
from reluscope.kernels.native import (
    HEADER,
    NativeTask,
    array_at,
    atomic_and,
    atomic_or,
    claim,
    enter,
    field_of,
    job_of,
)
from reluscope.kernels.pages import are_own_pages_wanted, table_array
from reluscope.kernels.sort import BUCKETS, DIGIT, digit_sizes, scatter, sort_keys

__all__ = [
    "KEPT_BYTES",
    "MIN_PARALLEL",
    "PARTS_PER_THREAD",
    "PIECE",
    "UnionJob",
    "count_words",
    "plan_parts",
    "scratch_array",
    "top_of",
    "unite_words",
]

# Keys of a piece, and wanted of a part: half a megabyte for the part and its scratch if keys have 32 bits.
PIECE = 1 << 15
# Fewer keys are sorted by one thread, in one part.
MIN_PARALLEL = 1 << 14
# Parts differ in size and threads in speed: with several each, nobody waits long.
PARTS_PER_THREAD = 4

# Up to so many bytes are kept by each thread for the next partition: a fresh page takes longer than partitioning its keys.
KEPT_BYTES = 1 << 26
_kept = threading.local()


def scratch_array(size: int, dtype: type, *, most: int = KEPT_BYTES) -> np.ndarray:
    """An array (size,), not initialised, whose memory the next call may give out again if it is of `most` bytes."""
    num_bytes = size * np.dtype(dtype).itemsize
    if num_bytes > most or are_own_pages_wanted():
        return table_array((size,), dtype)
    kept: np.ndarray | None = getattr(_kept, "bytes", None)
    if kept is None or kept.size < num_bytes:
        kept = _kept.bytes = table_array((max(num_bytes, 1 << 16),), np.uint8)
    return kept[:num_bytes].view(dtype)


# The job's fields.
RAW, NUM_RAW, SHIFT, DIGITS, PART_OF_DIGIT, PLACES, TARGET = range(HEADER, HEADER + 7)
EDGES, BOUNDS, SIZES, SCRATCH, LONGEST, TOP = range(HEADER + 7, HEADER + 13)
KEYS, COUNTS, NUM_KEYS, OUT_KEYS, OUT_COUNTS = range(HEADER + 13, HEADER + 18)
SOME, EVERY = SHIFT, DIGITS  # of the task that looks for bits that vary

FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


@functools.cache
def _varying_task() -> NativeTask:
    """A block: the bits that are on in some key of a piece, and in all."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        raw = array_at(job[RAW], (job[NUM_RAW],), np.uint64)
        some, every = np.uint64(0), FULL
        while True:
            piece = claim(job)
            if piece < 0:
                break
            for index in range(piece * PIECE, min((piece + 1) * PIECE, job[NUM_RAW])):
                some |= raw[index]
                every &= raw[index]
        atomic_or(field_of(job, SOME), np.int64(some))
        atomic_and(field_of(job, EVERY), np.int64(every))

    return NativeTask(task)


@functools.cache
def _digits_task(raw_type: Any) -> NativeTask:
    """A block: how many keys of a piece have each leading digit."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        raw = array_at(job[RAW], (job[NUM_RAW],), raw_type)
        while True:
            piece = claim(job)
            if piece < 0:
                break
            sizes = array_at(job[DIGITS] + 8 * BUCKETS * piece, (BUCKETS,), np.int64)
            digit_sizes(raw[piece * PIECE : (piece + 1) * PIECE], job[SHIFT], sizes)

    return NativeTask(task)


@functools.cache
def _scatter_task(raw_type: Any, target_type: Any) -> NativeTask:
    """A block: the keys of a piece go to their parts, of 32 bits there if that is enough."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        raw = array_at(job[RAW], (job[NUM_RAW],), raw_type)
        target = array_at(job[TARGET], (job[NUM_RAW],), target_type)
        part_of_digit = array_at(job[PART_OF_DIGIT], (BUCKETS,), np.int64)
        while True:
            piece = claim(job)
            if piece < 0:
                break
            places = array_at(job[PLACES] + 8 * BUCKETS * piece, (BUCKETS,), np.int64)
            scatter(raw[piece * PIECE : (piece + 1) * PIECE], job[SHIFT], part_of_digit, places, target)

    return NativeTask(task)


@functools.cache
def _sort_task(raw_type: Any) -> NativeTask:
    """A block: a part is sorted, and how many rows it and its share of the table make together."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        thread = enter(job)
        if thread < 0:
            return
        raw = array_at(job[TARGET], (job[NUM_RAW],), raw_type)
        scratch = array_at(job[SCRATCH] + raw.itemsize * job[LONGEST] * thread, (job[LONGEST],), raw_type)
        keys = array_at(job[KEYS], (job[NUM_KEYS],), np.uint64)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        sizes = array_at(job[SIZES], (job[1],), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            span = raw[edges[part] : edges[part + 1]]
            sort_keys(span, scratch, job[TOP])
            sizes[part] = tables.raw_union_size(span, keys[bounds[part] : bounds[part + 1]])

    return NativeTask(task)


@functools.cache
def _unite_task(raw_type: Any) -> NativeTask:
    """A block: a part and its share of the table are written together to their place in the new one."""

    def task(pointer):  # pragma: no cover - compiled
        job = job_of(pointer)
        if enter(job) < 0:
            return
        raw = array_at(job[TARGET], (job[NUM_RAW],), raw_type)
        keys = array_at(job[KEYS], (job[NUM_KEYS],), np.uint64)
        counts = array_at(job[COUNTS], (job[NUM_KEYS],), np.int64)
        edges = array_at(job[EDGES], (job[1] + 1,), np.int64)
        bounds = array_at(job[BOUNDS], (job[1] + 1,), np.int64)
        places = array_at(job[PLACES], (job[1] + 1,), np.int64)
        out_keys = array_at(job[OUT_KEYS], (places[job[1]],), np.uint64)
        out_counts = array_at(job[OUT_COUNTS], (places[job[1]],), np.int64)
        while True:
            part = claim(job)
            if part < 0:
                break
            own, share = slice(edges[part], edges[part + 1]), slice(bounds[part], bounds[part + 1])
            place = slice(places[part], places[part + 1])
            tables.raw_union(raw[own], keys[share], counts[share], out_keys[place], out_counts[place])

    return NativeTask(task)


@kernel
def plan_parts(digits, wanted, part_of_digit, places, edges):  # pragma: no cover - compiled
    """Which part each leading digit belongs to, and where each piece writes its share of each part.

    From digits int64 (K, 2^11); writes part_of_digit int64 (2^11,), places int64 (K, 2^11), of which the first Q
    columns are used, and edges int64 (Q + 1,). Consecutive digits share a part while it is small. Returns Q.
    """
    num_pieces = digits.shape[0]
    total = 0
    for piece in range(num_pieces):
        for digit in range(BUCKETS):
            total += digits[piece, digit]
    part, before, size = 0, 0, 0
    edges[0] = 0
    for digit in range(BUCKETS):
        of_digit = 0
        for piece in range(num_pieces):
            of_digit += digits[piece, digit]
        if size and 2 * size + of_digit > 2 * (total // wanted):
            part += 1
            before += size
            edges[part] = before
            size = 0
        size += of_digit
        part_of_digit[digit] = part
    num_parts = part + 1
    edges[num_parts] = total
    for piece in range(num_pieces):
        for part in range(num_parts):
            places[piece, part] = 0
        for digit in range(BUCKETS):
            places[piece, part_of_digit[digit]] += digits[piece, digit]
    for index in range(num_parts):
        place = edges[index]
        for piece in range(num_pieces):
            share = places[piece, index]
            places[piece, index] = place
            place += share
    return num_parts


@kernel
def _bounds_of_parts(keys, part_of_digit, shift, bounds):  # pragma: no cover - compiled
    """Where the share of each part begins in the table's keys uint64 (P,), P >= 1, int64 (Q + 1,)."""
    num_parts = bounds.size - 1
    bounds[0], bounds[num_parts] = 0, keys.size
    # The bits above the leading digit are the same in all keys.
    above = (
        keys[0] >> np.uint64(shift + DIGIT) << np.uint64(shift + DIGIT)
        if shift + DIGIT < 64
        else np.uint64(0)
    )
    for digit in range(1, BUCKETS):
        part = part_of_digit[digit]
        if part == part_of_digit[digit - 1]:
            continue
        first = above | np.uint64(digit) << np.uint64(shift)
        low, high = 0, keys.size
        while low < high:
            middle = (low + high) // 2
            if keys[middle] < first:
                low = middle + 1
            else:
                high = middle
        bounds[part] = low


def top_of(raw: np.ndarray, varying: int, keys: np.ndarray) -> int:
    """The bit from which on raw keys, whose bits of `varying` are not the same in all, and sorted keys (P, 1) agree."""
    if len(keys):
        first = int(raw[0])
        varying |= (first ^ int(keys[0, 0])) | (first ^ int(keys[-1, 0]))
    return max(1, varying.bit_length())


def unite_words(
    raw: np.ndarray, varying: int, keys: np.ndarray, counts: np.ndarray, *, stays: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The table of raw keys uint32 or uint64 (R,), R >= 1, united with a sorted table uint64 (P, 1), int64 (P,).

    `varying` has the bits set that are not the same in all raw keys, `stays` as of `table_array`. The raw keys may be
    overwritten.
    """
    threads = pool.num_threads() if raw.size >= MIN_PARALLEL else 1
    job = UnionJob(raw, keys, counts, top_of(raw, varying, keys))
    size = raw.size
    del raw  # whoever has no use for them any more gets their memory back before the table is written
    if size > PIECE or threads > 1:
        job.partition(threads)
    job.sort(threads)
    return job.unite(threads, stays=stays)


def count_words(words: np.ndarray, num_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The table of keys uint64 (R,), R >= 1, none of which has a bit from `num_bits` on; they are only read."""
    kind = np.uint32 if num_bits <= 32 else np.uint64
    threads = pool.num_threads() if words.size >= MIN_PARALLEL else 1
    fields = [words.ctypes.data, words.size, 0, -1]
    some, every = _varying_task().run(-(-words.size // PIECE), threads, fields)[SOME : EVERY + 1]
    varying = (some & ~every) & (2**64 - 1)
    if words.size <= PIECE and threads == 1:
        return unite_words(words.astype(kind), varying, np.empty((0, 1), np.uint64), np.empty(0, np.int64))
    job = UnionJob(words, np.empty((0, 1), np.uint64), np.empty(0, np.int64), max(1, varying.bit_length()))
    job.partition(threads, kind)
    job.sort(threads)
    return job.unite(threads, stays=False)


class UnionJob:
    """The arrays of one uniting, and the fields that tell its tasks where they lie."""

    def __init__(self, raw: np.ndarray, keys: np.ndarray, counts: np.ndarray, top: int) -> None:
        self._keys, self._counts, self.top = keys, counts, top
        self._size, self._sorted = raw.size, raw
        self.edges = np.array([0, raw.size], np.int64)
        self.bounds = np.array([0, len(keys)], np.int64)

    @property
    def partitioned(self) -> np.ndarray:
        """The raw keys, part after part; parts are sorted in place."""
        return self._sorted

    def partition(self, num_threads: int, kind: type | None = None) -> None:
        """Parts by key, written to other memory, of the raw keys' type or another; whose own may be overwritten then."""
        raw = self._sorted
        kind = kind or raw.dtype.type
        wanted = max(-(-self._size // PIECE), PARTS_PER_THREAD * num_threads)
        num_pieces = -(-raw.size // PIECE)
        shift = max(0, self.top - DIGIT)
        digits = np.zeros((num_pieces, BUCKETS), np.int64)
        part_of_digit, places = np.empty(BUCKETS, np.int64), np.empty((num_pieces, BUCKETS), np.int64)
        edges = np.empty(BUCKETS + 1, np.int64)
        target = scratch_array(self._size, kind)
        fields = [raw.ctypes.data, raw.size, shift, digits.ctypes.data]
        _digits_task(raw.dtype.type).run(num_pieces, num_threads, fields)
        num_parts = plan_parts(digits, wanted, part_of_digit, places, edges)
        fields += [part_of_digit.ctypes.data, places.ctypes.data, target.ctypes.data]
        _scatter_task(raw.dtype.type, kind).run(num_pieces, num_threads, fields)
        self._sorted, self.edges = target, edges[: num_parts + 1].copy()
        self.bounds = np.zeros(num_parts + 1, np.int64)
        if len(self._keys):
            _bounds_of_parts(self._keys.reshape(-1), part_of_digit, shift, self.bounds)

    def sort(self, num_threads: int) -> None:
        num_parts = len(self.edges) - 1
        longest = int(np.diff(self.edges).max())
        threads = min(num_threads, num_parts)
        kind = self._sorted.dtype.type
        scratch = np.empty((threads, longest), kind)
        sizes = np.empty(num_parts, np.int64)
        fields = [0, self._size, 0, 0, 0, 0, self._sorted.ctypes.data]
        fields += [self.edges.ctypes.data, self.bounds.ctypes.data, sizes.ctypes.data]
        fields += [scratch.ctypes.data, longest, self.top]
        fields += [self._keys.ctypes.data, 0, len(self._keys)]
        _sort_task(kind).run(num_parts, threads, fields)
        self._places = np.concatenate([[0], np.cumsum(sizes)])

    def unite(self, num_threads: int, *, stays: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The new table; `stays` as of `table_array`."""
        num_parts, total = len(self.edges) - 1, int(self._places[-1])
        out_keys = table_array((total, 1), np.uint64, stays=stays)
        out_counts = table_array((total,), np.int64, stays=stays)
        fields = [0, self._size, 0, 0, 0, self._places.ctypes.data, self._sorted.ctypes.data]
        fields += [self.edges.ctypes.data, self.bounds.ctypes.data, 0, 0, 0, 0]
        fields += [self._keys.ctypes.data, self._counts.ctypes.data, len(self._keys)]
        fields += [out_keys.ctypes.data, out_counts.ctypes.data]
        _unite_task(self._sorted.dtype.type).run(num_parts, num_threads, fields)
        return out_keys, out_counts
