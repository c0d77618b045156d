"""What the parts of a claim take from the stored runs, and on what terms.

`Evidence` hands out runs and sites and keeps a record of both, so that every verdict can name what it was decided
on. It holds the rule that a claim is decided only at sites whose coverage is at least 0.5 at the measurements
compared: below that, entropies are those of the sample and similarities vanish by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from reluscope.lab.claims.needs import Need, commands_for
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check, Relation, Undecidable, Verdict

__all__ = [
    "MIN_COVERAGE",
    "Evidence",
    "Rule",
    "Want",
    "compared",
    "mean_similarity",
    "per_seed",
    "rank_correlation",
    "ratio",
    "span",
]

MIN_COVERAGE = 0.5
"""Least coverage of a site at which a claim is decided."""

# A mean over a group of sites (or of pairs of them) is decided on its covered ones when there are so many.
_MIN_SITES = 3

Rule = Literal["now", "first", "any"]
"""How many covered sites decide: by the rule of now; half of them always, the rule that was fixed before any run was
looked at; or one, to see what the covered ones alone say."""

Want = Literal["three", "most", "one"]
"""By the rule of now: three for a mean; half of them for an extreme, a spread or a trend over all of them, about which
a corner says nothing; one where a single site can settle the statement."""


class Evidence:
    """Hands out runs and sites to one part of one claim, and remembers which.

    Attributes:
        runs: names of the runs that were used, in order.
        needs: what was asked for.
        sites: indices of the sites that were used.
        num_images: probe images of each run used.
        too_small: why the verdict can only be "scale too small", one text for each reason.
        briefs: the same reasons in fewer words.
        lacks_coverage: whether sites that are not covered are among these reasons.
        rule_matters: whether the rule of now and the first one differ in what they let be decided.

    Args:
        studies: what there is to hand out.
        rule: how many of the sites that a statement is about have to be covered.
    """

    def __init__(self, studies: Sequence[Study], *, rule: Rule = "now") -> None:
        self._studies, self._rule = studies, rule
        self.runs: list[str] = []
        self.needs: list[Need] = []
        self.sites: set[int] = set()
        self.num_images: set[int] = set()
        self.seeds: list[int] = []
        self.too_small: list[str] = []
        self.briefs: list[str] = []
        self.lacks_coverage = False
        self.rule_matters = False

    def take(self, need: Need) -> list[Study]:
        """The trainings of this need, ordered by seed; Undecidable, naming the command, when there is none."""
        found = sorted((study for study in self._studies if need.covers(study)), key=lambda study: study.seed)
        if not found:
            (command,) = self.commands([need])
            raise Undecidable(Verdict.NOT_MEASURED, f"needs {need.text}: `{command}`")
        if need not in self.needs:
            self.needs.append(need)
        for study in found:
            if study.name not in self.runs:
                self.runs.append(study.name)
            self.num_images.add(study.num_images)
            if study.scale == "smoke":
                self.limit("the smoke scale shows that everything runs; it decides no claim")
        self.seeds.append(len({study.seed for study in found}))
        return found

    def commands(self, needs: Sequence[Need], *, seeds: int | None = None) -> tuple[str, ...]:
        """What makes these trainings, with so many seeds, beside the runs there are."""
        return commands_for(needs, self._studies, seeds=seeds)

    def limit(self, reason: str, *, brief: str | None = None, coverage: bool = False) -> None:
        """Note that what was asked cannot be decided at this scale; numbers are still shown.

        Args:
            reason: what is too small, and where.
            brief: the same in fewer words.
            coverage: whether the numbers shown are of sites that are not covered.
        """
        self.lacks_coverage |= coverage
        if reason not in self.too_small:
            self.too_small.append(reason)
            self.briefs.append(brief or reason)

    def enough(self, num_covered: int, num_asked: int, *, want: Want = "three") -> bool:
        """Whether so many covered sites, or pairs of them, can stand for all that a statement is about.

        Args:
            num_covered, num_asked: how many of how many.
            want: what the statement is about; see `Want`.
        """
        least = min(_MIN_SITES, num_asked)
        now = {"three": least, "most": max(least, num_asked / 2), "one": 1}[want]
        wanted = {"now": now, "first": num_asked / 2, "any": 1}
        outcomes = {rule: 0 < num_covered >= number for rule, number in wanted.items()}
        self.rule_matters |= outcomes["now"] != outcomes["first"]
        return outcomes[self._rule]

    def covered(
        self,
        measurements: Iterable[tuple[Study, int | Sequence[int] | np.ndarray]],
        sites: Sequence[int] | np.ndarray,
        *,
        want: Want = "three",
    ) -> np.ndarray:
        """Those of `sites` that are covered in every one of these measurements.

        When too few are, that is noted as a limit and all of them come back, to be shown; `want` as in `enough`.
        """
        sites, measurements = np.asarray(sites), list(measurements)
        keep = np.ones(len(sites), dtype=bool)
        fewest, step_of_fewest = len(sites) + 1, 0
        for study, steps in measurements:
            held = np.atleast_2d(study.at("coverage", steps))[:, sites] >= MIN_COVERAGE
            keep &= held.all(axis=0)
            least = int(held.sum(axis=1).argmin())
            if held[least].sum() < fewest:
                fewest, step_of_fewest = int(held[least].sum()), int(np.atleast_1d(steps)[least])
        studies = [study for study, _ in measurements]
        # At no step fewer than at all of them together: then the number says it already.
        note = "" if fewest == keep.sum() else f", at the fewest {fewest} of them at step {step_of_fewest:,}"
        return self.choose(keep, sites, studies, note=note, want=want)

    def choose(
        self,
        covered: np.ndarray,
        sites: np.ndarray,
        studies: Sequence[Study],
        *,
        note: str = "",
        want: Want = "three",
    ) -> np.ndarray:
        """The covered ones of these sites; all of them, and a limit noted, when too few are.

        Args:
            covered: for each site whether it is.
            sites: which a statement is about.
            studies: in which they have to be covered, for the reason.
            note: what to add to the reason.
            want: as in `enough`.
        """
        num = int(covered.sum())
        if not self.enough(num, len(sites), want=want):
            methods = {(study.activation, study.method) for study in studies}
            names = dict.fromkeys(
                study.net_title + (f" {study.activation} {study.method}" if len(methods) > 1 else "")
                for study in studies
            )
            self.limit(
                f"{' and '.join(names)}: coverage is at least {MIN_COVERAGE} at {num} of the {len(sites)} sites "
                f"{span(sites)} only{note}",
                brief=f"coverage of {' and '.join(names)}, {num} of sites {span(sites)}",
                coverage=True,
            )
            covered = np.ones(len(sites), dtype=bool)
        self.sites.update(int(site) for site in sites[covered])
        return sites[covered]

    def bounded(self, checks: Sequence[Check], groups: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Note a limit where bounds on every one of a group of sites hold at too few of them to say so of all.

        One covered site beyond its bound contradicts, whatever the others do; then nothing is noted.

        Args:
            checks: of the covered sites.
            groups: for each bound the sites that are covered, as `covered(..., want="one")` gives them, and all
                it is about.
        """
        if any(check.counts and check.holds is False for check in checks):
            return
        for found, asked in groups:
            if not self.enough(len(found), len(asked), want="most"):
                self.limit(
                    f"holds at the {len(found)} covered ones of the {len(asked)} sites {span(asked)}, of which "
                    "at least half have to be covered to say so of all",
                    brief=f"holds at {len(found)} of sites {span(asked)}, the covered ones; half are needed",
                )

    def window(self, study: Study, first: int, last: int | None = None) -> np.ndarray:
        """The measured steps from `first` to `last` (or to the end, which has to be reached).

        A training that is too short for the window is a matter of scale, one without measurements in it is not.
        """
        if study.num_steps < (first if last is None else last):
            self.limit(
                f"{study.title} is {study.num_steps:,} steps long; "
                + (
                    f"steps from {first:,} on are asked for"
                    if last is None
                    else f"step {last:,} is asked for"
                )
            )
        wanted = study.end if last is None else last
        if study.steps[-1] < min(wanted, study.num_steps):
            _ = study.end  # raises: the training was cut off before
        found = study.steps_within(first, wanted)
        if not len(found):
            verdict = Verdict.TOO_SMALL if self.too_small else Verdict.NOT_MEASURED
            until = "the end" if last is None else f"{last:,}"
            raise Undecidable(verdict, f"{study.title} has no measurement from step {first:,} to {until}")
        return found


