"""Random keys of the fingerprint that stands for a pattern wider than 128 bits.

The fingerprint is four independent multilinear hashes of the pattern's 32-bit characters s_1..s_n,
h = (m_0 + sum_i m_i s_i mod 2^64) >> 32, with 64-bit random m (Lemire and Kaser 2014, "Strongly universal
string hashing is fast", Comput. J. 57(11), section 3). Each is strongly universal, so two given patterns
share all four with probability 2^-128, and among P patterns any two do with probability below P^2 / 2^129.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from reluscope.errors import KernelError

__all__ = ["DEFAULT_SEED", "FINGERPRINT_WIDTH", "check_seed", "collision_bound", "hash_keys", "hash_lanes"]

# Patterns wider than this are counted by their fingerprint, which has as many bits.
FINGERPRINT_WIDTH = 128

# Counts merge only under one seed, so every run shares this one unless told otherwise.
DEFAULT_SEED = 0x72656C7573636F70


def check_seed(seed: int) -> int:
    """The seed, or KernelError if it is no unsigned 64-bit integer."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise KernelError(f"seed={seed!r} cannot key the fingerprint; give an integer from 0 to 2^64 - 1")
    return seed


@lru_cache(maxsize=64)
def hash_keys(seed: int, num_words: int) -> np.ndarray:
    """uint64 (4, 1 + 2 num_words), read-only: for each of four hashes m_0 and a multiplier per 32-bit half.

    Philox is counter based and its stream is fixed by NumPy's compatibility policy, so a seed means the same
    keys everywhere and always.
    """
    length = 1 + 2 * num_words
    keys = np.random.Philox(key=seed).random_raw(4 * length).reshape(4, length)
    keys.flags.writeable = False
    return keys


def hash_lanes(keys: np.ndarray) -> np.ndarray:
    """`hash_keys` (4, 1 + 2 W) as uint64 (1 + 2 W, 8), as `vectors.hash_row` takes them.

    Row 0 is where the eight sums begin: the four m_0, and zeros; row i has the four m_i, and what lies above their lower halves.
    """
    room = np.empty(8 * keys.shape[1] + 8, np.uint64)
    first = -room.ctypes.data % 64 // 8  # a row is a cache line
    lanes = room[first : first + 8 * keys.shape[1]].reshape(-1, 8)
    lanes[:, :4], lanes[:, 4:] = keys.T, keys.T >> np.uint64(32)
    lanes[0, 4:] = 0
    return lanes


def collision_bound(num_patterns: int) -> float:
    """Upper bound on the probability that any two of P distinct patterns share a fingerprint: P^2 / 2^129."""
    return float(num_patterns) ** 2 / 2.0**129
