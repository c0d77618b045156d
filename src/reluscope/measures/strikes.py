"""Strikes: steps at which many sites gain or lose patterns at once, far more than just before.

Source: [A], sections 3.2 and 4.4, which names them and suspects unfavourable batches; the rule by which they
are found is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from reluscope.errors import DistributionError

__all__ = ["KINDS", "Strike", "StrikeRule", "StrikeSearch", "find_strikes", "robust_z"]

KINDS = ("appeared", "vanished")
"""What can jump: the number of patterns that appeared, or that vanished, since the last measurement."""

# The MAD of normal noise is its standard deviation / 1.4826.
_MAD_TO_SD = 1.4826
# Rows of windows that are sorted at once: 256 x 100 x 50 sites x 8 bytes = 10 MB.
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class StrikeRule:
    """When a jump is a strike.

    Attributes:
        window: measurements just before the current one that say what is usual.
        min_history: with fewer of them than this there is no verdict: the spread of a handful says nothing.
        z: how many robust standard deviations above the median a site has to be.
        share: share of the sites that have to be.
        mad_floor: least MAD of log(1 + change). At 0.1 a z above 5 takes 2.1 times the usual change at least,
            and a site that never changes and then changes by one pattern is not counted.
    """

    window: int = 100
    min_history: int = 20
    z: float = 5.0
    share: float = 0.5
    mad_floor: float = 0.1

    def __post_init__(self) -> None:
        if not 2 <= self.min_history <= self.window:
            raise DistributionError(
                f"a strike rule with min_history {self.min_history} and window {self.window} was asked for; "
                "allowed is 2 <= min_history <= window."
            )
        if not (0.0 < self.share <= 1.0 and self.mad_floor > 0.0):
            raise DistributionError(
                f"a strike rule with share {self.share} and mad_floor {self.mad_floor} was asked for; share "
                "has to be above 0 and at most 1, mad_floor above 0."
            )


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One jump of many sites at once.

    Attributes:
        step: the step whose measurement shows it: it happened in the update from step - 1 to step.
        kind: "appeared" or "vanished".
        sites: indices of the sites that jumped, in order.
        z: robust z-score of each of them.
        num_sites: sites that had a z-score at this step, jumping or not.
    """

    step: int
    kind: str
    sites: tuple[int, ...]
    z: tuple[float, ...]
    num_sites: int


@dataclass(frozen=True, kw_only=True)
class StrikeSearch:
    """What a search found, and how far it could look.

    Attributes:
        strikes: in order of step; at one step, what appeared before what vanished.
        num_judged: measurements that were judged.
        num_unjudged: measurements that could not be: no measurement at the step before, or too few before it.
        rule: the rule they were judged by.
    """

    strikes: tuple[Strike, ...] = ()
    num_judged: int = 0
    num_unjudged: int = 0
    rule: StrikeRule = field(default_factory=StrikeRule)


def find_strikes(
    steps: npt.ArrayLike, appeared: npt.ArrayLike, vanished: npt.ArrayLike, *, rule: StrikeRule | None = None
) -> StrikeSearch:
    """Steps at which appeared or vanished jumps in at least half of the sites.

    For each site and kind: x = log(1 + change), z = (x - m) / (1.4826 max(MAD, floor)) with m and MAD the
    median and the median absolute deviation of x over the trailing 100 measurements without the current one.
    A strike: z above 5 in at least half of the sites that have one.

    Only measurements at consecutive steps count: a change over ten steps says nothing about one. Whatever
    interrupts them (a gap, a row without any change) starts a new history.

    Args:
        steps: increasing steps (S,).
        appeared, vanished: patterns since the last measurement (S, L); NaN where that is not known.
        rule: window and thresholds.

    Raises:
        DistributionError: shapes that do not fit, steps that do not increase, or a negative change.

    Source: [A], sections 3.2 and 4.4; DEFINITIONS, "Strikes".

    >>> change = np.full((60, 2), 10.0)
    >>> change[50] = 500.0
    >>> [(one.step, one.kind, one.sites) for one in find_strikes(np.arange(60), change, change * 0).strikes]
    [(50, 'appeared', (0, 1))]
    """
    rule = rule or StrikeRule()
    at, changes = _checked(steps, appeared, vanished)
    scores = {kind: np.full(change.shape, np.nan) for kind, change in changes.items()}
    judged = np.zeros(at.size, dtype=bool)
    for rows in _stretches(at, changes):
        for kind, change in changes.items():
            scores[kind][rows] = robust_z(np.log1p(change[rows]), rule=rule)
        judged[rows.start + rule.min_history : rows.stop] = True
    found = [
        _strike(int(at[row]), kind, scores[kind][row], rule)
        for row in np.flatnonzero(judged)
        for kind in KINDS
        if _is_strike(scores[kind][row], rule)
    ]
    num_judged = int(judged.sum())
    return StrikeSearch(
        strikes=tuple(found), num_judged=num_judged, num_unjudged=at.size - num_judged, rule=rule
    )


