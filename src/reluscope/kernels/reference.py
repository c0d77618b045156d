"""The kernels in NumPy, obviously right: what every other implementation is tested against.

Axes: E evaluations, U units, K kinks, W words, P patterns. Bit b of a pattern is bit b % 64 of word b // 64;
rows are ordered as one unsigned integer whose last word is the most significant.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.values import Values

__all__ = ["count_rows", "fingerprint", "join_tables", "merge_tables", "pack"]


def pack(values: Values) -> tuple[np.ndarray, int]:
    """Patterns of every evaluation, uint64 (E, W), and the number of NaN among the values."""
    floats = _floats(values)
    above = np.stack([floats > _rounded(kink, values) for kink in values.form.kinks], axis=-1)  # (E, U, K)
    on = above.reshape(len(floats), values.form.width)
    padded = np.zeros((len(floats), values.form.num_words * 64), bool)
    padded[:, : values.form.width] = on
    octets = np.packbits(padded, axis=1, bitorder="little")
    return np.ascontiguousarray(octets).view("<u8").astype(np.uint64), int(np.isnan(floats).sum())


def fingerprint(words: np.ndarray, hash_keys: np.ndarray) -> np.ndarray:
    """128-bit fingerprints uint64 (E, 2) of patterns uint64 (E, W); see `kernels.fingerprint`."""
    halves = np.empty((len(words), 2 * words.shape[1]), np.uint64)
    halves[:, 0::2] = words & np.uint64(0xFFFFFFFF)
    halves[:, 1::2] = words >> np.uint64(32)
    hashes = np.empty((4, len(words)), np.uint64)
    for index, multipliers in enumerate(hash_keys):
        products = halves * multipliers[1:]  # wraps modulo 2^64, as meant
        hashes[index] = (products.sum(axis=1, dtype=np.uint64) + multipliers[0]) >> np.uint64(32)
    low = hashes[0] | hashes[1] << np.uint64(32)
    high = hashes[2] | hashes[3] << np.uint64(32)
    return np.stack([low, high], axis=1)


def count_rows(rows: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows in order, uint64 (P, W), and how often each occurs (or its weights' sum), int64 (P,)."""
    if weights is None:
        weights = np.ones(len(rows), np.int64)
    order = np.lexsort(rows.T)  # the last key of lexsort, the last word, is the primary one
    ordered = rows[order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(is_first)
    if len(starts) == 0:
        return ordered, np.zeros(0, np.int64)
    return ordered[starts], np.add.reduceat(weights[order], starts)


def merge_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted tables, counts added."""
    return count_rows(np.concatenate([keys, other_keys]), np.concatenate([counts, other_counts]))


def join_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both tables over the union of their keys, in order; 0 where a table lacks the key."""
    rows = np.concatenate([keys, other_keys])
    zeros, other_zeros = np.zeros_like(counts), np.zeros_like(other_counts)
    _, aligned = count_rows(rows, np.concatenate([counts, other_zeros]))
    _, other_aligned = count_rows(rows, np.concatenate([zeros, other_counts]))
    return aligned, other_aligned


def _floats(values: Values) -> np.ndarray:
    """The values as floats of a type that holds them exactly, (E, U)."""
    bits = values.bits
    if values.form.layout == "planes":
        bits = np.moveaxis(bits, 1, 2).reshape(-1, values.form.num_units)
    if values.form.format.name == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(bits).view(values.form.format.name)


def _rounded(kink: float, values: Values) -> np.floating:
    """The kink rounded to the dtype of the values, as torch does before it compares."""
    if values.form.format.name != "bfloat16":
        with np.errstate(over="ignore"):
            return np.dtype(values.form.format.name).type(kink)
    bits = int(np.float32(kink).view(np.uint32))
    nearest_even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.uint32(nearest_even & 0xFFFFFFFF).view(np.float32)
