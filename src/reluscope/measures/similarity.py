"""Similarity of two distributions from coordinated samples of their patterns, with standard errors.

A sample keeps a pattern with count c when u < c/tau, where u in [0, 1) is a hash of the pattern, the same at
every step, and tau = N/k. It is a Poisson sample with inclusion probability p = min(1, c/tau), at most k
patterns expected. Because u is shared, a pattern is in two samples with probability min(p, p'), and samples
of similar states hold the same patterns. The hash is drawn elsewhere (`reluscope.patterns.draw_sample`); here
samples are arrays. Symbols below, sums over sampled patterns, "both" over those in both samples:

    f = c (weighted_jaccard) or 1 (jaccard)    m = min(f, f')    q = min(p, p')    T = sum f + sum f', known
    S_HT = sum_both m/q      F = sum f/p, F' likewise      r = S_HT / (F + F'), clipped      S = r T
    similarity = S / (T - S) = r / (1 - r)

The ratio form is exactly 1 for unchanged counts, which S_HT / (T - S_HT) is not. Its linearisation has, with
g = f (1/p - 1), the variance

    Var = sum_both m^2 (1/q - 1)/q + r^2 [sum g f/p + sum g' f'/p' + 2 sum_both f f' (1/max(p, p') - 1)/q]
          - 2 r sum_both m (g + g')/q
    SE = T / (T - S)^2 sqrt(max(Var, 0))

Var is estimated from the patterns that were sampled, so it is too small where few were: of a distribution of
which a thousandth changed, samples often show no change at all. So one unseen pattern in both, which adds
tau (1 - 2r) to the linearised S, and one in a single sample, which adds tau r, are counted in (tau being the
larger one): Var + tau^2 ((1 - 2r)^2 + r^2) is under the root. That is what adding one does for a count in a
Poisson interval; it matters below some ten patterns only.

Where both samples are whole tables, all p are 1 and the similarity is exact. Where no pattern is in both,
the estimate is 0 and an upper bound takes the place of the variance (`_upper_bound`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from reluscope.errors import DistributionError, IncompatibleCountsError

__all__ = [
    "KINDS",
    "PatternSample",
    "Similarities",
    "SimilarityKind",
    "similarities",
    "similarity_matrix",
]

SimilarityKind: TypeAlias = Literal["weighted_jaccard", "jaccard"]
KINDS: tuple[SimilarityKind, ...] = ("weighted_jaccard", "jaccard")

_LOG_20 = 2.995732273553991  # P(no pattern in both) <= exp(-x) is below 5 % from here on
_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class PatternSample:
    """A sample of the patterns of one site at one step, or its whole table.

    Args:
        keys: uint64 (n, W), distinct and sorted as in `reluscope.PatternCounts`.
        counts: int64 (n,), how often each occurred, every entry >= 1.
        tau: the count from which on every pattern is in the sample, N/k; 0.0 for a whole table, or all of an estimate.
        num_evaluations: N, the sum of the counts of all patterns, sampled or not.
        num_patterns: P, how many patterns there are, sampled or not; estimated where there are ceilings.
        ceilings: float64 (n,), of a distribution that is itself an estimate (a memory budget): the probability of
            each pattern to be in it, by the same hash; None where it is exact.

    Raises:
        DistributionError: the arrays are no such sample.
    """

    keys: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    tau: float
    num_evaluations: int
    num_patterns: int
    ceilings: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        keys, counts, ceilings = self.keys, self.counts, self.ceilings
        if ceilings is not None and (
            ceilings.shape != counts.shape or not ((ceilings > 0.0) & (ceilings <= 1.0)).all()
        ):
            raise DistributionError(
                "the ceilings of a sample are probabilities above 0, one for each of its patterns."
            )
        if keys.ndim != 2 or keys.dtype != np.uint64 or counts.shape != keys.shape[:1]:
            raise DistributionError(
                f"keys of dtype {keys.dtype} and shape {keys.shape} with counts of shape {counts.shape} are no "
                "sample; give uint64 (n, words) and int64 (n,)."
            )
        if counts.dtype != np.int64 or (counts.size and counts.min() < 1):
            raise DistributionError("the counts of a sample are int64 and at least 1.")
        if not self.tau >= 0.0:
            raise DistributionError(f"tau={self.tau!r} must be 0 (a whole table) or N/k, above 0.")
        if self.is_whole and (self.num_patterns, self.num_evaluations) != (len(counts), int(counts.sum())):
            raise DistributionError(
                f"{len(counts)} patterns with {int(counts.sum())} evaluations are not the whole table of "
                f"{self.num_patterns} patterns with {self.num_evaluations} evaluations."
            )

    @property
    def is_whole(self) -> bool:
        """Whether it holds every pattern, so that nothing about it is uncertain."""
        return self.tau == 0.0 and self.ceilings is None

    @property
    def probabilities(self) -> _Floats:
        """Probability of each pattern to be in the sample, min(1, c/tau), float64 (n,), or its ceiling if that is less."""
        highest = np.ones(len(self.counts)) if self.ceilings is None else self.ceilings
        return highest.copy() if self.tau == 0.0 else np.minimum(highest, self.counts / self.tau)

    @property
    def largest_weight(self) -> float:
        """What a pattern that was sampled stands for at most: tau, or one over the least ceiling; 0.0 if whole."""
        if self.ceilings is None or not len(self.ceilings):
            return self.tau
        return max(self.tau, 1.0 / float(self.ceilings.min()))

    def __repr__(self) -> str:
        kept = "all" if self.is_whole else f"{len(self.counts)} of"
        return f"PatternSample({kept} {self.num_patterns} patterns, num_evaluations={self.num_evaluations})"


@dataclass(frozen=True, kw_only=True)
class Similarities:
    """Similarities of pairs; three arrays of one shape.

    Attributes:
        value: float64, 0 (nothing in common) to 1 (equal); NaN when both states are empty.
        standard_error: float64, over the hash. 0 where exact. Where no sampled pattern is in both, half of the
            95 % upper bound of the similarity, so that two standard errors reach it there too.
        exact: bool, whether the value is the true one and not an estimate.
    """

    value: _Floats
    standard_error: _Floats
    exact: npt.NDArray[np.bool_]


def similarity_matrix(
    samples: Sequence[PatternSample], kind: SimilarityKind = "weighted_jaccard"
) -> Similarities:
    """Similarity of every two of S samples of one site, arrays (S, S), symmetric.

    Args:
        samples: of one site, drawn with one hash.
        kind: "weighted_jaccard", sum min(c, c') / sum max(c, c'), or "jaccard", of the sets of patterns.

    Raises:
        IncompatibleCountsError: keys of different width, or an unknown kind.

    Cost: S walks over all sampled patterns; 300 samples of 4,096 patterns take a few seconds.
    """
    indexed = _Indexed(samples, kind)
    num = len(samples)
    found = Similarities(
        value=np.ones((num, num)), standard_error=np.zeros((num, num)), exact=np.ones((num, num), dtype=bool)
    )
    for row in range(num):
        # A state is like itself, sampled or not; an empty one is like nothing.
        found.value[row, row] = np.nan if indexed.totals[row] == 0 else 1.0
        others = slice(row + 1, num)
        _put(found, (row, others), indexed.row(row, row + 1, num))
        _put(found, (others, row), _at(found, (row, others)))
    return found


def similarities(
    samples: Sequence[PatternSample],
    others: Sequence[PatternSample],
    kind: SimilarityKind = "weighted_jaccard",
) -> Similarities:
    """Similarity of each of `samples` to each of `others`, arrays (samples, others); see `similarity_matrix`.

    >>> keys, counts = np.array([[1], [2], [3]], np.uint64), np.array([2, 1, 1])
    >>> before = PatternSample(keys, counts, 0.0, 4, 3)
    >>> after = PatternSample(keys[:2], np.array([2, 2]), 0.0, 4, 2)
    >>> similarities([before], [after]).value
    array([[0.6]])
    """
    indexed = _Indexed([*samples, *others], kind)
    shape = (len(samples), len(others))
    found = Similarities(
        value=np.empty(shape), standard_error=np.empty(shape), exact=np.empty(shape, dtype=bool)
    )
    for row in range(len(samples)):
        _put(found, (row, slice(None)), indexed.row(row, len(samples), sum(shape)))
    return found


class _Indexed:
    """Samples laid end to end, every pattern with one number that is the same in all of them."""

    def __init__(self, samples: Sequence[PatternSample], kind: str) -> None:
        if kind not in KINDS:
            raise IncompatibleCountsError(f"kind={kind!r}; allowed are {', '.join(map(repr, KINDS))}.")
        self._pattern, self._num_patterns = _number_patterns([one.keys for one in samples])
        lengths = [len(one.counts) for one in samples]
        self._ends = np.cumsum([0, *lengths])
        self._sample = np.repeat(np.arange(len(samples)), lengths)
        self._p = np.concatenate([one.probabilities for one in samples] or [np.empty(0)])
        if kind == "jaccard":
            self._f = np.ones(len(self._p))
            totals = [one.num_patterns for one in samples]
        else:
            self._f = np.concatenate([one.counts for one in samples] or [np.empty(0)]).astype(np.float64)
            totals = [one.num_evaluations for one in samples]
        self.totals = np.array(totals, dtype=np.float64)
        self._g = self._f * (1.0 / self._p - 1.0)
        num = len(samples)
        self._estimated = np.bincount(self._sample, self._f / self._p, minlength=num)  # F
        self._variance = np.bincount(self._sample, self._g * self._f / self._p, minlength=num)
        self._tau = np.array([one.largest_weight for one in samples])
        # Of the sample at hand, by pattern; -1: not in it. Filled and emptied row by row.
        self._place = np.full(self._num_patterns, -1, dtype=np.int64)

    def row(self, sample: int, first: int, last: int) -> tuple[_Floats, _Floats, npt.NDArray[np.bool_]]:
        """Value, standard error and exactness of one sample against those from `first` to `last` - 1."""
        own = slice(self._ends[sample], self._ends[sample + 1])
        self._place[self._pattern[own]] = np.arange(own.start, own.stop)
        theirs = np.arange(self._ends[first], self._ends[last])
        place = self._place[self._pattern[theirs]]
        self._place[self._pattern[own]] = -1
        in_both = np.flatnonzero(place >= 0)
        sums = self._sums(place[in_both], theirs[in_both], first, last)
        return self._estimate(sample, first, last, *sums)

    def _sums(self, a: np.ndarray, b: np.ndarray, first: int, last: int) -> list[_Floats]:
        """The four sums over patterns in both, per other sample; `a` and `b` are the places of each pattern."""
        f_a, f_b, p_a, p_b = self._f[a], self._f[b], self._p[a], self._p[b]
        q = np.minimum(p_a, p_b)
        m = np.minimum(f_a, f_b)
        terms = (
            m / q,
            m * m * (1.0 / q - 1.0) / q,
            f_a * f_b * (1.0 / np.maximum(p_a, p_b) - 1.0) / q,
            m * (self._g[a] + self._g[b]) / q,
        )
        other = self._sample[b] - first
        return [np.bincount(other, term, minlength=last - first).astype(np.float64) for term in terms]

    def _estimate(
        self,
        sample: int,
        first: int,
        last: int,
        minima: _Floats,
        own: _Floats,
        cross: _Floats,
        mixed: _Floats,
    ) -> tuple[_Floats, _Floats, npt.NDArray[np.bool_]]:
        others = slice(first, last)
        total, other = self.totals[sample], self.totals[others]
        both = total + other
        exact = (self._tau[others] == 0.0) & (self._tau[sample] == 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):  # empty states: 0/0 is NaN, as it is to be
            largest = np.minimum(total, other) / both
            r = np.minimum(minima / (self._estimated[sample] + self._estimated[others]), largest)
            # Of integers: the correctly rounded quotient, the same one that the whole tables give.
            value = np.where(exact, minima / (both - minima), r / (1.0 - r))
            spread = self._variance[sample] + self._variance[others] + 2.0 * cross
            variance = own + r * r * spread - 2.0 * r * mixed
            tau = np.maximum(self._tau[sample], self._tau[others])
            unseen = tau * tau * ((1.0 - 2.0 * r) ** 2 + r * r)
            error = np.sqrt(np.maximum(variance, 0.0) + unseen) / (both * (1.0 - r) ** 2)
            unmet = 0.5 * _upper_bound(tau, both, largest)
        error = np.where(minima == 0.0, unmet, error)
        return value, np.where(exact, 0.0, error), exact


def _upper_bound(tau: _Floats, both: _Floats, largest: _Floats) -> _Floats:
    """95 % upper bound of a similarity of which no pattern was found in both samples.

    A common pattern is in both samples with probability q >= min(1, m/tau), tau the larger of the two, so none
    is with probability at most exp(-sum m/tau) = exp(-S/tau): S < 3.0 tau. For N = N' that makes the
    similarity smaller than 3/(2k - 3), about 3/(2k); clipped to the largest that N and N' allow.
    """
    share = np.minimum(_LOG_20 * tau / both, largest)
    return share / (1.0 - share)


def _number_patterns(tables: Sequence[npt.NDArray[np.uint64]]) -> tuple[npt.NDArray[np.int64], int]:
    """A number below the second result for each key of the tables, laid end to end; equal for equal keys."""
    words = {keys.shape[1] for keys in tables}
    if len(words) > 1:
        raise IncompatibleCountsError(
            f"keys of {' and '.join(map(str, sorted(words)))} words were given; samples of one site have one width."
        )
    if not tables:
        return np.empty(0, dtype=np.int64), 0
    first, *rest = np.concatenate(tables).T
    values, numbers = np.unique(first, return_inverse=True)
    for word in rest:
        others, place = np.unique(word, return_inverse=True)
        values, numbers = np.unique(numbers * max(1, len(others)) + place, return_inverse=True)
    return numbers, len(values)


def _put(found: Similarities, where: tuple, values: tuple) -> None:
    found.value[where], found.standard_error[where], found.exact[where] = values


def _at(found: Similarities, where: tuple) -> tuple:
    return found.value[where], found.standard_error[where], found.exact[where]
