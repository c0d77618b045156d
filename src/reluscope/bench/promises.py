"""What is promised about cost, as predicates over the rows of a benchmark; a verdict for each.

A verdict stands on the worst case found: a promise is kept when every case keeps it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reluscope.bench.alternatives import (
    BARE,
    FIRST_USE,
    HASHLIST,
    LATER_USE,
    MEASURE,
    OWN_STEPS,
    PACK,
    PACK_AND,
    ROWS_UNIQUE,
    SUM_AND_KEYS,
)
from reluscope.bench.rows import Row

__all__ = ["PROMISES", "Found", "Promise", "Verdict", "fitted_exponent", "judge", "verdict_text"]

_LAB_NETWORKS = ("resnet20", "convnet20", "toynet20")
_LARGE_NETWORKS = ("resnet18", "transformer")


@dataclass(frozen=True)
class Found:
    """What one case says: the number, and what it was compared with."""

    case: str
    value: float
    against: str = ""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise.

    Attributes:
        name: a word for programs.
        benchmark: whose rows decide it.
        text: what the number is.
        limit: what was promised.
        at_most: True: the number is to be at most the limit; False: at least.
        find: from the rows of one case to what they say; None where they do not speak of it.
    """

    name: str
    benchmark: str
    text: str
    limit: float
    at_most: bool
    find: Callable[[Sequence[Row]], Found | None]

    def is_kept_by(self, value: float) -> bool:
        """Whether a number keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a promise is kept, on all cases that speak of it.

    Attributes:
        promise: the promise.
        found: every case, in the order of the rows; empty: not measured.
        worst: the one farthest on the wrong side; None: not measured.
    """

    promise: Promise
    found: tuple[Found, ...]
    worst: Found | None

    @property
    def num_kept(self) -> int:
        """Cases that keep it."""
        return sum(self.promise.is_kept_by(one.value) for one in self.found)

    @property
    def is_kept(self) -> bool | None:
        """Whether every case keeps it; None: not measured."""
        return None if self.worst is None else self.num_kept == len(self.found)


def judge(rows: Sequence[Row], benchmarks: Iterable[str] | None = None) -> list[Verdict]:
    """A verdict per promise, in the order of PROMISES.

    Args:
        rows: of any benchmarks together.
        benchmarks: judge the promises of these only, measured or not; None: all.
    """
    chosen = None if benchmarks is None else set(benchmarks)
    verdicts = []
    for promise in PROMISES:
        if chosen is not None and promise.benchmark not in chosen:
            continue
        speaking = [row for row in rows if row.benchmark == promise.benchmark]
        groups = (list(group) for _, group in itertools.groupby(speaking, lambda row: row.case))
        found = tuple(one for one in map(promise.find, groups) if one and not math.isnan(one.value))
        worst = (max if promise.at_most else min)(found, key=lambda one: one.value, default=None)
        verdicts.append(Verdict(promise=promise, found=found, worst=worst))
    return verdicts


def verdict_text(verdict: Verdict) -> str:
    """The number and the promise in words: "1.08, promised at most 1.10"."""
    side = "at most" if verdict.promise.at_most else "at least"
    found = "not measured" if verdict.worst is None else f"{verdict.worst.value:.2f}"
    return f"{found}, promised {side} {verdict.promise.limit:.2f}"


def fitted_exponent(work: Sequence[int], seconds: Sequence[float]) -> float:
    """b of the least-squares fit seconds = a * work^b, on logarithmic scales; NaN with fewer than two sizes.

    >>> round(fitted_exponent([100, 1000, 10000], [1.0, 10.0, 100.0]), 6)
    1.0
    """
    if len(work) < 2:
        return math.nan
    return float(np.polyfit(np.log(work), np.log(seconds), 1)[0])


def _slower_by(rows: Sequence[Row], names: Sequence[str]) -> Found | None:
    """How much slower the fastest of the named alternatives is than the baseline of its case."""
    timed = [row for row in rows if row.alternative in names and row.rounds > 0]
    if not timed:
        return None
    fastest = min(timed, key=lambda row: row.ratio_median)
    return Found(fastest.case, fastest.ratio_median, fastest.alternative)


def _fastest_peer(rows: Sequence[Row]) -> Found | None:
    return _slower_by(rows, [row.alternative for row in rows if row.alternative != row.baseline])


def _fastest_packed_peer(rows: Sequence[Row]) -> Found | None:
    names = [row.alternative for row in rows if row.alternative.startswith(PACK_AND)]
    return _slower_by(rows, [name for name in names if name != OWN_STEPS])


