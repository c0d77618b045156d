"""Claims about the relative entropy H of plain and residual nets: A6, A7, A9, A20.

All but A20 are about figure 2, whose curves are means over seeds: they need three. A comparison of nets is made at
the sites that are covered in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import HALF_AGAIN, PAPER_IMAGES, THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import MIN_COVERAGE, Evidence, per_seed, rank_correlation
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import MIN_SEEDS, Check

__all__ = ["A6", "A7", "A9", "A20"]

_NETS = ("toynet", "convnet", "resnet")
_PLAIN = ("toynet", "convnet")
_CURVES = {net: Need(experiment="fig2", net=net) for net in _NETS}
_FULL = {net: Need(experiment="fig4", net=net) for net in _NETS}

_H = "relative_entropy"


# A6 --------------------------------------------------------------------------------------------------------


def _rises_with_depth(evidence: Evidence, *, step: int) -> Iterator[Check]:
    for net in _NETS:
        studies = evidence.take(_CURVES[net])
        all_sites = np.arange(studies[0].num_sites)
        sites = evidence.covered([(study, step) for study in studies], all_sites, want="most")
        entropies = [study.at(_H, step) for study in studies]
        title, (low, high) = _CURVES[net].title, (0.5, 0.75) if net == "toynet" else (0.4, 0.7)
        correlations = [rank_correlation(row[sites], sites) for row in entropies]
        yield Check.of(f"{title}, step {step}: Spearman(H, site)", correlations, ">=", 0.8)
        if 0 in sites:
            first = [float(row[0]) for row in entropies]
            yield Check.of(f"{title}, step {step}: H at site 0", first, ">=", low)
            yield Check.of(f"{title}, step {step}: H at site 0", first, "<=", high)
        else:
            evidence.limit(f"site 0 of {title} is not covered at step {step}", coverage=True)
        largest = Check.of(
            f"{title}, step {step}: largest H", [float(row[sites].max()) for row in entropies], ">=", 0.95
        )
        if largest.holds is False and len(sites) < len(
            all_sites
        ):  # a site that is not covered might reach it
            evidence.limit(
                f"no covered site of {title} reaches H = 0.95 at step {step}, and not all are covered"
            )
        yield largest


A6 = Claim(
    id="A6",
    says="At initialisation relative entropy rises with depth, from about 0.5 to 1.",
    parts=(
        Part(
            name="step 1",
            asks="all nets at step 1: Spearman(H, site) >= 0.8; H at site 0 in 0.4-0.7 (ToyNet 0.5-0.75); the largest H "
            "at least 0.95",
            decide=partial(_rises_with_depth, step=1),
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="step 0",
            asks="the same at step 0",
            decide=partial(_rises_with_depth, step=0),
            min_seeds=MIN_SEEDS,
        ),
    ),
    needs=tuple(_CURVES.values()),
    changed=HALF_AGAIN,
)


# A7 --------------------------------------------------------------------------------------------------------


def _drops(
    evidence: Evidence, steps: Sequence[int], reference: int
) -> Mapping[tuple[str, int], tuple[float, ...]]:
    """D(s) = mean over sites of H at the reference step minus H at s, by (net, s), once per seed."""
    groups = {net: evidence.take(_CURVES[net]) for net in _NETS}
    measured = [(study, [reference, *steps]) for group in groups.values() for study in group]
    sites = evidence.covered(measured, np.arange(measured[0][0].num_sites))
    found = {}
    for net, group in groups.items():
        for step in steps:
            found[net, step] = tuple(
                float((study.at(_H, reference) - study.at(_H, step))[sites].mean()) for study in group
            )
    return found


def _falls(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    drops = _drops(evidence, (9,), reference)
    for net in _NETS:
        yield Check.of(f"{_CURVES[net].title}: D(9)", drops[net, 9], ">", 0.0)


def _order_at_9(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    drops = _drops(evidence, (9,), reference)
    for more, less in (("toynet", "convnet"), ("convnet", "resnet")):
        name = f"D(9): {_CURVES[more].title} > {_CURVES[less].title}"
        yield Check.of(name, drops[more, 9], ">", drops[less, 9])


def _falls_further(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    drops = _drops(evidence, (9, 41), reference)
    for net in _NETS:
        # Paired: both are of the same training, whose seed moves them together.
        further = np.subtract(drops[net, 41], drops[net, 9])
        yield Check.of(f"{_CURVES[net].title}: D(41) - D(9)", further, ">", 0.0)


def _order_at_41(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    drops = _drops(evidence, (41,), reference)
    for net in _PLAIN:
        yield Check.of(f"D(41): {_CURVES[net].title} > ResNet", drops[net, 41], ">", drops["resnet", 41])


def _spread(studies: Sequence[Study], step: int | None, sites: np.ndarray) -> float:
    """Standard deviation of H over seeds, mean over sites; at the end when `step` is None."""
    rows = np.stack([study.at(_H, study.end if step is None else step)[sites] for study in studies])
    return float(rows.std(axis=0, ddof=1).mean()) if len(rows) > 1 else float("nan")


def _spread_of_nets(evidence: Evidence) -> Iterator[Check]:
    groups = {net: evidence.take(_CURVES[net]) for net in _NETS}
    measured = [(study, 41) for group in groups.values() for study in group]
    sites = evidence.covered(measured, np.arange(measured[0][0].num_sites))
    spreads = {net: _spread(group, 41, sites) for net, group in groups.items()}
    for net in _PLAIN:
        name = f"standard deviation over seeds at 41: {_CURVES[net].title} > ResNet"
        yield Check.of(name, spreads[net], ">", spreads["resnet"])


def _spread_and_depth(evidence: Evidence) -> Iterator[Check]:
    for net in _PLAIN:
        studies = evidence.take(Need(experiment="fig2", net=net, blocks=None))
        groups = {
            b: [study for study in studies if study.blocks == b] for b in {study.blocks for study in studies}
        }
        if len(groups) < 3:
            evidence.limit(f"{_CURVES[net].title} was trained in {len(groups)} depths; 3 are needed")
        evidence.seeds.append(min(len(group) for group in groups.values()))
        spreads = []
        for group in groups.values():
            sites = evidence.covered([(study, 41) for study in group], np.arange(group[0].num_sites))
            spreads.append(_spread(group, 41, sites))
        name = f"{_CURVES[net].title}: Spearman(standard deviation over seeds at 41, b)"
        yield Check.of(name, rank_correlation(spreads, list(groups)), ">=", 0.5)


def _spread_is_back(evidence: Evidence) -> Iterator[Check]:
    for net in _PLAIN:
        studies = evidence.take(_CURVES[net])
        measured = [(study, [41, study.end]) for study in studies]
        sites = evidence.covered(measured, np.arange(studies[0].num_sites))
        name = f"{_CURVES[net].title}: standard deviation over seeds at the end < at 41"
        yield Check.of(name, _spread(studies, None, sites), "<", _spread(studies, 41, sites))


_FIVE = 5

A7 = Claim(
    id="A7",
    says="Relative entropy falls within a few steps, most in ToyNet, least in ResNet; at step 40 it is lower still, most "
    "in ConvNet and ToyNet, whose spread over seeds is largest, and larger when deeper; at the end the spread is back.",
    parts=(
        Part(name="falls", asks="D(9) > 0 in all nets", decide=_falls, min_seeds=MIN_SEEDS),
        Part(
            name="order at 9",
            asks="D(9): ToyNet > ConvNet > ResNet",
            decide=_order_at_9,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="falls further", asks="D(41) > D(9) in all nets", decide=_falls_further, min_seeds=MIN_SEEDS
        ),
        Part(
            name="order at 41",
            asks="D(41): ConvNet > ResNet, ToyNet > ResNet",
            decide=_order_at_41,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="spread of nets",
            asks="standard deviation of H over at least 5 seeds at step 41: larger in ConvNet and in ToyNet than in "
            "ResNet",
            decide=_spread_of_nets,
            role="further",
            min_seeds=_FIVE,
        ),
        Part(
            name="spread and depth",
            asks="that standard deviation rises with b in ConvNet and ToyNet: Spearman >= 0.5 over at least 3 depths",
            decide=_spread_and_depth,
            role="further",
            min_seeds=_FIVE,
        ),
        Part(
            name="spread is back",
            asks="that standard deviation is smaller at the end than at 41 in ConvNet and ToyNet",
            decide=_spread_is_back,
            role="further",
            min_seeds=_FIVE,
        ),
        Part(
            name="falls from step 0",
            asks="D(9) > 0 in all nets, D taken from step 0",
            decide=partial(_falls, reference=0),
            role="apart",
        ),
        Part(
            name="order at 9 from step 0",
            asks="D(9): ToyNet > ConvNet > ResNet, D taken from step 0",
            decide=partial(_order_at_9, reference=0),
            role="apart",
        ),
        Part(
            name="order at 41 from step 0",
            asks="D(41): ConvNet > ResNet, ToyNet > ResNet, D taken from step 0",
            decide=partial(_order_at_41, reference=0),
            role="apart",
        ),
    ),
    needs=tuple(_CURVES.values()),
    changed=THREE_SITES,
)


# A9 --------------------------------------------------------------------------------------------------------


def _resnet_saturated(evidence: Evidence) -> Iterator[Check]:
    def mean(study: Study) -> float:
        sites = evidence.covered([(study, study.end)], study.stages[2])
        return study.at(_H, study.end)[sites].mean()

    values = per_seed(evidence.take(_CURVES["resnet"]), mean)
    yield Check.of("ResNet: mean H of sites 13-18 at the end", values, ">=", 0.97)


def _plain_fall(evidence: Evidence) -> Iterator[Check]:
    def correlation(study: Study) -> float:
        sites = evidence.covered([(study, study.end)], study.stages[2])
        return rank_correlation(study.at(_H, study.end)[sites], sites)

    for net in _PLAIN:
        values = per_seed(evidence.take(_CURVES[net]), correlation)
        yield Check.of(
            f"{_CURVES[net].title}: Spearman(H, site) over sites 13-18 at the end", values, "<=", -0.6
        )


A9 = Claim(
    id="A9",
    says="At the end ResNet's last block is saturated; ConvNet and ToyNet rise and saturate in block 1, fall slightly in "
    "block 2 and fall in the last; the first site of each block rises steeply.",
    parts=(
        Part(
            name="ResNet saturated",
            asks="ResNet at e: mean H over sites 13-18 at least 0.97",
            decide=_resnet_saturated,
            min_images=PAPER_IMAGES,
            min_seeds=MIN_SEEDS,
        ),
        Part(
            name="plain nets fall",
            asks="ToyNet, ConvNet at e: Spearman(H, site) over sites 13-18 at most -0.6",
            decide=_plain_fall,
            min_images=PAPER_IMAGES,
            min_seeds=MIN_SEEDS,
        ),
    ),
    needs=tuple(_CURVES.values()),
)


# A20 -------------------------------------------------------------------------------------------------------


def _lowest(study: Study, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each site the least H over the steps, and the step where it is."""
    rows = study.at(_H, steps)
    where = rows.argmin(axis=0)
    return rows.min(axis=0), steps[where]


