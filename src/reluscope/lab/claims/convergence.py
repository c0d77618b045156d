"""Claims about JF, the weighted Jaccard similarity to the final state: A10, A11, A12 (figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import HALF_AGAIN, PAPER_IMAGES, THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import (
    Evidence,
    Want,
    compared,
    mean_similarity,
    per_seed,
    rank_correlation,
)
from reluscope.lab.claims.methods import RESNET_METHODS, STEPWISE
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check, Undecidable, Verdict

__all__ = ["A10", "A11", "A12"]

_TOYNET = Need(experiment="fig4", net="toynet")


# A10 -------------------------------------------------------------------------------------------------------


def _bottom_up(evidence: Evidence) -> Iterator[Check]:
    studies = evidence.take(STEPWISE["convnet"])
    for position, word in enumerate(("b", "a")):
        groups: list[list[tuple[float, float]]] = [[], [], []]
        for study in studies:
            at, (first, second, _) = (study.before_drop, study.after_drop)[position], study.stages
            for group, sites in zip(groups, (first, second, [study.num_sites - 1]), strict=True):
                covered = evidence.covered([(study, [at, study.end])], sites)
                group.append(mean_similarity(study, study.end, at, covered))
        yield compared(f"ConvNet, mean JF at {word}: block 1 > block 2", groups[0], ">", groups[1])
        yield compared(f"ConvNet, mean JF at {word}: block 2 > last site", groups[1], ">", groups[2])


def _falls_with_depth(evidence: Evidence, *, needs: Sequence[Need]) -> Iterator[Check]:
    def correlation(study: Study) -> float:
        b, e = study.before_drop, study.end
        sites = evidence.covered([(study, [b, e])], np.arange(study.num_sites), want="most")
        return rank_correlation(study.similar(e, b).values[sites], sites)

    for need in needs:
        yield Check.of(
            f"{need.title}: Spearman(JF(b), site)", per_seed(evidence.take(need), correlation), "<", -0.5
        )


def _printed_convergence(evidence: Evidence) -> Iterator[Check]:
    rows = []
    for study in evidence.take(STEPWISE["convnet"]):
        early = study.steps_within(5 * study.steps_per_epoch, study.end)[0]
        b, a, (first, second, third) = study.before_drop, study.after_drop, study.stages
        last = np.array([study.num_sites - 1])
        wanted = ((first, early), (second, b), (last, b), (first, a), (second, a), (third, a))
        row = []
        for sites, at in wanted:
            covered = evidence.covered([(study, [at, study.end])], sites)
            row.append(mean_similarity(study, study.end, int(at), covered)[0])
        rows.append(row)
    names = (
        "block 1 after 5 epochs",
        "block 2 at b",
        "last site at b",
        "block 1 at a",
        "block 2 at a",
        "block 3 at a",
    )
    for position, (name, printed) in enumerate(
        zip(names, (0.50, 0.17, 0.065, 0.97, 0.60, 0.30), strict=True)
    ):
        off = [abs(row[position] - printed) for row in rows]
        yield Check.of(f"ConvNet, mean JF of {name}: distance from {printed}", off, "<=", 0.10)


A10 = Claim(
    id="A10",
    says="Convergence is bottom-up: ConvNet's block 1 is at 50 % of its final patterns after a few epochs, block 2 at 17 % "
    "by the first drop of the learning rate, the last site at 6-7 %; soon after it blocks 1-3 are at 97, 60 and 30 %.",
    parts=(
        Part(
            name="order of blocks",
            asks="ConvNet at b and at a: mean JF of block 1 > block 2 > site 18",
            decide=_bottom_up,
        ),
        Part(
            name="falls with depth",
            asks="ConvNet, ResNet (figure 3) and ToyNet (figure 4): Spearman(JF(b), site) < -0.5",
            decide=partial(_falls_with_depth, needs=(STEPWISE["convnet"], STEPWISE["resnet"], _TOYNET)),
        ),
        Part(
            name="printed values",
            asks="ConvNet: within 10 points of the printed values",
            decide=_printed_convergence,
            role="further",
            min_images=PAPER_IMAGES,
        ),
        Part(
            name="falls with depth, the exceptions",
            asks="the same of PyramidNet and FixUp, which the paper calls exceptions",
            decide=partial(_falls_with_depth, needs=(STEPWISE["pyramidnet"], STEPWISE["fixup_resnet"])),
            role="apart",
        ),
    ),
    needs=(STEPWISE["convnet"], STEPWISE["resnet"], _TOYNET),
    changed=f"order of blocks: {THREE_SITES}; falls with depth: {HALF_AGAIN}",
)


# A11 and A12: how JF goes over the whole training -------------------------------------------------------------


def _over_time(
    evidence: Evidence, studies: Sequence[Study], *, want: Want
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Epoch-end steps before the final one and JF there (steps, sites), of each training; and the sites.

    These are covered at all these steps in all of the trainings.
    """
    times = [study.full_epochs() for study in studies]
    for study, steps in zip(studies, times, strict=True):
        if len(steps) < 3:
            raise Undecidable(Verdict.NOT_MEASURED, f"{study.title} needs a measurement at every epoch")
    measured = [(study, np.append(steps, study.end)) for study, steps in zip(studies, times, strict=True)]
    sites = evidence.covered(measured, np.arange(studies[0].num_sites), want=want)
    rows = [
        (steps, study.similar(study.end, steps).values[:, sites])
        for study, steps in zip(studies, times, strict=True)
    ]
    return rows, sites


