"""Vector operations that Numba has no words for: comparing neighbours in memory at once.

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

__all__ = [
    "FULL",
    "REGISTER_BITS",
    "hash_row",
    "join_above",
    "join_above_and_rectify",
    "masks",
    "packed",
    "popcount",
]

FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def _broadcast(builder, value, vector):
    """A vector of so many times a value."""
    undefined = ir.Constant(vector, ir.Undefined)
    seed = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(seed, undefined, zeros)


def _load(context, builder, element_type, address, offset, lanes):
    """The vector of `lanes` integers from number `offset` on at an address, and a maker of constants."""
    element = context.get_value_type(element_type)
    vector = ir.VectorType(element, lanes)
    pointer = builder.gep(builder.inttoptr(address, element.as_pointer()), [offset])
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = element_type.bitwidth // 8  # rows start anywhere

    def broadcast(value):
        return _broadcast(builder, value, vector)

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


def _make_pack_above(*, rectifies: bool) -> Any:
    @intrinsic
    def pack_above(typingctx, address, offset, num_words, words, start, infinity, target):
        """Pack 64 num_words integers from number `offset` on at address: bit on where one, signed, is not below start.

        Writes uint64 to the address `words`; where this rectifies, max(value, 0) from number `offset` on at the address
        `target`.
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
                return _broadcast(builder, value, vector)

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


