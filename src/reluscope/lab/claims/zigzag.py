"""Claims about ResNet's zigzag, in relative entropy H and in similarity to the final state JF: A8, A19."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import Evidence, per_seed
from reluscope.lab.claims.methods import RESNET_METHODS
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study, inner_pairs
from reluscope.lab.claims.verdict import MIN_SEEDS, Check

__all__ = ["A8", "A19"]

_CURVES = Need(experiment="fig2", net="resnet")

_H = "relative_entropy"


def _covered_pairs(
    evidence: Evidence, study: Study, steps: Sequence[int], sites: np.ndarray, *, first_of_blocks: bool = True
) -> np.ndarray:
    """The inner pairs of these sites with both covered at all steps; all pairs, and a limit, if these are too few.

    Without `first_of_blocks` not the pairs that begin right behind a strided convolution, where relative entropy rises
    in plain nets too.
    """
    asked = inner_pairs(sites)
    if not first_of_blocks:
        asked = asked[~np.isin(asked[:, 0], [stage[0] for stage in study.stages])]
    pairs = inner_pairs(evidence.covered([(study, list(steps))], asked.ravel()))
    if not evidence.enough(len(pairs), len(asked)):
        evidence.limit(f"{len(pairs)} of {len(asked)} pairs of sites are covered", coverage=True)
        return asked
    return pairs


# A8 --------------------------------------------------------------------------------------------------------


def _zigzag(
    evidence: Evidence, study: Study, steps: Sequence[int], sites: np.ndarray, *, first_of_blocks: bool = True
) -> list[float]:
    """Mean over the inner pairs of H(2j) - H(2j - 1), at each step; pairs with both sites covered at all."""
    pairs = _covered_pairs(evidence, study, steps, sites, first_of_blocks=first_of_blocks)
    rows = study.at(_H, list(steps))
    return (rows[:, pairs[:, 1]] - rows[:, pairs[:, 0]]).mean(axis=1).tolist()


def _zigzag_formed(evidence: Evidence, *, first_of_blocks: bool = True) -> Iterator[Check]:
    rows = []
    for study in evidence.take(_CURVES):
        steps, sites = [41, study.before_drop, study.end], np.arange(study.num_sites)
        rows.append(_zigzag(evidence, study, steps, sites, first_of_blocks=first_of_blocks))
    for position, step in enumerate(("41", "b", "e")):
        name = f"ResNet: mean H(2j) - H(2j-1) at {step}"
        yield Check.of(name, [row[position] for row in rows], "<", 0.0)


def _zigzag_absent(evidence: Evidence, *, step: int = 1) -> Iterator[Check]:
    studies = evidence.take(_CURVES)
    values = [_zigzag(evidence, study, [step], np.arange(study.num_sites))[0] for study in studies]
    yield Check.of(f"ResNet: mean H(2j) - H(2j-1) at {step}", values, "<=", 0.02)
    yield Check.of(f"ResNet: mean H(2j) - H(2j-1) at {step}", values, ">=", -0.02)


def _zigzag_grows(evidence: Evidence) -> Iterator[Check]:
    studies = evidence.take(_CURVES)
    rows = [_zigzag(evidence, study, [41, study.end], study.stages[0]) for study in studies]
    growth = [abs(end) - abs(early) for early, end in rows]
    yield Check.of("ResNet, block 1: |zigzag| at e minus at 41", growth, ">", 0.0)


A8 = Claim(
    id="A8",
    says="ResNet shows a zigzag: the first site of a residual block, right after a sum, has lower relative entropy than "
    "the second; absent at initialisation, formed by step 40, stronger at the end in block 1.",
    parts=(
        Part(
            name="formed",
            asks="ResNet at 41, b and e: the mean over inner pairs of H(2j) - H(2j-1) is negative",
            decide=_zigzag_formed,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="absent at first",
            asks="its size at step 1 is at most 0.02",
            decide=_zigzag_absent,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="stronger in block 1",
            asks="its size in block 1 is larger at e than at 41",
            decide=_zigzag_grows,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="absent at step 0",
            asks="its size at step 0 is at most 0.02",
            decide=partial(_zigzag_absent, step=0),
            role="apart",
        ),
        Part(
            name="formed, within blocks",
            asks="the first part without the pairs (7, 8) and (13, 14), which begin behind a strided convolution",
            decide=partial(_zigzag_formed, first_of_blocks=False),
            role="apart",
        ),
    ),
    needs=(_CURVES,),
    changed=(
        "formed, within blocks was added and is reported apart, since H(8) exceeds H(7) by 0.05 in plain nets too and "
        f"outweighs the zigzag in the mean (after figures 2 and 4); {THREE_SITES}"
    ),
)


# A19 -------------------------------------------------------------------------------------------------------


def _zigzag_of_similarity(evidence: Evidence) -> Iterator[Check]:
    """Per training: the least of the three blocks' mean pair differences, in the direction of their mean."""

    def least(study: Study) -> float:
        half = study.at_share(0.5)
        found = study.similar(study.end, half).values
        differences = []
        for stage in study.stages:
            pairs = _covered_pairs(evidence, study, [half, study.end], stage)
            differences.append(float((found[pairs[:, 1]] - found[pairs[:, 0]]).mean()))
        return min(differences) if np.mean(differences) >= 0.0 else -max(differences)

    for need in RESNET_METHODS:
        title = f"ResNet {need.activation} {need.method} at 50 %"
        name = f"{title}: least mean JF(2j) - JF(2j-1) of a block, in the direction of their mean"
        yield Check.of(name, per_seed(evidence.take(need), least), ">", 0.0)


A19 = Claim(
    id="A19",
    says="Every ResNet has the zigzag in its similarity to the final state too.",
    parts=(
        Part(
            name="one sign",
            asks="each ResNet-20 training of figure 3 at 50 %: the mean over inner pairs of JF(2j) - JF(2j-1) has the same "
            "sign in all three blocks",
            decide=_zigzag_of_similarity,
        ),
    ),
    needs=RESNET_METHODS,
    changed=THREE_SITES,
)
