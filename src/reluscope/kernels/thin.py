"""Which rows of a table, and of a batch, stay once a count is thinned, in Numba.

Axes: J rows of (pattern, group), C columns, W words of a pattern, E evaluations, X exempt patterns, S slots. Every pattern
has a hash h of 64 bits, salted and the same at every step (`kernels.select`). At level L a pattern is counted when its hash
begins with L zeros, that is with probability 2^-L over the salt, or when it is exempt: frequent at a thinning before. A
pattern that is not counted any more is never counted again, so every pattern of the table has its true count:

    a hash that begins with L zeros began with fewer at every level before, so nothing of it was ever dropped;
    an exempt pattern was in the table when it was exempted, by the same argument from its first evaluation on.

An exempt pattern carries the level at which it was exempted first: with probability 2^-level it was still there. Limits:
levels 0 to 63; group layout as in `kernels.plan`.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inner, kernel
from reluscope.kernels.select import hash_words
from reluscope.kernels.tables import pattern_start

__all__ = [
    "EXACT_TOTALS",
    "fill_slots",
    "group_self_information",
    "levels_of",
    "rows_of_totals",
    "sift_rows",
    "thin_rows",
    "threshold",
]

# Totals up to here have a bin of their own, larger ones one per power of two.
EXACT_TOTALS = 1 << 12
_BITS = 64


@inner
def _word(rows, index, word, group_bits, group_column):  # pragma: no cover - compiled
    """A word of the pattern of a row, which lies above `group_bits` bits of the group, or beside its column."""
    low = (1 if group_column else 0) + word
    shift = np.uint64(group_bits)
    value = rows[index, low] >> shift
    if group_bits and low + 1 < rows.shape[1]:
        value |= rows[index, low + 1] << (np.uint64(_BITS) - shift)
    return value


@inner
def _hash_of_row(rows, index, num_words, group_bits, group_column, salt):  # pragma: no cover - compiled
    second = np.uint64(0)
    if num_words > 1:
        second = _word(rows, index, 1, group_bits, group_column)
    return hash_words(_word(rows, index, 0, group_bits, group_column), second, salt)


@inner
def _begins_with_zeros(hashed, level):  # pragma: no cover - compiled
    return level == 0 or hashed >> np.uint64(_BITS - level) == 0


@inner
def _place_of(rows, index, group_bits, group_column, hashed, slots, exempt):  # pragma: no cover - compiled
    """Where in the exempt keys (X, W) the pattern of a row stands; -1 if it is none of them."""
    if slots.size == 0:
        return np.int64(-1)
    mask = slots.size - 1
    slot = np.int64(hashed & np.uint64(mask))
    while slots[slot] >= 0:
        place = slots[slot]
        is_it = True
        for word in range(exempt.shape[1]):
            if exempt[place, word] != _word(rows, index, word, group_bits, group_column):
                is_it = False
        if is_it:
            return np.int64(place)
        slot = (slot + 1) & mask
    return np.int64(-1)


@kernel
def fill_slots(exempt, salt, slots):  # pragma: no cover - compiled
    """Write the place of every exempt key uint64 (X, W) to a table of slots int32 (S,), S a power of two above X."""
    slots[:] = -1
    mask = slots.size - 1
    for place in range(exempt.shape[0]):
        second = exempt[place, 1] if exempt.shape[1] > 1 else np.uint64(0)
        slot = np.int64(hash_words(exempt[place, 0], second, salt) & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = place


@kernel
def sift_rows(  # pragma: no cover - compiled
    rows, num_words, group_bits, group_column, salt, level, slots, exempt
):
    """Move the raw rows (E, C) that are counted at a level to the front; returns how many there are."""
    kept = 0
    for index in range(rows.shape[0]):
        hashed = _hash_of_row(rows, index, num_words, group_bits, group_column, salt)
        if _begins_with_zeros(hashed, level) or (
            _place_of(rows, index, group_bits, group_column, hashed, slots, exempt) >= 0
        ):
            for column in range(rows.shape[1]):
                rows[kept, column] = rows[index, column]
            kept += 1
    return kept


@kernel
def rows_of_totals(rows, counts, group_bits, group_column, bins):  # pragma: no cover - compiled
    """Add to int64 bins how many rows the patterns of each total have; see `threshold` for the bins."""
    start = 0
    while start < rows.shape[0]:
        stop = pattern_start(rows, start + 1, group_bits, group_column)
        total = np.int64(0)
        for index in range(start, stop):
            total += counts[index]
        place = total
        if total > EXACT_TOTALS:
            place = np.int64(EXACT_TOTALS)
            while total > EXACT_TOTALS:
                place += 1
                total >>= 1
        bins[place] += stop - start
        start = stop


def threshold(bins: np.ndarray, room: int) -> int:
    """The least total, 2 or more, such that the patterns that reach it have at most `room` rows together.

    Bin t is of total t up to EXACT_TOTALS; bin EXACT_TOTALS + j of totals whose j-th half, rounded down, is the first not
    above EXACT_TOTALS.
    """
    above = np.cumsum(bins[::-1])[::-1]
    place = int(np.argmax(above <= room)) if (above <= room).any() else len(bins)
    if place <= EXACT_TOTALS:
        return max(2, place)
    # Above EXACT_TOTALS after one shift less: total >> (j - 1) is at least EXACT_TOTALS + 1.
    return (EXACT_TOTALS + 1) << (place - EXACT_TOTALS - 1)


@kernel
def thin_rows(  # pragma: no cover - compiled
    rows,
    counts,
    num_words,
    group_bits,
    group_column,
    salt,
    level,
    heavy,
    slots,
    exempt,
    exempt_levels,
    new_exempt,
    new_levels,
):
    """Move what is still counted at a level to the front of a table (J, C), int64 (J,), and list who is exempt now.

    A pattern with a total of `heavy` or more is exempt: at the level it had, or at the one before this. Returns the rows
    kept and the exempt patterns, whose keys and levels are written to new_exempt (X, W), new_levels (X,), in order.
    """
    kept, num_exempt, start = 0, 0, 0
    while start < rows.shape[0]:
        stop = pattern_start(rows, start + 1, group_bits, group_column)
        total = np.int64(0)
        for index in range(start, stop):
            total += counts[index]
        hashed = _hash_of_row(rows, start, num_words, group_bits, group_column, salt)
        if total >= heavy:
            place = _place_of(rows, start, group_bits, group_column, hashed, slots, exempt)
            new_levels[num_exempt] = exempt_levels[place] if place >= 0 else level - 1
            for word in range(num_words):
                new_exempt[num_exempt, word] = _word(rows, start, word, group_bits, group_column)
            num_exempt += 1
        if total >= heavy or _begins_with_zeros(hashed, level):
            for index in range(start, stop):
                for column in range(rows.shape[1]):
                    rows[kept, column] = rows[index, column]
                counts[kept] = counts[index]
                kept += 1
        start = stop
    return kept, num_exempt


@kernel
def levels_of(keys, level, exempt, exempt_levels, out):  # pragma: no cover - compiled
    """Write the level of every key (P, W), in order, to uint8 (P,): its own where it is exempt (X, W), in order too."""
    place = 0
    for index in range(keys.shape[0]):
        out[index] = level
        if place < exempt.shape[0]:
            is_it = True
            for word in range(keys.shape[1]):
                if keys[index, word] != exempt[place, word]:
                    is_it = False
            if is_it:
                out[index] = exempt_levels[place]
                place += 1


@kernel
def group_self_information(rows, counts, group_bits, group_column, out):  # pragma: no cover - compiled
    """Write sum_g c log2 c over the groups g of every pattern to float64 (P,); returns P. Only counts when out is empty."""
    place, start = 0, 0
    while start < rows.shape[0]:
        stop = pattern_start(rows, start + 1, group_bits, group_column)
        if out.size:
            total = 0.0
            for index in range(start, stop):
                total += counts[index] * np.log2(np.float64(counts[index]))
            out[place] = total
        place += 1
        start = stop
    return place
