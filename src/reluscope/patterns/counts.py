"""PatternCounts: the exact distribution of the patterns of one site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from reluscope.errors import DistributionError, EstimateError, IncompatibleCountsError
from reluscope.kernels import dispatch
from reluscope.kernels.fingerprint import DEFAULT_SEED, FINGERPRINT_WIDTH, check_seed, collision_bound
from reluscope.measures.pairs import Overlap

if TYPE_CHECKING:
    from reluscope.kernels.compare import Sorted
    from reluscope.kernels.plan import Finished
    from reluscope.kernels.unwritten import UnwrittenTable

__all__ = ["JointCounts", "PatternCounts"]

_MOST = 2**63 - 1


@dataclass(frozen=True, eq=False, repr=False)
class PatternCounts:
    """How often each pattern occurred: a sorted table that merges exactly.

    Merging is commutative and associative, with `PatternCounts.empty(width)` as its identity; batches, steps,
    processes and files all use that one law. Arrays are read-only.

    Args:
        keys: uint64 (P, W), distinct and sorted as one unsigned integer whose last word is the most
            significant. Bit b of a pattern is bit b % 64 of word b // 64. Beyond 128 bits a 128-bit
            fingerprint stands for the pattern (W = 2).
        counts: int64 (P,), every entry at least 1.
        width: bits of a pattern: units x kinks.
        seed: what keyed the fingerprint; ignored, and stored as None, where keys are the patterns.

    Raises:
        DistributionError: the arrays are no such table.

    >>> counts = PatternCounts(np.array([[0], [5]], np.uint64), np.array([3, 1]), width=4)
    >>> counts
    PatternCounts(width=4, num_patterns=2, num_evaluations=4)
    """

    keys: np.ndarray
    counts: np.ndarray
    width: int
    seed: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_width(self.width)
        seed = DEFAULT_SEED if self.seed is None else check_seed(self.seed)
        keys, counts = _checked(self.keys, self.counts, self.width)
        self._set(keys, counts, self.width, seed if self.width > FINGERPRINT_WIDTH else None)

    @classmethod
    def empty(cls, width: int, *, seed: int = DEFAULT_SEED) -> PatternCounts:
        """The counts of nothing: the identity of `merge`."""
        check_width(width)
        return cls(np.empty((0, key_words(width)), np.uint64), np.empty(0, np.int64), width, seed=seed)

    @classmethod
    def from_table(cls, keys: np.ndarray, counts: np.ndarray, width: int, seed: int | None) -> PatternCounts:
        """Wrap a table that a kernel just made, without copying or checking it."""
        new = object.__new__(cls)
        new._set(keys, counts, width, seed if width > FINGERPRINT_WIDTH else None)
        return new

    @classmethod
    def from_finished(cls, finished: Finished, width: int, seed: int | None) -> PatternCounts:
        """Wrap what a kernel has counted; a table that it has not written is written when it is asked for."""
        if finished.unwritten is None:
            return cls.from_table(finished.keys, finished.counts, width, seed)
        new = object.__new__(cls)
        object.__setattr__(new, "width", width)
        object.__setattr__(new, "seed", seed if width > FINGERPRINT_WIDTH else None)
        object.__setattr__(new, "_unwritten", finished.unwritten)
        return new

    def __getattr__(self, name: str) -> np.ndarray:
        # Reached only where an attribute is missing: a table that is not written yet has neither keys nor counts.
        unwritten = self.__dict__.get("_unwritten")
        if unwritten is None or name not in ("keys", "counts"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        keys, counts = unwritten.table()
        self._set(keys, counts, self.width, self.seed)
        return self.__dict__[name]

    @property
    def num_patterns(self) -> int:
        """Distinct patterns seen, P."""
        unwritten = self._waiting
        return len(self.counts) if unwritten is None else unwritten.num_patterns

    @property
    def num_evaluations(self) -> int:
        """Evaluations counted, N: the sum of the counts."""
        unwritten = self._waiting
        return int(self.counts.sum()) if unwritten is None else unwritten.num_evaluations

    @property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray] | None:
        """How often patterns occurred, int64 (M,), increasing, and how many did so; None where the table has to tell."""
        unwritten = self._waiting
        return None if unwritten is None else unwritten.spectrum

    @property
    def _waiting(self) -> UnwrittenTable | None:
        return None if "counts" in self.__dict__ else self.__dict__.get("_unwritten")

    @property
    def raw(self) -> np.ndarray | None:
        """Sorted raw keys uint32 or uint64 (N,) that stand for the table while it is not written; not to be written to.

        None where it is written, or where other kernels than Numba's are in force, which want tables.
        """
        unwritten = self._waiting
        return None if unwritten is None or dispatch.implementation() != "numba" else unwritten.raw

    @property
    def _sorted(self) -> Sorted:
        raw = self.raw
        return (self.keys, self.counts) if raw is None else (raw, None)

    @property
    def is_fingerprint(self) -> bool:
        """Whether keys are fingerprints of patterns rather than the patterns."""
        return self.width > FINGERPRINT_WIDTH

    @property
    def collision_bound(self) -> float:
        """Bound on the probability that two patterns were taken for one: P^2 / 2^129, 0.0 for patterns."""
        return collision_bound(self.num_patterns) if self.is_fingerprint else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of the table: 16 per one-word pattern, 24 per two-word pattern or fingerprint."""
        return 8 * (key_words(self.width) + 1) * self.num_patterns

    def merge(self, other: PatternCounts) -> PatternCounts:
        """The counts of both together.

        Raises:
            IncompatibleCountsError: another width, or another fingerprint seed.
            DistributionError: more evaluations than int64 holds.
        """
        self._require_alike(other)
        if self.num_evaluations + other.num_evaluations > _MOST:
            raise DistributionError(
                f"the counts of {self.num_evaluations} and {other.num_evaluations} evaluations together exceed "
                f"{_MOST}, the most that int64 counts hold; keep them apart"
            )
        keys, counts = dispatch.merge_tables(self.keys, self.counts, other.keys, other.counts)
        return PatternCounts.from_table(keys, counts, self.width, self.seed)

    def join(self, other: PatternCounts) -> tuple[np.ndarray, np.ndarray]:
        """Counts of both over the union of their patterns, int64 (U,) each, 0 where a pattern is missing.

        Raises:
            IncompatibleCountsError: another width, or another fingerprint seed.
        """
        self._require_alike(other)
        return dispatch.join_tables(self.keys, self.counts, other.keys, other.counts)

    def overlap(self, other: PatternCounts) -> Overlap:
        """What both have in common, from which changes and similarities follow; without their union.

        Raises:
            IncompatibleCountsError: another width, or another fingerprint seed.
        """
        self._require_alike(other)
        num_common, overlap = dispatch.compare_sorted(self._sorted, other._sorted)
        return Overlap(
            total_before=self.num_patterns,
            total_after=other.num_patterns,
            total_both=num_common,
            sum_before=self.num_evaluations,
            sum_after=other.num_evaluations,
            sum_minima=overlap,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PatternCounts):
            return NotImplemented
        return (
            (self.width, self.seed) == (other.width, other.seed)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment] - equal by content, too large to hash

    def __repr__(self) -> str:
        fingerprint = ", is_fingerprint=True" if self.is_fingerprint else ""
        return (
            f"PatternCounts(width={self.width}, num_patterns={self.num_patterns}, "
            f"num_evaluations={self.num_evaluations}{fingerprint})"
        )

    def __getstate__(self) -> dict:
        return {"keys": self.keys, "counts": self.counts, "width": self.width, "seed": self.seed}

    def __setstate__(self, state: dict) -> None:
        self._set(state["keys"], state["counts"], state["width"], state["seed"])  # pickling forgets read-only

    def _set(self, keys: np.ndarray, counts: np.ndarray, width: int, seed: int | None) -> None:
        for name, value in {"keys": keys, "counts": counts, "width": width, "seed": seed}.items():
            if isinstance(value, np.ndarray):
                value = value.view()
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def _require_alike(self, other: PatternCounts) -> None:
        if getattr(other, "is_estimate", False):
            raise EstimateError(
                f"cannot combine PatternCounts with {other!r}: it holds only some of the patterns. Raise memory_budget, or "
                "give spill, to count exactly."
            )
        if not isinstance(other, PatternCounts):
            raise IncompatibleCountsError(
                f"cannot combine PatternCounts with a {type(other).__name__}; give PatternCounts"
            )
        if self.width != other.width:
            raise IncompatibleCountsError(
                f"cannot combine counts of width {self.width} with counts of width {other.width}; only "
                "counts of one site, or of sites of equal width, combine"
            )
        if self.seed != other.seed:
            raise IncompatibleCountsError(
                f"cannot combine fingerprints keyed by seed {self.seed} with fingerprints keyed by seed "
                f"{other.seed}: count both with one seed"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class JointCounts:
    """How often each (pattern, group) pair occurred, ordered by pattern, then group. Arrays are read-only.

    `pattern` int64 (J,) indexes the rows of the counter's `counts()`, `group` int64 (J,) lies in
    0..num_groups - 1, `counts` int64 (J,) is at least 1.
    """

    pattern: np.ndarray
    group: np.ndarray
    counts: np.ndarray
    num_groups: int

    def __post_init__(self) -> None:
        for name in ("pattern", "group", "counts"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def nbytes(self) -> int:
        """Bytes of the table: 24 per pair."""
        return self.pattern.nbytes + self.group.nbytes + self.counts.nbytes

    def __repr__(self) -> str:
        return f"JointCounts(num_groups={self.num_groups}, num_pairs={len(self.counts)})"


def key_words(width: int) -> int:
    """Words of a key of this width: one up to 64 bits, else two."""
    return 1 if width <= 64 else 2


def check_width(width: int) -> None:
    """Raise `DistributionError` unless a pattern can have this many bits."""
    if not isinstance(width, int | np.integer) or isinstance(width, bool) or width < 1:
        raise DistributionError(f"width={width!r} is no number of bits; give an integer of at least 1")


def _checked(keys: np.ndarray, counts: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Private copies of a table given by a user, or the reason why it is none."""
    keys, counts = np.asarray(keys), np.asarray(counts)
    shape = (len(counts) if counts.ndim else 0, key_words(width))
    if keys.dtype != np.uint64 or keys.shape != shape:
        raise DistributionError(
            f"keys of dtype {keys.dtype} and shape {keys.shape} are no table of width {width} with "
            f"{shape[0]} counts; give uint64 of shape {shape}"
        )
    if counts.dtype != np.int64 or counts.ndim != 1:
        raise DistributionError(
            f"counts of dtype {counts.dtype} and shape {counts.shape} are none; give int64 of one dimension"
        )
    if counts.size and counts.min() < 1:
        raise DistributionError(
            f"counts hold {counts.min()}; a pattern of a table occurred at least once: drop it"
        )
    total = (int((counts >> 32).sum()) << 32) + int((counts & 0xFFFFFFFF).sum())  # in halves: no sum wraps
    if total > _MOST:
        raise DistributionError(f"counts sum to {total} evaluations; at most {_MOST} fit in int64")
    spare = keys[:, -1] >> np.uint64(width % 64) if width % 64 and width < FINGERPRINT_WIDTH else np.zeros(0)
    if spare.any():
        raise DistributionError(f"a key has bits beyond width {width}; they must be 0")
    if not _is_increasing(keys):
        raise DistributionError(
            "keys are not distinct and sorted, the last word most significant; count_keys makes a table of "
            "any keys"
        )
    return np.array(keys, order="C"), counts.copy()


def _is_increasing(keys: np.ndarray) -> bool:
    low, high = keys[:-1], keys[1:]
    if keys.shape[1] == 1:
        return bool((low < high).all())
    return bool(((low[:, 1] < high[:, 1]) | ((low[:, 1] == high[:, 1]) & (low[:, 0] < high[:, 0]))).all())
