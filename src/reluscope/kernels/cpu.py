"""The Numba kernels with the signatures of `reference`, driven over blocks by all threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from reluscope.kernels import pack as pack_kernels
from reluscope.kernels import pool, tables
from reluscope.kernels.fingerprint import hash_lanes
from reluscope.kernels.jit import kernel
from reluscope.kernels.values import Values
from reluscope.kernels.vectors import hash_row

__all__ = [
    "count_table_parts",
    "fingerprint",
    "fingerprint_rows",
    "join_tables",
    "merge_tables",
    "pack",
    "pack_range",
    "packer",
]

# Words packed at a time per thread, to stay in its second-level cache until they are used: 256 KB.
BLOCK_WORDS = 1 << 15
# Below this many values or rows a second thread costs more than it saves (about 50 us to wake it).
MIN_VALUES_PER_THREAD = 1 << 18
MIN_ROWS_PER_THREAD = 1 << 14


def pack(values: Values) -> tuple[np.ndarray, int]:
    """Patterns of every evaluation, uint64 (E, W), and the number of NaN among the values."""
    words = np.empty((values.form.num_evaluations, values.form.num_words), np.uint64)

    def task(start: int, stop: int) -> int:
        return pack_range(values, start, stop, words[start:stop])

    ranges = pool.split(
        values.form.num_evaluations, threads_for(values.form.num_values, MIN_VALUES_PER_THREAD)
    )
    return words, sum(pool.run([partial(task, *edges) for edges in ranges]))


def packer(values: Values) -> Callable[[int, int, np.ndarray], int]:
    """A function (start, stop, words) that packs these evaluations of a single kink, in its caller's thread.

    All that needs Python is done here, once for all threads: what they do in Python they do one by one.
    """
    kernel = pack_kernels.pack_planes if values.form.layout == "planes" else pack_kernels.pack_rows
    bits, thresholds = values.bits, values.form.thresholds[0]
    infinity = bits.dtype.type(values.form.format.infinity)
    return lambda start, stop, words: int(kernel(bits, start, stop, thresholds, infinity, 0, words))


def pack_range(values: Values, start: int, stop: int, words: np.ndarray) -> int:
    """Pack evaluations start..stop into words uint64 (stop - start, W), in this thread; returns the NaN among them."""
    if len(values.form.kinks) == 1:
        return packer(values)(start, stop, words)
    kernel = pack_kernels.pack_planes if values.form.layout == "planes" else pack_kernels.pack_rows
    infinity = values.bits.dtype.type(values.form.format.infinity)
    unit_words = np.empty((stop - start, (values.form.num_units + 63) // 64), np.uint64)
    words[...] = 0
    num_nan = 0
    for kink, ranges in enumerate(values.form.thresholds):
        # The number of NaN is the same for each kink.
        num_nan = int(kernel(values.bits, start, stop, ranges, infinity, 0, unit_words))
        pack_kernels.spread_bits(unit_words, values.form.num_units, kink, len(values.form.kinks), words)
    return num_nan


@kernel
def fingerprint_rows(words, lanes, out):  # pragma: no cover - compiled
    """Fingerprints (E, 2) of words (E, W), lanes (1 + 2 W, 8); all are C-contiguous. See `kernels.fingerprint`."""
    num_words = words.shape[1]
    for index in range(words.shape[0]):
        row, target = words.ctypes.data + 8 * num_words * index, out.ctypes.data + 16 * index
        hash_row(row, num_words, lanes.ctypes.data, target)


def fingerprint(words: np.ndarray, hash_keys: np.ndarray) -> np.ndarray:
    """128-bit fingerprints uint64 (E, 2) of patterns uint64 (E, W), in this thread."""
    out = np.empty((len(words), 2), np.uint64)
    fingerprint_into(words, hash_keys, out)
    return out


def fingerprint_into(words: np.ndarray, hash_keys: np.ndarray, out: np.ndarray) -> None:
    """As `fingerprint`, into out uint64 (E, 2)."""
    fingerprint_rows(np.ascontiguousarray(words), hash_lanes(hash_keys), out)


def merge_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted tables, counts added."""
    parts, places = count_table_parts(keys, other_keys)
    out_keys = np.empty((places[-1], keys.shape[1]), np.uint64)
    out_counts = np.empty(places[-1], np.int64)

    def task(part: int) -> None:
        start, stop, other_start, other_stop = parts[part]
        place = slice(places[part], places[part + 1])
        tables.merge_rows(
            keys[start:stop],
            counts[start:stop],
            other_keys[other_start:other_stop],
            other_counts[other_start:other_stop],
            out_keys[place],
            out_counts[place],
        )

    pool.run([partial(task, part) for part in range(len(parts))])
    return out_keys, out_counts


def join_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both tables over the union of their keys, in order; 0 where a table lacks the key."""
    parts, places = count_table_parts(keys, other_keys)
    out, other_out = np.empty(places[-1], np.int64), np.empty(places[-1], np.int64)

    def task(part: int) -> None:
        start, stop, other_start, other_stop = parts[part]
        place = slice(places[part], places[part + 1])
        tables.join_rows(
            keys[start:stop],
            counts[start:stop],
            other_keys[other_start:other_stop],
            other_counts[other_start:other_stop],
            out[place],
            other_out[place],
        )

    pool.run([partial(task, part) for part in range(len(parts))])
    return out, other_out


def count_table_parts(
    keys: np.ndarray, other_keys: np.ndarray
) -> tuple[list[tuple[int, int, int, int]], np.ndarray]:
    """Cut two tables at the same keys, a part per thread: their ranges, and where each union starts."""
    longer, shorter = (keys, other_keys) if len(keys) >= len(other_keys) else (other_keys, keys)
    cuts = [start for start, _ in pool.split(len(longer), threads_for(len(longer), MIN_ROWS_PER_THREAD))][1:]
    edges = [0, *cuts, len(longer)]
    other_edges = [0, *(tables.lower_bound(shorter, longer[cut : cut + 1]) for cut in cuts), len(shorter)]
    if longer is not keys:
        edges, other_edges = other_edges, edges
    parts = list(zip(edges[:-1], edges[1:], other_edges[:-1], other_edges[1:], strict=True))
    sizes = pool.run(
        [partial(tables.union_size, keys[a:b], other_keys[c:d]) for a, b, c, d in parts],
    )
    return parts, np.concatenate([[0], np.cumsum(sizes)])


def threads_for(work: int, per_thread: int) -> int:
    """How many threads are worth starting for so much work."""
    return max(1, min(pool.num_threads(), work // per_thread))
