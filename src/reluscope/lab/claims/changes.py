"""Claims about how many patterns come and go: A2, A15, A21.

A change counts when it is that of one update: the step before is measured too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import HALF_AGAIN, THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import Evidence, per_seed, ratio
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check, Undecidable, Verdict
from reluscope.measures.strikes import Strike, find_strikes

__all__ = ["A2", "A15", "A21"]

_EARLY = {net: Need(experiment="fig1", net=net, method=None) for net in ("resnet", "convnet", "toynet")}


def _single_updates(evidence: Evidence, study: Study, first: int, last: int | None) -> np.ndarray:
    """The measured steps of a window whose predecessor is measured too."""
    steps = evidence.window(study, first, last)
    found = steps[np.isin(steps - 1, study.steps)]
    if not len(found):
        raise Undecidable(
            Verdict.NOT_MEASURED,
            f"{study.title} has no two measurements in a row from step {first:,} to "
            f"{'the end' if last is None else f'{last:,}'}, which the change by one update needs; record every step "
            "there, or pairs of them",
        )
    return found


def _with_predecessors(steps: np.ndarray) -> np.ndarray:
    return np.union1d(steps, steps - 1)


def _mean_change(study: Study, measure: str, steps: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Mean over the steps of the size of a change, by site."""
    return np.abs(study.at(measure, steps)[:, sites]).mean(axis=0)


# A2 --------------------------------------------------------------------------------------------------------


def _mostly_at_first(
    evidence: Evidence, *, measure: str = "relative_change", first: int = 1
) -> Iterator[Check]:
    def share_of_sites(study: Study) -> float:
        early = _single_updates(evidence, study, first, 10)
        late = _single_updates(evidence, study, int(np.ceil(0.8 * study.num_steps)), None)
        measured = _with_predecessors(np.append(early, late))
        sites = evidence.covered([(study, measured)], np.arange(study.num_sites), want="most")
        changes = zip(
            _mean_change(study, measure, early, sites), _mean_change(study, measure, late, sites), strict=True
        )
        return float(np.mean([ratio(begin, end) >= 3.0 for begin, end in changes]))

    for need in _EARLY.values():
        name = (
            f"{need.title}: share of sites with mean |{measure}| in steps {first}-10 >= 3 x that at the end"
        )
        yield Check.of(name, per_seed(evidence.take(need), share_of_sites), ">=", 0.8)


A2 = Claim(
    id="A2",
    says="Most pattern changes happen in the first few steps.",
    parts=(
        Part(
            name="relative_change",
            asks="each net, at 80 % of the sites: mean |relative_change| over steps 1-10 is at least 3 times that over "
            "the last 20 % of the steps",
            decide=_mostly_at_first,
        ),
        Part(
            name="churn_rate",
            asks="the same of churn_rate, which also sees patterns that replace each other",
            decide=partial(_mostly_at_first, measure="churn_rate"),
            role="apart",
        ),
        Part(
            name="without the first update",
            asks="the same of relative_change over steps 2-10: changes since step 1",
            decide=partial(_mostly_at_first, first=2),
            role="apart",
        ),
    ),
    needs=tuple(_EARLY.values()),
    changed=HALF_AGAIN,
)


# A15 -------------------------------------------------------------------------------------------------------


# Of the paper's 3,000 updates: where fewer could be judged, that none of them is a strike says little.
_MIN_JUDGED = 2000


def _imbalance(study: Study, strike: Strike, sites: np.ndarray) -> float:
    """|net change| / churn over the strike's step and the next, summed over the sites."""
    steps = [strike.step, strike.step + 1]
    appeared, vanished = (study.at(name, steps)[:, sites].sum() for name in ("appeared", "vanished"))
    return ratio(abs(appeared - vanished), appeared + vanished)


def _left_of_jump(study: Study, strike: Strike, sites: np.ndarray) -> float:
    """|net change| over the strike's step and the next / |net change| of the strike's step."""
    steps = [strike.step, strike.step + 1]
    appeared, vanished = (study.at(name, steps)[:, sites].sum(axis=1) for name in ("appeared", "vanished"))
    net = appeared - vanished
    return ratio(abs(net.sum()), abs(net[0]))


def _strikes(evidence: Evidence, study: Study) -> tuple[list[tuple[Strike, np.ndarray]], int]:
    """The strikes after which the next update is measured too, each with the sites it struck; and updates judged."""
    steps = evidence.window(study, 1)
    sites = evidence.covered([(study, steps)], np.arange(study.num_sites))
    appeared, vanished = (study.at(name, study.steps)[:, sites] for name in ("appeared", "vanished"))
    search = find_strikes(study.steps, appeared, vanished)
    if not search.num_judged:
        raise Undecidable(
            Verdict.NOT_MEASURED, f"{study.title} has no long stretch of measurements at every step"
        )
    found = [strike for strike in search.strikes if strike.step + 1 in study.steps]
    return [(strike, sites[list(strike.sites)]) for strike in found], search.num_judged