def _dips(
    evidence: Evidence, groups: Sequence[Sequence[Study]], reference: int
) -> list[list[tuple[float, float]]]:
    """Depth H(reference) - min and recovery H(e) - min, means over sites, per group and seed.

    At the sites that are covered at the three measurements in all of these trainings.
    """
    lowest = [
        [(study, *_lowest(study, evidence.window(study, reference + 1))) for study in group]
        for group in groups
    ]
    all_sites = np.arange(groups[0][0].num_sites)
    covered = np.ones(len(all_sites), dtype=bool)
    for study, _, where in (one for group in lowest for one in group):
        covered &= (study.at("coverage", [reference, study.end]) >= MIN_COVERAGE).all(axis=0)
        covered &= study.at("coverage", where)[all_sites, all_sites] >= MIN_COVERAGE
    sites = evidence.choose(covered, all_sites, [study for group in groups for study in group])

    def dip(study: Study, least: np.ndarray) -> tuple[float, float]:
        depth, recovery = study.at(_H, reference) - least, study.at(_H, study.end) - least
        return float(depth[sites].mean()), float(recovery[sites].mean())

    return [[dip(study, least) for study, least, _ in group] for group in lowest]


def _plain_dip(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    for net in _PLAIN:
        (pairs,) = _dips(evidence, [evidence.take(_FULL[net])], reference)
        title = _FULL[net].title
        yield Check.of(f"{title}: mean depth H({reference}) - min", [depth for depth, _ in pairs], ">", 0.05)
        yield Check.of(f"{title}: mean recovery H(e) - min", [back for _, back in pairs], ">", 0.05)


def _residual_no_dip(evidence: Evidence, *, reference: int = 1) -> Iterator[Check]:
    groups = [evidence.take(_FULL[net]) for net in ("resnet", "convnet")]
    resnet, convnet = ([depth for depth, _ in group] for group in _dips(evidence, groups, reference))
    yield Check.of("depth: ResNet < half of ConvNet's", resnet, "<", np.array(convnet) / 2.0)


A20 = Claim(
    id="A20",
    says="Plain convolutional nets dip in entropy early and recover slowly; residual nets do not.",
    parts=(
        Part(
            name="plain nets dip",
            asks="ConvNet and ToyNet: H(1) - min and H(e) - min, means over sites, both above 0.05",
            decide=_plain_dip,
        ),
        Part(
            name="ResNet does not",
            asks="ResNet: mean H(1) - min is below half of ConvNet's",
            decide=_residual_no_dip,
        ),
        Part(
            name="plain nets dip from step 0",
            asks="the first part with H(0)",
            decide=partial(_plain_dip, reference=0),
            role="apart",
        ),
        Part(
            name="ResNet does not from step 0",
            asks="the second part with H(0)",
            decide=partial(_residual_no_dip, reference=0),
            role="apart",
        ),
    ),
    needs=tuple(_FULL.values()),
    changed=f"{THREE_SITES}; ResNet and ConvNet are compared at the sites covered in both (after figures 1, 2 and 4)",
)
