"""Packing in Triton: one bit per value and kink, read once where the values lie, straight into what is counted.

Axes: E evaluations, U units, K kinks, C columns of a row. A "half" is 32 bits of a pattern: half h holds bits 32 h to
32 h + 31, bit c * K + k for kink k of unit c, so half 2 w is the low half of word w. Rows are column-major, (C, E), one
column of int32 or int64; a column that needs all its bits has the highest flipped, so that torch, which compares signed,
sorts as unsigned. Limits: none on E and U but memory; offsets are 64-bit.

Bits are compared as integers with the thresholds of `values.Form`, as on the CPU: no rounding, no flushed denormals.
"""
# Triton is there on Linux only, and what its annotations say is true inside a kernel, not where one is called.
# pyright: reportMissingImports=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportAssignmentType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["count_dense_kernel", "pack_rows_kernel", "pack_words_kernel"]


@triton.jit
def _first_values(evaluation, size1, size2, stride0, stride1, stride2, NUM_AXES: tl.constexpr):
    """Offset of each evaluation's first value, int64."""
    inner = evaluation
    offset = tl.cast(0, tl.int64)
    if NUM_AXES > 1:
        inner, outer = evaluation % size2, evaluation // size2
        if NUM_AXES > 2:
            offset = (outer // size1).to(tl.int64) * stride0
            outer = outer % size1
        offset += outer.to(tl.int64) * stride1
    return inner.to(tl.int64) * stride2 + offset


@triton.jit
def _half(
    bits, first, valid, half, width, unit_stride, thresholds,
    NARROW: tl.constexpr, WORD: tl.constexpr, KINKS: tl.constexpr, LANES: tl.constexpr, PLANES: tl.constexpr,
    TWO_RANGES: tl.constexpr,
):  # fmt: skip
    """Half number `half` of each evaluation's pattern, uint32 (E,), and the NaN among its values, int32 (E,).

    Values are unsigned integers of type NARROW, compared as WORD. `thresholds`: four integers for each kink (the start
    and length of one range of bits that lie above it, and of a second), then infinity and the mask of a magnitude.
    LANES <= 32 bits are looked at. Calls nothing within its loop: a call costs the interpreter milliseconds.
    """
    infinity = tl.load(thresholds + 4 * KINKS).to(WORD, bitcast=True)
    magnitude = tl.load(thresholds + 4 * KINKS + 1).to(WORD, bitcast=True)
    start = tl.load(thresholds).to(WORD, bitcast=True)
    length = tl.load(thresholds + 1).to(WORD, bitcast=True)
    low_start = tl.load(thresholds + 2).to(WORD, bitcast=True)
    low_length = tl.load(thresholds + 3).to(WORD, bitcast=True)
    if PLANES:  # unit by unit: neighbouring threads read neighbouring evaluations
        beyond = (first * 0).to(tl.int32) + width  # a vector: the interpreter spreads no scalar flag
        num_nan = beyond * 0
        word = num_nan.to(tl.uint32)
        STEP: tl.constexpr = 8 if LANES >= 8 else LANES  # so many loads are under way at once
        for group in range(LANES // STEP):
            for step in tl.static_range(STEP):
                lane = group * STEP + step
                bit = half * 32 + lane
                if KINKS > 1:
                    kink = thresholds + 4 * (bit % KINKS)
                    start = tl.load(kink).to(WORD, bitcast=True)
                    length = tl.load(kink + 1).to(WORD, bitcast=True)
                    low_start = tl.load(kink + 2).to(WORD, bitcast=True)
                    low_length = tl.load(kink + 3).to(WORD, bitcast=True)
                inside = valid & (beyond > bit)
                offset = tl.cast(bit // KINKS, tl.int64) * unit_stride
                value = tl.load(bits + first + offset, mask=inside, other=0).to(NARROW, bitcast=True).to(WORD)
                above = value - start < length
                if TWO_RANGES:
                    above = above | (value - low_start < low_length)
                word |= (inside & above).to(tl.uint32) << lane
                is_nan = ((value & magnitude) > infinity).to(tl.int32)
                if KINKS > 1:  # each value is looked at once for each kink
                    is_nan *= (bit % KINKS == 0).to(tl.int32)
                num_nan += is_nan
    else:
        lane = tl.arange(0, LANES)
        bit = half * 32 + lane
        kink = thresholds + 4 * (bit % KINKS)
        offset = first[:, None] + ((bit // KINKS).to(tl.int64) * unit_stride)[None, :]
        inside = valid[:, None] & (bit < width)[None, :]
        value = tl.load(bits + offset, mask=inside, other=0).to(NARROW, bitcast=True).to(WORD)
        shifted = value - tl.load(kink).to(WORD, bitcast=True)[None, :]
        above = shifted < tl.load(kink + 1).to(WORD, bitcast=True)[None, :]
        if TWO_RANGES:
            shifted = value - tl.load(kink + 2).to(WORD, bitcast=True)[None, :]
            above = above | (shifted < tl.load(kink + 3).to(WORD, bitcast=True)[None, :])
        # Bits of one word differ, so their sum is their union; a sum of int32 wraps where bit 31 is on, as it should.
        flags = (inside & above).to(tl.int32) << lane[None, :]
        word = tl.sum(flags, axis=1).to(tl.uint32, bitcast=True)
        is_nan = ((value & magnitude) > infinity) & ((bit % KINKS) == 0)[None, :]
        num_nan = tl.sum(is_nan.to(tl.int32), axis=1)
    return word, num_nan


@triton.jit
def _key(
    bits, first, valid, width, unit_stride, thresholds, hash_keys,
    NARROW: tl.constexpr, WORD: tl.constexpr, KINKS: tl.constexpr, LANES: tl.constexpr, HALVES: tl.constexpr,
    PLANES: tl.constexpr, TWO_RANGES: tl.constexpr,
):  # fmt: skip
    """Both words of each evaluation's key, uint64 (E,), the second 0 where there is one only, and the number of NaN.

    HALVES is the number of halves of the pattern, 1 to 4, or 0 for the fingerprint that stands for more; `hash_keys`
    (4, 1 + 2 W) as in `kernels.fingerprint`. The fingerprint grows half by half: the pattern is nowhere.
    """
    num_nan = (first * 0).to(tl.int32)
    low = (first * 0).to(tl.uint64)
    high = low
    if HALVES == 0:
        row = 1 + 2 * ((width + 63) // 64)
        first_hash = low + tl.load(hash_keys).to(tl.uint64, bitcast=True)
        second_hash = low + tl.load(hash_keys + row).to(tl.uint64, bitcast=True)
        third_hash = low + tl.load(hash_keys + 2 * row).to(tl.uint64, bitcast=True)
        fourth_hash = low + tl.load(hash_keys + 3 * row).to(tl.uint64, bitcast=True)
        for half in range((width + 31) // 32):
            word, nan = _half(
                bits,
                first,
                valid,
                half,
                width,
                unit_stride,
                thresholds,
                NARROW,
                WORD,
                KINKS,
                LANES,
                PLANES,
                TWO_RANGES,
            )
            num_nan += nan
            character = word.to(tl.uint64)
            first_hash += character * tl.load(hash_keys + 1 + half).to(tl.uint64, bitcast=True)
            second_hash += character * tl.load(hash_keys + row + 1 + half).to(tl.uint64, bitcast=True)
            third_hash += character * tl.load(hash_keys + 2 * row + 1 + half).to(tl.uint64, bitcast=True)
            fourth_hash += character * tl.load(hash_keys + 3 * row + 1 + half).to(tl.uint64, bitcast=True)
        low = (first_hash >> 32) | ((second_hash >> 32) << 32)
        high = (third_hash >> 32) | ((fourth_hash >> 32) << 32)
    else:
        for half in tl.static_range(HALVES):
            word, nan = _half(
                bits,
                first,
                valid,
                half,
                width,
                unit_stride,
                thresholds,
                NARROW,
                WORD,
                KINKS,
                LANES,
                PLANES,
                TWO_RANGES,
            )
            num_nan += nan
            if half < 2:
                low |= word.to(tl.uint64) << (32 * half)
            else:
                high |= word.to(tl.uint64) << (32 * (half - 2))
    return low, high, num_nan


@triton.jit
def _evaluations(num_evaluations, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The evaluations of this program, and which of them there are."""
    program = tl.program_id(0)
    if WIDE:  # 2^31 evaluations or more
        program = program.to(tl.int64)
    evaluation = program * BLOCK + tl.arange(0, BLOCK)
    return evaluation, evaluation < num_evaluations


@triton.jit
def _note_nan(num_nan, counter):
    total = tl.sum(num_nan.to(tl.int64), axis=0)
    tl.atomic_add(counter, total, mask=total > 0, sem="relaxed")


@triton.jit
def _store(column, value, valid, ROW_BITS: tl.constexpr):
    """Store one column of rows, flipped where it needs all bits of its type."""
    if ROW_BITS < 32:
        tl.store(column, value.to(tl.int32), mask=valid)
    elif ROW_BITS == 32:
        tl.store(column, (value.to(tl.uint32) ^ 0x80000000).to(tl.int32, bitcast=True), mask=valid)
    elif ROW_BITS < 64:
        tl.store(column, value.to(tl.int64, bitcast=True), mask=valid)
    else:
        tl.store(column, (value ^ 0x8000000000000000).to(tl.int64, bitcast=True), mask=valid)


@triton.jit(do_not_specialize=["num_evaluations", "width", "positions"])
def pack_rows_kernel(
    bits, thresholds, hash_keys, groups, rows, row_stride, nan_counter,
    num_evaluations, width, positions,
    size1, size2, stride0, stride1, stride2, unit_stride,
    NUM_AXES: tl.constexpr, NARROW: tl.constexpr, WORD: tl.constexpr, KINKS: tl.constexpr, LANES: tl.constexpr,
    HALVES: tl.constexpr, PLANES: tl.constexpr,
    TWO_RANGES: tl.constexpr, GROUPED: tl.constexpr, GROUP_BITS: tl.constexpr, ROW_BITS: tl.constexpr,
    NUM_COLUMNS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the row of each evaluation, columns `row_stride` apart: its key with the group below, as `KeyPlan` says.

    GROUPED with GROUP_BITS 0 and a column more than the key has: the group has column 0 to itself.
    """
    evaluation, valid = _evaluations(num_evaluations, BLOCK, WIDE)
    first = _first_values(evaluation, size1, size2, stride0, stride1, stride2, NUM_AXES)
    low, high, num_nan = _key(
        bits,
        first,
        valid,
        width,
        unit_stride,
        thresholds,
        hash_keys,
        NARROW,
        WORD,
        KINKS,
        LANES,
        HALVES,
        PLANES,
        TWO_RANGES,
    )
    _note_nan(num_nan, nan_counter)
    if NUM_COLUMNS == 3:  # two words and the group in a column of its own
        group = tl.load(groups + evaluation // positions, mask=valid, other=0).to(tl.uint64)
        _store(rows + evaluation, group, valid, 63)
        _store(rows + row_stride + evaluation, low, valid, 64)
        _store(rows + 2 * row_stride + evaluation, high, valid, 64)
    else:
        if GROUPED and GROUP_BITS > 0:
            group = tl.load(groups + evaluation // positions, mask=valid, other=0).to(tl.uint64)
            if NUM_COLUMNS == 2:
                high = (high << GROUP_BITS) | (low >> (64 - GROUP_BITS))
            low = (low << GROUP_BITS) | group
        if NUM_COLUMNS == 1:
            _store(rows + evaluation, low, valid, ROW_BITS)
        else:
            _store(rows + evaluation, low, valid, 64)
            _store(rows + row_stride + evaluation, high, valid, 64)


@triton.jit(do_not_specialize=["num_evaluations", "width"])
def pack_words_kernel(
    bits, thresholds, words, nan_counter,
    num_evaluations, width,
    size1, size2, stride0, stride1, stride2, unit_stride,
    NUM_AXES: tl.constexpr, NARROW: tl.constexpr, WORD: tl.constexpr, KINKS: tl.constexpr, LANES: tl.constexpr,
    PLANES: tl.constexpr, TWO_RANGES: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the whole pattern of each evaluation, uint64 (E, ceil(width / 64)) as int64."""
    evaluation, valid = _evaluations(num_evaluations, BLOCK, WIDE)
    first = _first_values(evaluation, size1, size2, stride0, stride1, stride2, NUM_AXES)
    num_words = (width + 63) // 64
    num_nan = (first * 0).to(tl.int32)
    for place in range(num_words):
        low, nan = _half(
            bits,
            first,
            valid,
            2 * place,
            width,
            unit_stride,
            thresholds,
            NARROW,
            WORD,
            KINKS,
            LANES,
            PLANES,
            TWO_RANGES,
        )
        num_nan += nan
        word = low.to(tl.uint64)
        if LANES == 32:  # narrower patterns have no high half
            high, nan = _half(
                bits,
                first,
                valid,
                2 * place + 1,
                width,
                unit_stride,
                thresholds,
                NARROW,
                WORD,
                KINKS,
                LANES,
                PLANES,
                TWO_RANGES,
            )
            num_nan += nan
            word |= high.to(tl.uint64) << 32
        target = words + evaluation.to(tl.int64) * num_words + place
        tl.store(target, word.to(tl.int64, bitcast=True), mask=valid)
    _note_nan(num_nan, nan_counter)


@triton.jit(do_not_specialize=["num_evaluations", "width", "positions", "num_groups"])
def count_dense_kernel(
    bits, thresholds, groups, counters, nan_counter,
    num_evaluations, width, positions, num_groups,
    size1, size2, stride0, stride1, stride2, unit_stride,
    NUM_AXES: tl.constexpr, NARROW: tl.constexpr, WORD: tl.constexpr, KINKS: tl.constexpr, LANES: tl.constexpr,
    PLANES: tl.constexpr, TWO_RANGES: tl.constexpr,
    GROUPED: tl.constexpr, BINS: tl.constexpr, ROUNDS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count patterns of at most 16 bits in place: counter number pattern * num_groups + group, int64.

    Up to BINS counters in all (0: more) are counted within the program first. Beyond, ROUNDS of the keys that come
    first are added up within the program, so that a pattern most evaluations share is no queue at one address.
    """
    evaluation, valid = _evaluations(num_evaluations, BLOCK, WIDE)
    first = _first_values(evaluation, size1, size2, stride0, stride1, stride2, NUM_AXES)
    word, num_nan = _half(
        bits, first, valid, 0, width, unit_stride, thresholds, NARROW, WORD, KINKS, LANES, PLANES, TWO_RANGES
    )
    _note_nan(num_nan, nan_counter)
    place = word.to(tl.int32)
    if GROUPED:
        group = tl.load(groups + evaluation // positions, mask=valid, other=0).to(tl.int32)
        place = place * num_groups + group
    if BINS > 0:
        bins = tl.arange(0, BINS)
        found = tl.histogram(tl.where(valid, place, 0), BINS)
        # What is beyond the last evaluation was taken for pattern 0.
        spare = BLOCK - tl.sum(valid.to(tl.int32), axis=0)
        found -= tl.where(bins == 0, spare, 0)
        tl.atomic_add(counters + bins, found.to(tl.int64), mask=found > 0, sem="relaxed")
    else:
        weight = valid.to(tl.int64)
        place, weight = gather_equal(place, weight, valid, ROUNDS, BLOCK)
        tl.atomic_add(counters + place, weight, mask=weight > 0, sem="relaxed")


@triton.jit
def gather_equal(key, weight, valid, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    """Give all the weight of equal keys to one of them, for the ROUNDS keys that come first; the others keep theirs.

    A key of share p comes first with probability p, so what could crowd one address is what gets gathered.
    """
    lane = tl.arange(0, BLOCK)
    waiting = valid
    for _ in tl.static_range(ROUNDS):
        leader = tl.min(tl.where(waiting, lane, BLOCK), axis=0)
        chosen = tl.sum(tl.where(lane == leader, key, 0), axis=0)
        same = waiting & (key == chosen)
        total = tl.sum(tl.where(same, weight, 0), axis=0)
        weight = tl.where(same, tl.where(lane == leader, total, 0), weight)
        waiting = waiting & (key != chosen)
    return key, weight
