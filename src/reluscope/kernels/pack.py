"""Packing in Numba: one bit per value and kink, NaN counted in the same pass over memory.

Axes: E evaluations, U units, S outer and T inner axis of the "planes" layout, W words. Output word w of
evaluation e holds units 64 w .. 64 w + 63, bit b for unit 64 w + b. Limits: none on E, U, S, T but memory;
offsets are 64-bit.

A `target` is the address where max(value, 0) is written on the way, laid out as the values, or 0; see `rectify`.

Both layouts compare 64 neighbours in memory at once and get the answers as the bits of one integer: see `vectors`.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inlined, inner, kernel
from reluscope.kernels.native import array_at
from reluscope.kernels.rectify import rectify_planes, rectify_span
from reluscope.kernels.vectors import FULL, masks, pack_above_strided, packed, popcount

__all__ = ["pack_planes", "pack_rows", "pack_tight", "spread_bits"]

ONE = np.uint64(1)
# Bit matrices that are transposed at once: a vector register holds a row of each.
LANES = 8


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
            above, nan = masks(address, values.size, (start + index) * num_units, 64, ranges, infinity)
            num_nan += popcount(nan)
            for place in range(together):
                words[index + place, 0] = above & kept
                above >>= np.uint64(num_units)
            index += together
    while index < stop - start:
        offset = (start + index) * num_units
        for word in range(num_full):
            above, nan = masks(address, values.size, offset + 64 * word, 64, ranges, infinity)
            words[index, word] = above
            num_nan += popcount(nan)
        if rest:
            above, nan = masks(address, values.size, offset + 64 * num_full, rest, ranges, infinity)
            words[index, num_full] = above
            num_nan += popcount(nan)
        index += 1
    return num_nan


@kernel
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
            above, nan = masks(address, values.size, offset, 64, ranges, infinity)
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


@inner
def _transpose(matrix, size):  # pragma: no cover - compiled
    """Transpose every size x size block of bits in the first `size` rows of LANES bit matrices (64, LANES), in place.

    Block q is bits size q .. size q + size - 1 of every row; size is 16, 32 or 64. Swaps off-diagonal blocks
    of half the size, a quarter, ... 1 (Warren 2013, Hacker's Delight, 7-3), 64 / size blocks at a time.
    """
    half = size >> 1
    mask = FULL
    step = 32
    while step >= half:
        mask ^= mask << np.uint64(step)
        step >>= 1
    while half:
        shift = np.uint64(half)
        for block in range(0, size, 2 * half):
            for place in range(half):
                first, second = matrix[block + place], matrix[block + place + half]
                for lane in range(LANES):
                    swap = ((first[lane] >> shift) ^ second[lane]) & mask
                    first[lane] ^= swap << shift
                    second[lane] ^= swap
        half >>= 1
        mask ^= mask << np.uint64(half)


@inlined
def _place_of(evaluation, num_inner, num_units):  # pragma: no cover - compiled
    return evaluation // num_inner * num_inner * num_units + evaluation % num_inner


@inner
def _find_lanes(
    evaluation, stop, num_inner, num_units, firsts, counts, runs, places
):  # pragma: no cover - compiled
    """Up to LANES stretches of up to 64 neighbours along the inner axis, from an evaluation on; returns their number.

    Lane i is counts[i] evaluations from firsts[i] on, values of unit 0 from number places[i] on. runs[i] is how many lanes
    from i on are full and follow each other in memory, 0 where lane i is not full.
    """
    size = 0
    while size < LANES and evaluation < stop:
        count = min(64, num_inner - evaluation % num_inner, stop - evaluation)
        firsts[size], counts[size] = evaluation, count
        places[size] = _place_of(evaluation, num_inner, num_units)
        evaluation += count
        size += 1
    following = 0
    for lane in range(size - 1, -1, -1):
        if counts[lane] < 64:
            following = 0
        elif (firsts[lane] + 64) % num_inner == 0:
            following = 1
        else:
            following += 1
        runs[lane] = following
    return size


@kernel
def pack_planes(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (S, U, T), one kink, into words uint64 (stop - start, W).

    Reads up to LANES times 64 neighbours along T for each of up to 64 units, so that memory is read in long stretches, then
    transposes the bits of all lanes at once, in blocks of 16 or 32 where there are no more units. Returns the number of NaN.
    """
    address = values.ctypes.data
    ranges = (thresholds[0], thresholds[1], thresholds[2], thresholds[3])
    num_units, num_inner = values.shape[1], values.shape[2]
    num_nan = np.uint64(0)
    matrix = np.empty((64, LANES), np.uint64)
    firsts, counts, runs, places = (
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
    )
    plane = 64 * num_inner
    if target != 0:
        whole = array_at(target, (values.size,), values.dtype)
        rectify_planes(values.reshape(-1), whole, values.shape, start, stop, infinity)
    evaluation = start
    while evaluation < stop:
        num_lanes = _find_lanes(evaluation, stop, num_inner, num_units, firsts, counts, runs, places)
        following = _place_of(evaluation + 64 * LANES, num_inner, num_units)
        for word in range((num_units + 63) // 64):
            units = min(64, num_units - 64 * word)
            size = 16 if units <= 16 else 32 if units <= 32 else 64
            matrix[units:size] = 0
            # While these units are read, those are fetched that come next: of the same evaluations, or of the next ones.
            ahead = plane if 64 * (word + 1) < num_units else following - places[0] - word * plane
            for unit in range(units):
                row = matrix.ctypes.data + 8 * LANES * unit
                lane = 0
                while lane < num_lanes:
                    base = places[lane] + (64 * word + unit) * num_inner
                    run = runs[lane]
                    # A kink that is not negative is one comparison of signed integers, but for NaN, which are rare.
                    if (
                        run == 0
                        or ranges[3] != 0
                        or pack_above_strided(address, base, run, row + 8 * lane, ranges[0], infinity, ahead)
                        != 0
                    ):
                        run = max(run, 1)
                        for step in range(run):
                            above, nan = masks(
                                address, values.size, base + 64 * step, counts[lane + step], ranges, infinity
                            )
                            matrix[unit, lane + step] = above
                            num_nan += popcount(nan)
                    lane += run
            _transpose(matrix, size)
            kept = FULL >> np.uint64(64 - size)
            for lane in range(num_lanes):
                first, last = firsts[lane] - start, firsts[lane] - start + counts[lane]
                column, out = matrix[:size, lane], words[first:last, word]
                for begin in range(0, out.size, size):
                    shift, part = np.uint64(begin), out[begin : begin + size]
                    for position in range(part.size):
                        part[position] = (column[position] >> shift) & kept
        evaluation = firsts[num_lanes - 1] + counts[num_lanes - 1]
    return num_nan


@kernel
def spread_bits(unit_words, num_units, kink, num_kinks, words):  # pragma: no cover - compiled
    """Put bit c of unit_words uint64 (E, ceil(U / 64)) at bit c * num_kinks + kink of words (E, W), by OR."""
    for index in range(unit_words.shape[0]):
        for unit in range(num_units):
            bit = (unit_words[index, unit >> 6] >> np.uint64(unit & 63)) & ONE
            target = unit * num_kinks + kink
            words[index, target >> 6] |= bit << np.uint64(target & 63)