def _unevenness(evidence: Evidence, *groups: Sequence[Study]) -> list[tuple[float, ...]]:
    """Standard deviation of JF over sites, mean over time, per group and seed."""
    rows, _ = _over_time(evidence, [study for group in groups for study in group], want="most")
    values = iter([float(values.std(axis=1).mean()) for _, values in rows])
    return [tuple(next(values) for _ in group) for group in groups]


_FIXUP_EARLY = (5, 6, 7, 10, 12, 16)


def _pyramidnet_even(evidence: Evidence) -> Iterator[Check]:
    # Two nets of different sites: each at those of its own that are covered.
    pyramidnet, resnet = (
        _unevenness(evidence, evidence.take(STEPWISE[net]))[0] for net in ("pyramidnet", "resnet")
    )
    yield Check.of(
        "standard deviation of JF over sites, mean over time: PyramidNet < ResNet", pyramidnet, "<", resnet
    )


def _pyramidnet_last_slowest(evidence: Evidence, *, first: bool = False) -> Iterator[Check]:
    """Margin by which one end of the net has the lowest (last site) or highest (first site) JF over time."""
    margins = []
    for study in evidence.take(STEPWISE["pyramidnet"]):
        ((_, rows),), sites = _over_time(evidence, [study], want="most")
        means, wanted = rows.mean(axis=0), 0 if first else study.num_sites - 1
        if wanted not in sites or len(sites) == 1:
            text = (
                f"site {wanted} is not covered" if wanted not in sites else f"only site {wanted} is covered"
            )
            evidence.limit(text, coverage=True)
            continue
        own, others = means[sites == wanted][0], means[sites != wanted]
        margins.append(own - others.max() if first else others.min() - own)
    if margins:
        text = "first site - highest other" if first else "lowest other site - last site"
        yield Check.of(f"PyramidNet, JF, mean over time: {text}", margins, ">", 0.0)


def _fixup_early(evidence: Evidence) -> Iterator[Check]:
    """Both ways to count sites are tried; the better one decides, the other is shown."""
    fixup, resnet = (evidence.take(STEPWISE[net]) for net in ("fixup_resnet", "resnet"))
    quarters = [(study, [study.at_share(0.25), study.end]) for study in (*fixup, *resnet)]
    covered = evidence.covered(quarters, np.arange(fixup[0].num_sites))
    found = [_fixup_checks(evidence, fixup, resnet, covered, base) for base in (0, 1)]
    best = int(min(check.margin for check in found[1]) > min(check.margin for check in found[0]))
    for base, checks in enumerate(found):
        for name, first, second in ((check.name, check.values, check.bound) for check in checks):
            yield Check.of(name, first, ">", second, counts=base == best)