def mean_similarity(study: Study, to: int, at: int, sites: np.ndarray) -> tuple[float, float]:
    """Mean similarity over sites, and its standard error: sites are sampled independently of each other."""
    found = study.similar(to, at)
    error = float(np.sqrt((found.errors[sites] ** 2).sum()) / len(sites))
    return float(found.values[sites].mean()), error


def compared(
    name: str,
    first: Sequence[tuple[float, float]],
    relation: Relation,
    second: Sequence[tuple[float, float]],
) -> Check:
    """A check of two means with their sampling errors, once per seed."""
    errors = [error for group in (first, second) for _, error in group]
    error = float(np.sqrt(np.square(errors).sum())) / max(1, min(len(first), len(second)))
    values, bounds = ([value for value, _ in group] for group in (first, second))
    return Check.of(name, values, relation, bounds, error=error)


def per_seed(studies: Sequence[Study], quantity: Callable[[Study], float]) -> tuple[float, ...]:
    """A quantity of every one of these trainings."""
    return tuple(float(quantity(study)) for study in studies)


def rank_correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN for fewer than three pairs or constant values.

    >>> round(rank_correlation([1, 2, 3, 4], [1, 3, 2, 9]), 12)
    0.8
    """
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    if len(ranks[0]) < 3 or any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def ratio(numerator: float, denominator: float) -> float:
    """A quotient that is infinite over zero, and 1 for 0/0: nothing against nothing is no difference."""
    if denominator == 0.0:
        return 1.0 if numerator == 0.0 else float("inf")
    return float(numerator / denominator)


def span(sites: Iterable[int]) -> str:
    """Sites in few characters.

    >>> span([0, 1, 2, 3, 7, 9, 10])
    '0-3, 7, 9-10'
    """
    runs: list[list[int]] = []
    for site in sorted(int(one) for one in sites):
        if runs and site == runs[-1][-1] + 1:
            runs[-1].append(site)
        else:
            runs.append([site])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
