"""Measures of one distribution of which only some patterns are known, each with a standard error.

Pattern i with count c_i was kept with probability p_i, by a hash of the pattern (`kernels.thin`); the counts that were kept
are true, and so is N. Every measure here is a function of sums over all patterns, sum f_i, of which

    F = sum over kept of f/p,    Cov(F, G) = sum over kept of f g (1 - p)/p^2

are estimates without bias and of their covariance (Horvitz and Thompson 1952). Since N = sum c is known, a sum is
estimated by its regression on it, F - b (C - N), C = sum c/p, b = Cov(F, C)/Var(C): what all patterns share in the error
cancels. Where every pattern was seen once, F and C are one, and the total is exact.

The regression trusts that what was dropped is like what was kept. Where C is short of N by more than four of its standard
errors it is not: a pattern that became frequent late, after its first evaluations had been dropped, is in no sample. Then
there is no regression, what is missing counts as between one and sixteen patterns, and the error bars hold both.

As in `similarity`, one unseen pattern (seen once or twice, whichever matters more) is added to each variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reluscope.errors import DistributionError
from reluscope.measures.distribution import CountsLike, spectrum
from reluscope.measures.labels import largest_conditional, largest_joint, present_classes
from reluscope.measures.patterns import check_widths, largest_entropy, largest_total

__all__ = [
    "Estimate",
    "Moments",
    "error_name",
    "moments",
    "regression",
    "summarize_estimate",
    "summarize_labels_estimate",
]

# The sums, in this order: c, 1, whether c = 1, c log2 c, sum over the groups of c log2 c.
COUNT, ONE, ONCE, SELF, GROUPS = range(5)
_NUM = 5
_CHUNK = 1 << 17
# Standard errors of C from which on it is too far below N to be chance.
_TRUST = 4.0
_MOST_MISSING = 16

_Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and its standard error over the hash; 0.0 where the value is exact."""

    value: float
    standard_error: float


