"""The spectrum of a pattern distribution: how many patterns occurred once, twice, three times...

Every measure of a single distribution follows from it, and it has at most sqrt(2 N) entries however many
patterns there are. So the table of patterns, which may hold ten million rows, is walked once, in integers,
and the logarithms are taken over a few hundred multiplicities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from reluscope.errors import DistributionError, EstimateError

__all__ = ["CountsLike", "HasCounts", "Spectrum", "as_counts", "spectrum"]

# Multiplicities below this are tallied in a dense histogram (512 KiB of int64, which stays in the
# second-level cache); at most N / 2^16 patterns lie above and those few are sorted.
_DENSE_LIMIT = 1 << 16
_CHUNK = 1 << 18


@runtime_checkable
class HasCounts(Protocol):
    """Anything that carries the occurrences of its patterns as an array, such as `rs.PatternCounts`."""

    @property
    def counts(self) -> Any:
        """Occurrences of each distinct pattern, int64 (num_patterns,), every entry >= 1."""
        ...


CountsLike: TypeAlias = npt.NDArray[np.integer] | Sequence[int] | HasCounts


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """For each multiplicity m that occurs, the number of patterns seen exactly m times.

    Attributes:
        multiplicities: int64 (M,), increasing, every entry >= 1.
        num_patterns: int64 (M,), patterns with that multiplicity, every entry >= 1.
    """

    multiplicities: npt.NDArray[np.int64]
    num_patterns: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """Number of distinct patterns."""
        return int(self.num_patterns.sum())

    @property
    def num_evaluations(self) -> int:
        """N, the sum of all counts."""
        return int(self.num_patterns @ self.multiplicities)

    @property
    def largest(self) -> int:
        """The count of the most frequent pattern; 0 when nothing was counted."""
        return int(self.multiplicities[-1]) if self.multiplicities.size else 0

    @property
    def num_singletons(self) -> int:
        """f_1, the number of patterns seen exactly once."""
        if self.multiplicities.size and self.multiplicities[0] == 1:
            return int(self.num_patterns[0])
        return 0

    def entropy(self) -> float:
        """Plug-in entropy in bits, sum over m of f_m (m/N) log2(N/m); NaN when nothing was counted.

        Every term is >= 0, so one pattern gives exactly 0 and nothing cancels, unlike in
        log2 N - (1/N) sum c log2 c.
        """
        num_evaluations = self.num_evaluations
        if num_evaluations == 0:
            return math.nan
        weights = (self.num_patterns * self.multiplicities) / num_evaluations
        plug_in = float(weights @ _self_information(self.multiplicities, num_evaluations))
        return min(plug_in, math.log2(self.total))  # rounding may pass the bound of the uniform distribution


def spectrum(counts: CountsLike) -> Spectrum:
    """The number of patterns for each multiplicity.

    Args:
        counts: occurrences of each distinct pattern, (num_patterns,), every entry >= 1; an array, a sequence
            of integers, or an object with such an array in `counts`. Empty when nothing was counted.

    Raises:
        DistributionError: counts are not one-dimensional integers >= 1.

    Bounds: at most sqrt(2 N) multiplicities. Source: [A] Eq. 3, 4.

    >>> found = spectrum([1, 4, 1, 2])
    >>> found.multiplicities.tolist(), found.num_patterns.tolist()
    ([1, 2, 4], [2, 1, 1])
    """
    # A table that is not written yet knows its spectrum already; asking it for `counts` would write it.
    known = None if isinstance(counts, np.ndarray | Sequence) else getattr(counts, "spectrum", None)
    if known is not None:
        multiplicities, num_patterns = known
        return Spectrum(multiplicities=multiplicities, num_patterns=num_patterns)
    array = as_counts(counts)
    if array.size == 0:
        return Spectrum(multiplicities=array, num_patterns=array)
    # Most patterns of a real probe were seen once: these are only counted.
    others = array[array != 1]
    num_once = array.size - others.size
    if others.size == 0:
        return Spectrum(multiplicities=np.array([1]), num_patterns=np.array([num_once]))
    histogram, rest = _tally(others, limit=min(max(int(others.max()), 1) + 1, _DENSE_LIMIT))
    if histogram[0]:
        raise DistributionError(
            f"counts of a distribution are wanted, found {int(histogram[0])} of {array.size} entries equal "
            "to 0. Every entry must be at least 1: leave out patterns that did not occur."
        )
    histogram[1] = num_once
    dense = np.flatnonzero(histogram)
    high, num_high = np.unique(rest, return_counts=True)
    return Spectrum(
        multiplicities=np.concatenate([dense, high]),
        num_patterns=np.concatenate([histogram[dense], num_high]),
    )


def as_counts(counts: CountsLike, *, what: str = "counts") -> npt.NDArray[np.int64]:
    """The counts as a one-dimensional int64 array, without a copy where they are one already.

    Args:
        counts: an array, a sequence of integers, or an object with such an array in `counts`.
        what: the argument's name, for the error.

    Raises:
        DistributionError: not one-dimensional, or not integers.
        EstimateError: the object is an estimate and holds only some of the patterns.
    """
    if getattr(counts, "is_estimate", False):
        raise EstimateError(
            f"{what} of a {type(counts).__name__} were given: it holds only some of the patterns, so the function would "
            "measure the sample. Its own estimates() and the row of its site have the measures with standard errors; raise "
            "memory_budget, or give spill, to count exactly."
        )
    array = np.asarray(counts.counts if isinstance(counts, HasCounts) else counts)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DistributionError(
            f"{what} must be a one-dimensional array of integers, or an object that holds one in `.counts`; "
            f"found {array.dtype} of shape {array.shape}. Frequencies will not do: pass the numbers of "
            "occurrences."
        )
    return array.astype(np.int64, copy=False)


def _tally(
    counts: npt.NDArray[np.int64], *, limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A histogram of the counts below `limit`, and the counts from there on; in chunks that fit the cache."""
    if counts.min() < 0:
        raise DistributionError(
            f"counts of a distribution are wanted, found {int(counts.min())}. Every entry must be at least 1."
        )
    histogram = np.zeros(limit + 1, dtype=np.int64)  # the last cell holds those from `limit` on
    rest: list[npt.NDArray[np.int64]] = []
    for start in range(0, counts.size, _CHUNK):
        chunk = counts[start : start + _CHUNK]
        clipped = np.minimum(chunk, limit)
        histogram += np.bincount(clipped, minlength=limit + 1)
        rest.append(chunk[clipped == limit])
    return histogram[:limit], np.concatenate(rest)


def _self_information(multiplicities: npt.NDArray[np.int64], num_evaluations: int) -> npt.NDArray[np.float64]:
    """log2(N/m), accurate also where m is nearly N."""
    remainder = num_evaluations - multiplicities
    near_one = np.log1p(remainder / multiplicities) / math.log(2.0)
    return np.where(multiplicities > remainder, near_one, np.log2(num_evaluations / multiplicities))
