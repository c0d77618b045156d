"""The claim about J1, the weighted Jaccard similarity to the state after the first update: A5."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import PAPER_IMAGES, THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import Evidence, compared, mean_similarity
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check, Undecidable, Verdict

__all__ = ["A5"]

_NETS = ("toynet", "convnet", "resnet")
_EARLY = {net: Need(experiment="fig1", net=net, method=None) for net in _NETS}
_FULL = {net: Need(experiment="fig4", net=net) for net in _NETS}

# Of the printed ranges, the last of the steps that every training records, well inside the drop.
_EARLY_STEP = 41
# "Early" is from there to the end of the shorter figure 1. What happens before is a matter of single steps.
_WINDOW = (_EARLY_STEP, 1000)


def _known(study: Study, reference: int, steps: np.ndarray) -> np.ndarray:
    """Those of these steps at which the similarity to the reference step is known."""
    values = study.similarity(reference, steps).values[np.isin(study.steps, steps)]
    found = steps[~np.isnan(values).all(axis=1)]
    if not len(found):
        raise Undecidable(Verdict.NOT_MEASURED, f"{study.title} holds no samples to compare states with")
    return found


def _mean_over_time(
    study: Study, reference: int, steps: np.ndarray, sites: np.ndarray
) -> tuple[float, float]:
    """Mean similarity over these sites and over time, and its standard error.

    Over time by trapezoids: a training that is measured more often at first does not count its first steps for more.
    """
    found = study.similar(reference, steps)
    gaps = np.diff(steps)
    weights = np.append(gaps, 0.0) + np.append(0.0, gaps) if len(steps) > 1 else np.ones(1)
    weights = weights / weights.sum()
    # All states of a site are sampled by one hash: errors do not average out over steps, but they do over sites.
    errors = weights @ found.errors[:, sites]
    return float((weights @ found.values[:, sites]).mean()), float(np.sqrt((errors**2).sum()) / len(sites))


def _kept(
    evidence: Evidence, needs: Sequence[Need], sites: Iterable[int], reference: int
) -> list[list[tuple[float, float]]]:
    """Mean similarity to the reference step, early in figure 1 or at the end of figure 4, per need and seed.

    Means over the sites that are covered in all of these trainings.
    """
    groups = [evidence.take(need) for need in needs]
    times = [
        [
            _known(study, reference, evidence.window(study, *_WINDOW))
            if need.experiment == "fig1"
            else np.array([study.end])
            for study in group
        ]
        for need, group in zip(needs, groups, strict=True)
    ]
    pairs = [list(zip(group, steps, strict=True)) for group, steps in zip(groups, times, strict=True)]
    measured = [(study, np.append(steps, reference)) for pair in pairs for study, steps in pair]
    covered = evidence.covered(measured, np.array(list(sites)))
    return [[_mean_over_time(study, reference, steps, covered) for study, steps in pair] for pair in pairs]


def _when(need: Need) -> str:
    return f"over steps {_WINDOW[0]}-{_WINDOW[1]:,}" if need.experiment == "fig1" else "at e"


def _toynet_least(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for needs in (_EARLY, _FULL):
        for net in ("convnet", "resnet"):
            toynet, other = _kept(evidence, (needs["toynet"], needs[net]), range(13), reference)
            name = f"mean J{reference} of blocks 1, 2 {_when(needs[net])}: ToyNet < {needs[net].title}"
            yield compared(name, toynet, "<", other)


def _resnet_more(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for needs in (_EARLY, _FULL):
        resnet, convnet = _kept(evidence, (needs["resnet"], needs["convnet"]), range(7), reference)
        yield compared(
            f"mean J{reference} of block 1 {_when(needs['resnet'])}: ResNet > ConvNet", resnet, ">", convnet
        )


def _share_of_steps(evidence: Evidence) -> Iterator[Check]:
    """At how many steps of figure 1 ResNet keeps more than ConvNet, for each pair of seeds."""
    shares, num = [], 0
    for pair in zip(evidence.take(_EARLY["resnet"]), evidence.take(_EARLY["convnet"]), strict=False):
        known = [_known(study, 1, evidence.window(study, 2, _WINDOW[1])) for study in pair]
        steps = np.intersect1d(known[0], known[1])
        sites = evidence.covered([(study, np.append(steps, 1)) for study in pair], np.arange(7))
        resnet, convnet = (study.similar(1, steps).values[:, sites].mean(axis=1) for study in pair)
        shares.append(float((resnet > convnet).mean()))
        num += len(steps)
    name = f"mean J1 of block 1: share of the {num:,} measured steps 2-{_WINDOW[1]:,} with ResNet > ConvNet"
    yield Check.of(name, shares, ">", 0.5)


def _block_1_most(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for needs in (_EARLY, _FULL):
        for net in ("resnet", "convnet"):
            stages = evidence.take(needs[net])[0].stages
            first, *others = (_kept(evidence, [needs[net]], stage, reference)[0] for stage in stages)
            for number, other in zip((2, 3), others, strict=True):
                name = f"{needs[net].title}, mean J{reference} {_when(needs[net])}: block 1 > block {number}"
                yield compared(name, first, ">", other)


def _toynet_rediscovers(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    ends, lows = [], []
    for study in evidence.take(_EARLY["toynet"]):
        steps = _known(study, reference, evidence.window(study, reference + 1))
        low = int(steps[study.similar(reference, steps).values.mean(axis=1).argmin()])
        sites = evidence.covered([(study, [reference, low, study.end])], np.arange(study.num_sites))
        ends.append(mean_similarity(study, reference, study.end, sites))
        lows.append(mean_similarity(study, reference, low, sites))
    yield compared(f"ToyNet, figure 1: mean J{reference} at the end > its minimum", ends, ">", lows)


def _printed_overlap(evidence: Evidence) -> Iterator[Check]:
    for net, need in _EARLY.items():
        low, high, end = [], [], []
        for study in evidence.take(need):
            sites = evidence.covered([(study, [1, _EARLY_STEP, study.end])], np.arange(study.num_sites))
            early = study.similar(1, _EARLY_STEP).values[sites]
            low.append(float(early.min()))
            high.append(float(early.max()))
            end.append(study.similar(1, study.end).values[sites])
        top = 0.05 if net == "toynet" else 0.16
        yield Check.of(f"{need.title}: largest J1 at step {_EARLY_STEP}", high, "<=", top)
        if net == "toynet":
            yield Check.of(f"ToyNet: least J1 at step {_EARLY_STEP}", low, ">=", 0.01)
            yield Check.of("ToyNet: least J1 at the end of figure 1", [row.min() for row in end], ">=", 0.04)
            yield Check.of(
                "ToyNet: largest J1 at the end of figure 1", [row.max() for row in end], "<=", 0.10
            )


A5 = Claim(
    id="A5",
    says="Similarity to initialisation falls to 0-16 %, lowest in ToyNet (1-5 %, later 4-10 %); ConvNet and ResNet keep "
    "most in the 16-filter sites, ResNet more than ConvNet.",
    parts=(
        Part(
            name="ToyNet least",
            asks="mean J1 over blocks 1 and 2 is lowest in ToyNet, over steps 41-1,000 of figure 1 and at the end of figure 4",
            decide=_toynet_least,
        ),
        Part(
            name="ResNet more than ConvNet",
            asks="mean J1 of block 1 is larger in ResNet than in ConvNet, at both",
            decide=_resnet_more,
        ),
        Part(
            name="block 1 most",
            asks="ConvNet and ResNet: mean J1 of block 1 exceeds that of block 2 and of block 3, at both",
            decide=_block_1_most,
        ),
        Part(
            name="ToyNet finds some again",
            asks="ToyNet: mean J1 at the end of figure 1 is above its minimum",
            decide=_toynet_rediscovers,
        ),
        Part(
            name="printed ranges",
            asks="J1 at step 41 is at most 16 % at every site, in ToyNet 1-5 %, and 4-10 % at the end of figure 1 (print)",
            decide=_printed_overlap,
            role="further",
            min_images=PAPER_IMAGES,
        ),
        Part(
            name="ResNet more than ConvNet, share of steps",
            asks="mean J1 of block 1 is larger in ResNet than in ConvNet at most measured steps 2-1,000 of figure 1",
            decide=_share_of_steps,
            role="apart",
        ),
        Part(
            name="ToyNet least, to step 0",
            asks="the first part with the similarity to step 0",
            decide=partial(_toynet_least, reference=0),
            role="apart",
        ),
        Part(
            name="ResNet more than ConvNet, to step 0",
            asks="the second part with the similarity to step 0",
            decide=partial(_resnet_more, reference=0),
            role="apart",
        ),
        Part(
            name="block 1 most, to step 0",
            asks="the third part with the similarity to step 0",
            decide=partial(_block_1_most, reference=0),
            role="apart",
        ),
    ),
    needs=(*_EARLY.values(), *_FULL.values()),
    changed=(
        f"{THREE_SITES}; early is the mean over steps 41-1,000 instead of step 41, nets are compared at the sites "
        "covered in both, and the share of steps is reported apart (after figures 1, 2 and 4)"
    ),
)