def _fixup_checks(
    evidence: Evidence, fixup: Sequence[Study], resnet: Sequence[Study], covered: np.ndarray, base: int
) -> list[Check]:
    named = np.isin(covered, np.array(_FIXUP_EARLY) - base)
    if not evidence.enough(int(named.sum()), len(_FIXUP_EARLY)) or named.all():
        evidence.limit(
            f"{named.sum()} of the {len(_FIXUP_EARLY)} named sites and {(~named).sum()} others are covered (counted "
            f"from {base})",
            coverage=True,
        )
        covered = np.arange(fixup[0].num_sites)
        named = np.isin(covered, np.array(_FIXUP_EARLY) - base)

    def mean(study: Study, sites: np.ndarray) -> float:
        return study.similar(study.end, study.at_share(0.25)).values[sites].mean()

    own = per_seed(fixup, lambda study: mean(study, covered[named]))
    others = per_seed(fixup, lambda study: mean(study, covered[~named]))
    theirs = per_seed(resnet, lambda study: mean(study, covered[named]))
    text = f"FixUp, JF at 25 % of the epochs, named sites (counted from {base})"
    return [
        Check.of(f"{text} > its other sites", own, ">", others),
        Check.of(f"{text} > ResNet-20's", own, ">", theirs),
    ]


A11 = Claim(
    id="A11",
    says="PyramidNet converges most uniformly over layers and time, its last site slowest; FixUp brings sites 5, 6, 7, 10, "
    "12 and 16 early to their final patterns.",
    parts=(
        Part(
            name="PyramidNet even",
            asks="standard deviation of JF over sites, mean over the epochs, is lower in PyramidNet than in ResNet-20",
            decide=_pyramidnet_even,
        ),
        Part(
            name="last site slowest",
            asks="PyramidNet: JF, mean over the epochs, is lowest at the last site",
            decide=_pyramidnet_last_slowest,
        ),
        Part(
            name="FixUp early",
            asks="FixUp at 25 % of the epochs: mean JF of the named sites exceeds that of its other sites and that of the "
            "same sites of ResNet-20; sites counted from 0 or from 1, whichever fits better",
            decide=_fixup_early,
        ),
        Part(
            name="first site highest",
            asks="PyramidNet: JF, mean over the epochs, is highest at the first site",
            decide=partial(_pyramidnet_last_slowest, first=True),
            role="apart",
        ),
    ),
    needs=(STEPWISE["pyramidnet"], STEPWISE["resnet"], STEPWISE["fixup_resnet"]),
    changed=f"FixUp early: {THREE_SITES}",
)


# A12 -------------------------------------------------------------------------------------------------------


def _waves(evidence: Evidence) -> Iterator[Check]:
    def correlation(study: Study) -> float:
        if study.num_cycles() < 2:
            evidence.limit(
                f"{study.title} has {study.num_cycles()} cycles of the learning rate; 2 are needed"
            )
        ((steps, rows),), _ = _over_time(evidence, [study], want="three")
        mean = rows.mean(axis=1)
        slope, offset = np.polyfit(steps, mean, 1)
        return rank_correlation(mean - (slope * steps + offset), study.rates(steps))

    for need in (RESNET_METHODS[2], Need(experiment="fig3", net="convnet", method="cyclic")):
        name = f"{need.title}: Spearman(mean_l JF without its linear trend, learning rate)"
        yield Check.of(name, per_seed(evidence.take(need), correlation), "<=", -0.5)


