"""From raw rows to a sorted table, on all threads: partition by key, sort each part, unite it with the table.

Axes: R raw rows, C columns, P patterns. Parts are ranges of the leading 11 bits, hold about 2^17 keys so that
sorting one stays in cache, and are independent until their results are laid end to end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import numpy as np

from reluscope.kernels import pool, sort, tables
from reluscope.kernels.cpu import threads_for
from reluscope.kernels.pages import MIN_BYTES, paged_array, release_before

__all__ = ["compact_rows"]

PART_KEYS = 1 << 17
# Below this a second thread costs more than it saves: a compaction wakes it five times.
MIN_PART_KEYS = 1 << 15
# How often, while a table is written, the part of the old one that was read is given back.
STAGES = 16

Result = TypeVar("Result")


def compact_rows(
    rows: np.ndarray, keys: np.ndarray, counts: np.ndarray, *, is_last_use: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The table of raw rows uint64 (R, C), R >= 1, united with a sorted table uint64 (P, C), int64 (P,).

    With is_last_use the old table gives its pages back while the new one grows, and must not be read any more.
    """
    stages = STAGES if is_last_use and keys.nbytes >= MIN_BYTES else 1
    order, edges = _order_rows(rows, stages)
    bounds = _table_bounds(keys, [rows[order[edge]].reshape(1, -1) for edge in edges[1:-1]])

    def size_part(part: int) -> int:
        span = slice(bounds[part], bounds[part + 1])
        return tables.rows_union_size(rows, order[edges[part] : edges[part + 1]], keys[span])

    places = _places(_run_parts(size_part, len(edges) - 1))
    out_keys = paged_array((places[-1], keys.shape[1]), np.uint64)
    out_counts = paged_array((places[-1],), np.int64)

    def write_part(part: int) -> None:
        place, span = slice(places[part], places[part + 1]), slice(bounds[part], bounds[part + 1])
        order_of_part = order[edges[part] : edges[part + 1]]
        tables.rows_union(rows, order_of_part, keys[span], counts[span], out_keys[place], out_counts[place])

    for first, last in pool.split(len(edges) - 1, stages):
        _run_parts(lambda part, first=first: write_part(first + part), last - first)
        if is_last_use:
            release_before(keys, bounds[last])
            release_before(counts, bounds[last])
    return out_keys, out_counts


def _order_rows(rows: np.ndarray, min_parts: int) -> tuple[np.ndarray, list[int]]:
    """Indices uint32 (R,) that sort rows (R, C), and the edges of the parts; equal rows lie in one part.

    Sorts 64-bit windows: the most significant bits in which rows differ, then the row's index. Rows whose
    windows tie are compared in full. A window is half as many bytes to move as a row, and random bits
    (fingerprints) tie almost never.
    """
    index_bits = max(1, (len(rows) - 1).bit_length())
    varying = np.zeros(rows.shape[1], np.uint64)
    sort.varying_bits(rows, 0, len(rows), varying)
    top = max(
        (64 * column + int(bits).bit_length() for column, bits in enumerate(varying) if bits), default=1
    )
    windows = paged_array((len(rows),), np.uint64)
    ranges = pool.split(len(rows), threads_for(len(rows), MIN_PART_KEYS))
    pool.run([partial(sort.make_windows, rows, *edges, top, index_bits, windows) for edges in ranges])
    windows, edges = _partition(windows, index_bits, min_parts)
    order = paged_array((len(rows),), np.uint32)

    def sort_part(part: int) -> None:
        span = slice(edges[part], edges[part + 1])
        sort.radix_sort(windows[span], pool.scratch("radix", windows[span].size, np.uint64), index_bits, 64)
        sort.order_ties(rows, windows[span], index_bits, order[span])

    _run_parts(sort_part, len(edges) - 1)
    return order, edges


def _partition(windows: np.ndarray, ignore_bits: int, min_parts: int) -> tuple[np.ndarray, list[int]]:
    """All windows in one array, part by part, and the edges of the parts.

    Windows that agree but for their lowest `ignore_bits` bits lie in one part. No part is empty.
    """
    total = windows.size
    wanted = max(-(-total // PART_KEYS), threads_for(total, MIN_PART_KEYS), min_parts)
    if wanted == 1:
        return windows, [0, total]
    shift = max(ignore_bits, int(windows.max(initial=0)).bit_length() - sort.DIGIT)
    pieces = [windows[start:stop] for start, stop in pool.split(total, -(-total // PART_KEYS))]
    digit_sizes = np.zeros((len(pieces), sort.BUCKETS), np.int64)
    _run_parts(lambda piece: sort.digit_sizes(pieces[piece], shift, digit_sizes[piece]), len(pieces))
    part_of_digit = _parts_of_digits(digit_sizes.sum(axis=0), wanted)
    num_parts = int(part_of_digit[-1]) + 1
    sizes = np.zeros((num_parts, len(pieces)), np.int64)
    np.add.at(sizes, part_of_digit, digit_sizes.T)
    # Part-major order: where each piece's share of each part begins.
    ends = np.cumsum(sizes.reshape(-1)).reshape(sizes.shape)
    places = np.ascontiguousarray((ends - sizes).T)
    parted = paged_array(windows.shape, np.uint64)
    _run_parts(
        lambda piece: sort.scatter(pieces[piece], shift, part_of_digit, places[piece], parted), len(pieces)
    )
    return parted, [0, *np.unique(ends[:, -1][ends[:, -1] > 0]).tolist()]


def _parts_of_digits(sizes: np.ndarray, num_parts: int) -> np.ndarray:
    """The part int64 (2^11,) of each leading digit: consecutive digits share one while it is small."""
    middles = np.cumsum(sizes) - sizes / 2
    parts = np.minimum((middles * num_parts / max(1, sizes.sum())).astype(np.int64), num_parts - 1)
    return np.maximum.accumulate(parts)


def _table_bounds(keys: np.ndarray, firsts: list[np.ndarray]) -> list[int]:
    """Edges of the table's share of each part, given the first row of every part but the first."""
    return [0, *(tables.lower_bound(keys, first) for first in firsts), len(keys)]


def _places(sizes: list[int]) -> list[int]:
    """Where each part's result begins, and the total."""
    return [0, *np.cumsum(sizes).tolist()]


def _run_parts(work: Callable[[int], Result], num_parts: int) -> list[Result]:
    """Results of work(0), work(1), ... by all threads, each taking the next part when it is done with one."""
    results: list[Result | None] = [None] * num_parts
    queue = iter(range(num_parts))  # next() on it is atomic

    def worker() -> None:
        for part in queue:
            results[part] = work(part)

    pool.run([worker] * max(1, min(num_parts, pool.num_threads())))
    return cast(list[Result], results)
