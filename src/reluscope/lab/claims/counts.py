"""Claims about how many patterns there are and how often the most frequent one occurs: A1, A3, A4, A16.

T is total, M max_frequency. "At the end" is the last step of the figure's training.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from reluscope.lab.claims.claim import PAPER_IMAGES, THREE_SITES, Claim, Part
from reluscope.lab.claims.evidence import Evidence, per_seed, ratio, span
from reluscope.lab.claims.needs import Need
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check

__all__ = ["A1", "A3", "A4", "A16"]

_EARLY = {net: Need(experiment="fig1", net=net, method=None) for net in ("resnet", "convnet", "toynet")}
_FULL = {net: Need(experiment="fig4", net=net) for net in ("resnet", "convnet")}

_DROP_WITHIN = 100
_LATE = 500


# A1 --------------------------------------------------------------------------------------------------------


def _lowest_largest(evidence: Evidence, study: Study, reference: int, last: int) -> tuple[float, float]:
    """max_l T at the reference step, and the least value of max_l T after it, up to step `last`."""
    steps = evidence.window(study, reference + 1, last)
    sites = evidence.covered([(study, np.append(steps, reference))], np.arange(study.num_sites), want="most")
    before = study.at("total", reference)[sites].max()
    return float(before), float(study.at("total", steps)[:, sites].max(axis=1).min())


def _drop(evidence: Evidence, *, reference: int = 1, last: int = _DROP_WITHIN) -> Iterator[Check]:
    def share(study: Study) -> float:
        before, after = _lowest_largest(evidence, study, reference, last)
        return ratio(after, before)

    shares = per_seed(evidence.take(_EARLY["toynet"]), share)
    yield Check.of(f"ToyNet: least max_l T by step {last} / max_l T at step {reference}", shares, "<=", 1 / 3)


def _growth(evidence: Evidence) -> Iterator[Check]:
    def growth(study: Study) -> float:
        steps = evidence.window(study, 1)
        low = int(steps[study.at("total", steps).mean(axis=1).argmin()])
        sites = evidence.covered([(study, [low, study.end])], np.arange(study.num_sites))
        return ratio(study.at("total", study.end)[sites].mean(), study.at("total", low)[sites].mean())

    for need in _EARLY.values():
        studies = evidence.take(need)
        yield Check.of(
            f"{need.title}: mean_l T at the end / its minimum", per_seed(studies, growth), ">", 1.0
        )


def _printed_totals(evidence: Evidence) -> Iterator[Check]:
    studies = evidence.take(_EARLY["toynet"])
    pairs = [_lowest_largest(evidence, study, 1, _DROP_WITHIN) for study in studies]
    start = [before for before, _ in pairs]
    yield Check.of("ToyNet: max_l T at step 1", start, ">=", 20e6)
    yield Check.of("ToyNet: max_l T at step 1", start, "<=", 24e6)
    low = [after for _, after in pairs]
    yield Check.of(f"ToyNet: least max_l T in steps 2-{_DROP_WITHIN}", low, "<=", 3e6)
    at_0 = per_seed(studies, lambda study: study.at("total", 0).max())
    yield Check.of("ToyNet: max_l T at step 0", at_0, ">=", 20e6, counts=False)


A1 = Claim(
    id="A1",
    says="The number of patterns drops sharply after the first step (ToyNet: 22 million in block 1 and 2 million in "
    "block 3 to at most 3 million), then grows slowly.",
    parts=(
        Part(
            name="drop",
            asks="ToyNet: max_l T at some step of 2-100 is at most 1/3 of its value at step 1",
            decide=_drop,
        ),
        Part(
            name="growth",
            asks="in all three nets mean_l T at the end is above its minimum from step 1 on",
            decide=_growth,
        ),
        Part(
            name="printed totals",
            asks="ToyNet: max_l T is 20-24 million at step 1 and at most 3 million by step 100 (print)",
            decide=_printed_totals,
            role="further",
            min_images=PAPER_IMAGES,
        ),
        Part(
            name="drop, strict",
            asks="ToyNet: max_l T at step 2 is at most 1/3 of its value at step 1",
            decide=partial(_drop, last=2),
            role="apart",
        ),
        Part(
            name="drop from step 0",
            asks="ToyNet: max_l T at some step of 1-100 is at most 1/3 of its value at step 0",
            decide=partial(_drop, reference=0),
            role="apart",
        ),
    ),
    needs=tuple(_EARLY.values()),
    changed=f"growth: {THREE_SITES}",
)


# A3 --------------------------------------------------------------------------------------------------------


def _medians(evidence: Evidence, study: Study, measure: str, steps: np.ndarray) -> np.ndarray:
    """Median of a measure over each block's covered sites, (steps, 3)."""
    values = study.at(measure, steps)
    blocks = [evidence.covered([(study, steps)], stage) for stage in study.stages]
    return np.stack([np.median(values[:, sites], axis=1) for sites in blocks], axis=1)