def _inverse_of(name: str) -> Callable[[Sequence[Row]], Found | None]:
    """The baseline's seconds over those of an alternative: medians of ratios, turned over."""

    def find(rows: Sequence[Row]) -> Found | None:
        found = _slower_by(rows, [name])
        return found and Found(found.case, 1 / found.value, name)

    return find


def _measurement(
    networks: tuple[str, ...], *, on_cuda: bool = False
) -> Callable[[Sequence[Row]], Found | None]:
    def find(rows: Sequence[Row]) -> Found | None:
        case = rows[0].case
        if not case.startswith(networks) or " with labels" in case or case.endswith(", cuda") != on_cuda:
            return None
        found = [row for row in rows if row.alternative == MEASURE and row.baseline == BARE]
        return Found(case, found[0].ratio_median, "a bare forward pass") if found else None

    return find


def _extra_seconds(name: str) -> Callable[[Sequence[Row]], Found | None]:
    def find(rows: Sequence[Row]) -> Found | None:
        found = [row for row in rows if row.alternative == name and row.rounds > 0]
        return Found(found[0].case, found[0].median_s) if found else None

    return find


def _exponent(rows: Sequence[Row]) -> Found | None:
    if len(rows) < 2:
        return None
    sizes = [row.work for row in rows]
    value = fitted_exponent(sizes, [row.median_s for row in rows])
    return Found(rows[0].case, value, f"{min(sizes):.0e} to {max(sizes):.0e} evaluations")


PROMISES = (
    Promise(
        name="keys",
        benchmark="keys",
        text="fastest peer / `count_keys`",
        limit=2.0,
        at_most=False,
        find=_fastest_peer,
    ),
    Promise(
        name="patterns-packed-peer",
        benchmark="patterns",
        text="our packing + fastest peer / `count_patterns`",
        limit=1.0,
        at_most=False,
        find=_fastest_packed_peer,
    ),
    Promise(
        name="patterns-sum",
        benchmark="patterns",
        text="`count_patterns` / (parallel sum + `count_keys`)",
        limit=1.3,
        at_most=True,
        find=_inverse_of(SUM_AND_KEYS),
    ),
    Promise(
        name="patterns-rows",
        benchmark="patterns",
        text="`torch.unique(dim=0)` / `count_patterns`",
        limit=20.0,
        at_most=False,
        find=lambda rows: _slower_by(rows, [ROWS_UNIQUE]),
    ),
    Promise(
        name="patterns-hashlist",
        benchmark="patterns",
        text="the paper's hash list / `count_patterns`",
        limit=5.0,
        at_most=False,
        find=lambda rows: _slower_by(rows, [HASHLIST]),
    ),
    Promise(
        name="packing",
        benchmark="packing",
        text="bandwidth of packing / of a parallel sum",
        limit=0.7,
        at_most=False,
        find=_inverse_of(PACK),
    ),
    Promise(
        name="overhead",
        benchmark="overhead",
        text="measurement / bare forward pass, networks of the paper",
        limit=1.10,
        at_most=True,
        find=_measurement(_LAB_NETWORKS),
    ),
    Promise(
        name="overhead-large",
        benchmark="overhead",
        text="measurement / bare forward pass, ResNet-18 and transformer",
        limit=1.15,
        at_most=True,
        find=_measurement(_LARGE_NETWORKS),
    ),
    Promise(
        name="overhead-cuda",
        benchmark="overhead",
        text="measurement / bare forward pass on a GPU, networks of the paper",
        limit=1.25,
        at_most=True,
        find=_measurement(_LAB_NETWORKS, on_cuda=True),
    ),
    Promise(
        name="first-use",
        benchmark="first-use",
        text="seconds that compiling adds to the very first measurement",
        limit=10.0,
        at_most=True,
        find=_extra_seconds(FIRST_USE),
    ),
    Promise(
        name="later-use",
        benchmark="first-use",
        text="seconds that loading kernels adds to the first measurement of a later process",
        limit=0.5,
        at_most=True,
        find=_extra_seconds(LATER_USE),
    ),
    Promise(
        name="scaling",
        benchmark="scaling",
        text="exponent of the cost over the number of evaluations (1: linear)",
        limit=1.05,  # ours: "linear" has no number; 1.05 is 1.6 times the cost per evaluation over 10^4
        at_most=True,
        find=_exponent,
    ),
)
