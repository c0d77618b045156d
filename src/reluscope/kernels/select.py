"""Which keys of a table a coordinated Poisson sample keeps.

Axes: P patterns, W words of a key (one or two). The hash of a key is 64 bits,

    h = mix(mix(word_0 ^ salt_0) + (word_1 ^ salt_1)), word_1 = 0 where there is one word,

mix being the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", OOPSLA; constants of variant 13 of Stafford), a bijection in which every bit of the input flips
every bit of the output about half the time. A key with count c is kept when h N < c k 2^64, in integers:
u = h / 2^64 lies in [0, 1), tau = N/k, and this is u < c/tau without any rounding. The product h N has 128
bits; since c k 2^64 has no low word, its high word alone decides.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels import dispatch
from reluscope.kernels.jit import kernel

__all__ = ["hash_of", "hash_words", "select", "select_raw"]

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def select(keys: np.ndarray, counts: np.ndarray, size: int, total: int, salt: np.ndarray) -> np.ndarray:
    """The rows to keep, int64, in order.

    Args:
        keys: uint64 (P, W), W = 1 or 2.
        counts: int64 (P,), at least 1.
        size: k, patterns expected at most, at least 1.
        total: N, the sum of the counts.
        salt: uint64 (2,).
    """
    if dispatch.implementation() == "reference":
        return _select_reference(keys, counts, size, total, salt)
    # The number kept is Poisson-like with mean at most k: twice that nearly always has room.
    room = min(len(counts), 2 * size + 64)
    rows = np.empty(room, np.int64)
    kept = _select(keys, counts, np.int64(size), np.uint64(total), salt, rows)
    if kept > room:
        rows = np.empty(kept, np.int64)
        _select(keys, counts, np.int64(size), np.uint64(total), salt, rows)
    return rows[:kept].copy()


def select_raw(raw: np.ndarray, size: int, total: int, salt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `select` keeps of the table of sorted raw keys uint32 or uint64 (R,): keys uint64 (K, 1), counts int64 (K,)."""
    room = min(len(raw), 2 * size + 64)
    keys, counts = np.empty((room, 1), np.uint64), np.empty(room, np.int64)
    kept = _select_raw(raw, np.int64(size), np.uint64(total), salt, keys, counts)
    if kept > room:
        keys, counts = np.empty((kept, 1), np.uint64), np.empty(kept, np.int64)
        _select_raw(raw, np.int64(size), np.uint64(total), salt, keys, counts)
    return keys[:kept].copy(), counts[:kept].copy()


def hash_of(keys: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """The hash of each key, uint64 (P,)."""
    second = keys[:, 1] if keys.shape[1] > 1 else np.zeros(len(keys), np.uint64)
    with np.errstate(over="ignore"):
        return _mix_reference(_mix_reference(keys[:, 0] ^ salt[0]) + (second ^ salt[1]))


def _mix_reference(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


def _select_reference(
    keys: np.ndarray, counts: np.ndarray, size: int, total: int, salt: np.ndarray
) -> np.ndarray:
    """In Python's own integers: what the other one is tested against."""
    hashed = hash_of(keys, salt).tolist()
    pairs = zip(hashed, counts.tolist(), strict=True)
    kept = [row for row, (h, c) in enumerate(pairs) if h * total < c * size << 64]
    return np.array(kept, dtype=np.int64)


@kernel
def _mix(x):
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@kernel
def hash_words(first, second, salt):
    """The hash of one key, from compiled code; second is 0 where a key has one word."""
    return _mix(_mix(first ^ salt[0]) + (second ^ salt[1]))


@kernel
def _high_word(a, b):
    """The upper 64 bits of the product of two 64-bit integers, from four products of halves."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _S32, b & _LOW, b >> _S32
    middle = a_high * b_low + ((a_low * b_low) >> _S32)
    other = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _S32) + (other >> _S32)


@kernel
def _select(keys, counts, size, total, salt, rows):
    """Write the rows to keep, as far as there is room; returns how many there are."""
    kept = 0
    certain = np.int64(total) // size  # from here on c k may overflow, and beyond it every pattern is kept
    two_words = keys.shape[1] > 1
    for row in range(len(counts)):
        count = counts[row]
        if count <= certain:
            second = keys[row, 1] if two_words else np.uint64(0)
            hashed = _mix(_mix(keys[row, 0] ^ salt[0]) + (second ^ salt[1]))
            if _high_word(hashed, total) >= np.uint64(count * size):
                continue
        if kept < len(rows):
            rows[kept] = row
        kept += 1
    return kept


@kernel
def _select_raw(raw, size, total, salt, keys, counts):
    """Write keys and counts of the patterns to keep, as far as there is room; returns how many there are."""
    kept, start = 0, 0
    certain = np.int64(total) // size
    for index in range(1, raw.size + 1):
        if index < raw.size and raw[index] == raw[start]:
            continue
        key, count = np.uint64(raw[start]), index - start
        start = index
        if count <= certain:
            hashed = _mix(_mix(key ^ salt[0]) + salt[1])
            if _high_word(hashed, total) >= np.uint64(count * size):
                continue
        if kept < len(counts):
            keys[kept, 0] = key
            counts[kept] = count
        kept += 1
    return kept
