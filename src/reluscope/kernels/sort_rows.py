"""Sorting rows of several words in Numba, where they and as much scratch fit a cache.

Axes: R rows, C columns, the last one the most significant. What is sorted are 64-bit windows: the bits below the highest
one in which the rows differ, and in their lowest bits the row's index. The leading bits tell nearly all rows apart that
differ; those they do not are sorted among themselves by the bits below.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inlined, inner
from reluscope.kernels.sort import INSERTION, radix_sort

__all__ = ["leading_bits", "sort_rows"]

# Leading bits that are sorted: two passes tell all but a hundred pairs of 2^15 random rows apart.
FEW_BITS, MANY_BITS = 22, 33
FEW_ROWS = 1 << 16


@inlined
def leading_bits(rows, index, word, bit):  # pragma: no cover - compiled
    """The 64 bits of a row below bit `bit`, 1 to 64, of column `word`; zeros where there are none."""
    window = rows[index, word] << np.uint64(64 - bit)
    if bit < 64 and word > 0:
        window |= rows[index, word - 1] >> np.uint64(bit)
    return window


@inlined
def _is_less(rows, index, other_rows, other):  # pragma: no cover - compiled
    """Whether a row comes before another."""
    for column in range(rows.shape[1] - 1, -1, -1):
        if rows[index, column] != other_rows[other, column]:
            return rows[index, column] < other_rows[other, column]
    return False


@inner
def _sort_few(rows, spare):  # pragma: no cover - compiled
    """Sort rows (R, C) one by one; row 0 of `spare` is overwritten."""
    for index in range(1, rows.shape[0]):
        if not _is_less(rows, index, rows, index - 1):
            continue
        for column in range(rows.shape[1]):
            spare[0, column] = rows[index, column]
        place = index
        while place > 0 and _is_less(spare, 0, rows, place - 1):
            for column in range(rows.shape[1]):
                rows[place, column] = rows[place - 1, column]
            place -= 1
        for column in range(rows.shape[1]):
            rows[place, column] = spare[0, column]


@inner
def sort_rows(rows, spare, windows, spare_windows):  # pragma: no cover - compiled
    """Sort rows uint64 (R, C) in place; `spare` uint64 (R, C) and both windows uint64 (R,), or longer, are scratch."""
    size, num_columns = rows.shape
    if size <= INSERTION:
        _sort_few(rows, spare)
        return
    word, bit = num_columns - 1, 0
    while word >= 0:
        varying = np.uint64(0)
        for index in range(size):
            varying |= rows[index, word] ^ rows[0, word]
        if varying != 0:
            while varying != 0:
                varying >>= np.uint64(1)
                bit += 1
            break
        word -= 1
    if word < 0:  # all are equal
        return
    index_bits = 1
    while size - 1 >> index_bits:
        index_bits += 1
    mask = (np.uint64(1) << np.uint64(index_bits)) - np.uint64(1)
    for index in range(size):
        windows[index] = (leading_bits(rows, index, word, bit) & ~mask) | np.uint64(index)
    low = max(index_bits, 64 - (FEW_BITS if size <= FEW_ROWS else MANY_BITS))
    radix_sort(windows[:size], spare_windows[:size], np.int64(low), np.int64(64))
    for index in range(size):
        source = np.int64(windows[index] & mask)
        for column in range(num_columns):
            spare[index, column] = rows[source, column]
    for index in range(size):
        for column in range(num_columns):
            rows[index, column] = spare[index, column]
    start = 0
    for index in range(1, size + 1):
        if index < size and (windows[index] ^ windows[start]) >> np.uint64(low) == 0:
            continue
        if index - start > 1:
            tied = slice(start, index)
            sort_rows(rows[tied], spare[tied], windows[tied], spare_windows[tied])
        start = index
