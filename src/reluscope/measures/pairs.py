"""Measures of two distributions of the same site: what changed between two steps, and how alike they are [A].

Two states are given either as objects that can be compared (`before.overlap(after)`, as `rs.PatternCounts` does), or
joined (`before.join(after) -> (c, c')`), or as two aligned arrays: c_i and c'_i for every pattern i of the union, 0 where it
did not occur. All sums are integers, so the results do not depend on the order of the patterns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from reluscope.errors import DistributionError, IncompatibleCountsError
from reluscope.measures.distribution import CountsLike, as_counts

__all__ = [
    "Changes",
    "Comparable",
    "Joinable",
    "Overlap",
    "PairLike",
    "changes",
    "jaccard",
    "overlap_of",
    "summarize_change",
    "weighted_jaccard",
]

# Two inputs and one buffer of 2^14 int64 fit the second-level cache, so each entry comes from memory once.
_CHUNK = 1 << 14


@runtime_checkable
class Comparable(Protocol):
    """A distribution that can be compared with another one of the same site without aligning the two."""

    def overlap(self, other: Any) -> Overlap:
        """What both have in common."""
        ...


@runtime_checkable
class Joinable(Protocol):
    """A distribution that can be aligned with another one of the same site."""

    def join(self, other: Any) -> tuple[Any, Any]:
        """Counts of both over the union of their patterns, two int64 arrays of equal length."""
        ...


PairLike: TypeAlias = npt.NDArray[np.integer] | Sequence[int] | Joinable | Comparable


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What happened to the set of patterns between two states.

    Attributes:
        appeared: patterns present after and not before.
        vanished: patterns present before and not after.
        net: appeared - vanished, which equals total(after) - total(before).
        relative: net / total(after); NaN when nothing is present after.
        churn_rate: (appeared + vanished) / patterns of the union, equal to 1 - jaccard; NaN when both are
            empty.
    """

    appeared: int
    vanished: int
    net: int
    relative: float
    churn_rate: float


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The six integers from which all pair measures follow.

    Attributes:
        total_before, total_after, total_both: patterns of the one, of the other, and of both.
        sum_before, sum_after, sum_minima: evaluations of the one, of the other, and the sum of min(c, c').
    """

    total_before: int
    total_after: int
    total_both: int
    sum_before: int
    sum_after: int
    sum_minima: int

    @property
    def total_union(self) -> int:
        return self.total_before + self.total_after - self.total_both

    def changes(self) -> Changes:
        appeared, vanished = self.total_after - self.total_both, self.total_before - self.total_both
        return Changes(
            appeared=appeared,
            vanished=vanished,
            net=appeared - vanished,
            relative=_ratio(appeared - vanished, self.total_after),
            churn_rate=_ratio(appeared + vanished, self.total_union),
        )

    def jaccard(self) -> float:
        return _ratio(self.total_both, self.total_union)

    def weighted_jaccard(self) -> float:
        # max(c, c') = c + c' - min(c, c')
        return _ratio(self.sum_minima, self.sum_before + self.sum_after - self.sum_minima)


def changes(before: PairLike, after: PairLike) -> Changes:
    """Patterns that appeared and vanished between two states.

    Args:
        before: the earlier state: an object with `join`, or counts aligned with `after`, (U,), entries >= 0.
        after: the later state, likewise.

    Raises:
        IncompatibleCountsError: one can be joined and the other not, or the arrays differ in length.
        DistributionError: not one-dimensional integers >= 0.

    Unit: patterns. Source: [A] Eq. 6, split into its two terms and with the sign of the authors' figures.

    >>> changes([2, 1, 0], [2, 0, 2])
    Changes(appeared=1, vanished=1, net=0, relative=0.0, churn_rate=0.6666666666666666)
    """
    return overlap_of(before, after).changes()


def jaccard(a: PairLike, b: PairLike) -> float:
    """Similarity of two sets of patterns: size of the intersection / size of the union.

    Args:
        a: an object with `join`, or counts aligned with `b`, (U,), entries >= 0.
        b: likewise.

    Raises:
        IncompatibleCountsError: one can be joined and the other not, or the arrays differ in length.
        DistributionError: not one-dimensional integers >= 0.

    Bounds: 0 (nothing in common) to 1 (the same set); NaN when both are empty. It counts a pattern seen once
    like one seen a million times, and so depends on the size of the probe. Source: [A], section 3.2.

    >>> jaccard([2, 1, 0], [2, 0, 2])
    0.3333333333333333
    """
    return overlap_of(a, b).jaccard()


def weighted_jaccard(a: PairLike, b: PairLike) -> float:
    """Similarity of two distributions of patterns: sum min(c_i, c'_i) / sum max(c_i, c'_i), after Ruzicka.

    Args:
        a: an object with `join`, or counts aligned with `b`, (U,), entries >= 0.
        b: likewise.

    Raises:
        IncompatibleCountsError: one can be joined and the other not, or the arrays differ in length.
        DistributionError: not one-dimensional integers >= 0.

    Bounds: 0 (nothing in common) to 1 (equal counts); NaN when both are empty. Source: [A] Eq. 10.

    >>> weighted_jaccard([2, 1, 0], [2, 0, 1])
    0.5
    """
    return overlap_of(a, b).weighted_jaccard()


def summarize_change(before: PairLike, after: PairLike) -> dict[str, float]:
    """All measures of the family "changes", and both similarities, in one walk over the two tables.

    Args:
        before: the earlier state: an object with `overlap` or `join`, or counts aligned with `after`, (U,), entries >= 0.
        after: the later state, likewise.

    Returns:
        appeared, vanished, net_change (int), relative_change, churn_rate, weighted_jaccard, jaccard.

    Raises:
        IncompatibleCountsError: one can be joined and the other not, or the arrays differ in length.
        DistributionError: not one-dimensional integers >= 0.

    >>> summarize_change([2, 1, 0], [2, 0, 1])["weighted_jaccard"]
    0.5
    """
    overlap = overlap_of(before, after)
    change = overlap.changes()
    return {
        "appeared": change.appeared,
        "vanished": change.vanished,
        "net_change": change.net,
        "relative_change": change.relative,
        "churn_rate": change.churn_rate,
        "weighted_jaccard": overlap.weighted_jaccard(),
        "jaccard": overlap.jaccard(),
    }


def overlap_of(before: PairLike, after: PairLike) -> Overlap:
    """What two states have in common: found by themselves if they can, else from their counts over the union.

    Raises:
        IncompatibleCountsError, DistributionError: as of `changes`.
    """
    if isinstance(before, Comparable) and isinstance(after, Comparable):
        return before.overlap(after)
    return _overlap(*_aligned(before, after))


def _aligned(a: PairLike, b: PairLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both counts over the union of the patterns."""
    joinable = isinstance(a, Joinable), isinstance(b, Joinable)
    if joinable[0] != joinable[1]:
        raise IncompatibleCountsError(
            f"a pair of {type(a).__name__} and {type(b).__name__} was given; a pair is either two objects "
            "with `join` or two aligned arrays."
        )
    left, right = a.join(b) if isinstance(a, Joinable) else (cast("CountsLike", a), cast("CountsLike", b))
    count_a, count_b = as_counts(left, what="the first counts"), as_counts(right, what="the second counts")
    if count_a.size != count_b.size:
        raise IncompatibleCountsError(
            f"aligned counts have one entry for every pattern of the union; found {count_a.size} and "
            f"{count_b.size}. Join the two tables first (PatternCounts.join), with 0 where a pattern did not "
            "occur."
        )
    return count_a, count_b


def _overlap(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> Overlap:
    """Sums over the union, chunk by chunk through one buffer."""
    minima = np.empty(min(_CHUNK, before.size), dtype=np.int64)
    totals = [0, 0, 0]
    sums = [0, 0, 0]
    for start in range(0, before.size, _CHUNK):
        b, a = before[start : start + _CHUNK], after[start : start + _CHUNK]
        m = np.minimum(b, a, out=minima[: b.size])
        if m.min() < 0:
            raise DistributionError(f"aligned counts must be at least 0, found {int(m.min())}.")
        for index, values in enumerate((b, a, m)):
            totals[index] += int(np.count_nonzero(values))
            sums[index] += int(values.sum())
    return Overlap(
        total_before=totals[0],
        total_after=totals[1],
        total_both=totals[2],
        sum_before=sums[0],
        sum_after=sums[1],
        sum_minima=sums[2],
    )


def _ratio(numerator: int, denominator: int) -> float:
    """Correctly rounded quotient of two integers; NaN where the denominator is 0."""
    return numerator / denominator if denominator else math.nan
