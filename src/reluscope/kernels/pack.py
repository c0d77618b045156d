"""Packing in Numba: one bit per value and kink, NaN counted in the same pass over memory.

Axes: E evaluations, U units, S outer and T inner axis of the "planes" layout, W words. Output word w of
evaluation e holds units 64 w .. 64 w + 63, bit b for unit 64 w + b. Limits: none on E, U, S, T but memory;
offsets are 64-bit.

A `target` is the address where max(value, 0) is written on the way, laid out as the values, or 0; see `rectify`.

Both layouts compare 64 neighbours in memory at once and get the answers as the bits of one integer. Numba has
no vector type, so three intrinsics write the LLVM vector operations: on AVX-512 one comparison yields 16
bits, other targets get what LLVM makes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from reluscope.kernels.jit import inlined, kernel
from reluscope.kernels.native import array_at
from reluscope.kernels.rectify import rectify_planes, rectify_span

__all__ = ["pack_planes", "pack_rows", "pack_tight", "spread_bits"]

ONE = np.uint64(1)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def _load(context, builder, element_type, address, offset, lanes):
    """The vector of `lanes` integers from number `offset` on at an address, and a maker of constants."""
    element = context.get_value_type(element_type)
    vector = ir.VectorType(element, lanes)
    pointer = builder.gep(builder.inttoptr(address, element.as_pointer()), [offset])
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = element_type.bitwidth // 8  # rows start anywhere

    def broadcast(value):
        undefined = ir.Constant(vector, ir.Undefined)
        seed = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(seed, undefined, zeros)

    return loaded, broadcast


def _to_word(builder, flags, lanes):
    """The flags of a vector comparison as the low bits of a 64-bit integer."""
    mask = builder.bitcast(flags, ir.IntType(lanes))
    return mask if lanes == 64 else builder.zext(mask, ir.IntType(64))


# The intrinsics take an address, not an array: an array handed to an intrinsic in a loop is reference-counted
# there, and the calls cost more than the comparison.
def _make_range_mask(lanes: int) -> Any:
    @intrinsic
    def range_mask(typingctx, address, offset, start, length):
        """Bit i: (the integer number offset + i at address) - start < length, unsigned, modulo its size."""

        def generate(context, builder, signature, args):
            loaded, broadcast = _load(context, builder, start, args[0], args[1], lanes)
            shifted = builder.sub(loaded, broadcast(args[2]))
            inside = builder.icmp_unsigned("<", shifted, broadcast(args[3]))
            return _to_word(builder, inside, lanes)

        return types.uint64(types.intp, types.intp, start, start), generate

    return range_mask


def _make_nan_mask(lanes: int) -> Any:
    @intrinsic
    def nan_mask(typingctx, address, offset, infinity):
        """Bit i: the integer number offset + i at address, its sign shifted out, exceeds infinity."""

        def generate(context, builder, signature, args):
            loaded, broadcast = _load(context, builder, infinity, args[0], args[1], lanes)
            one = ir.Constant(args[2].type, 1)
            doubled = builder.shl(loaded, broadcast(one))
            beyond = builder.icmp_unsigned(">", doubled, broadcast(builder.shl(args[2], one)))
            return _to_word(builder, beyond, lanes)

        return types.uint64(types.intp, types.intp, infinity), generate

    return nan_mask


def _make_popcount() -> Any:
    @intrinsic
    def popcount(typingctx, word):
        """Number of bits set in a uint64."""

        def generate(context, builder, signature, args):
            return builder.ctpop(args[0])

        return types.uint64(types.uint64), generate

    return popcount


_popcount = _make_popcount()

REGISTER_BITS = 512


def _make_pack_above(*, rectifies: bool) -> Any:
    @intrinsic
    def pack_above(typingctx, address, offset, num_words, words, start, infinity, target):
        """Pack 64 num_words integers from number `offset` on at address: bit on where one, signed, is not below start.

        Writes uint64 to the address `words`, and where this rectifies max(value, 0) from number `offset` on at `target`.
        Returns 1 if one of them, its sign shifted out, exceeds infinity, else 0. A
        whole loop: between two words a vector holds the greatest so far, which no other code could keep in a register.
        """

        def generate(context, builder, signature, args):
            address, offset, num_words, words, start, infinity, target = args
            element, lanes = start.type, REGISTER_BITS // start.type.width
            vector, word_type = ir.VectorType(element, lanes), ir.IntType(64)
            num_vectors = 64 // lanes
            one = ir.Constant(element, 1)

            def broadcast(value):
                undefined = ir.Constant(vector, ir.Undefined)
                seed = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(seed, undefined, zeros)

            values = builder.gep(builder.inttoptr(address, element.as_pointer()), [offset])
            targets = builder.gep(builder.inttoptr(target, element.as_pointer()), [offset])
            words = builder.inttoptr(words, word_type.as_pointer())
            least = broadcast(builder.add(builder.shl(one, ir.Constant(element, element.width - 1)), one))
            largest = broadcast(infinity)
            kink, limit = broadcast(builder.sub(start, one)), broadcast(builder.shl(infinity, one))
            ones, nothing = ir.Constant(vector, [1] * lanes), ir.Constant(vector, [0] * lanes)
            before = builder.block
            loop, after = builder.append_basic_block("pack"), builder.append_basic_block("packed")
            zero = ir.Constant(word_type, 0)
            builder.cbranch(builder.icmp_signed("<", zero, num_words), loop, after)

            builder.position_at_end(loop)
            index = builder.phi(word_type)
            index.add_incoming(zero, before)
            greatest = [builder.phi(vector) for _ in range(num_vectors)]
            word, greater = zero, []
            for step, held in enumerate(greatest):
                held.add_incoming(nothing, before)
                place = builder.add(
                    builder.mul(index, ir.Constant(word_type, 64)), ir.Constant(word_type, step * lanes)
                )
                pointer = builder.bitcast(builder.gep(values, [place]), vector.as_pointer())
                loaded = builder.load(pointer, align=element.width // 8)
                if rectifies:
                    is_below = builder.icmp_unsigned("<", builder.sub(loaded, least), largest)
                    pointer = builder.bitcast(builder.gep(targets, [place]), vector.as_pointer())
                    builder.store(
                        builder.select(is_below, nothing, loaded), pointer, align=element.width // 8
                    )
                flags = builder.bitcast(builder.icmp_signed(">", loaded, kink), ir.IntType(lanes))
                bits = builder.shl(builder.zext(flags, word_type), ir.Constant(word_type, step * lanes))
                word = builder.or_(word, bits)
                doubled = builder.shl(loaded, ones)
                greater.append(builder.select(builder.icmp_unsigned(">", doubled, held), doubled, held))
            builder.store(word, builder.gep(words, [index]), align=8)
            following = builder.add(index, ir.Constant(word_type, 1))
            index.add_incoming(following, loop)
            for held, value in zip(greatest, greater, strict=True):
                held.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, num_words), loop, after)

            builder.position_at_end(after)
            beyond = ir.Constant(ir.IntType(lanes), 0)
            last_ones = [builder.phi(vector) for _ in greater]
            for last, value in zip(last_ones, greater, strict=True):
                last.add_incoming(nothing, before)
                last.add_incoming(value, loop)
            for last in last_ones:
                flags = builder.icmp_unsigned(">", last, limit)
                beyond = builder.or_(beyond, builder.bitcast(flags, ir.IntType(lanes)))
            found = builder.icmp_unsigned("!=", beyond, ir.Constant(ir.IntType(lanes), 0))
            return builder.zext(found, word_type)

        return types.int64(types.intp, types.intp, types.intp, types.intp, start, start, types.intp), generate

    return pack_above


_pack_above, _pack_above_and_rectify = _make_pack_above(rectifies=False), _make_pack_above(rectifies=True)


_range_1, _range_16, _range_32, _range_64 = (_make_range_mask(lanes) for lanes in (1, 16, 32, 64))
_nan_1, _nan_16, _nan_32, _nan_64 = (_make_nan_mask(lanes) for lanes in (1, 16, 32, 64))


@inlined
def _packed(address, first, num_words, words, start, infinity, target):  # pragma: no cover - compiled
    """`pack_above` with or without a target; whether no NaN was met, and the words hold."""
    if target == 0:
        return _pack_above(address, first, num_words, words, start, infinity, 0) == 0
    return _pack_above_and_rectify(address, first, num_words, words, start, infinity, target) == 0


@inlined
def _masks(address, size, offset, count, ranges, infinity):  # pragma: no cover - compiled
    """Bits of the values above the kink, and of the NaN, among `count` <= 64 values from values.flat[offset].

    Loads whole vectors and drops what is beyond `count`; only at the end of the array it goes one by one.
    """
    start, length, low_start, low_length = ranges
    if count > 32 and offset + 64 <= size:
        above, nan = _range_64(address, offset, start, length), _nan_64(address, offset, infinity)
        if low_length != 0:
            above |= _range_64(address, offset, low_start, low_length)
    elif 16 < count <= 32 and offset + 32 <= size:
        above, nan = _range_32(address, offset, start, length), _nan_32(address, offset, infinity)
        if low_length != 0:
            above |= _range_32(address, offset, low_start, low_length)
    elif count <= 16 and offset + 16 <= size:
        above, nan = _range_16(address, offset, start, length), _nan_16(address, offset, infinity)
        if low_length != 0:
            above |= _range_16(address, offset, low_start, low_length)
    else:
        above, nan = np.uint64(0), np.uint64(0)
        for bit in range(count):
            inside = _range_1(address, offset + bit, start, length)
            if low_length != 0:
                inside |= _range_1(address, offset + bit, low_start, low_length)
            above |= inside << np.uint64(bit)
            nan |= _nan_1(address, offset + bit, infinity) << np.uint64(bit)
    kept = FULL >> np.uint64(64 - count)
    return above & kept, nan & kept


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
        if _packed(address, first, size, words.ctypes.data, ranges[0], infinity, target):
            return num_nan
    elif target != 0:
        whole = array_at(target, (values.size,), values.dtype)
        rectify_span(values.reshape(-1), whole, start * num_units, stop * num_units, infinity)
    if num_units <= 32 and 64 % num_units == 0:  # several evaluations fill a vector
        together = 64 // num_units
        kept = FULL >> np.uint64(64 - num_units)
        while index + together <= stop - start:
            above, nan = _masks(address, values.size, (start + index) * num_units, 64, ranges, infinity)
            num_nan += _popcount(nan)
            for place in range(together):
                words[index + place, 0] = above & kept
                above >>= np.uint64(num_units)
            index += together
    while index < stop - start:
        offset = (start + index) * num_units
        for word in range(num_full):
            above, nan = _masks(address, values.size, offset + 64 * word, 64, ranges, infinity)
            words[index, word] = above
            num_nan += _popcount(nan)
        if rest:
            above, nan = _masks(address, values.size, offset + 64 * num_full, rest, ranges, infinity)
            words[index, num_full] = above
            num_nan += _popcount(nan)
        index += 1
    return num_nan


@kernel
def pack_tight(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (E, U) side by side, 64 / U to a word; U divides 64.

    `words` uint64 holds (stop - start) U bits, the first evaluation lowest; what the last word has no evaluation for is 0.
    The words take an eighth of the memory of those of `pack_rows` where U is 8. Returns the number of NaN.
    """
    address = values.ctypes.data
    start_above, length, low_start, low_length = thresholds[0], thresholds[1], thresholds[2], thresholds[3]
    first, last = start * values.shape[1], stop * values.shape[1]
    num_full = (last - first) // 64
    num_nan = np.uint64(0)
    if low_length != 0 or not _packed(
        address, first, num_full, words.ctypes.data, start_above, infinity, target
    ):
        for word in range(num_full):
            offset = first + 64 * word
            above = _range_64(address, offset, start_above, length)
            if low_length != 0:
                above |= _range_64(address, offset, low_start, low_length)
            num_nan += _popcount(_nan_64(address, offset, infinity))
            words[word] = above
    rest = last - first - 64 * num_full
    if rest:
        ranges = (start_above, length, low_start, low_length)
        above, nan = _masks(address, values.size, first + 64 * num_full, rest, ranges, infinity)
        words[num_full] = above
        if target != 0:
            whole = array_at(target, (values.size,), values.dtype)
            rectify_span(values.reshape(-1), whole, first + 64 * num_full, last, infinity)
        num_nan += _popcount(nan)
    return num_nan


