"""The growing count in NumPy, obviously right: every batch is packed, counted and merged at once."""

from __future__ import annotations

import numpy as np

from reluscope.kernels import reference
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import Values

__all__ = ["ReferenceAccumulator"]


class ReferenceAccumulator:
    """Counts (pattern, group) rows: the group in the first column, the key in the others."""

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._rows = np.empty((0, 1 + plan.key_words), np.uint64)
        self._counts = np.empty(0, np.int64)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._counts.nbytes

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        words, num_nan = reference.pack(values)
        if groups is None:
            self._add(words, np.zeros(len(words), np.uint64))
        else:
            positions = len(words) // max(1, len(groups))
            self._add(words, np.repeat(groups.astype(np.uint64), positions))
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Count patterns that are packed already, uint64 (E, W), without groups."""
        self._add(words, np.zeros(len(words), np.uint64))

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
        keys, counts = reference.count_rows(self._rows[:, 1:], self._counts)
        if self._plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        if not pairs:
            return Finished(keys=keys, counts=counts, joint_counts=self._counts)
        differs = (self._rows[1:, 1:] != self._rows[:-1, 1:]).any(axis=1)
        pattern = np.concatenate([np.zeros(min(1, len(self._rows)), np.int64), np.cumsum(differs)])
        return Finished(
            keys=keys,
            counts=counts,
            joint_pattern=pattern.astype(np.int64),
            joint_group=self._rows[:, 0].astype(np.int64),
            joint_counts=self._counts,
        )

    def _add(self, words: np.ndarray, groups: np.ndarray) -> None:
        keys = reference.fingerprint(words, self._plan.hash_keys) if self._plan.is_fingerprint else words
        rows = np.concatenate([groups[:, None], keys], axis=1)
        counted, counts = reference.count_rows(rows)
        self._rows, self._counts = reference.merge_tables(self._rows, self._counts, counted, counts)
