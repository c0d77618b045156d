"""Slots of a hash list: multilinear hash of the pattern, reduced modulo the size.

The hash is the first of the four of `kernels.fingerprint`, with its 32 high bits: sizes end at 2^32.
"""

from __future__ import annotations

import numpy as np

__all__ = ["slots_of"]


def slots_of(words: np.ndarray, multipliers: np.ndarray, size: int) -> np.ndarray:
    """Slot int64 (E,) of each pattern uint64 (E, W); multipliers uint64 (1 + 2 W,), size 1 to 2^32."""
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    # Arithmetic modulo 2^64, as the hash is defined.
    total = low @ multipliers[1::2] + high @ multipliers[2::2] + multipliers[0]
    return ((total >> np.uint64(32)) % np.uint64(size)).astype(np.int64)