@kernel
def _transpose(matrix, size):  # pragma: no cover - compiled
    """Transpose every size x size block of bits in the first `size` rows of a bit matrix, in place.

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
            for row in range(block, block + half):
                swap = ((matrix[row] >> shift) ^ matrix[row + half]) & mask
                matrix[row] ^= swap << shift
                matrix[row + half] ^= swap
        half >>= 1
        mask ^= mask << np.uint64(half)


@kernel
def pack_planes(values, start, stop, thresholds, infinity, target, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (S, U, T), one kink, into words uint64 (stop - start, W).

    Reads up to 64 neighbours along T for each of up to 64 units, then transposes the bits, in blocks of 16 or
    32 where there are no more units, or no more neighbours. Returns the number of NaN.
    """
    address = values.ctypes.data
    ranges = (thresholds[0], thresholds[1], thresholds[2], thresholds[3])
    num_units, num_inner = values.shape[1], values.shape[2]
    num_nan = np.uint64(0)
    matrix = np.zeros(64, np.uint64)
    if target != 0:
        whole = array_at(target, (values.size,), values.dtype)
        rectify_planes(values.reshape(-1), whole, values.shape, start, stop, infinity)
    evaluation = start
    while evaluation < stop:
        outer, inner = evaluation // num_inner, evaluation % num_inner
        count = min(64, num_inner - inner, stop - evaluation)
        for word in range((num_units + 63) // 64):
            units = min(64, num_units - 64 * word)
            base = (outer * num_units + 64 * word) * num_inner + inner
            size = 16 if min(units, count) <= 16 else 32 if min(units, count) <= 32 else 64
            if units <= size:  # row: unit; blocks of neighbours lie side by side
                for unit in range(units):
                    above, nan = _masks(
                        address, values.size, base + unit * num_inner, count, ranges, infinity
                    )
                    matrix[unit] = above
                    num_nan += _popcount(nan)
                matrix[units:size] = 0
                _transpose(matrix, size)
                kept = FULL >> np.uint64(64 - size)
                for position in range(count):
                    block = np.uint64(position // size * size)
                    words[evaluation - start + position, word] = (matrix[position % size] >> block) & kept
            else:  # row: unit modulo size; blocks of units lie side by side
                matrix[:size] = 0
                for unit in range(units):
                    above, nan = _masks(
                        address, values.size, base + unit * num_inner, count, ranges, infinity
                    )
                    matrix[unit % size] |= above << np.uint64(unit // size * size)
                    num_nan += _popcount(nan)
                _transpose(matrix, size)
                for position in range(count):
                    words[evaluation - start + position, word] = matrix[position]
        evaluation += count
    return num_nan


@kernel
def spread_bits(unit_words, num_units, kink, num_kinks, words):  # pragma: no cover - compiled
    """Put bit c of unit_words uint64 (E, ceil(U / 64)) at bit c * num_kinks + kink of words (E, W), by OR."""
    for index in range(unit_words.shape[0]):
        for unit in range(num_units):
            bit = (unit_words[index, unit >> 6] >> np.uint64(unit & 63)) & ONE
            target = unit * num_kinks + kink
            words[index, target >> 6] |= bit << np.uint64(target & 63)
