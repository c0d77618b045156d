"""Packing in Numba: one bit per value and kink, NaN counted in the same pass over memory.

Axes: E evaluations, U units, S outer and T inner axis of the "planes" layout, W words. Output word w of
evaluation e holds units 64 w .. 64 w + 63, bit b for unit 64 w + b. Limits: none on E, U, S, T but memory;
offsets are 64-bit.

A `target` is the address where max(value, 0) is written on the way, laid out as the values, or 0; see `rectify`.

Neighbours in memory are compared at once, and what a vector comparison says becomes the bits of one integer where they are
units of one evaluation, and one bit of many integers where they are evaluations: see `vectors`.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inlined, inner, kernel
from reluscope.kernels.native import array_at
from reluscope.kernels.rectify import rectify_span
from reluscope.kernels.vectors import (
    FULL,
    REGISTER_BITS,
    join_above,
    join_above_and_rectify,
    masks,
    packed,
    popcount,
)

__all__ = ["pack_planes", "pack_rows", "pack_tight", "spread_bits"]

ONE = np.uint64(1)
# Evaluations of the "planes" layout whose patterns grow at once: 8 KB of float64, 4 KB of float32.
SPAN = 1 << 10


@kernel
def pack_rows(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (E, U), one kink, into words uint64 (stop - start, W).

    `thresholds` is a row of `Values.thresholds`. Returns the number of NaN.
    """
    address = values.ctypes.data
    ranges = (thresholds[0], thresholds[1], thresholds[2], thresholds[3])
    num_units = values.shape[1]
    num_full, rest = num_units // 64, num_units % 64
    num_nan = np.uint64(0)
    index = 0
    # A kink that is not negative is one comparison of signed integers, but for NaN, which are rare.
    if rest == 0 and words.shape[1] == num_full and ranges[3] == 0:
        size = num_full * (stop - start)
        first = start * num_units
        if packed(address, first, size, words.ctypes.data, ranges[0], infinity, target):
            return num_nan
    elif target != 0:
        whole = array_at(target, (values.size,), values.dtype)
        rectify_span(values.reshape(-1), whole, start * num_units, stop * num_units, infinity)
    if num_units <= 32 and 64 % num_units == 0:  # several evaluations fill a vector
        together = 64 // num_units
        kept = FULL >> np.uint64(64 - num_units)
        while index + together <= stop - start:
            above, nan = masks(
                address, values.size, (start + index) * num_units, np.int64(64), ranges, infinity
            )
            num_nan += popcount(nan)
            for place in range(together):
                words[index + place, 0] = above & kept
                above >>= np.uint64(num_units)
            index += together
    while index < stop - start:
        offset = (start + index) * num_units
        for word in range(num_full):
            above, nan = masks(address, values.size, offset + 64 * word, np.int64(64), ranges, infinity)
            words[index, word] = above
            num_nan += popcount(nan)
        if rest:
            above, nan = masks(address, values.size, offset + 64 * num_full, rest, ranges, infinity)
            words[index, num_full] = above
            num_nan += popcount(nan)
        index += 1
    return num_nan