def _onecycle_and_stepwise(evidence: Evidence) -> Iterator[tuple[str, list[Study], list[Study]]]:
    for net in ("resnet", "convnet"):
        need = Need(experiment="fig3", net=net, method="onecycle")
        yield need.title, evidence.take(need), evidence.take(STEPWISE[net])


def _reached(
    evidence: Evidence, onecycle: Sequence[Study], stepwise: Sequence[Study], level: float
) -> list[list[int]]:
    """The first measurement from the first epoch on where mean_l JF is at least `level`, the end at the latest; per
    method and seed, at the sites that are covered in all these trainings."""
    studies = [*onecycle, *stepwise]
    found = []
    for study, (steps, rows) in zip(studies, _over_time(evidence, studies, want="three")[0], strict=True):
        beyond = steps[rows.mean(axis=1) >= level]
        found.append(int(beyond[0]) if len(beyond) else study.end)
    return [found[: len(onecycle)], found[len(onecycle) :]]


def _onecycle_later(evidence: Evidence) -> Iterator[Check]:
    for title, onecycle, stepwise in _onecycle_and_stepwise(evidence):
        reached = _reached(evidence, onecycle, stepwise, 0.3)
        shares = [
            [step / study.num_steps for step, study in zip(steps, studies, strict=True)]
            for steps, studies in zip(reached, (onecycle, stepwise), strict=True)
        ]
        name = f"{title}: share of the epochs until mean_l JF >= 0.3 > stepwise's"
        yield Check.of(name, shares[0], ">", shares[1])


def _onecycle_even(evidence: Evidence) -> Iterator[Check]:
    for title, onecycle, stepwise in _onecycle_and_stepwise(evidence):
        name = f"{title}: standard deviation of JF over sites, mean over time < stepwise's"
        first, second = _unevenness(evidence, onecycle, stepwise)
        yield Check.of(name, first, "<", second)


def _onecycle_fast(evidence: Evidence) -> Iterator[Check]:
    for title, onecycle, stepwise in _onecycle_and_stepwise(evidence):
        low, high = (_reached(evidence, onecycle, stepwise, level) for level in (0.3, 0.9))
        epochs = [
            [(last - first) / study.steps_per_epoch for first, last, study in zip(*both, strict=True)]
            for both in zip(low, high, (onecycle, stepwise), strict=True)
        ]
        name = f"{title}: epochs from mean_l JF 0.3 to 0.9 < stepwise's"
        yield Check.of(name, epochs[0], "<", epochs[1])


A12 = Claim(
    id="A12",
    says="With CyclicLR the similarity to the final state moves in waves, high when the learning rate is low; OneCycle "
    "starts late, is most uniform over layers, and then faster.",
    parts=(
        Part(
            name="waves",
            asks="CyclicLR: Spearman(mean_l JF without its linear trend, learning rate) <= -0.5 over at least 2 cycles",
            decide=_waves,
        ),
        Part(
            name="OneCycle later",
            asks="OneCycle: mean_l JF reaches 0.3 later than stepwise, as a share of the epochs",
            decide=_onecycle_later,
        ),
        Part(
            name="OneCycle even",
            asks="OneCycle: smaller standard deviation of JF over sites, mean over the epochs",
            decide=_onecycle_even,
        ),
        Part(
            name="OneCycle fast",
            asks="OneCycle: from mean_l JF 0.3 to 0.9 in fewer epochs",
            decide=_onecycle_fast,
        ),
    ),
    needs=(
        *(Need(experiment="fig3", net=net, method="cyclic") for net in ("resnet", "convnet")),
        *(Need(experiment="fig3", net=net, method="onecycle") for net in ("resnet", "convnet")),
        STEPWISE["resnet"],
        STEPWISE["convnet"],
    ),
    changed=(
        "means over sites (waves, later, fast) are decided by three covered sites instead of half of them, and OneCycle "
        "and stepwise are compared at the sites covered in both (after figures 1, 2 and 4)"
    ),
)
