"""The hash list of the paper (Algorithm 1), kept as a mode for comparison with the exact counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reluscope.errors import BudgetError, KernelError
from reluscope.kernels import dispatch
from reluscope.kernels.fingerprint import DEFAULT_SEED, check_seed, hash_keys
from reluscope.kernels.hash_slots import slots_of
from reluscope.kernels.values import Preactivations, as_values

__all__ = ["HashList"]


class HashList:
    """Counts patterns in a list of fixed size: pattern -> hash mod size, colliding patterns merge.

    So totals and entropies come out too low, the maximal frequency and weighted Jaccard too high; the paper
    trusts its figures up to an occupancy of 0.15. The hash is a multilinear one with random keys over all
    bits of the pattern: two patterns collide only by chance, unlike in the authors' public code, where bit 63
    of a word weighs as much as bit 0. Source: [A] Algorithm 1.

    Args:
        size: number of slots, 1 to 2^32.
        seed: keys the hash.

    Raises:
        BudgetError: no such size.
        KernelError: the seed is no unsigned 64-bit integer.

    >>> hashlist = HashList(30_000)
    >>> hashlist.update(np.array([[1.0, -1.0], [1.0, -2.0], [-1.0, 3.0]]))
    >>> sorted(hashlist.counts.tolist())
    [1, 2]
    """

    def __init__(self, size: int, *, seed: int = DEFAULT_SEED) -> None:
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or not 1 <= size <= 1 << 32:
            raise BudgetError(f"a hash list of size {size!r} cannot be; give an integer from 1 to 2^32")
        self.size = int(size)
        self.seed = check_seed(seed)
        self.num_evaluations = 0
        self._slots = np.zeros(self.size, np.int64)
        self._num_words: int | None = None

    def update(
        self, preactivations: Preactivations, channel_dim: int = 1, *, kinks: Sequence[float] = (0.0,)
    ) -> None:
        """Count a batch; arguments and errors as in `PatternCounter.update`, without groups.

        Raises:
            KernelError: also for patterns of another number of words than before.
        """
        values = as_values(preactivations, channel_dim, kinks)
        if self._num_words not in (None, values.form.num_words):
            raise KernelError(
                f"patterns of width {values.form.width} came after patterns of {self._num_words} words; one hash "
                "list counts one site"
            )
        self._num_words = values.form.num_words
        words, _ = dispatch.pack(values)
        slots = slots_of(words, hash_keys(self.seed, values.form.num_words)[0], self.size)
        # A bincount would walk all slots for every batch: with 2^23 of them 12-22 ms, this 0.04-0.9 ms.
        np.add.at(self._slots, slots, 1)
        self.num_evaluations += len(words)

    @property
    def counts(self) -> np.ndarray:
        """Counts of the used slots, int64 (used,), in the order of the slots."""
        return self._slots[self._slots > 0]

    @property
    def occupancy(self) -> float:
        """Used slots / size, 0 to 1."""
        return int(np.count_nonzero(self._slots)) / self.size

    @property
    def nbytes(self) -> int:
        """Bytes of the list."""
        return self._slots.nbytes

    def __repr__(self) -> str:
        return (
            f"HashList(size={self.size}, num_evaluations={self.num_evaluations}, "
            f"occupancy={self.occupancy:.3g})"
        )
