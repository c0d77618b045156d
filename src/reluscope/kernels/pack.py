"""Packing in Numba: one bit per value and kink, NaN counted in the same pass over memory.

Axes: E evaluations, U units, S outer and T inner axis of the "planes" layout, W words. Output word w of evaluation e
holds units 64 w .. 64 w + 63, bit b for unit 64 w + b. Limits: none on E, U, S, T but memory; offsets are 64-bit.

Both layouts compare 64 neighbours in memory at once and get the answers as the bits of one integer. Numba has no
vector type, so three intrinsics write the LLVM vector operations: on AVX-512 one comparison yields 16 bits, other
targets get what LLVM makes of it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["pack_planes", "pack_rows", "spread_bits"]

ONE = np.uint64(1)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def _load(context, builder, signature, args, lanes):  # noqa: ANN001, ANN202 - Numba code generation
    """The vector of `lanes` integers at array.flat[offset], and a maker of constant vectors."""
    array_type, offset_type = signature.args[:2]
    array = context.make_array(array_type)(context, builder, args[0])
    element = context.get_data_type(array_type.dtype)
    vector = ir.VectorType(element, lanes)
    offset = context.cast(builder, args[1], offset_type, types.intp)
    pointer = builder.gep(array.data, [offset])
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = array_type.dtype.bitwidth // 8  # rows start anywhere

    def broadcast(value):  # noqa: ANN001, ANN202
        seed = builder.insert_element(
            ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(seed, ir.Constant(vector, ir.Undefined), zeros)

    return loaded, broadcast


def _make_range_mask(lanes: int):  # noqa: ANN202 - Numba intrinsic
    @intrinsic
    def range_mask(typingctx, array, offset, start, length):  # noqa: ANN001, ANN202
        """Bit i: array.flat[offset + i] - start < length, unsigned and modulo the integer's size."""
        signature = types.uint64(array, offset, array.dtype, array.dtype)

        def generate(context, builder, signature, args):  # noqa: ANN001, ANN202
            loaded, broadcast = _load(context, builder, signature, args, lanes)
            shifted = builder.sub(loaded, broadcast(args[2]))
            inside = builder.icmp_unsigned("<", shifted, broadcast(args[3]))
            mask = builder.bitcast(inside, ir.IntType(lanes))
            return mask if lanes == 64 else builder.zext(mask, ir.IntType(64))

        return signature, generate

    return range_mask


def _make_nan_mask(lanes: int):  # noqa: ANN202 - Numba intrinsic
    @intrinsic
    def nan_mask(typingctx, array, offset, infinity):  # noqa: ANN001, ANN202
        """Bit i: the magnitude of array.flat[offset + i], without its sign bit, exceeds infinity."""
        signature = types.uint64(array, offset, array.dtype)

        def generate(context, builder, signature, args):  # noqa: ANN001, ANN202
            loaded, broadcast = _load(context, builder, signature, args, lanes)
            one = ir.Constant(args[2].type, 1)
            doubled = builder.shl(loaded, broadcast(one))
            beyond = builder.icmp_unsigned(">", doubled, broadcast(builder.shl(args[2], one)))
            mask = builder.bitcast(beyond, ir.IntType(lanes))
            return mask if lanes == 64 else builder.zext(mask, ir.IntType(64))

        return signature, generate

    return nan_mask


