"""Sorted tables in Numba: union of raw keys with a table, merge and join of two tables, joint into marginal.

Axes: R raw keys, P and Q patterns of two tables, C columns. A table is keys uint64 (P, C), strictly
increasing with the last column most significant, and counts int64 (P,). A union of rows has a size pass and a
write pass, so that its result is allocated exactly and parts can be written at once. Limits: P below 2^63.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inner, kernel

__all__ = [
    "compare_rows",
    "join_rows",
    "lower_bound",
    "marginal",
    "marginal_size",
    "merge_rows",
    "pattern_start",
    "raw_union",
    "raw_union_size",
    "rows_union",
    "rows_union_size",
    "runs",
    "union_size",
]

# A table with this many times fewer keys than there are raw ones is united key by key of the table.
SPARSE = 4


@inner
def compare_rows(rows, index, other_rows, other):  # pragma: no cover - compiled
    """-1, 0 or 1 as row `index` comes before, equals or comes after the other."""
    for column in range(rows.shape[1] - 1, -1, -1):
        left, right = rows[index, column], other_rows[other, column]
        if left != right:
            return -1 if left < right else 1
    return 0


@kernel
def lower_bound(keys, row):  # pragma: no cover - compiled
    """Number of rows of the table that come before row 0 of `row` uint64 (1, C)."""
    low, high = 0, keys.shape[0]
    while low < high:
        middle = (low + high) // 2
        if compare_rows(keys, middle, row, 0) < 0:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def raw_union(raw, keys, counts, out_keys, out_counts):  # pragma: no cover - compiled
    """Write the table of sorted raw uint64 (R,) and a table with uint64 (P,) keys together; returns its size.

    The outputs hold R + P entries. Without branches on the keys: which table comes next is a coin toss, and a
    processor that guesses wrong loses more time than the whole step takes.
    """
    if raw.size == 0 or keys.size == 0:
        return (
            runs(raw, out_keys, out_counts) if keys.size == 0 else _copy(keys, counts, out_keys, out_counts)
        )
    if SPARSE * keys.size < raw.size:
        return _sparse_union(raw, keys, counts, out_keys, out_counts)
    index, place = 0, 0
    size, total = -1, 0
    last = ~min(raw[0], keys[0])  # unlike the first key
    while index < raw.size and place < keys.size:
        key, other = raw[index], keys[place]
        take, take_other = np.int64(key <= other), np.int64(other <= key)
        key = min(key, other)
        is_new = np.int64(key != last)
        size += is_new
        total = total * (1 - is_new) + take + take_other * counts[place]
        out_keys[size] = key
        out_counts[size] = total
        last = key
        index += take
        place += take_other
    while index < raw.size:
        key = raw[index]
        is_new = np.int64(key != last)
        size += is_new
        total = total * (1 - is_new) + 1
        out_keys[size] = key
        out_counts[size] = total
        last = key
        index += 1
    size += 1
    for rest in range(place, keys.size):
        out_keys[size] = keys[rest]
        out_counts[size] = counts[rest]
        size += 1
    return size


@inner
def raw_union_size(raw, keys):  # pragma: no cover - compiled
    """Distinct keys in sorted raw (R,) and a table's keys uint64 (P,) together; without branches, as above."""
    if raw.size == 0:
        return keys.size
    size = 1 + keys.size
    for index in range(1, raw.size):
        size += np.int64(raw[index] != raw[index - 1])
    if SPARSE * keys.size < raw.size:
        stop = 0
        for place in range(keys.size):
            stop = _first_not_below(raw, np.int64(stop), keys[place])
            size -= np.int64(stop < raw.size and np.uint64(raw[stop]) == keys[place])
        return size
    index, place = 0, 0
    while index < raw.size and place < keys.size:
        key, other = np.uint64(raw[index]), keys[place]
        is_last = index + 1 == raw.size or np.uint64(raw[index + 1]) != key
        size -= np.int64(key == other and is_last)
        index += np.int64(key <= other)
        place += np.int64(other < key or (other == key and is_last))
    return size


