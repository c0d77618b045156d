"""The claim about J1, the weighted Jaccard similarity to the state after the first update: A5."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import PAPER_IMAGES, Claim, Part
from reluscope.lab.claims.evidence import Evidence, Need, compared, mean_similarity
from reluscope.lab.claims.verdict import Check, Undecidable, Verdict

__all__ = ["A5"]

_NETS = ("toynet", "convnet", "resnet")
_EARLY = {net: Need(experiment="fig1", net=net, method=None) for net in _NETS}
_FULL = {net: Need(experiment="fig4", net=net) for net in _NETS}

# "Early" is the last of the steps that every training records, well inside the drop.
_EARLY_STEP = 41


def _kept(evidence: Evidence, need: Need, sites: Iterable[int], reference: int) -> list[tuple[float, float]]:
    """Mean similarity to the reference step, at step 41 of figure 1 or at the end of figure 4, per seed."""
    found = []
    for study in evidence.take(need):
        at = _EARLY_STEP if need.experiment == "fig1" else study.end
        covered = evidence.covered([(study, [reference, at])], np.array(list(sites)))
        found.append(mean_similarity(study, reference, at, covered))
    return found


def _when(need: Need) -> str:
    return f"at step {_EARLY_STEP}" if need.experiment == "fig1" else "at e"


def _toynet_least(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    sites = range(13)
    for needs in (_EARLY, _FULL):
        toynet = _kept(evidence, needs["toynet"], sites, reference)
        for net in ("convnet", "resnet"):
            name = f"mean J{reference} of blocks 1, 2 {_when(needs[net])}: ToyNet < {needs[net].title}"
            yield compared(name, toynet, "<", _kept(evidence, needs[net], sites, reference))


def _resnet_more(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for needs in (_EARLY, _FULL):
        resnet, convnet = (_kept(evidence, needs[net], range(7), reference) for net in ("resnet", "convnet"))
        yield compared(
            f"mean J{reference} of block 1 {_when(needs['resnet'])}: ResNet > ConvNet", resnet, ">", convnet
        )


def _block_1_most(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for needs in (_EARLY, _FULL):
        for net in ("resnet", "convnet"):
            stages = evidence.take(needs[net])[0].stages
            first, *others = (_kept(evidence, needs[net], stage, reference) for stage in stages)
            for number, other in zip((2, 3), others, strict=True):
                name = f"{needs[net].title}, mean J{reference} {_when(needs[net])}: block 1 > block {number}"
                yield compared(name, first, ">", other)


def _toynet_rediscovers(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    ends, lows = [], []
    for study in evidence.take(_EARLY["toynet"]):
        steps = evidence.window(study, reference + 1)
        steps = steps[~np.isnan(study.similarity(reference).values[np.isin(study.steps, steps)]).all(axis=1)]
        if not len(steps):
            raise Undecidable(Verdict.NOT_MEASURED, f"{study.title} holds no samples to compare states with")
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
            asks="mean J1 over blocks 1 and 2 is lowest in ToyNet, at step 41 of figure 1 and at the end of figure 4",
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
)
