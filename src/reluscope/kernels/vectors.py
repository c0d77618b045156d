"""Vector operations that Numba has no words for: comparing 64 neighbours in memory at once.

A vector comparison gives its answers as the bits of one integer. Numba has no vector type, so these intrinsics write
the LLVM vector operations: on AVX-512 one comparison yields 16 bits, other targets get what LLVM makes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from reluscope.kernels.jit import inlined

__all__ = ["FULL", "masks", "pack_above_strided", "packed", "popcount"]

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


popcount = _make_popcount()

REGISTER_BITS = 512


def _make_pack_above(*, rectifies: bool = False, is_strided: bool = False) -> Any:
    @intrinsic
    def pack_above(typingctx, address, offset, num_words, words, start, infinity, extra):
        """Pack 64 num_words integers from number `offset` on at address: bit on where one, signed, is not below start.

        Writes uint64 to the address `words`; where this rectifies, max(value, 0) from number `offset` on at the address
        `extra`; where this is strided, it asks for the memory that is `extra` values further on, which comes next.
        Returns 1 if one of them, its sign shifted out, exceeds infinity, else 0. A
        whole loop: between two words a vector holds the greatest so far, which no other code could keep in a register.
        """

        def generate(context, builder, signature, args):
            address, offset, num_words, words, start, infinity, extra = args
            element, lanes = start.type, REGISTER_BITS // start.type.width
            vector, word_type = ir.VectorType(element, lanes), ir.IntType(64)
            num_vectors = 64 // lanes
            one = ir.Constant(element, 1)

            def broadcast(value):
                undefined = ir.Constant(vector, ir.Undefined)
                seed = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(seed, undefined, zeros)

            def pointer_to(array, place):
                return builder.gep(array, [place])

            values = builder.gep(builder.inttoptr(address, element.as_pointer()), [offset])
            targets = builder.gep(builder.inttoptr(extra, element.as_pointer()), [offset])
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
                if is_strided:
                    following = builder.gep(pointer_to(values, place), [extra])
                    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
                    kinds = [ir.Constant(number, kind) for kind in (0, 3, 1)]  # to read, to keep, data
                    signature = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
                    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], signature)
                    builder.call(prefetch, [builder.bitcast(following, byte), *kinds])
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


_pack_above, _pack_above_and_rectify = _make_pack_above(), _make_pack_above(rectifies=True)
pack_above_strided = _make_pack_above(is_strided=True)


_range_1, _range_16, _range_32, _range_64 = (_make_range_mask(lanes) for lanes in (1, 16, 32, 64))
_nan_1, _nan_16, _nan_32, _nan_64 = (_make_nan_mask(lanes) for lanes in (1, 16, 32, 64))


@inlined
def packed(address, first, num_words, words, start, infinity, target):  # pragma: no cover - compiled
    """`pack_above` with or without a target; whether no NaN was met, and the words hold."""
    if target == 0:
        return _pack_above(address, first, num_words, words, start, infinity, 0) == 0
    return _pack_above_and_rectify(address, first, num_words, words, start, infinity, target) == 0


@inlined
def masks(address, size, offset, count, ranges, infinity):  # pragma: no cover - compiled
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