@inner
def _first_not_below(raw, start, key):  # pragma: no cover - compiled
    """The first index from `start` on whose raw key is not below `key`, looked for in strides that double."""
    step = 1
    while start + step < raw.size and np.uint64(raw[start + step]) < key:
        start += step
        step *= 2
    stop = min(start + step, raw.size)
    while start < stop:
        middle = (start + stop) // 2
        if np.uint64(raw[middle]) < key:
            start = middle + 1
        else:
            stop = middle
    return start


@inner
def _sparse_union(raw, keys, counts, out_keys, out_counts):  # pragma: no cover - compiled
    """`raw_union` for a table with few keys: the runs of raw keys between two of them are written at once."""
    size, index = 0, 0
    for place in range(keys.size):
        key = keys[place]
        stop = _first_not_below(raw, index, key)
        size += runs(raw[index:stop], out_keys[size:], out_counts[size:])
        index = stop
        while index < raw.size and np.uint64(raw[index]) == key:
            index += 1
        out_keys[size] = key
        out_counts[size] = counts[place] + index - stop
        size += 1
    return size + runs(raw[index:], out_keys[size:], out_counts[size:])


@inner
def runs(raw, out_keys, out_counts):  # pragma: no cover - compiled
    """Write the table of sorted raw uint64 (R,); returns its size."""
    size, start = 0, 0
    for index in range(1, raw.size + 1):
        # Written every time and kept when the key ends here: no branch.
        out_keys[size] = raw[index - 1]
        out_counts[size] = index - start
        is_last = index == raw.size or raw[index] != raw[index - 1]
        size += is_last
        start = index if is_last else start
    return size


@inner
def _copy(keys, counts, out_keys, out_counts):  # pragma: no cover - compiled
    for index in range(keys.size):
        out_keys[index] = keys[index]
        out_counts[index] = counts[index]
    return keys.size


@inner
def rows_union_size(rows, keys):  # pragma: no cover - compiled
    """Distinct rows in sorted rows (R, C) and a table's keys (P, C) together."""
    size, place = 0, 0
    for index in range(rows.shape[0]):
        if index > 0 and compare_rows(rows, index, rows, index - 1) == 0:
            continue
        size += 1
        while place < keys.shape[0]:
            comparison = compare_rows(keys, place, rows, index)
            if comparison > 0:
                break
            place += 1
            size += comparison < 0
    return size + keys.shape[0] - place


@inner
def rows_union(rows, keys, counts, out_keys, out_counts):  # pragma: no cover - compiled
    """Write the table of sorted rows (R, C) and a table with keys (P, C) together."""
    size, place, index = 0, 0, 0
    num_columns = keys.shape[1]
    while index < rows.shape[0]:
        first = index
        index += 1
        while index < rows.shape[0] and compare_rows(rows, index, rows, first) == 0:
            index += 1
        count = index - first
        while place < keys.shape[0]:
            comparison = compare_rows(keys, place, rows, first)
            if comparison > 0:
                break
            if comparison == 0:
                count += counts[place]
            else:
                for column in range(num_columns):
                    out_keys[size, column] = keys[place, column]
                out_counts[size] = counts[place]
                size += 1
            place += 1
        for column in range(num_columns):
            out_keys[size, column] = rows[first, column]
        out_counts[size] = count
        size += 1
    while place < keys.shape[0]:
        for column in range(num_columns):
            out_keys[size, column] = keys[place, column]
        out_counts[size] = counts[place]
        size += 1
        place += 1


@kernel
def union_size(keys, other_keys):  # pragma: no cover - compiled
    """Distinct rows in two tables' keys (P, C) and (Q, C) together."""
    index, other, common = 0, 0, 0
    while index < keys.shape[0] and other < other_keys.shape[0]:
        comparison = compare_rows(keys, index, other_keys, other)
        common += comparison == 0
        index += comparison <= 0
        other += comparison >= 0
    return keys.shape[0] + other_keys.shape[0] - common


