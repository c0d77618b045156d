"""Claims about what training methods do to relative entropy H: A13, A14, A17, A18 (figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import MIN_COVERAGE, Evidence, per_seed
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study, inner_pairs
from reluscope.lab.claims.verdict import Check, Relation, Undecidable, Verdict

__all__ = ["A13", "A14", "A17", "A18", "RESNET_METHODS", "STEPWISE"]

STEPWISE = {
    net: Need(experiment="fig3", net=net) for net in ("resnet", "convnet", "pyramidnet", "fixup_resnet")
}
"""The stepwise ReLU trainings of figure 3 by network."""

_PRELU = {net: Need(experiment="fig3", net=net, activation="prelu") for net in ("resnet", "convnet")}
_CYCLIC = {net: Need(experiment="fig3", net=net, method="cyclic") for net in ("resnet", "convnet")}
_ONECYCLE = {net: Need(experiment="fig3", net=net, method="onecycle") for net in ("resnet", "convnet")}

RESNET_METHODS = (STEPWISE["resnet"], _PRELU["resnet"], _CYCLIC["resnet"], _ONECYCLE["resnet"])
"""The four trainings of ResNet-20 in figure 3."""

_H = "relative_entropy"
_EARLY_SHARE = 0.1


def _early_drop(study: Study, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """For each site, H at the reference step minus its least value in the first 10 %; and where both are covered."""
    steps = study.steps_within(reference + 1, _EARLY_SHARE * study.num_steps)
    if not len(steps):
        raise Undecidable(
            Verdict.NOT_MEASURED,
            f"{study.title} has no measurement in its first 10 % after step {reference}",
        )
    rows, coverage = study.at(_H, steps), study.at("coverage", steps)
    where = rows.argmin(axis=0), np.arange(study.num_sites)
    covered = (coverage[where] >= MIN_COVERAGE) & (study.at("coverage", reference) >= MIN_COVERAGE)
    return study.at(_H, reference) - rows[where], covered


def _early_drops(
    evidence: Evidence, needs: Sequence[Need], sites: np.ndarray | None, reference: int
) -> list[tuple[float, ...]]:
    """Mean early drop over `sites` (all when None), at those covered in all the trainings, per need and seed."""
    studies = [evidence.take(need) for need in needs]
    groups = [[_early_drop(study, reference) for study in group] for group in studies]
    everything = [pair for group in groups for pair in group]
    if sites is None:
        sites = np.arange(len(everything[0][0]))
    covered = np.all([covered[sites] for _, covered in everything], axis=0)
    chosen = evidence.choose(covered, sites, [study for group in studies for study in group])
    return [tuple(float(drop[chosen].mean()) for drop, _ in group) for group in groups]


def _at_end(evidence: Evidence, needs: Sequence[Need], sites: np.ndarray) -> list[tuple[float, ...]]:
    """Mean H over these sites at the end, at those covered in all the trainings, per need and seed."""
    groups = [evidence.take(need) for need in needs]
    chosen = evidence.covered([(study, study.end) for group in groups for study in group], sites)
    return [per_seed(group, lambda study: study.at(_H, study.end)[chosen].mean()) for group in groups]


# A13 -------------------------------------------------------------------------------------------------------


def _prelu_drop(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    needs = (_PRELU["resnet"], STEPWISE["resnet"])
    stages = evidence.take(needs[0])[0].stages
    relations: dict[int, Relation] = {2: "<", 3: "<", 1: ">"}
    for number, relation in relations.items():
        prelu, relu = _early_drops(evidence, needs, stages[number - 1], reference)
        yield Check.of(f"ResNet-20, block {number}: early drop, PReLU {relation} ReLU", prelu, relation, relu)


def _prelu_inverts(evidence: Evidence) -> Iterator[Check]:
    groups = [evidence.take(need) for need in (_PRELU["resnet"], STEPWISE["resnet"])]
    block = groups[0][0].stages[1]
    sites = evidence.covered([(study, study.end) for group in groups for study in group], block)
    pairs = inner_pairs(sites)
    if not evidence.enough(len(pairs), len(inner_pairs(block))):
        text = f"{len(pairs)} of {len(inner_pairs(block))} pairs of block 2 are covered"
        evidence.limit(text, coverage=True)
        pairs = inner_pairs(block)
    rows = [[study.at(_H, study.end) for study in group] for group in groups]
    prelu, relu = ([float((row[pairs[:, 1]] - row[pairs[:, 0]]).mean()) for row in group] for group in rows)
    # Sign of ReLU's in the mean over its seeds; the zigzag of one sign, PReLU's has to have the other.
    sign = 1.0 if np.mean(relu) >= 0.0 else -1.0
    yield Check.of(
        "block 2 at e: ReLU's mean H(2j) - H(2j-1), in its own direction", sign * np.array(relu), ">", 0.0
    )
    yield Check.of("block 2 at e: PReLU's, in ReLU's direction", sign * np.array(prelu), "<", 0.0)


def _prelu_last_site(evidence: Evidence) -> Iterator[Check]:
    prelu, relu = _early_drops(evidence, (_PRELU["convnet"], STEPWISE["convnet"]), np.array([18]), 1)
    yield Check.of("ConvNet-20, site 18: early drop, PReLU > ReLU", prelu, ">", relu)


A13 = Claim(
    id="A13",
    says="PReLU damps ResNet-20's early entropy drop in blocks 2 and 3 most of all methods, loses more in block 1, and "
    "inverts the zigzag in block 2; ConvNet-20 with PReLU loses more at its last site.",
    parts=(
        Part(
            name="early drop",
            asks="ResNet-20: H(1) - min over the first 10 %, mean over a block: PReLU's is smaller than ReLU's in blocks "
            "2 and 3, larger in block 1",
            decide=_prelu_drop,
        ),
        Part(
            name="zigzag inverted",
            asks="ResNet-20, block 2 at e: the mean over inner pairs of H(2j) - H(2j-1) has the sign opposite to ReLU's",
            decide=_prelu_inverts,
        ),
        Part(
            name="ConvNet's last site",
            asks="ConvNet-20, site 18: the early drop is larger with PReLU",
            decide=_prelu_last_site,
            role="apart",
        ),
        Part(
            name="early drop from step 0",
            asks="the first part with H(0)",
            decide=partial(_prelu_drop, reference=0),
            role="apart",
        ),
    ),
    needs=(_PRELU["resnet"], STEPWISE["resnet"]),
    changed=f"{THREE_SITES}; the zigzags are compared at the pairs covered in both trainings (after figures 1, 2 and 4)",
)


# A14 -------------------------------------------------------------------------------------------------------

_NUM_BEFORE = 5
_LATER_SHARE = 0.2


def _last_site_boost(evidence: Evidence, study: Study) -> tuple[float, float, float]:
    """At the last site: H(a) - H(b), standard deviation of H over the 5 points before b, H(a) - H 20 % later."""
    b, a = study.before_drop, study.after_drop
    before = study.steps[study.steps < b][-_NUM_BEFORE:]
    after = study.steps_within(a + _LATER_SHARE * study.num_steps, study.end)
    if len(before) < _NUM_BEFORE or not len(after):
        raise Undecidable(
            Verdict.NOT_MEASURED,
            f"{study.title} lacks measurements: {_NUM_BEFORE} before the drop of the learning rate and one 20 % of the "
            "epochs after it are needed",
        )
    last, later = study.num_sites - 1, int(after[0])
    evidence.covered([(study, [*before, b, a, later])], [last])
    at = {step: float(study.at(_H, step)[last]) for step in (b, a, later)}
    return at[a] - at[b], float(study.at(_H, before)[:, last].std(ddof=1)), at[a] - at[later]


def _boost(evidence: Evidence, *, needs: Sequence[Need]) -> Iterator[Check]:
    for need in needs:
        found = [_last_site_boost(evidence, study) for study in evidence.take(need)]
        rises = [rise - 2.0 * noise for rise, noise, _ in found]
        yield Check.of(f"{need.title}: H(last, a) - H(last, b) - 2 standard deviations", rises, ">", 0.0)
        yield Check.of(f"{need.title}: H(last, a) - 20 % later", [later for _, _, later in found], ">", 0.0)


def _no_boost(evidence: Evidence) -> Iterator[Check]:
    """PyramidNet: not a rise that is followed by a fall; either may be missing."""
    found = [_last_site_boost(evidence, study) for study in evidence.take(STEPWISE["pyramidnet"])]
    least = [min(rise - 2.0 * noise, later) for rise, noise, later in found]
    yield Check.of("PyramidNet: the lesser of rise - 2 standard deviations and later fall", least, "<=", 0.0)


A14 = Claim(
    id="A14",
    says="A lower learning rate briefly raises relative entropy in the last site, except in PyramidNet.",
    parts=(
        Part(
            name="brief rise",
            asks="ConvNet-20 and ResNet-20, stepwise: H(last, a) - H(last, b) exceeds 2 standard deviations of H(last) "
            "over the 5 measurements before b, and 20 % of the epochs later H(last) is below that peak",
            decide=partial(_boost, needs=(STEPWISE["convnet"], STEPWISE["resnet"])),
        ),
        Part(
            name="not in PyramidNet",
            asks="PyramidNet: not so",
            decide=_no_boost,
        ),
        Part(
            name="brief rise, other stepwise trainings",
            asks="the same of ConvNet-20 and ResNet-20 with PReLU and of FixUp",
            decide=partial(_boost, needs=(*_PRELU.values(), STEPWISE["fixup_resnet"])),
            role="further",
        ),
    ),
    needs=(STEPWISE["convnet"], STEPWISE["resnet"], STEPWISE["pyramidnet"]),
)


# A17 -------------------------------------------------------------------------------------------------------


def _damped(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for net in ("resnet", "convnet"):
        needs = (_CYCLIC[net], _ONECYCLE[net], STEPWISE[net])
        cyclic, onecycle, stepwise = _early_drops(evidence, needs, None, reference)
        for need, values in zip(needs, (cyclic, onecycle), strict=False):
            yield Check.of(f"{need.title}: mean early drop < stepwise's", values, "<", stepwise)


def _lower_at_the_end(evidence: Evidence) -> Iterator[Check]:
    for net in ("resnet", "convnet"):
        needs = (_CYCLIC[net], _ONECYCLE[net], STEPWISE[net])
        cyclic, onecycle, stepwise = _at_end(evidence, needs, np.array([16, 17, 18]))
        for need, values in zip(needs, (cyclic, onecycle), strict=False):
            yield Check.of(f"{need.title}: mean H of sites 16-18 at e < stepwise's", values, "<", stepwise)


def _onecycle_block_1(evidence: Evidence) -> Iterator[Check]:
    block = evidence.take(_ONECYCLE["resnet"])[0].stages[0]
    *others, onecycle = _at_end(evidence, RESNET_METHODS, block)
    for need, values in zip(RESNET_METHODS, others, strict=False):
        text = f"ResNet-20, block 1 at e: mean H of onecycle > {need.activation} {need.method}"
        yield Check.of(text, onecycle, ">", values)


A17 = Claim(
    id="A17",
    says="CyclicLR and OneCycle damp the early entropy drop, and end lower in the last three sites; OneCycle raises "
    "ResNet-20's block 1 most of all methods.",
    parts=(
        Part(
            name="damped",
            asks="ResNet-20 and ConvNet-20: H(1) - min over the first 10 %, mean over sites, is smaller than stepwise's",
            decide=_damped,
        ),
        Part(
            name="lower last sites",
            asks="ResNet-20 and ConvNet-20: mean H of sites 16-18 at e is lower than stepwise's",
            decide=_lower_at_the_end,
        ),
        Part(
            name="OneCycle raises block 1",
            asks="ResNet-20: OneCycle's mean H over block 1 at e is the highest of stepwise, PReLU, CyclicLR, OneCycle",
            decide=_onecycle_block_1,
        ),
        Part(
            name="damped from step 0",
            asks="the first part with H(0)",
            decide=partial(_damped, reference=0),
            role="apart",
        ),
    ),
    needs=(*RESNET_METHODS, STEPWISE["convnet"], _CYCLIC["convnet"], _ONECYCLE["convnet"]),
    changed=THREE_SITES,
)


# A18 -------------------------------------------------------------------------------------------------------

# Counted from 0 as everywhere: the first site of PyramidNet's last stage, and its last one.
_PYRAMIDNET_LOSES = (6, 9)

_OTHERS = (*RESNET_METHODS, STEPWISE["convnet"], _PRELU["convnet"], STEPWISE["pyramidnet"])


def _means_over_time(
    evidence: Evidence, groups: Sequence[Sequence[Study]], number: int
) -> list[tuple[float, ...]]:
    """Mean H over a block and the measurements from the first epoch to the end, per group and seed.

    At the sites that are covered in all of these trainings.
    """
    studies = [study for group in groups for study in group]
    times = {study.name: np.append(study.full_epochs(), study.end) for study in studies}
    measured = [(study, times[study.name]) for study in studies]
    sites = evidence.covered(measured, studies[0].stages[number - 1])
    return [
        per_seed(group, lambda study: study.at(_H, times[study.name])[:, sites].mean()) for group in groups
    ]


def _fixup_lowest(evidence: Evidence, *, number: int) -> Iterator[Check]:
    own = evidence.take(STEPWISE["fixup_resnet"])
    for need in (*_OTHERS, _CYCLIC["convnet"], _ONECYCLE["convnet"]):
        theirs = evidence.take(need)
        if need.net == "pyramidnet":  # its sites are others: each at its own
            fixup, others = (_means_over_time(evidence, [group], number)[0] for group in (own, theirs))
        else:
            fixup, others = _means_over_time(evidence, [own, theirs], number)
        text = f"block {number}, mean H over time: FixUp < {need.net} {need.activation} {need.method}"
        yield Check.of(text, fixup, "<", others)


def _pyramidnet_rises(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    studies = evidence.take(STEPWISE["pyramidnet"])
    asked = np.arange(studies[0].num_sites)
    found = evidence.covered([(study, [reference, study.end]) for study in studies], asked, want="one")
    gains = [study.at(_H, study.end) - study.at(_H, reference) for study in studies]
    text = f"PyramidNet, H(e) - H({reference})"
    loses = np.isin(asked, _PYRAMIDNET_LOSES)
    losing, rising = (np.intersect1d(found, asked[group]) for group in (loses, ~loses))
    checks = []
    if len(losing):
        largest = [float(gain[losing].max()) for gain in gains]
        checks.append(Check.of(f"{text}: largest of sites 6 and 9", largest, "<", 0.0))
    if len(rising):
        least = [float(gain[rising].min()) for gain in gains]
        checks.append(Check.of(f"{text}: least of the others", least, ">", 0.0))
    evidence.bounded(checks, [(losing, asked[loses]), (rising, asked[~loses])])
    yield from checks


A18 = Claim(
    id="A18",
    says="FixUp has the lowest relative entropy of all methods in blocks 1 and 3; in PyramidNet only sites 6 and 9 lose "
    "entropy over the training.",
    parts=(
        Part(
            name="FixUp lowest in block 1",
            asks="mean H over block 1 and time (from the first epoch on) is lower in FixUp than in every other training "
            "of figure 3, at the sites covered in both (PyramidNet has other sites: each at its own)",
            decide=partial(_fixup_lowest, number=1),
        ),
        Part(
            name="FixUp lowest in block 3",
            asks="the same of block 3",
            decide=partial(_fixup_lowest, number=3),
        ),
        Part(
            name="PyramidNet rises",
            asks="PyramidNet: H(e) < H(1) at sites 6 and 9, H(e) > H(1) at all others",
            decide=_pyramidnet_rises,
        ),
        Part(
            name="PyramidNet rises from step 0",
            asks="the same with H(0)",
            decide=partial(_pyramidnet_rises, reference=0),
            role="apart",
        ),
    ),
    needs=(STEPWISE["fixup_resnet"], *_OTHERS, _CYCLIC["convnet"], _ONECYCLE["convnet"]),
    changed=(
        f"{THREE_SITES}; FixUp and each other training are compared at the sites covered in both, and PyramidNet rises "
        "wants half of the other sites covered, while one that does not rise contradicts (after figures 1, 2 and 4)"
    ),
)