def error_name(measure: str) -> str:
    """The column that holds the standard errors of a measure.

    >>> error_name("entropy")
    'entropy_error'
    """
    return f"{measure}_error"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Estimated sums over all patterns, and the covariance of their errors.

    Attributes:
        sums: float64 (5,): c, 1, [c = 1], c log2 c, and the sum over groups of c log2 c.
        covariance: float64 (5, 5).
        num_evaluations: N, known.
        num_kept, kept_evaluations, largest: patterns that were kept, the sum and the largest of their counts.
        least_probability: with which a pattern was kept that was never frequent.
    """

    sums: _Floats
    covariance: _Floats
    num_evaluations: int
    num_kept: int
    kept_evaluations: int
    largest: int
    least_probability: float

    def linear(self, weights: _Floats) -> Estimate:
        """The estimate of weights (5,) times the sums."""
        slope, missing = regression(
            self.sums[COUNT], self.num_evaluations, self.covariance[COUNT] @ weights, self.covariance[0, 0]
        )
        value = float(weights @ self.sums) - slope * (self.sums[COUNT] - self.num_evaluations)
        residual = weights.copy()
        residual[COUNT] -= slope
        unseen = max(abs(float(residual @ one)) for one in _UNSEEN)
        p = self.least_probability
        variance = float(residual @ self.covariance @ residual) + unseen**2 * (1.0 - p) / p**2
        if missing:
            ends = [float(weights @ _of_pattern(missing, number)) for number in (1, _MOST_MISSING)]
            value += sum(ends) / 2.0
            variance += ((ends[0] - ends[1]) / 2.0) ** 2
        return Estimate(value, math.sqrt(max(variance, 0.0)))


def moments(
    counts: npt.NDArray[np.int64],
    levels: npt.NDArray[np.uint8],
    *,
    num_evaluations: int,
    level: int,
    group_sums: _Floats | None = None,
) -> Moments:
    """One walk over the patterns that were kept.

    Args:
        counts: int64 (P,), their true counts, at least 1.
        levels: uint8 (P,): pattern i was kept with probability 2^-levels[i].
        num_evaluations: N, all evaluations, kept or not.
        level: of patterns that were never frequent.
        group_sums: float64 (P,), sum over the groups of c log2 c of each pattern; None without groups.

    Raises:
        DistributionError: arrays of different lengths, or more kept than there is.
    """
    kept = int(counts.sum())
    if counts.shape != levels.shape or kept > num_evaluations:
        raise DistributionError(
            f"{len(counts)} counts of {kept} evaluations with {len(levels)} levels are no sample of "
            f"{num_evaluations} evaluations."
        )
    sums, covariance = np.zeros(_NUM), np.zeros((_NUM, _NUM))
    for start in range(0, len(counts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        c = counts[chunk].astype(np.float64)
        weight = np.exp2(levels[chunk].astype(np.float64))  # 1/p
        groups = np.zeros_like(c) if group_sums is None else group_sums[chunk]
        values = np.stack([c, np.ones_like(c), c == 1.0, c * np.log2(c), groups])
        sums += values @ weight
        covariance += (values * (weight * (weight - 1.0))) @ values.T
    return Moments(
        sums=sums,
        covariance=covariance,
        num_evaluations=num_evaluations,
        num_kept=len(counts),
        kept_evaluations=kept,
        largest=int(counts.max(initial=0)),
        least_probability=2.0**-level,
    )


def regression(
    estimated: float, num_evaluations: int, covariance: float, variance: float
) -> tuple[float, float]:
    """The slope b of a sum on the count of evaluations, and how many of these are missing beyond chance.

    Args:
        estimated: C, of the evaluations; num_evaluations: N.
        covariance: of the sum and C; variance: of C.
    """
    missing = num_evaluations - float(estimated)
    if missing > _TRUST * math.sqrt(variance) and missing > 1e-9 * num_evaluations:
        return 0.0, missing
    return (covariance / variance if variance > 0.0 else 0.0), 0.0


def summarize_estimate(
    found: Moments, *, width: int, num_units: int, num_kinks: int, heavy_frequency: float
) -> dict[str, float]:
    """All measures of the family "counts" and their standard errors, under `error_name`.

    The largest frequency is that of the patterns that were kept. Its error is half of what a dropped pattern can have
    more: evaluations that no pattern of the table accounts for, at the frequency that a dropped one can have had.

    Args:
        found: of `moments`.
        width: bits of the pattern, num_units x num_kinks.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.
        heavy_frequency: no dropped pattern was more frequent when it was dropped.

    Raises:
        DistributionError: width is not num_units x num_kinks.
    """
    check_widths(width=width, num_units=num_units, num_kinks=num_kinks)
    n = found.num_evaluations
    most = largest_total(n, num_units=num_units, num_kinks=num_kinks)
    total = found.linear(_weights({ONE: 1.0}))
    rounded = min(max(round(total.value), found.num_kept), most)
    row: dict[str, float] = {}
    _put(row, "total", Estimate(rounded, total.standard_error))
    _put(row, "total_fraction", Estimate(rounded / most, total.standard_error / most))
    frequency = found.largest / n
    possible = min((n - found.kept_evaluations) / n, heavy_frequency)
    _put(row, "max_frequency", Estimate(frequency, max(0.0, possible - frequency) / 2.0))
    largest = largest_entropy(n, num_units=num_units, num_kinks=num_kinks)
    entropy = _entropy(found, _weights({SELF: -1.0 / n}))
    _put(row, "entropy", _clipped(entropy, 0.0, largest))
    _put(row, "relative_entropy", _share(entropy, largest))
    correction = 1.0 / (2.0 * n * math.log(2.0))
    corrected = _entropy(found, _weights({SELF: -1.0 / n, ONE: correction}))
    shifted = Estimate(corrected.value - correction, corrected.standard_error)
    _put(row, "entropy_corrected", _clipped(shifted, 0.0, math.inf))
    once = found.linear(_weights({ONCE: 1.0}))
    _put(row, "coverage", _clipped(Estimate(1.0 - once.value / n, once.standard_error / n), 0.0, 1.0))
    return row


def summarize_labels_estimate(
    found: Moments, *, width: int, num_units: int, num_kinks: int, class_evaluations: CountsLike
) -> dict[str, float]:
    """All measures of the family "labels" that need no permutation, and their standard errors.

    Args:
        found: of `moments`, with the sums over the groups.
        width, num_units, num_kinks: as in `summarize_estimate`.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.

    Raises:
        DistributionError: width is not num_units x num_kinks.
        LabelsError: the classes do not hold N evaluations.
    """
    check_widths(width=width, num_units=num_units, num_kinks=num_kinks)
    n = found.num_evaluations
    classes = present_classes(class_evaluations, n)
    of_labels = spectrum(classes).entropy()
    kinks = {"num_units": num_units, "num_kinks": num_kinks}
    joint = _entropy(found, _weights({GROUPS: -1.0 / n}))
    known = found.linear(_weights({SELF: -1.0 / n, GROUPS: 1.0 / n}))
    estimates = {
        "joint_entropy": (joint, largest_joint(classes, **kinks)),
        "conditional_entropy": (
            Estimate(joint.value - of_labels, joint.standard_error),
            largest_conditional(classes, **kinks),
        ),
        "information": (
            Estimate(known.value + of_labels, known.standard_error),
            min(num_units * math.log2(num_kinks + 1), of_labels),
        ),
    }
    row: dict[str, float] = {}
    for name, (estimate, largest) in estimates.items():
        _put(row, name, _clipped(estimate, 0.0, largest))
        _put(row, f"relative_{name}", _share(estimate, largest))
    return row


def _entropy(found: Moments, weights: _Floats) -> Estimate:
    """log2 N plus a weighted sum."""
    estimate = found.linear(weights)
    return Estimate(math.log2(found.num_evaluations) + estimate.value, estimate.standard_error)


def _of_pattern(evaluations: float, number: int) -> _Floats:
    """The sums of so many patterns with equal counts, each of one group."""
    each = evaluations / number
    bits = evaluations * math.log2(each) if each > 0 else 0.0
    return np.array([evaluations, number, number if each == 1.0 else 0.0, bits, bits])


# Patterns that no sample may show: seen once, twice, and twice in different groups.
_UNSEEN = (_of_pattern(1, 1), _of_pattern(2, 1), np.array([2.0, 1.0, 0.0, 2.0, 0.0]))


def _weights(values: dict[int, float]) -> _Floats:
    found = np.zeros(_NUM)
    for place, value in values.items():
        found[place] = value
    return found


def _put(row: dict[str, float], name: str, estimate: Estimate) -> None:
    row[name], row[error_name(name)] = estimate


def _clipped(estimate: Estimate, lower: float, upper: float) -> Estimate:
    return Estimate(min(max(estimate.value, lower), upper), estimate.standard_error)


def _share(estimate: Estimate, largest: float) -> Estimate:
    if largest <= 0.0:
        return Estimate(math.nan, math.nan)
    return Estimate(min(max(estimate.value / largest, 0.0), 1.0), estimate.standard_error / largest)