def _block_1_lowest(evidence: Evidence, *, measure: str = "total") -> Iterator[Check]:
    def least_ratio(study: Study) -> float:
        medians = _medians(evidence, study, measure, evidence.window(study, _LATE))
        return min(ratio(row[1:].min(), row[0]) for row in medians)

    for net in ("convnet", "resnet"):
        name = f"{_EARLY[net].title}: least (median {measure} of the lower of blocks 2, 3 / of block 1)"
        yield Check.of(name, per_seed(evidence.take(_EARLY[net]), least_ratio), ">", 1.0)


def _block_2_highest(
    evidence: Evidence, *, needs: dict[str, Need], measure: str = "total"
) -> Iterator[Check]:
    def ratio_at_end(study: Study) -> float:
        low, middle, high = _medians(evidence, study, measure, np.array([study.end]))[0]
        return ratio(middle, max(low, high))

    for net in ("convnet", "resnet"):
        name = f"{needs[net].title}: median {measure} of block 2 / of the higher of blocks 1, 3"
        yield Check.of(name, per_seed(evidence.take(needs[net]), ratio_at_end), ">", 1.0)


A3 = Claim(
    id="A3",
    says="ConvNet and ResNet have the fewest patterns in block 1 and, later, the most in the middle block.",
    parts=(
        Part(
            name="block 1 lowest",
            asks="figure 1: the median T of block 1 is the lowest of the three at every step from 500 on",
            decide=_block_1_lowest,
            min_images=4000,
        ),
        Part(
            name="block 2 highest early",
            asks="figure 1: the median T of block 2 is the highest of the three at its end",
            decide=partial(_block_2_highest, needs=_EARLY),
            min_images=4000,
        ),
        Part(
            name="block 2 highest at the end",
            asks="figure 4: the median T of block 2 is the highest of the three at its end",
            decide=partial(_block_2_highest, needs=_FULL),
            min_images=4000,
        ),
        Part(
            name="block 1 lowest, of the possible",
            asks="the same with T / min(2^d, N): block 1 has 16 units, whose 2^16 patterns force part of the claim",
            decide=partial(_block_1_lowest, measure="total_fraction"),
            role="apart",
        ),
        Part(
            name="block 2 highest, of the possible",
            asks="the same with T / min(2^d, N) at the end of figure 4",
            decide=partial(_block_2_highest, needs=_FULL, measure="total_fraction"),
            role="apart",
        ),
    ),
    needs=(_EARLY["convnet"], _EARLY["resnet"], _FULL["convnet"], _FULL["resnet"]),
    changed=THREE_SITES,
)


# A4 --------------------------------------------------------------------------------------------------------


def _largest(
    evidence: Evidence, need: Need, first: int, last: int | None, *, skip: int, bound: float
) -> tuple[list[float], str, tuple[np.ndarray, np.ndarray]]:
    """Largest M over a window and the covered ones of the sites from `skip` on, per seed; where it is beyond `bound`;
    and these sites, the covered ones and all."""
    studies = evidence.take(need)
    asked = np.arange(skip, studies[0].num_sites)
    windows = [evidence.window(study, first, last) for study in studies]
    found = evidence.covered(list(zip(studies, windows, strict=True)), asked, want="one")
    values, where = [], ""
    for study, steps in zip(studies, windows, strict=True):
        frequencies = study.at("max_frequency", steps)[:, found]
        values.append(float(frequencies.max()))
        beyond = frequencies > bound
        if beyond.any() and not where:
            at = steps[beyond.any(axis=1)]
            where = f" (beyond at steps {at[0]:,}-{at[-1]:,}, sites {span(found[beyond.any(axis=0)])})"
    return values, where, (found, asked)


def _some_dense(evidence: Evidence) -> Iterator[Check]:
    values, _, sites = _largest(evidence, _EARLY["convnet"], 1, 300, skip=0, bound=0.40)
    most = Check.of("ConvNet: largest M in steps 1-300", values, "<=", 0.40)
    evidence.bounded([most], [sites])
    yield Check.of("ConvNet: largest M in steps 1-300", values, ">=", 0.10)
    yield most


def _later_thin(evidence: Evidence) -> Iterator[Check]:
    values, where, sites = _largest(evidence, _EARLY["convnet"], _LATE, None, skip=1, bound=0.02)
    check = Check.of(f"ConvNet: largest M from step 500 on, sites 1-18{where}", values, "<", 0.02)
    evidence.bounded([check], [sites])
    yield check


