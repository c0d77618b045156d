"""Made-up patterns whose distribution is known: all distinct, Zipf, two heavy ones among distinct."""

from __future__ import annotations

import numpy as np
import torch

from reluscope.errors import BenchmarkError, closest

__all__ = ["DISTRIBUTIONS", "activations_of", "words_of"]

DISTRIBUTIONS = ("distinct", "zipf", "two-heavy")


def words_of(distribution: str, width: int, size: int, *, seed: int = 0) -> np.ndarray:
    """Packed patterns, as `pack_patterns` would give them.

    Args:
        distribution: "distinct" (as far as 2^width goes), "zipf" (exponent 1.2) or "two-heavy" (60 % one
            pattern, 35 % another, the rest distinct).
        width: bits of a pattern.
        size: evaluations.
        seed: of the ranks; the pattern of a rank is always the same.

    Returns:
        uint64 (size, ceil(width / 64)).

    Raises:
        BenchmarkError: no such distribution.
    """
    rank = _ranks(distribution, size, np.random.default_rng(seed)).astype(np.uint64)
    words = np.empty((size, -(-width // 64)), np.uint64)
    for word in range(words.shape[1]):
        # Bijections of 64 bits, so that distinct ranks are distinct patterns wherever 64 bits are used.
        mixed = rank * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word)
        mixed ^= mixed >> np.uint64(29)
        words[:, word] = mixed * np.uint64(0xBF58476D1CE4E5B9)
    if width % 64:
        words[:, -1] >>= np.uint64(64 - width % 64)
    return words


def activations_of(words: np.ndarray, width: int) -> torch.Tensor:
    """Pre-activations with these patterns: float32 (evaluations, width), 1 where the bit is on, else -1."""
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, :width]
    return torch.from_numpy(bits).to(torch.float32).mul_(2.0).sub_(1.0)


def _ranks(distribution: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Which of many patterns each evaluation has, int64 (size,)."""
    if distribution == "distinct":
        return generator.permutation(size)
    if distribution == "zipf":
        return np.minimum(generator.zipf(1.2, size), 1 << 40)
    if distribution == "two-heavy":
        choice = generator.random(size)
        rare = generator.permutation(size) + 2
        return np.where(choice < 0.6, 0, np.where(choice < 0.95, 1, rare))
    raise BenchmarkError(
        f'no distribution is called "{distribution}". Closest: {closest(distribution, DISTRIBUTIONS)}.'
    )
