"""How a pattern, and the group it was seen in, become the columns of a table.

Composite rows put the group below the pattern, so that one sort serves both the joint distribution and, by a
linear pass over it, the patterns alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reluscope.kernels.fingerprint import FINGERPRINT_WIDTH, hash_keys

if TYPE_CHECKING:
    from reluscope.kernels.unwritten import UnwrittenTable

__all__ = ["Finished", "KeyPlan", "Load"]


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """The layout of the keys for one width, number of groups (0: none are counted) and fingerprint seed."""

    width: int
    num_groups: int
    seed: int

    @property
    def num_words(self) -> int:
        """Words of a packed pattern."""
        return (self.width + 63) // 64

    @property
    def is_fingerprint(self) -> bool:
        return self.width > FINGERPRINT_WIDTH

    @property
    def key_bits(self) -> int:
        """Bits of a key: the width, or the size of the fingerprint."""
        return min(self.width, FINGERPRINT_WIDTH)

    @property
    def key_words(self) -> int:
        return (self.key_bits + 63) // 64

    @property
    def group_column(self) -> bool:
        """Whether the group has column 0 to itself: beside a 128-bit key there is no room below it."""
        return self.num_groups > 0 and self.key_bits + (self.num_groups - 1).bit_length() > 128

    @property
    def group_bits(self) -> int:
        """Bits of the group below the pattern in a row; 0 with a column of its own."""
        return 0 if self.num_groups == 0 or self.group_column else (self.num_groups - 1).bit_length()

    @property
    def row_bits(self) -> int:
        """Bits of a row that can be set."""
        return self.key_bits + (64 if self.group_column else self.group_bits)

    @property
    def num_columns(self) -> int:
        return (self.row_bits + 63) // 64

    @property
    def hash_keys(self) -> np.ndarray:
        return hash_keys(self.seed, self.num_words)


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A finished count: the patterns' table and, where groups were counted, the joint one.

    `keys` uint64 (P, words), `counts` int64 (P,); `joint_pattern` (index into keys), `joint_group`,
    `joint_counts` int64 (J,), ordered by pattern and group. The first two are there if they were asked for: they
    take twice the memory of the counts, and an entropy needs only these. Where `unwritten` is there, it stands for `keys`
    and `counts`, which are empty.
    """

    keys: np.ndarray
    counts: np.ndarray
    unwritten: UnwrittenTable | None = None
    joint_pattern: np.ndarray | None = None
    joint_group: np.ndarray | None = None
    joint_counts: np.ndarray | None = None

    def written(self) -> Finished:
        """The same with its table written."""
        if self.unwritten is None:
            return self
        keys, counts = self.unwritten.table()
        return Finished(keys=keys, counts=counts)

    @property
    def nbytes(self) -> int:
        if self.unwritten is not None:
            return self.unwritten.nbytes
        arrays = (self.keys, self.counts, self.joint_pattern, self.joint_group, self.joint_counts)
        return sum(array.nbytes for array in arrays if array is not None)


class Load(NamedTuple):
    """What an accumulator holds: rows of its table, raw rows that wait, the bytes of one of these, and those of its cache."""

    num_rows: int
    num_raw: int
    raw_bytes: int
    cache_bytes: int = 0