@intrinsic
def _popcount(typingctx, word):  # noqa: ANN001, ANN202
    """Number of bits set in a uint64."""

    def generate(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


_range_1, _range_16, _range_64 = (_make_range_mask(lanes) for lanes in (1, 16, 64))
_nan_1, _nan_16, _nan_64 = (_make_nan_mask(lanes) for lanes in (1, 16, 64))


@njit(nogil=True, cache=True, inline="always")
def _partial_mask(values, offset, count, ranges):  # pragma: no cover - compiled
    """Bits of `count` < 64 values: vectors of 16, the last one overlapping the one before, or one by one."""
    word = np.uint64(0)
    if count < 16:
        for bit in range(count):
            above = _range_1(values, offset + bit, ranges[0], ranges[1])
            if ranges[3] != 0:
                above |= _range_1(values, offset + bit, ranges[2], ranges[3])
            word |= above << np.uint64(bit)
        return word
    for step in range((count + 15) // 16):
        bit = min(16 * step, count - 16)
        above = _range_16(values, offset + bit, ranges[0], ranges[1])
        if ranges[3] != 0:
            above |= _range_16(values, offset + bit, ranges[2], ranges[3])
        word |= above << np.uint64(bit)
    return word


@njit(nogil=True, cache=True, inline="always")
def _partial_nan(values, offset, count, infinity):  # pragma: no cover - compiled
    """Bits of the NaN among `count` < 64 values."""
    word = np.uint64(0)
    if count < 16:
        for bit in range(count):
            word |= _nan_1(values, offset + bit, infinity) << np.uint64(bit)
        return word
    for step in range((count + 15) // 16):
        bit = min(16 * step, count - 16)
        word |= _nan_16(values, offset + bit, infinity) << np.uint64(bit)
    return word


@njit(nogil=True, cache=True)
def pack_rows(values, start, stop, ranges, infinity, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (E, U) against one kink into words uint64 (stop - start, W).

    `ranges` is a row of `Values.thresholds`. Returns the number of NaN.
    """
    num_units = values.shape[1]
    num_full, rest = num_units // 64, num_units % 64
    num_nan = np.uint64(0)
    for index in range(stop - start):
        offset = (start + index) * num_units
        for word in range(num_full):
            above = _range_64(values, offset + 64 * word, ranges[0], ranges[1])
            if ranges[3] != 0:
                above |= _range_64(values, offset + 64 * word, ranges[2], ranges[3])
            words[index, word] = above
            num_nan += _popcount(_nan_64(values, offset + 64 * word, infinity))
        if rest:
            words[index, num_full] = _partial_mask(values, offset + 64 * num_full, rest, ranges)
            num_nan += _popcount(_partial_nan(values, offset + 64 * num_full, rest, infinity))
    return num_nan


@njit(nogil=True, cache=True)
def _transpose(matrix):  # pragma: no cover - compiled
    """Transpose a 64 x 64 bit matrix in place: bit c of row r becomes bit r of row c.

    Swaps off-diagonal blocks of 32, 16, ... 1 (Warren 2013, Hacker's Delight, section 7-3).
    """
    size, mask = 32, np.uint64(0x00000000FFFFFFFF)
    while size:
        shift = np.uint64(size)
        for block in range(0, 64, 2 * size):
            for row in range(block, block + size):
                swap = ((matrix[row] >> shift) ^ matrix[row + size]) & mask
                matrix[row] ^= swap << shift
                matrix[row + size] ^= swap
        size >>= 1
        mask ^= mask << np.uint64(size)


@njit(nogil=True, cache=True)
def pack_planes(values, start, stop, ranges, infinity, words):  # pragma: no cover - compiled
    """Pack evaluations start..stop of values uint (S, U, T) against one kink into words uint64 (stop - start, W).

    Reads 64 neighbours along T for each of 64 units, then transposes the bits. Returns the number of NaN.
    """
    num_units, num_inner = values.shape[1], values.shape[2]
    num_nan = np.uint64(0)
    matrix = np.empty(64, np.uint64)
    evaluation = start
    while evaluation < stop:
        outer, inner = evaluation // num_inner, evaluation % num_inner
        count = min(64, num_inner - inner, stop - evaluation)
        for word in range((num_units + 63) // 64):
            units = min(64, num_units - 64 * word)
            matrix[units:] = 0
            for unit in range(units):
                offset = (outer * num_units + 64 * word + unit) * num_inner + inner
                if count == 64:
                    above = _range_64(values, offset, ranges[0], ranges[1])
                    if ranges[3] != 0:
                        above |= _range_64(values, offset, ranges[2], ranges[3])
                    nan = _nan_64(values, offset, infinity)
                else:
                    above = _partial_mask(values, offset, count, ranges)
                    nan = _partial_nan(values, offset, count, infinity)
                matrix[unit] = above
                num_nan += _popcount(nan)
            _transpose(matrix)
            for position in range(count):
                words[evaluation - start + position, word] = matrix[position]
        evaluation += count
    return num_nan


@njit(nogil=True, cache=True)
def spread_bits(unit_words, num_units, kink, num_kinks, words):  # pragma: no cover - compiled
    """Put bit c of unit_words uint64 (E, ceil(U / 64)) at bit c * num_kinks + kink of words (E, W), by OR."""
    for index in range(unit_words.shape[0]):
        for unit in range(num_units):
            bit = (unit_words[index, unit >> 6] >> np.uint64(unit & 63)) & ONE
            target = unit * num_kinks + kink
            words[index, target >> 6] |= bit << np.uint64(target & 63)
