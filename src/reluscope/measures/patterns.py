"""Measures of one distribution of activation patterns [A].

Notation: c_i occurrences of pattern i, N = sum c_i evaluations, d the width in bits. A site with K kinks per
unit can show (K + 1)^units patterns: with several kinks per unit the bits of one unit are nested, so 2^d is
out of reach. The single functions raise `EmptyCountsError` where nothing was counted and the quantity is not
defined; `summarize` gives NaN there, since a table of rows has to hold something.
"""

from __future__ import annotations

import math

from reluscope.errors import DistributionError, EmptyCountsError
from reluscope.measures.distribution import CountsLike, HasCounts, Spectrum, spectrum

__all__ = [
    "check_widths",
    "coverage",
    "entropy",
    "entropy_corrected",
    "largest_entropy",
    "largest_total",
    "max_frequency",
    "nan_fraction",
    "occupancy",
    "relative_entropy",
    "summarize",
    "summarize_hashlist",
    "total",
    "total_fraction",
]


def total(counts: CountsLike) -> int:
    """Number of distinct patterns, the number of i with c_i > 0.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.

    Raises:
        DistributionError: counts are not integers >= 1.

    Unit: patterns. Bounds: 1 to min(2^d, N); 0 when nothing was counted. Source: [A] Eq. 5.

    >>> total([3, 1])
    2
    """
    return spectrum(counts).total


def total_fraction(counts: CountsLike, *, width: int | None = None, num_kinks: int = 1) -> float:
    """Distinct patterns as a share of those that could have occurred, total / min((K + 1)^units, N).

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.
        width: bits of the pattern; `counts.width` where it is not given.
        num_kinks: K, kinks per unit. With one kink the bound is min(2^d, N).

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1, or the width is missing or not a multiple of the
            kinks.

    Bounds: 0 (exclusive) to 1. Source: [A] Eq. 5, made relative.

    >>> total_fraction([3, 1], width=16)
    0.5
    """
    found = _counted(counts, "total_fraction")
    return _total_fraction(found, num_units=_units(counts, width, num_kinks), num_kinks=num_kinks)


def max_frequency(counts: CountsLike) -> float:
    """Share of the evaluations that show the most frequent pattern, max c_i / N.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.

    Bounds: 0 (exclusive) to 1. Source: [A] Eq. 7, the "default case".

    >>> max_frequency([3, 1])
    0.75
    """
    found = _counted(counts, "max_frequency")
    return found.largest / found.num_evaluations


def entropy(counts: CountsLike) -> float:
    """Plug-in entropy of a pattern distribution, in bits.

    H = -sum_i p_i log2 p_i, with p_i = c_i / N.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.

    Raises:
        EmptyCountsError: nothing was counted; the entropy of nothing is not zero.
        DistributionError: counts are not integers >= 1.

    Bounds: 0 (one pattern) to min(d, log2 N). Biased low by about (P - 1) / (2 N ln 2) bits for P patterns;
    see `entropy_corrected`. Source: [A] Eq. 8, normalised by N (the print divides by 2^d, which is no
    distribution).

    >>> import numpy as np
    >>> entropy(np.array([2, 2]))
    1.0
    """
    return _counted(counts, "entropy").entropy()


def relative_entropy(counts: CountsLike, *, width: int | None = None, num_kinks: int = 1) -> float:
    """Entropy as a share of the largest it could be, H / min(units log2(K + 1), log2 N).

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.
        width: bits of the pattern; `counts.width` where it is not given.
        num_kinks: K, kinks per unit. With one kink the bound is min(d, log2 N).

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1, or the width is missing or not a multiple of the
            kinks.

    Bounds: 0 to 1; NaN when N = 1. Source: [A] Eq. 9, "ActEnt".

    >>> relative_entropy([1, 1, 1, 1], width=16)
    1.0
    """
    found = _counted(counts, "relative_entropy")
    return _relative_entropy(found, num_units=_units(counts, width, num_kinks), num_kinks=num_kinks)


