"""How a claim is decided: one inequality at a time, over seeds, with four possible verdicts.

The rule for seeds: with three or more of them an inequality holds (or fails) only when its margin, in the mean,
exceeds two standard errors; in between, the runs do not decide it. With fewer there is no such error; then the
estimation error of sampled similarities takes its place, and where that is zero too, the sign decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["MIN_SEEDS", "Check", "Relation", "Undecidable", "Verdict", "combined", "standard_error"]

MIN_SEEDS = 3
"""From this many seeds on, the spread over seeds says how sure a sign is."""

_NUM_STANDARD_ERRORS = 2.0

Relation = Literal["<", "<=", ">", ">="]


class Verdict(StrEnum):
    """What the stored runs say about a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    TOO_SMALL = "scale too small"
    NOT_MEASURED = "not measured"


class Undecidable(Exception):
    """Ends the deciding of a part: `verdict` is NOT_MEASURED or TOO_SMALL, the text says why and what to do."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Check:
    """One inequality: a quantity of some runs against a fixed bound or the quantity of other runs.

    Attributes:
        name: the quantity in words, with the runs and steps it is of.
        values: the quantity, once per seed.
        relation: how it has to stand to `bound`.
        bound: one fixed number, or the other runs' quantity once per seed.
        error: standard error of the margin from sampled similarities; 0.0 where counts are exact.
        counts: False for a number that is shown beside the others and decides nothing.
    """

    name: str
    values: tuple[float, ...]
    relation: Relation
    bound: tuple[float, ...]
    error: float = 0.0
    counts: bool = True

    @property
    def value(self) -> float:
        """Mean of the quantity over the seeds."""
        return _mean(self.values)

    @property
    def bound_value(self) -> float:
        """The bound, or the mean over the seeds of what the quantity is compared with."""
        return _mean(self.bound)

    @property
    def num_seeds(self) -> int:
        """Seeds behind the comparison: of two groups the smaller number."""
        return len(self.values) if len(self.bound) == 1 else min(len(self.values), len(self.bound))

    @property
    def margin(self) -> float:
        """How far on the claim's side the means are; negative on the other."""
        sign = 1.0 if self.relation in (">", ">=") else -1.0
        # inf - inf would be NaN: two sides that are equal have no margin
        return 0.0 if self.value == self.bound_value else sign * (self.value - self.bound_value)

    @property
    def margin_error(self) -> float:
        """Standard error of the margin: over seeds when there are three, else that of the sampling."""
        if self.num_seeds < MIN_SEEDS:
            return self.error
        bound_error = standard_error(self.bound) if len(self.bound) > 1 else 0.0
        return math.hypot(standard_error(self.values), bound_error)

    @property
    def holds(self) -> bool | None:
        """Whether the inequality holds; None when the seeds do not tell, or a value is not defined."""
        margin, error = self.margin, self.margin_error
        if math.isnan(margin) or math.isnan(error):
            return None
        if error > 0.0:
            if abs(margin) <= _NUM_STANDARD_ERRORS * error:
                return None
            return margin > 0.0
        return margin > 0.0 or (margin == 0.0 and self.relation in ("<=", ">="))

    @classmethod
    def of(
        cls,
        name: str,
        values: float | Iterable[float],
        relation: Relation,
        bound: float | Iterable[float],
        *,
        error: float = 0.0,
        counts: bool = True,
    ) -> Check:
        """A check from numbers or sequences of them, in the order in which it reads."""
        return cls(
            name=name,
            values=_as_tuple(values),
            relation=relation,
            bound=_as_tuple(bound),
            error=float(error),
            counts=counts,
        )


def combined(checks: Sequence[Check]) -> Verdict:
    """The verdict of checks that all have to hold: one that fails contradicts, one that is open leaves it open."""
    outcomes = [check.holds for check in checks if check.counts]
    if not outcomes:
        return Verdict.NOT_MEASURED
    if False in outcomes:
        return Verdict.CONTRADICTED
    return Verdict.TOO_SMALL if None in outcomes else Verdict.SUPPORTED


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean, from the spread of the values (n - 1); NaN for fewer than two.

    >>> round(standard_error((1.0, 2.0, 3.0)), 6)
    0.57735
    """
    num, mean = len(values), _mean(values)
    if num < 2:
        return math.nan
    if not math.isfinite(mean):  # an infinite ratio in every seed is as certain as it is in one
        return 0.0
    variance = sum((value - mean) ** 2 for value in values) / (num - 1)
    return math.sqrt(variance / num)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _as_tuple(values: float | Iterable[float]) -> tuple[float, ...]:
    if isinstance(values, Iterable):
        return tuple(float(value) for value in values)
    return (float(values),)