def _make_join_above(*, rectifies: bool) -> Any:
    @intrinsic
    def join_above(typingctx, address, first, step, count, units, start, infinity, above, target):
        """Set bit u of integer i at the address `above` where the integer number first + u step + i at `address`, signed, is
        not below start; i < count, u < units.

        Where this rectifies, max(value, 0) of all of them is written to the same numbers at the address `target`, and there
        must be a vector of them. Otherwise fewer are read and written as a whole vector. The last vector of a count overlaps
        the one before, which changes nothing. Returns 1 if one of them, its sign shifted out, exceeds infinity, else 0.
        """

        def generate(context, builder, signature, args):
            address, first, step, count, units, start, infinity, above, target = args
            element, lanes = start.type, REGISTER_BITS // start.type.width
            vector, number = ir.VectorType(element, lanes), ir.IntType(64)
            one, zero, width = ir.Constant(element, 1), ir.Constant(number, 0), ir.Constant(number, lanes)
            ones, nothing = ir.Constant(vector, [1] * lanes), ir.Constant(vector, [0] * lanes)

            def broadcast(value):
                return _broadcast(builder, value, vector)

            def at(array, place):
                return builder.bitcast(builder.gep(array, [place]), vector.as_pointer())

            def load(array, place):
                return builder.load(at(array, place), align=element.width // 8)

            def store(value, array, place):
                builder.store(value, at(array, place), align=element.width // 8)

            kink, limit = broadcast(builder.sub(start, one)), broadcast(builder.shl(infinity, one))
            least = broadcast(builder.add(builder.shl(one, ir.Constant(element, element.width - 1)), one))
            largest = broadcast(infinity)
            values = builder.gep(builder.inttoptr(address, element.as_pointer()), [first])
            targets = builder.gep(builder.inttoptr(target, element.as_pointer()), [first])
            joined = builder.inttoptr(above, element.as_pointer())

            def body(unit, index, bits, greatest):
                place = builder.add(builder.mul(unit, step), index)
                loaded, before = load(values, place), load(joined, index)
                if rectifies:
                    is_below = builder.icmp_unsigned("<", builder.sub(loaded, least), largest)
                    store(builder.select(is_below, nothing, loaded), targets, place)
                is_above = builder.icmp_signed(">", loaded, kink)
                store(builder.select(is_above, builder.or_(before, bits), before), joined, index)
                doubled = builder.shl(loaded, ones)
                return builder.select(builder.icmp_unsigned(">", doubled, greatest), doubled, greatest)

            whole = builder.select(builder.icmp_signed("<", count, width), width, count)
            rest = builder.and_(whole, ir.Constant(number, lanes - 1))
            stop, last = builder.sub(whole, rest), builder.sub(whole, width)
            entry = builder.block
            names = ("unit", "vector", "rest", "overlap", "next", "done")
            outer, inner, after, overlap, following, done = map(builder.append_basic_block, names)
            builder.branch(outer)

            builder.position_at_end(outer)
            unit, bits, greatest = builder.phi(number), builder.phi(vector), builder.phi(vector)
            builder.branch(inner)

            builder.position_at_end(inner)
            index, held = builder.phi(number), builder.phi(vector)
            greater = body(unit, index, bits, held)
            next_index = builder.add(index, width)
            for phi, begun, stepped in ((index, zero, next_index), (held, greatest, greater)):
                phi.add_incoming(begun, outer)
                phi.add_incoming(stepped, inner)
            builder.cbranch(builder.icmp_signed("<", next_index, stop), inner, after)

            builder.position_at_end(after)
            builder.cbranch(builder.icmp_signed("!=", rest, zero), overlap, following)
            builder.position_at_end(overlap)
            greater_still = body(unit, last, bits, greater)
            builder.branch(following)

            builder.position_at_end(following)
            found = builder.phi(vector)
            found.add_incoming(greater, after)
            found.add_incoming(greater_still, overlap)
            next_unit, next_bits = builder.add(unit, ir.Constant(number, 1)), builder.shl(bits, ones)
            loops = ((unit, zero, next_unit), (bits, ones, next_bits), (greatest, nothing, found))
            for phi, begun, stepped in loops:
                phi.add_incoming(begun, entry)
                phi.add_incoming(stepped, following)
            builder.cbranch(builder.icmp_signed("<", next_unit, units), outer, done)

            builder.position_at_end(done)
            beyond = builder.bitcast(builder.icmp_unsigned(">", found, limit), ir.IntType(lanes))
            is_beyond = builder.icmp_unsigned("!=", beyond, ir.Constant(ir.IntType(lanes), 0))
            return builder.zext(is_beyond, number)

        places = (types.intp,) * 5
        return types.int64(*places, start, start, types.intp, types.intp), generate

    return join_above


join_above, join_above_and_rectify = _make_join_above(rectifies=False), _make_join_above(rectifies=True)


def _make_hash_row() -> Any:
    @intrinsic
    def hash_row(typingctx, words, num_words, lanes, target):
        """Write the fingerprint, two uint64, of num_words >= 1 words at an address; lanes of `fingerprint.hash_lanes`.

        A product of 64 and 32 bits, modulo 2^64, is that of the lower half and, 32 bits further up, that of the upper half:
        two products of 32 bits, which every vector unit has. The four hashes take eight lanes, summed until the end.
        """

        def generate(context, builder, signature, args):
            words, num_words, lanes, target = args
            word = ir.IntType(64)
            vector, half = ir.VectorType(word, 8), ir.VectorType(word, 4)
            zero, one, shift = (ir.Constant(word, number) for number in (0, 1, 32))
            lower = ir.Constant(vector, [0xFFFFFFFF] * 8)
            words = builder.inttoptr(words, word.as_pointer())
            lanes = builder.inttoptr(lanes, vector.as_pointer())
            target = builder.inttoptr(target, word.as_pointer())

            def product(place, halves):
                keys = builder.load(builder.gep(lanes, [place]), align=8)
                return builder.mul(builder.and_(keys, lower), builder.and_(halves, lower))

            begun = builder.load(lanes, align=8)
            before = builder.block
            loop, after = builder.append_basic_block("word"), builder.append_basic_block("hashed")
            builder.branch(loop)

            builder.position_at_end(loop)
            index, of_low, of_high = builder.phi(word), builder.phi(vector), builder.phi(vector)
            value = _broadcast(builder, builder.load(builder.gep(words, [index]), align=8), vector)
            above = builder.lshr(value, ir.Constant(vector, [32] * 8))
            place = builder.add(builder.mul(index, ir.Constant(word, 2)), one)
            low = builder.add(of_low, product(place, value))
            high = builder.add(of_high, product(builder.add(place, one), above))
            following = builder.add(index, one)
            nothing = ir.Constant(vector, [0] * 8)
            for phi, start, step in (
                (index, zero, following),
                (of_low, begun, low),
                (of_high, nothing, high),
            ):
                phi.add_incoming(start, before)
                phi.add_incoming(step, loop)
            builder.cbranch(builder.icmp_signed("<", following, num_words), loop, after)

            builder.position_at_end(after)
            sums, undefined = builder.add(low, high), ir.Constant(vector, ir.Undefined)

            def part(first):
                places = ir.Constant(ir.VectorType(ir.IntType(32), 4), [first + lane for lane in range(4)])
                return builder.shuffle_vector(sums, undefined, places)

            hashes = builder.add(part(0), builder.shl(part(4), ir.Constant(half, [32] * 4)))
            first, second, third, fourth = (
                builder.extract_element(hashes, ir.Constant(ir.IntType(32), lane)) for lane in range(4)
            )
            upper = ir.Constant(word, 0xFFFFFFFF00000000)
            for place, (one_hash, other) in enumerate(((first, second), (third, fourth))):
                joined = builder.or_(builder.lshr(one_hash, shift), builder.and_(other, upper))
                builder.store(joined, builder.gep(target, [ir.Constant(word, place)]), align=8)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp), generate

    return hash_row


hash_row = _make_hash_row()

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