def _deep_thinner(evidence: Evidence) -> Iterator[Check]:
    def least(study: Study) -> float:
        steps, block = evidence.window(study, _LATE), study.stages[2]
        sites = evidence.covered([(study, steps)], block, want="most")
        found = study.at("max_frequency", steps)[:, sites].max(axis=0).min()
        if found >= 1e-5 and len(sites) < len(block):  # a site that is not covered might be the one
            evidence.limit("no covered site of block 3 is below 1e-5, and not all are covered")
        return found

    values = per_seed(evidence.take(_EARLY["convnet"]), least)
    yield Check.of("ConvNet: M from step 500 on, at the lowest site of block 3", values, "<", 1e-5)


A4 = Claim(
    id="A4",
    says="For a while some pattern of ConvNet holds up to 25 %; after a few hundred steps none holds 2 % but at the "
    "first site, nor 0.001 % deep down.",
    parts=(
        Part(
            name="dense for a while",
            asks="ConvNet: the largest M over sites and steps 1-300 is in 0.10-0.40",
            decide=_some_dense,
        ),
        Part(
            name="thin later",
            asks="ConvNet: M < 0.02 at sites 1-18 at all steps from 500 on (print)",
            decide=_later_thin,
            role="further",
        ),
        Part(
            name="thinner deep down",
            asks="ConvNet: M < 0.00001 at a site of block 3 at all steps from 500 on (print)",
            decide=_deep_thinner,
            role="further",
            min_images=16_000,
        ),
    ),
    needs=(_EARLY["convnet"],),
    changed=(
        "dense for a while, thin later: one covered site beyond the upper bound contradicts, however few are covered "
        "(after figures 1, 2 and 4)"
    ),
)


# A16 -------------------------------------------------------------------------------------------------------


def _toynet_dense_first(evidence: Evidence) -> Iterator[Check]:
    values, where, sites = _largest(evidence, _EARLY["toynet"], 151, None, skip=1, bound=0.1)
    check = Check.of(f"ToyNet: largest M after step 150, sites 1-18{where}", values, "<=", 0.1)
    evidence.bounded([check], [sites])
    yield check


def _mean_frequency(
    evidence: Evidence, first: int, last: int | None, num_sites: int | None
) -> dict[str, tuple[float, ...]]:
    """Mean M over the steps and the first `num_sites` sites, at sites covered in all three nets, by net."""
    groups = {net: evidence.take(need) for net, need in _EARLY.items()}
    windows = [(study, evidence.window(study, first, last)) for group in groups.values() for study in group]
    sites = evidence.covered(windows, np.arange(num_sites or windows[0][0].num_sites))

    def mean(study: Study) -> float:
        return study.at("max_frequency", evidence.window(study, first, last))[:, sites].mean()

    return {net: per_seed(group, mean) for net, group in groups.items()}


def _resnet_lowest(evidence: Evidence) -> Iterator[Check]:
    means = _mean_frequency(evidence, 10, 300, None)
    for net in ("convnet", "toynet"):
        name = f"mean M in steps 10-300: ResNet < {_EARLY[net].title}"
        yield Check.of(name, means["resnet"], "<", means[net])


def _resnet_highest_at_first_sites(evidence: Evidence) -> Iterator[Check]:
    means = _mean_frequency(evidence, 1001, None, 3)
    for net in ("convnet", "toynet"):
        name = f"mean M after step 1,000, sites 0-2: ResNet > {_EARLY[net].title}"
        yield Check.of(name, means["resnet"], ">", means[net])


A16 = Claim(
    id="A16",
    says="Frequent patterns: in ToyNet only in the first hundred steps or at the first site; ResNet has the fewest in "
    "the first few hundred steps, but keeps more of them at its first sites throughout.",
    parts=(
        Part(
            name="ToyNet only at first",
            asks="ToyNet: M > 0.1 only up to step 150, or at site 0; the paper says about 100 steps, 150 is ours",
            decide=_toynet_dense_first,
        ),
        Part(
            name="ResNet lowest",
            asks="M, mean over sites and steps 10-300, is lower in ResNet than in both others",
            decide=_resnet_lowest,
        ),
        Part(
            name="ResNet's first sites",
            asks="M, mean over sites 0-2 and the steps after 1,000, is higher in ResNet than in both others",
            decide=_resnet_highest_at_first_sites,
            role="further",
        ),
    ),
    needs=tuple(_EARLY.values()),
    changed=(
        f"{THREE_SITES}; ToyNet only at first: one covered site beyond the bound contradicts, however few are covered, "
        "and half of them are needed to say that it holds (after figures 1, 2 and 4)"
    ),
)