def _returning_strike(
    evidence: Evidence,
    *,
    quantity: Callable[[Study, Strike, np.ndarray], float] = _imbalance,
    title: str = "|net| / churn over two steps",
    most: float = 0.2,
) -> Iterator[Check]:
    for need in _EARLY.values():
        studies = evidence.take(need)
        searches = [_strikes(evidence, study) for study in studies]
        judged = sum(num for _, num in searches)
        best = [
            min(quantity(study, strike, struck) for strike, struck in found)
            for study, (found, _) in zip(studies, searches, strict=True)
            if found
        ]
        if best:
            num = sum(len(found) for found, _ in searches)
            yield Check.of(f"{need.title}: {title}, least of {num} strikes in {judged:,}", best, "<=", most)
            continue
        if judged < _MIN_JUDGED:
            evidence.limit(
                f"{need.title}: no strike in the {judged:,} updates that could be judged, of 3,000"
            )
        yield Check.of(
            f"{need.title}: strikes in {judged:,} updates", 0, ">=", 1, counts=judged >= _MIN_JUDGED
        )


A15 = Claim(
    id="A15",
    says="Strikes: patterns appear, and then as many vanish (or the reverse), in lower and upper sites at once, in "
    "every network.",
    parts=(
        Part(
            name="strikes that return",
            asks="each net has a strike in figure 1 with |net change| of its step and the next at most 20 % of their "
            "churn, over the sites it struck; that there is none is said of at least 2,000 updates",
            decide=_returning_strike,
        ),
        Part(
            name="strikes undone",
            asks="each net has a strike whose net change is undone by at least half in the next step",
            decide=partial(
                _returning_strike,
                quantity=_left_of_jump,
                title="|net| over two steps / |net| of the first",
                most=0.5,
            ),
            role="apart",
        ),
    ),
    needs=tuple(_EARLY.values()),
    changed=(
        "strikes undone was added and is reported apart, since a step at which as many patterns appear as vanish passes "
        f"the first part although nothing returns (before any run of figure 1); {THREE_SITES}; none among fewer than "
        "2,000 updates is too small a scale, no contradiction (after figures 1, 2 and 4)"
    ),
)


# A21 -------------------------------------------------------------------------------------------------------

# Windows before 2,000-3,000 with which that is compared.
_EARLIER = ((1, 50), (51, 500), (501, 1000), (1001, 1999))


def _block_2_change(evidence: Evidence, study: Study, windows: tuple[tuple[int, int], ...]) -> list[float]:
    """Mean |relative_change| of block 2 in each window, at sites covered in all of them."""
    steps = [_single_updates(evidence, study, first, last) for first, last in windows]
    sites = evidence.covered([(study, _with_predecessors(np.concatenate(steps)))], study.stages[1])
    return [float(_mean_change(study, "relative_change", window, sites).mean()) for window in steps]


def _falls_within_500(evidence: Evidence) -> Iterator[Check]:
    def share(study: Study) -> float:
        early, late = _block_2_change(evidence, study, ((1, 50), (400, 500)))
        return ratio(late, early)

    for need in _EARLY.values():
        name = f"{need.title}: mean |relative_change| of block 2, steps 400-500 / steps 1-50"
        yield Check.of(name, per_seed(evidence.take(need), share), "<=", 0.5)


def _least_after_2000(evidence: Evidence) -> Iterator[Check]:
    def share(study: Study) -> float:
        *earlier, late = _block_2_change(evidence, study, (*_EARLIER, (2000, 3000)))
        return ratio(late, min(earlier))

    for need in _EARLY.values():
        name = f"{need.title}: mean |relative_change| of block 2, steps 2,000-3,000 / the least before"
        yield Check.of(name, per_seed(evidence.take(need), share), "<", 1.0)


def _toynet_forgets(evidence: Evidence) -> Iterator[Check]:
    def share(study: Study) -> float:
        sites = evidence.covered([(study, [0, 1])], np.arange(study.num_sites))
        return ratio(study.at("vanished", 1)[sites].sum(), study.at("total", 0)[sites].sum())

    values = per_seed(evidence.take(_EARLY["toynet"]), share)
    yield Check.of("ToyNet: vanished from step 0 to 1 / total at step 0, over all sites", values, ">=", 0.8)


A21 = Claim(
    id="A21",
    says="Changes fall in the middle sites within 500 steps and reach a minimum after about 2,000; in ToyNet most "
    "initial patterns vanish at once.",
    parts=(
        Part(
            name="falls within 500 steps",
            asks="each net: mean |relative_change| of block 2 over steps 400-500 is at most half of that over 1-50",
            decide=_falls_within_500,
        ),
        Part(
            name="least after 2,000",
            asks="each net: mean |relative_change| of block 2 over steps 2,000-3,000 is below that over 1-50, 51-500, "
            "501-1,000 and 1,001-1,999",
            decide=_least_after_2000,
            role="further",
        ),
        Part(
            name="ToyNet at once",
            asks="ToyNet: at least 80 % of the patterns of step 0 have vanished at step 1",
            decide=_toynet_forgets,
        ),
    ),
    needs=tuple(_EARLY.values()),
    changed=THREE_SITES,
)