def robust_z(values: npt.ArrayLike, *, rule: StrikeRule | None = None) -> npt.NDArray[np.float64]:
    """Each value's distance from the median of the values just before it, in robust standard deviations.

    Args:
        values: (S, L), one row per measurement; each column is judged on its own.
        rule: window, least history and floor of the MAD.

    Returns:
        float64 (S, L); NaN in the first `min_history` rows, and where the window holds a NaN.
    """
    rule = rule or StrikeRule()
    x = np.asarray(values, dtype=np.float64)
    z = np.full(x.shape, np.nan)
    for row in range(rule.min_history, min(rule.window, len(x))):  # shorter windows: all that is there
        z[row] = _score(x[row], x[np.newaxis, :row].transpose(0, 2, 1), rule)
    if len(x) > rule.window:
        windows = sliding_window_view(x[:-1], rule.window, axis=0)  # (S - window, L, window)
        for start in range(0, len(windows), _ROWS_AT_ONCE):
            history = windows[start : start + _ROWS_AT_ONCE]
            rows = slice(rule.window + start, rule.window + start + len(history))
            z[rows] = _score(x[rows], history, rule)
    return z


def _score(
    current: npt.NDArray[np.float64], history: npt.NDArray[np.float64], rule: StrikeRule
) -> npt.NDArray[np.float64]:
    """z of `current` (R, L) against `history` (R, L, window)."""
    median = np.median(history, axis=-1)
    deviation = np.median(np.abs(history - median[..., np.newaxis]), axis=-1)
    return (current - median) / (_MAD_TO_SD * np.maximum(deviation, rule.mad_floor))


def _is_strike(z: npt.NDArray[np.float64], rule: StrikeRule) -> bool:
    num_sites = int(np.isfinite(z).sum())
    return num_sites > 0 and int((z > rule.z).sum()) >= rule.share * num_sites


def _strike(step: int, kind: str, z: npt.NDArray[np.float64], rule: StrikeRule) -> Strike:
    sites = np.flatnonzero(z > rule.z)
    return Strike(
        step=step,
        kind=kind,
        sites=tuple(int(site) for site in sites),
        z=tuple(float(z[site]) for site in sites),
        num_sites=int(np.isfinite(z).sum()),
    )


def _stretches(steps: npt.NDArray[np.int64], changes: dict[str, npt.NDArray[np.float64]]) -> Iterator[slice]:
    """Runs of rows whose change is the change of one single step."""
    known = np.isfinite(changes["appeared"]).any(axis=1) & np.isfinite(changes["vanished"]).any(axis=1)
    usable = known & np.concatenate([[False], np.diff(steps) == 1])[: steps.size]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], usable.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(stop))


def _checked(
    steps: npt.ArrayLike, appeared: npt.ArrayLike, vanished: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    at = np.asarray(steps, dtype=np.int64)
    changes = {
        kind: np.asarray(change, dtype=np.float64)
        for kind, change in zip(KINDS, (appeared, vanished), strict=True)
    }
    shapes = [change.shape for change in changes.values()]
    if at.ndim != 1 or any(len(shape) != 2 or shape[0] != at.size for shape in shapes) or len({*shapes}) > 1:
        raise DistributionError(
            f"strikes were asked for with steps of shape {at.shape}, appeared {shapes[0]} and vanished "
            f"{shapes[1]}; needed are steps (S,) and two arrays (S, L)."
        )
    if (np.diff(at) <= 0).any():
        raise DistributionError(
            "strikes were asked for at steps that do not increase; sort the rows by step."
        )
    if any((change < 0).any() for change in changes.values()):
        raise DistributionError("strikes were asked for with a negative number of patterns.")
    return at, changes
