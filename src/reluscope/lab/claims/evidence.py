"""What the parts of a claim take from the stored runs, and on what terms.

`Evidence` hands out runs and sites and keeps a record of both, so that every verdict can name what it was decided
on. It holds the rule that a claim is decided only at sites whose coverage is at least 0.5 at the measurements
compared: below that, entropies are those of the sample and similarities vanish by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reluscope.lab.claims.study import NET_NAMES, Study
from reluscope.lab.claims.verdict import Check, Relation, Undecidable, Verdict

__all__ = [
    "MIN_COVERAGE",
    "Evidence",
    "Need",
    "compared",
    "mean_similarity",
    "per_seed",
    "rank_correlation",
    "ratio",
    "span",
]

MIN_COVERAGE = 0.5
"""Least coverage of a site at which a claim is decided."""

# A statement about a group of sites (or of pairs of them) is decided on its covered ones when there are so many: from
# fewer no trend over sites can be read.
_MIN_SITES = 3


@dataclass(frozen=True, kw_only=True)
class Need:
    """Which trainings a claim is about.

    Attributes:
        experiment: the figure they belong to, "fig1" to "fig4".
        net: "resnet", "convnet", "toynet", "pyramidnet" or "fixup_resnet".
        activation: "relu" or "prelu".
        method: "stepwise", "cyclic", "onecycle"; None for whatever the figure uses.
        blocks: b; None for every depth.
    """

    experiment: str
    net: str
    activation: str = "relu"
    method: str | None = "stepwise"
    blocks: int | None = 3

    def covers(self, study: Study) -> bool:
        """Whether a training is one of these."""
        return (
            (study.experiment, study.net, study.activation) == (self.experiment, self.net, self.activation)
            and self.method in (None, study.method)
            and self.blocks in (None, study.blocks)
        )

    @property
    def text(self) -> str:
        """The trainings in words: "fig3 of convnet (prelu, stepwise)"."""
        details = [word for word in (self.activation, self.method) if word is not None]
        if self.blocks is None:
            details.append("every depth")
        plain = details == ["relu", "stepwise"] or details == ["relu"]
        return f"{self.experiment} of {self.net}" + ("" if plain else f" ({', '.join(details)})")

    @property
    def command(self) -> str:
        """What makes them."""
        return f"reluscope reproduce {self.experiment}"

    @property
    def title(self) -> str:
        """The network, and what is special about its training."""
        name = NET_NAMES.get(self.net, self.net)
        special = [self.activation] if self.activation != "relu" else []
        special += [self.method] if self.method not in (None, "stepwise") else []
        return " ".join([name, *special])


class Evidence:
    """Hands out runs and sites to one part of one claim, and remembers which.

    Attributes:
        runs: names of the runs that were used, in order.
        sites: indices of the sites that were used.
        num_images: probe images of each run used.
        too_small: why the verdict can only be "scale too small", one text for each reason.
        lacks_coverage: whether sites that are not covered are among these reasons.

    Args:
        studies: what there is to hand out.
        min_sites: how many of the sites that a statement is about have to be covered, if it is about so many.
    """

    def __init__(self, studies: Sequence[Study], *, min_sites: int = _MIN_SITES) -> None:
        self._studies, self._min_sites = studies, min_sites
        self.runs: list[str] = []
        self.sites: set[int] = set()
        self.num_images: set[int] = set()
        self.seeds: list[int] = []
        self.too_small: list[str] = []
        self.lacks_coverage = False

    def take(self, need: Need) -> list[Study]:
        """The trainings of this need, ordered by seed; Undecidable, naming the command, when there is none."""
        found = sorted((study for study in self._studies if need.covers(study)), key=lambda study: study.seed)
        if not found:
            raise Undecidable(Verdict.NOT_MEASURED, f"needs {need.text}: `{need.command}`")
        for study in found:
            if study.name not in self.runs:
                self.runs.append(study.name)
            self.num_images.add(study.num_images)
            if study.scale == "smoke":
                self.limit("the smoke scale shows that everything runs; it decides no claim")
        self.seeds.append(len({study.seed for study in found}))
        return found

    def limit(self, reason: str, *, coverage: bool = False) -> None:
        """Note that what was asked cannot be decided at this scale; numbers are still shown.

        Args:
            reason: what is too small, and where.
            coverage: whether the numbers shown are of sites that are not covered.
        """
        self.lacks_coverage |= coverage
        if reason not in self.too_small:
            self.too_small.append(reason)

    def enough(self, num_covered: int, num_asked: int, *, most: bool = False) -> bool:
        """Whether so many covered sites, or pairs of them, can stand for all that a statement is about.

        Args:
            num_covered, num_asked: how many of how many.
            most: the statement is about the extreme or the spread over all of them, and of these a corner says nothing:
                half have to be covered.
        """
        wanted = max(1, min(self._min_sites, num_asked))
        return num_covered >= (max(wanted, num_asked / 2) if most and self._min_sites > 1 else wanted)

    def covered(
        self,
        measurements: Iterable[tuple[Study, int | Sequence[int] | np.ndarray]],
        sites: Sequence[int] | np.ndarray,
        *,
        most: bool = False,
    ) -> np.ndarray:
        """Those of `sites` that are covered in every one of these measurements.

        When too few are, that is noted as a limit and all of them come back, to be shown; `most` as in `enough`.
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
        note = f", {fewest} at step {step_of_fewest:,}"
        return self.choose(keep, sites, studies, note=note, most=most)

    def choose(
        self,
        covered: np.ndarray,
        sites: np.ndarray,
        studies: Sequence[Study],
        *,
        note: str = "",
        most: bool = False,
    ) -> np.ndarray:
        """The covered ones of these sites; all of them, and a limit noted, when too few are.

        Args:
            covered: for each site whether it is.
            sites: which a statement is about.
            studies: in which they have to be covered, for the reason.
            note: what to add to the reason.
            most: as in `enough`.
        """
        if not self.enough(int(covered.sum()), len(sites), most=most):
            methods = {(study.activation, study.method) for study in studies}
            names = [
                study.net_title + (f" {study.activation} {study.method}" if len(methods) > 1 else "")
                for study in studies
            ]
            self.limit(
                f"{' and '.join(dict.fromkeys(names))}: coverage is at least {MIN_COVERAGE} at {covered.sum()} of the "
                f"{len(sites)} sites {span(sites)} only{note}",
                coverage=True,
            )
            covered = np.ones(len(sites), dtype=bool)
        self.sites.update(int(site) for site in sites[covered])
        return sites[covered]

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
