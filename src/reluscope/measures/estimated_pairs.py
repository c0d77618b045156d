"""Measures of two states of a site of which one or both are estimates, each with a standard error.

Whether a pattern is kept depends on one hash of it, the same at every step: with probability p before and p' after, and in
both with q = min(p, p'). Everything follows from six sums over the patterns that were kept (m = min(c, c')):

    C = sum c/p, P = sum 1/p; C' and P' likewise; over those in both: M = sum m/q, K = sum 1/q

    total, total'      P and P', by their regressions on N and N' (`estimates`)
    jaccard            r/(1 - r), r = K/(P + P');  weighted_jaccard: r/(1 - r), r = M/(C + C')
    appeared           total' - r (total + total'), vanished: total - r (total + total'), r of the jaccard

so that unchanged states have similarity 1 and no churn, whatever was kept. Errors are by linearisation from the covariance
of the sums; with A, A', B whether a pattern is kept before, after and in both, Cov(A/p, A'/p') = 1/max(p, p') - 1 and
Cov(A/p, B/q) = 1/p - 1. One unseen pattern seen once or twice (before, after or in both) is added, as in `similarity`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reluscope.measures.estimates import Estimate, error_name, regression

__all__ = ["PairChunk", "State", "summarize_estimated_change"]

_C, _P, _C2, _P2, _M, _K = range(6)
_Floats = npt.NDArray[np.float64]
# No pattern in both: below 5 % that so many, over the probability, escaped. Two standard errors reach it.
_UNMET = 1.5


@dataclass(frozen=True, kw_only=True)
class State:
    """What is known of one of the two: N; the probability to keep a pattern that was never frequent; the total in its row."""

    num_evaluations: int
    least_probability: float
    total: int


PairChunk = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.uint8]]
"""Count and level before, count and level after, of some patterns of the union; count 0 where a table lacks one."""


def summarize_estimated_change(chunks: Iterable[PairChunk], before: State, after: State) -> dict[str, float]:
    """All measures of the family "changes", and both similarities, with standard errors under `error_name`.

    Args:
        chunks: the union of both tables, each pattern once.
        before: the earlier state.
        after: the later one.
    """
    sums, covariance = _sums(chunks)
    pair = _Pair(sums, covariance, before, after)
    row: dict[str, float] = {}
    net = after.total - before.total
    appeared = max(0, net, round(pair.appeared.value))
    _put(row, "appeared", Estimate(appeared, pair.appeared.standard_error))
    _put(row, "vanished", Estimate(appeared - net, pair.vanished.standard_error))
    _put(row, "net_change", Estimate(net, pair.net.standard_error))
    relative = net / after.total if after.total else math.nan
    slopes = pair.gradient_net - relative * pair.gradient_after
    _put(row, "relative_change", Estimate(relative, pair.error(slopes / max(1, after.total))))
    jaccard, weighted = pair.similarity(_K, _P, _P2), pair.similarity(_M, _C, _C2)
    _put(row, "churn_rate", Estimate(1.0 - jaccard.value, jaccard.standard_error))
    _put(row, "weighted_jaccard", weighted)
    _put(row, "jaccard", jaccard)
    return row


class _Pair:
    """The six sums, their covariance, and what follows from them."""

    def __init__(self, sums: _Floats, covariance: _Floats, before: State, after: State) -> None:
        self._sums, self._covariance = sums, covariance
        self._before, self._after = before, after
        total, gradient, self._missing = self._total(_C, _P, before)
        total_after, self.gradient_after, missing = self._total(_C2, _P2, after)
        self._missing += missing
        both = self._sums[_P] + self._sums[_P2]
        r = min(sums[_K] / both, 0.5) if both else 0.0
        # r (total + total'): r moves with K, P and P', the totals as they do.
        in_both = r * (gradient + self.gradient_after)
        in_both += (_unit(_K) - r * (_unit(_P) + _unit(_P2))) * (
            (total + total_after) / both if both else 0.0
        )
        common = r * (total + total_after)
        self.gradient_net = self.gradient_after - gradient
        self.net = self._estimate(total_after - total, self.gradient_net)
        self.appeared = self._estimate(total_after - common, self.gradient_after - in_both)
        self.vanished = self._estimate(total - common, gradient - in_both)

    def similarity(self, common: int, before: int, after: int) -> Estimate:
        """r/(1 - r), r the share of the common in both."""
        both = self._sums[before] + self._sums[after]
        if not both:
            return Estimate(math.nan, math.nan)
        r = min(self._sums[common] / both, 0.5)
        gradient = (_unit(common) - r * (_unit(before) + _unit(after))) / both / (1.0 - r) ** 2
        error = self.error(gradient)
        # Of evaluations that no kept pattern stands for nothing is known: they may be alike or not.
        missing = self._missing / (self._before.num_evaluations + self._after.num_evaluations)
        return Estimate(r / (1.0 - r), math.hypot(error, missing / 2.0))

    def error(self, gradient: _Floats) -> float:
        """Standard error of a function of the sums."""
        p, p2 = self._before.least_probability, self._after.least_probability
        unseen = 0.0
        for members, probability in (([_C, _P], p), ([_C2, _P2], p2), (range(6), min(p, p2))):
            sizes = [(1, 2)[place in (_C, _C2, _M)] for place in members]
            moved = max(
                abs(float(sum(gradient[place] for place in members))),
                abs(float(sum(gradient[place] * size for place, size in zip(members, sizes, strict=True)))),
            )
            scale = _UNMET if len(members) == 6 and self._sums[_K] == 0.0 else 1.0
            unseen += (scale * moved) ** 2 * (1.0 - probability) / probability**2
        return math.sqrt(max(float(gradient @ self._covariance @ gradient), 0.0) + unseen)

    def _total(self, count: int, one: int, state: State) -> tuple[float, _Floats, float]:
        """The number of patterns, its gradient, and the evaluations that are missing beyond chance."""
        covariance = self._covariance
        slope, missing = regression(
            self._sums[count], state.num_evaluations, covariance[one, count], covariance[count, count]
        )
        value = self._sums[one] - slope * (self._sums[count] - state.num_evaluations)
        return float(value), _unit(one) - slope * _unit(count), missing

    def _estimate(self, value: float, gradient: _Floats) -> Estimate:
        return Estimate(float(value), self.error(gradient))


def _sums(chunks: Iterable[PairChunk]) -> tuple[_Floats, _Floats]:
    """The six sums and their covariance."""
    sums, covariance = np.zeros(6), np.zeros((6, 6))
    a, b, ab = slice(0, 2), slice(2, 4), slice(4, 6)
    for counts, levels, counts_after, levels_after in chunks:
        w, w2 = np.exp2(levels.astype(np.float64)), np.exp2(levels_after.astype(np.float64))  # 1/p
        c, c2 = counts.astype(np.float64), counts_after.astype(np.float64)
        before, after = np.stack([c, c > 0]), np.stack([c2, c2 > 0])
        is_both = (c > 0) & (c2 > 0)
        u, u2 = before[:, is_both], after[:, is_both]
        common = np.stack([np.minimum(u[0], u2[0]), np.ones(u.shape[1])])
        v, v2 = w[is_both], w2[is_both]
        x, least = np.maximum(v, v2), np.minimum(v, v2)  # 1/q, 1/max(p, p')
        sums[a] += before @ w
        sums[b] += after @ w2
        sums[ab] += common @ x
        covariance[a, a] += (before * (w * (w - 1.0))) @ before.T
        covariance[b, b] += (after * (w2 * (w2 - 1.0))) @ after.T
        covariance[ab, ab] += (common * (x * (x - 1.0))) @ common.T
        for rows, columns, left, right, weight in (
            (a, b, u, u2, (least - 1.0) * x),
            (a, ab, u, common, (v - 1.0) * x),
            (b, ab, u2, common, (v2 - 1.0) * x),
        ):
            block = (left * weight) @ right.T
            covariance[rows, columns] += block
            covariance[columns, rows] += block.T
    return sums, covariance


def _unit(place: int) -> _Floats:
    found = np.zeros(6)
    found[place] = 1.0
    return found


def _put(row: dict[str, float], name: str, estimate: Estimate) -> None:
    row[name], row[error_name(name)] = estimate