def entropy_corrected(counts: CountsLike) -> float:
    """Entropy with the Miller-Madow correction for its bias, H + (total - 1) / (2 N ln 2), in bits.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.

    Bounds: 0 upwards; may exceed min(d, log2 N), by less than 1 / (2 ln 2) = 0.73 bits. The correction
    assumes independent evaluations and means nothing at a coverage under 0.5. Source: Miller 1955, "Note on
    the bias of information estimates".

    >>> round(entropy_corrected([2, 2]), 4)
    1.1803
    """
    return _entropy_corrected(_counted(counts, "entropy_corrected"))


def coverage(counts: CountsLike) -> float:
    """Good-Turing estimate of the probability that one more evaluation shows a pattern already seen.

    1 - f_1 / N, with f_1 the number of patterns seen exactly once.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.

    Bounds: 0 (every evaluation shows a pattern of its own) to 1 (no pattern was seen only once). Below 0.5
    the entropy is the sample's and not the layer's, and similarities vanish by construction. Source: Good
    1953, "The population frequencies of species and the estimation of population parameters".

    >>> coverage([3, 1])
    0.75
    """
    found = _counted(counts, "coverage")
    return 1.0 - found.num_singletons / found.num_evaluations


def occupancy(num_used: int, size: int) -> float:
    """Used slots of a hash list as a share of its size.

    Args:
        num_used: slots that hold a count above 0.
        size: slots of the list.

    Raises:
        DistributionError: size below 1, or num_used not within 0 .. size.

    Bounds: 0 to 1; [A] keeps it under 0.15 to trust its figures. Source: [A] Algorithm 1.

    >>> occupancy(3, 4)
    0.75
    """
    if size < 1 or not 0 <= num_used <= size:
        raise DistributionError(
            f"the occupancy of {num_used} slots out of {size} was asked for; the size must be at least 1 and "
            "the used slots between 0 and the size."
        )
    return num_used / size


def nan_fraction(num_nan: int, num_values: int) -> float:
    """Share of the pre-activations that were NaN; NaN counts as "not above the kink" in every pattern.

    Args:
        num_nan: NaN pre-activations seen.
        num_values: pre-activations seen (evaluations x units).

    Raises:
        EmptyCountsError: num_values is 0.
        DistributionError: num_nan not within 0 .. num_values.

    Bounds: 0 to 1. Source: reluscope.

    >>> nan_fraction(1, 4)
    0.25
    """
    if num_values == 0:
        raise EmptyCountsError(
            "nan_fraction was asked for, but no pre-activation was seen, so no share is defined."
        )
    if not 0 <= num_nan <= num_values:
        raise DistributionError(
            f"{num_nan} NaN among {num_values} values: must lie between 0 and that number."
        )
    return num_nan / num_values


def summarize(counts: CountsLike, *, width: int, num_units: int, num_kinks: int) -> dict[str, float]:
    """All measures of the family "counts" in one walk over the table.

    Args:
        counts: occurrences of each distinct pattern, every entry >= 1; may be empty.
        width: bits of the pattern, num_units x num_kinks.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.

    Returns:
        total (int), total_fraction, max_frequency, entropy, relative_entropy, entropy_corrected, coverage.
        Nothing counted: total 0 and the rest NaN.

    Raises:
        DistributionError: counts are not integers >= 1, or width is not num_units x num_kinks.

    >>> summarize([2, 2], width=1, num_units=1, num_kinks=1)["relative_entropy"]
    1.0
    """
    check_widths(width=width, num_units=num_units, num_kinks=num_kinks)
    found = spectrum(counts)
    num_evaluations = found.num_evaluations
    if num_evaluations == 0:
        undefined = (
            *("total_fraction", "max_frequency", "entropy"),
            *("relative_entropy", "entropy_corrected", "coverage"),
        )
        return {"total": 0} | dict.fromkeys(undefined, math.nan)
    return {
        "total": found.total,
        "total_fraction": _total_fraction(found, num_units=num_units, num_kinks=num_kinks),
        "max_frequency": found.largest / num_evaluations,
        "entropy": found.entropy(),
        "relative_entropy": _relative_entropy(found, num_units=num_units, num_kinks=num_kinks),
        "entropy_corrected": _entropy_corrected(found),
        "coverage": 1.0 - found.num_singletons / num_evaluations,
    }