@kernel
def join_rows(keys, counts, other_keys, other_counts, out, other_out):  # pragma: no cover - compiled
    """Counts of two tables over the union of their keys, in order; 0 where a table lacks the key."""
    index, other, place = 0, 0, 0
    while index < keys.shape[0] or other < other_keys.shape[0]:
        if other == other_keys.shape[0]:
            comparison = -1
        elif index == keys.shape[0]:
            comparison = 1
        else:
            comparison = compare_rows(keys, index, other_keys, other)
        out[place] = 0
        other_out[place] = 0
        if comparison <= 0:
            out[place] = counts[index]
            index += 1
        if comparison >= 0:
            other_out[place] = other_counts[other]
            other += 1
        place += 1


@kernel
def merge_rows(keys, counts, other_keys, other_counts, out_keys, out_counts):  # pragma: no cover - compiled
    """Write the union of two tables, counts added."""
    index, other, place = 0, 0, 0
    num_columns = keys.shape[1]
    while index < keys.shape[0] or other < other_keys.shape[0]:
        if other == other_keys.shape[0]:
            comparison = -1
        elif index == keys.shape[0]:
            comparison = 1
        else:
            comparison = compare_rows(keys, index, other_keys, other)
        count = 0
        for column in range(num_columns):
            out_keys[place, column] = keys[index, column] if comparison <= 0 else other_keys[other, column]
        if comparison <= 0:
            count += counts[index]
            index += 1
        if comparison >= 0:
            count += other_counts[other]
            other += 1
        out_counts[place] = count
        place += 1


@inner
def _is_same_pattern(rows, index, group_bits, group_column):  # pragma: no cover - compiled
    """Whether row `index` holds the pattern of the row before it; they may differ in group."""
    low = 1 if group_column else 0
    for column in range(rows.shape[1] - 1, low, -1):
        if rows[index, column] != rows[index - 1, column]:
            return False
    shift = np.uint64(group_bits)
    return (rows[index, low] >> shift) == (rows[index - 1, low] >> shift)


@kernel
def pattern_start(rows, index, group_bits, group_column):  # pragma: no cover - compiled
    """The first row from `index` on that begins a pattern, in a table of (pattern, group) rows (J, C)."""
    while 0 < index < rows.shape[0] and _is_same_pattern(rows, index, group_bits, group_column):
        index += 1
    return index


@kernel
def marginal_size(rows, group_bits, group_column):  # pragma: no cover - compiled
    """Distinct patterns in a table of (pattern, group) rows uint64 (J, C)."""
    size = min(1, rows.shape[0])
    for index in range(1, rows.shape[0]):
        size += not _is_same_pattern(rows, index, group_bits, group_column)
    return size


@kernel
def marginal(  # pragma: no cover - compiled
    rows, row_counts, group_bits, group_column, first, keys, counts, patterns, groups
):
    """Split (pattern, group) rows (J, C) into the patterns' table and, per row, pattern index and group.

    The group lies in the lowest `group_bits` bits of the row, or with group_column alone in column 0.
    Patterns are numbered from `first` on. Empty `patterns` and `groups` are left alone.
    """
    low = 1 if group_column else 0
    shift = np.uint64(group_bits)
    mask = (np.uint64(1) << shift) - np.uint64(1)
    size = 0
    for index in range(rows.shape[0]):
        if index == 0 or not _is_same_pattern(rows, index, group_bits, group_column):
            for column in range(keys.shape[1]):
                word = rows[index, low + column] >> shift
                if group_bits and low + column + 1 < rows.shape[1]:
                    word |= rows[index, low + column + 1] << (np.uint64(64) - shift)
                keys[size, column] = word
            counts[size] = 0
            size += 1
        counts[size - 1] += row_counts[index]
        if patterns.size:
            patterns[index] = first + size - 1
            groups[index] = rows[index, 0] if group_column else rows[index, 0] & mask