@inner
def pack_tight(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (E, U) side by side, 64 / U to a word; U divides 64.

    `words` uint64 holds (stop - start) U bits, the first evaluation lowest; what the last word has no evaluation for is 0.
    The words take an eighth of the memory of those of `pack_rows` where U is 8. Returns the number of NaN.
    """
    address = values.ctypes.data
    ranges = (thresholds[0], thresholds[1], thresholds[2], thresholds[3])
    first, last = start * values.shape[1], stop * values.shape[1]
    num_full = (last - first) // 64
    num_nan = np.uint64(0)
    if ranges[3] != 0 or not packed(address, first, num_full, words.ctypes.data, ranges[0], infinity, target):
        for word in range(num_full):
            offset = first + 64 * word
            above, nan = masks(address, values.size, offset, np.int64(64), ranges, infinity)
            num_nan += popcount(nan)
            words[word] = above
    rest = last - first - 64 * num_full
    if rest:
        above, nan = masks(address, values.size, first + 64 * num_full, rest, ranges, infinity)
        words[num_full] = above
        if target != 0:
            whole = array_at(target, (values.size,), values.dtype)
            rectify_span(values.reshape(-1), whole, first + 64 * num_full, last, infinity)
        num_nan += popcount(nan)
    return num_nan


@inlined
def _join(above, shift, column):  # pragma: no cover - compiled
    """Write above uint (>= B,) to column uint64 (B,), or from a bit `shift` > 0 on add it to what is there."""
    if shift == 0:
        for index in range(column.size):
            column[index] = np.uint64(above[index])
    else:
        for index in range(column.size):
            column[index] |= np.uint64(above[index]) << np.uint64(shift)


@inner
def _above_planes(
    address, size, first, num_inner, units, thresholds, infinity, target, count, above
):  # pragma: no cover - compiled
    """Bit u of above[i], i < count: whether value first + u num_inner + i, u < units, of `size` at an address is above.

    above uint (SPAN,) is of the values' type, which has a bit for each of the units. A target needs a kink that is not negative.
    Returns the number of NaN.
    """
    kind, one = above.dtype.type, above.dtype.type(1)
    lanes = REGISTER_BITS // (8 * above.itemsize)
    for index in range(max(count, lanes)):
        above[index] = 0
    place = first
    if target != 0 and count < lanes:  # a vector would be written to what others write to
        for _ in range(units):
            values, whole = array_at(address, (size,), kind), array_at(target, (size,), kind)
            rectify_span(values, whole, place, place + count, infinity)
            place += num_inner
        target = 0
    # A kink that is not negative is one comparison of signed integers, but for NaN, which are rare.
    if thresholds[3] == 0 and first + (units - 1) * num_inner + max(count, lanes) <= size:
        where = address, first, num_inner, count, units
        how = thresholds[0], infinity, above.ctypes.data
        if target != 0:
            found = join_above_and_rectify(*where, *how, target)
        else:
            found = join_above(*where, *how, 0)
        if found == 0:
            return 0
        for index in range(count):  # there is NaN, which was taken for what is above
            above[index] = 0
    limit, num_nan = kind(infinity << one), 0
    for unit in range(units):
        values = array_at(address + above.itemsize * (first + unit * num_inner), (count,), kind)
        bit, nan = kind(one << kind(unit)), kind(0)
        for index in range(count):
            value = values[index]
            is_above = (
                kind(value - thresholds[0]) < thresholds[1] or kind(value - thresholds[2]) < thresholds[3]
            )
            above[index] |= bit if is_above else kind(0)
            nan = kind(nan + (kind(value << one) > limit))
        num_nan += np.int64(nan)
    return num_nan


@kernel
def pack_planes(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (S, U, T), one kink, into words uint64 (stop - start, W).

    Memory is read as it lies, unit after unit, while the patterns of up to SPAN neighbours along T grow in the first-level
    cache, in integers as wide as a value. Returns the number of NaN.
    """
    address, num_units, num_inner = values.ctypes.data, values.shape[1], values.shape[2]
    ranges = (thresholds[0], thresholds[1], thresholds[2], thresholds[3])
    above, width = np.empty(SPAN, values.dtype), 8 * values.itemsize
    num_nan = np.int64(0)
    evaluation = start
    while evaluation < stop:
        outer, place = evaluation // num_inner, evaluation % num_inner
        count = min(SPAN, num_inner - place, stop - evaluation)
        row = evaluation - start
        for unit in range(0, num_units, width):
            first = (outer * num_units + unit) * num_inner + place
            units = min(width, num_units - unit)
            how = ranges, infinity, target, count, above
            num_nan += _above_planes(address, values.size, first, num_inner, units, *how)
            if words.shape[1] == 1:  # known to lie side by side
                _join(above, unit % 64, array_at(words.ctypes.data + 8 * row, (count,), np.uint64))
            else:
                _join(above, unit % 64, words[row : row + count, unit // 64])
        evaluation += count
    return np.uint64(num_nan)


@kernel
def spread_bits(unit_words, num_units, kink, num_kinks, words):  # pragma: no cover - compiled
    """Put bit c of unit_words uint64 (E, ceil(U / 64)) at bit c * num_kinks + kink of words (E, W), by OR."""
    for index in range(unit_words.shape[0]):
        for unit in range(num_units):
            bit = (unit_words[index, unit >> 6] >> np.uint64(unit & 63)) & ONE
            target = unit * num_kinks + kink
            words[index, target >> 6] |= bit << np.uint64(target & 63)
