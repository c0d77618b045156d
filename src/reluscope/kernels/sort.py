"""Sorting 64-bit keys in Numba: partition into parts that fit the cache, radix sort each.

Axes: R raw keys, P parts. A radix sort with 11-bit digits takes 6 ns a key for 32 bits and 11 ns for 64 where
the part fits the second-level cache, whatever the distribution; NumPy's AVX-512 sort took 37 to 64 ns a key
on a Zen 4, whose compress-store is slow. Digits that all keys share cost nothing. Limits: R below 2^32.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.jit import inner

__all__ = [
    "BUCKETS",
    "DIGIT",
    "INSERTION",
    "copy_keys",
    "digit_sizes",
    "radix_sort",
    "scatter",
    "sort_keys",
]

DIGIT = 11
BUCKETS = 1 << DIGIT
LAST = np.uint64(BUCKETS - 1)
SHORT = 4
COUNTED = np.uint32(1)  # counters of 32 bits: those of three digits fit the first-level cache
INSERTION = 16


@inner
def copy_keys(keys, out):  # pragma: no cover - compiled
    """Keys (R,) to out (R,). Assigning a slice does the same, and takes a second and a half to compile."""
    for index in range(keys.size):
        out[index] = keys[index]


@inner
def radix_sort(keys, scratch, low_bit, high_bit):  # pragma: no cover - compiled
    """Sort keys uint64 (R,) in place by bits low_bit..high_bit - 1, stably; scratch has the same length."""
    size = keys.size
    bits = high_bit - low_bit
    # Few keys have short digits: more passes over them, but as many counters as they are.
    widest = SHORT
    while widest < DIGIT and size >> widest:
        widest += 1
    passes = (bits + widest - 1) // widest
    digit = (bits + passes - 1) // passes if passes else 0
    mask = np.uint64((1 << digit) - 1)
    starts = np.zeros((passes, 1 << digit), np.uint32)
    for index in range(size):
        key = keys[index] >> np.uint64(low_bit)
        for step in range(passes):
            starts[step, key & mask] += COUNTED
            key >>= np.uint64(digit)
    source, target = keys, scratch
    for step in range(passes):
        row = starts[step]
        total, shared = np.uint32(0), False
        for bucket in range(1 << digit):
            count = row[bucket]
            shared |= count == size
            row[bucket] = total
            total = np.uint32(total + count)
        if shared:
            continue
        shift = np.uint64(low_bit + step * digit)
        for index in range(size):
            key = source[index]
            bucket = (key >> shift) & mask
            place = row[bucket]
            target[place] = key
            row[bucket] = place + COUNTED
        source, target = target, source
    if passes and source is not keys:
        copy_keys(source, keys)


@inner
def sort_keys(keys, scratch, top):  # pragma: no cover - compiled
    """Sort keys (R,), R >= 1, that agree from bit `top` on; scratch is at least as long.

    The leading 33 bits tell most keys apart. Those that then tie are mostly equal, and if they are not, they are few.
    """
    # A part holds neighbours in value: often they agree in some more bits, and shorter digits are faster.
    differing = keys[0] ^ keys[0]
    for index in range(keys.size):
        differing |= keys[index] ^ keys[0]
    while top > 1 and np.uint64(differing) >> np.uint64(top - 1) == 0:
        top -= 1
    low = max(0, top - 3 * DIGIT)
    radix_sort(keys, scratch[: keys.size], low, top)
    if low == 0:
        return
    # Where equal keys tie nothing is out of order, and this is passed as fast as it is read.
    index = 1
    while index < keys.size:
        if keys[index] >= keys[index - 1]:
            index += 1
            continue
        start, stop = index - 1, index + 1
        while start > 0 and (keys[start - 1] ^ keys[index]) >> np.uint64(low) == 0:
            start -= 1
        while stop < keys.size and (keys[stop] ^ keys[index]) >> np.uint64(low) == 0:
            stop += 1
        _sort_ties(keys[start:stop], scratch, low)
        index = stop


@inner
def _sort_ties(keys, scratch, low):  # pragma: no cover - compiled
    """Sort keys that differ in their lowest `low` bits only: in passes if they are many. They are not all equal."""
    if keys.size > INSERTION:
        differing = keys[0] ^ keys[0]
        for index in range(keys.size):
            differing |= keys[index] ^ keys[0]
        high = low
        while high > 0 and np.uint64(differing) >> np.uint64(high - 1) == 0:
            high -= 1
        radix_sort(keys, scratch[: keys.size], np.int64(0), high)
        return
    for index in range(1, keys.size):
        key = keys[index]
        place = index
        while place > 0 and keys[place - 1] > key:
            keys[place] = keys[place - 1]
            place -= 1
        keys[place] = key


@inner
def digit_sizes(keys, shift, sizes):  # pragma: no cover - compiled
    """Add to sizes int64 (2^11,) how many keys (R,) have each digit, the 11 bits from `shift` on."""
    for index in range(keys.size):
        sizes[(keys[index] >> np.uint64(shift)) & LAST] += 1


@inner
def scatter(keys, shift, part_of_digit, places, out):  # pragma: no cover - compiled
    """Write each key to out at the next place of its part; places int64 (P,) is advanced."""
    for index in range(keys.size):
        key = keys[index]
        part = part_of_digit[(key >> np.uint64(shift)) & LAST]
        place = places[part]
        out[place] = key
        places[part] = place + 1
