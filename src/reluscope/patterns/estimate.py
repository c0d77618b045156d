"""EstimatedCounts: what is left of a distribution that did not fit the memory budget, and what it still tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np

from reluscope.errors import EstimateError, IncompatibleCountsError
from reluscope.kernels import dispatch
from reluscope.kernels.fingerprint import FINGERPRINT_WIDTH
from reluscope.kernels.plan import Finished
from reluscope.measures.estimated_pairs import PairChunk, State
from reluscope.measures.estimates import Estimate, Moments, error_name, moments, summarize_estimate
from reluscope.patterns.budget import Thinned
from reluscope.patterns.counts import PatternCounts

__all__ = ["AnyCounts", "EstimatedCounts", "pair_chunks", "state_of"]

_CHUNK = 1 << 17


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EstimatedCounts:
    """Some patterns of a site, each with its true count and the probability that it is among them.

    Which patterns these are depends on a hash of the pattern, salted with the site's name and the run's sample seed and the
    same at every step, so that two steps compare. It is no `PatternCounts`: functions of exact tables refuse it. Arrays are
    read-only.

    Attributes:
        keys: uint64 (n, W), sorted as in `PatternCounts`.
        counts: int64 (n,), the true number of times that each occurred.
        levels: uint8 (n,): pattern i is among them with probability 2^-levels[i].
        level: that of every pattern that was never frequent.
        width: bits of a pattern.
        num_evaluations: N, of all patterns.
        seed: what keyed the fingerprint; None where keys are the patterns.
        salt: uint64 (2,), of the hash.
        heavy_frequency: no pattern that was dropped was more frequent when it was dropped.
        group_sums: float64 (n,), sum over the groups of c log2 c; None without groups.
    """

    keys: np.ndarray
    counts: np.ndarray
    levels: np.ndarray
    level: int
    width: int
    num_evaluations: int
    seed: int | None
    salt: np.ndarray
    heavy_frequency: float
    group_sums: np.ndarray | None = None

    # Exact measures ask for it: they take any object with `counts`.
    is_estimate = True

    def __post_init__(self) -> None:
        for name in ("keys", "counts", "levels", "salt", "group_sums"):
            array = getattr(self, name)
            if array is not None:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @classmethod
    def of(cls, finished: Finished, thinned: Thinned, width: int, seed: int) -> EstimatedCounts:
        """From what a thinned count left."""
        return cls(
            keys=finished.keys,
            counts=finished.counts,
            levels=thinned.levels,
            level=thinned.level,
            width=width,
            num_evaluations=thinned.num_evaluations,
            seed=seed if width > FINGERPRINT_WIDTH else None,
            salt=thinned.salt,
            heavy_frequency=thinned.heavy_frequency,
            group_sums=thinned.group_self_information,
        )

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each pattern to be among them, float64 (n,)."""
        return np.exp2(-self.levels.astype(np.float64))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        groups = 0 if self.group_sums is None else self.group_sums.nbytes
        return self.keys.nbytes + self.counts.nbytes + self.levels.nbytes + groups

    @cached_property
    def moments(self) -> Moments:
        """What all its measures follow from."""
        return moments(
            self.counts,
            self.levels,
            num_evaluations=self.num_evaluations,
            level=self.level,
            group_sums=self.group_sums,
        )

    @cached_property
    def num_patterns(self) -> int:
        """The estimated number of distinct patterns, P."""
        return int(self.estimates()["total"].value)

    def estimates(self, *, num_kinks: int = 1) -> dict[str, Estimate]:
        """Every measure of the family "counts": value and standard error, by name."""
        row = summarize_estimate(
            self.moments,
            width=self.width,
            num_units=self.width // num_kinks,
            num_kinks=num_kinks,
            heavy_frequency=self.heavy_frequency,
        )
        return {name: Estimate(row[name], row[error_name(name)]) for name in row if error_name(name) in row}

    def merge(self, other: object) -> NoReturn:
        """Always raises EstimateError: patterns that one half dropped may be in the other."""
        raise EstimateError(_refused("merged"))

    def join(self, other: object) -> NoReturn:
        """Always raises EstimateError: `compare_to_last` and `compare_to_init` compare estimates."""
        raise EstimateError(_refused("joined"))

    def __repr__(self) -> str:
        return (
            f"EstimatedCounts(width={self.width}, {len(self.counts)} of about {self.num_patterns} patterns, "
            f"num_evaluations={self.num_evaluations})"
        )


AnyCounts = PatternCounts | EstimatedCounts


def state_of(counts: AnyCounts) -> State:
    """What the comparison of two states needs to know of each as a whole."""
    probability = 1.0 if isinstance(counts, PatternCounts) else 2.0**-counts.level
    return State(
        num_evaluations=counts.num_evaluations, least_probability=probability, total=counts.num_patterns
    )


def pair_chunks(before: AnyCounts, after: AnyCounts) -> Iterator[PairChunk]:
    """The union of two tables of one site, in pieces; see `measures.estimated_pairs`.

    Raises:
        IncompatibleCountsError: another width, fingerprint seed or salt.
    """
    salts = [one.salt for one in (before, after) if isinstance(one, EstimatedCounts)]
    same_salt = all(np.array_equal(one, salts[0]) for one in salts)
    if (before.width, before.seed) != (after.width, after.seed) or not same_salt:
        raise IncompatibleCountsError(
            f"cannot compare {before!r} with {after!r}: they are of different sites, fingerprint seeds or sample seeds."
        )
    # Numbered from 1, so that 0 is left for a pattern that a table lacks.
    numbers = [np.arange(1, len(one.counts) + 1) for one in (before, after)]
    place, place_after = dispatch.join_tables(before.keys, numbers[0], after.keys, numbers[1])
    for start in range(0, len(place), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        yield (*_at(before, place[chunk]), *_at(after, place_after[chunk]))


def _at(counts: AnyCounts, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and levels at places numbered from 1; 0 where there is none."""
    found, levels = np.zeros(len(place), np.int64), np.zeros(len(place), np.uint8)
    is_there = place > 0
    found[is_there] = counts.counts[place[is_there] - 1]
    if isinstance(counts, EstimatedCounts):
        levels[is_there] = counts.levels[place[is_there] - 1]
    return found, levels


def _refused(what: str) -> str:
    return (
        f"estimated counts cannot be {what}: they hold only some of the patterns. Raise memory_budget, or give spill, to "
        "count exactly; the row of the site has its measures with standard errors."
    )