def summarize_hashlist(counts: CountsLike, *, size: int) -> dict[str, float]:
    """All measures of the family "hashlist", from the used slots of a hash list of `size` slots.

    Args:
        counts: counts of the used slots, every entry >= 1; may be empty.
        size: slots of the list.

    Returns:
        hashlist_total (int), hashlist_entropy, hashlist_max_frequency, occupancy.

    Raises:
        DistributionError: counts are not integers >= 1, or more slots are used than there are.
    """
    found = spectrum(counts)
    num_evaluations = found.num_evaluations
    return {
        "hashlist_total": found.total,
        "hashlist_entropy": found.entropy(),
        "hashlist_max_frequency": found.largest / num_evaluations if num_evaluations else math.nan,
        "occupancy": occupancy(found.total, size),
    }


def largest_total(num_evaluations: int, *, num_units: int, num_kinks: int = 1) -> int:
    """The most distinct patterns that N evaluations can show, min((K + 1)^units, N), as an exact integer.

    (K + 1)^units is not built where it is out of reach anyway: for 65,536 units it has 20,000 digits.

    >>> largest_total(50_000, num_units=3), largest_total(50_000, num_units=65_536)
    (8, 50000)
    """
    if num_units >= num_evaluations.bit_length():  # then (K + 1)^units >= 2^units > N
        return num_evaluations
    return min((num_kinks + 1) ** num_units, num_evaluations)


def largest_entropy(num_evaluations: int, *, num_units: int, num_kinks: int = 1) -> float:
    """The largest entropy that N >= 1 evaluations can show, min(units log2(K + 1), log2 N), in bits.

    >>> largest_entropy(1024, num_units=16), largest_entropy(1024, num_units=2)
    (10.0, 2.0)
    """
    return min(num_units * math.log2(num_kinks + 1), math.log2(num_evaluations))


def check_widths(*, width: int, num_units: int, num_kinks: int) -> None:
    """Raise `DistributionError` unless width = num_units x num_kinks, both at least 1."""
    if num_units < 1 or num_kinks < 1 or width != num_units * num_kinks:
        raise DistributionError(
            f"a width of {width} bits was given with {num_units} units of {num_kinks} kinks; the width must "
            "be units x kinks, both at least 1."
        )


def _counted(counts: CountsLike, name: str) -> Spectrum:
    found = spectrum(counts)
    if found.multiplicities.size == 0:
        raise EmptyCountsError(
            f"{name} was asked for, but nothing was counted (N = 0), so it is not defined. `summarize` gives "
            "NaN there."
        )
    return found


def _units(counts: CountsLike, width: int | None, num_kinks: int) -> int:
    """Units of the site, from the given width or from the one that the counts carry."""
    if width is None:
        width = getattr(counts, "width", None) if isinstance(counts, HasCounts) else None
    if width is None:
        raise DistributionError(
            "the largest possible value depends on the width of the patterns, and none was found. Pass "
            "width=, or counts that carry one, such as rs.PatternCounts."
        )
    check_widths(width=width, num_units=width // max(num_kinks, 1), num_kinks=num_kinks)
    return width // num_kinks


def _total_fraction(found: Spectrum, *, num_units: int, num_kinks: int) -> float:
    return found.total / largest_total(found.num_evaluations, num_units=num_units, num_kinks=num_kinks)


def _relative_entropy(found: Spectrum, *, num_units: int, num_kinks: int) -> float:
    largest = largest_entropy(found.num_evaluations, num_units=num_units, num_kinks=num_kinks)
    return min(found.entropy() / largest, 1.0) if largest > 0 else math.nan


def _entropy_corrected(found: Spectrum) -> float:
    return found.entropy() + (found.total - 1) / (2.0 * found.num_evaluations * math.log(2.0))
