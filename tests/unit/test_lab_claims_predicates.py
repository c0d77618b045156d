"""Each claim on made-up trainings: satisfied, violated part by part on both sides of every threshold, and undecided.

The trainings are in lab_claims_worlds/: CASES maps a claim to a function that makes them, with all numbers as keyword
arguments whose defaults satisfy the claim, and to rows (part, numbers that just satisfy it, numbers that just do not).
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reluscope.lab.claims import CLAIMS, Verdict
from reluscope.lab.claims.claim import decide_claim
from reluscope.lab.claims.table import decided_on

CLAIM = {claim.id: claim for claim in CLAIMS}


def load_cases():
    cases = {}
    for path in sorted((Path(__file__).parent / "lab_claims_worlds").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"lab_claims_worlds_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        cases.update(module.CASES)
    return cases


CASES = load_cases()
ROWS = [(claim, *row) for claim, (_, rows) in CASES.items() for row in rows]
NEEDS = [(claim.id, position) for claim in CLAIMS for position in range(len(claim.needs))]


def judged(claim: str, **numbers):
    return decide_claim(CLAIM[claim], CASES[claim][0](**numbers))


def test_every_claim_and_every_part_has_made_up_trainings():
    assert [claim.id for claim in CLAIMS] == [f"A{number}" for number in range(1, 22)]
    for claim in CLAIMS:
        names = [part.name for part in claim.parts]
        assert len(set(names)) == len(names)
        assert {row[0] for row in CASES[claim.id][1]} == set(names), claim.id


@pytest.mark.parametrize("claim", CASES)
def test_satisfied(claim):
    result = judged(claim)
    assert {part.part.name: (part.verdict, part.reason) for part in result.parts} == {
        part.name: (Verdict.SUPPORTED, "") for part in CLAIM[claim].parts
    }
    assert result.verdict is Verdict.SUPPORTED
    assert result.missing == ()
    assert all(part.num_images and part.num_seeds and part.sites and part.runs for part in result.parts)


@pytest.mark.parametrize("claim", CASES)
@pytest.mark.parametrize(
    "covered", [(), (0,), (18,), (9,), tuple(range(7)), (0, 5, 6, 9), tuple(range(7, 13))]
)
def test_whatever_is_covered_there_is_a_verdict(claim, covered):
    studies = [
        replace(study, measures={**study.measures, "coverage": coverage(study, covered)})
        for study in CASES[claim][0]()
    ]
    result = decide_claim(CLAIM[claim], studies)
    assert result.verdict in (Verdict.TOO_SMALL, Verdict.SUPPORTED)
    for part in result.parts:
        if part.at_covered is not None:
            assert part.verdict is Verdict.TOO_SMALL
            assert set(part.at_covered.sites) <= set(covered)


def coverage(study, covered):
    sites = np.isin(np.arange(study.num_sites), covered)
    return np.where(sites, 1.0, 0.1) * np.ones((len(study.steps), 1))


@pytest.mark.parametrize(("claim", "part", "inside", "outside"), ROWS)
def test_violated(claim, part, inside, outside):
    near = judged(claim, **inside).part(part)
    assert near.verdict is Verdict.SUPPORTED, [near.reason, *near.checks]

    result = judged(claim, **outside)
    assert result.part(part).verdict is Verdict.CONTRADICTED, result.part(part).checks
    others = [one for one in result.parts if one.part.role != "apart" and one.verdict is Verdict.CONTRADICTED]
    if others:  # a part that is reported apart contradicts nothing by itself
        assert result.verdict is Verdict.CONTRADICTED
        failed = next(check for one in others for check in one.checks if check.counts and not check.holds)
        assert failed.name in decided_on(result)
    else:
        assert result.part(part).part.role == "apart"
        assert result.verdict is Verdict.SUPPORTED


@pytest.mark.parametrize("claim", CASES)
def test_coverage_below_one_half_is_too_small(claim):
    assert judged(claim, coverage=0.5).verdict is Verdict.SUPPORTED
    result = judged(claim, coverage=0.4999)
    assert {part.verdict for part in result.parts} == {Verdict.TOO_SMALL}
    assert result.verdict is Verdict.TOO_SMALL
    assert "coverage is at least 0.5 at 0 of the" in decided_on(result)
    assert all(part.checks for part in result.parts), "the numbers are shown all the same"


@pytest.mark.parametrize("claim", CASES)
def test_coverage_at_few_sites_is_too_small(claim):
    result = judged(claim, coverage=lambda step, site: 1.0 if site in (0, 15) else 0.2)
    assert result.verdict is Verdict.TOO_SMALL


def test_without_any_run_each_claim_names_all_it_needs():
    for claim in CLAIMS:
        result = decide_claim(claim, [])
        assert result.verdict is Verdict.NOT_MEASURED
        assert {part.verdict for part in result.parts} == {Verdict.NOT_MEASURED}
        for need in claim.needs:
            assert need.text in decided_on(result)
            assert f"`reluscope reproduce {need.experiment}`" in decided_on(result)


@pytest.mark.parametrize(("claim", "position"), NEEDS)
def test_without_one_training_the_claim_names_it(claim, position):
    need = CLAIM[claim].needs[position]
    studies = [study for study in CASES[claim][0]() if not need.covers(study)]
    result = decide_claim(CLAIM[claim], studies)
    assert result.verdict is Verdict.NOT_MEASURED
    assert result.missing == (need,)
    assert decided_on(result) == f"needs {need.text}: `reluscope reproduce {need.experiment}`"


def test_images_and_seeds_that_parts_ask_for():
    parts = [(claim.id, part) for claim in CLAIMS for part in claim.parts]
    assert {(claim, part.name): part.min_images for claim, part in parts if part.min_images} == {
        ("A1", "printed totals"): 49_500,
        ("A3", "block 1 lowest"): 4000,
        ("A3", "block 2 highest early"): 4000,
        ("A3", "block 2 highest at the end"): 4000,
        ("A4", "thinner deep down"): 16_000,
        ("A5", "printed ranges"): 49_500,
        ("A9", "ResNet saturated"): 49_500,
        ("A9", "plain nets fall"): 49_500,
        ("A10", "printed values"): 49_500,
    }
    counted = [(claim, part) for claim, part in parts if part.role != "apart"]
    assert {claim for claim, part in counted if part.min_seeds == 3} == {"A6", "A7", "A8", "A9"}
    assert {part.name for claim, part in counted if part.min_seeds == 5} == {
        "spread of nets",
        "spread and depth",
        "spread is back",
    }
    assert all(part.min_seeds > 1 for claim, part in counted if claim in ("A6", "A7", "A8", "A9"))


@pytest.mark.parametrize(
    ("claim", "part"), [(claim.id, part.name) for claim in CLAIMS for part in claim.parts if part.min_images]
)
def test_too_few_images(claim, part):
    least = next(one for one in CLAIM[claim].parts if one.name == part).min_images
    assert judged(claim, num_images=least).part(part).verdict is Verdict.SUPPORTED
    result = judged(claim, num_images=least - 1).part(part)
    assert result.verdict is Verdict.TOO_SMALL
    assert f"needs a probe of {least:,} images, has {least - 1:,}" in result.reason
    assert result.checks, "the numbers are shown all the same"


@pytest.mark.parametrize(
    ("claim", "part"),
    [(claim.id, part.name) for claim in CLAIMS for part in claim.parts if part.min_seeds > 1],
)
def test_too_few_seeds(claim, part):
    least = next(one for one in CLAIM[claim].parts if one.name == part).min_seeds
    result = judged(claim, seeds=least - 1).part(part)
    assert result.verdict is Verdict.TOO_SMALL
    assert f"needs {least} seeds, has {least - 1}" in result.reason
    assert result.checks


def test_the_smoke_scale_decides_nothing():
    from dataclasses import replace

    for claim, (world, _) in CASES.items():
        result = decide_claim(CLAIM[claim], [replace(study, scale="smoke") for study in world()])
        assert result.verdict is Verdict.TOO_SMALL, claim


def test_numbers_that_are_shown_only():
    shown = judged("A1", zero=0.5).part("printed totals").checks[-1]
    assert (shown.values, shown.counts) == ((11e6,), False)


def test_waves_need_two_cycles():
    result = judged("A12", cycles=1)
    assert result.part("waves").verdict is Verdict.TOO_SMALL
    assert "has 1 cycles of the learning rate; 2 are needed" in result.part("waves").reason


def test_figures_that_absolute_numbers_belong_to():
    """At laptop scale the shape of A1 is decided, its printed totals are not."""
    result = judged("A1", num_images=4000)
    assert result.verdict is Verdict.SUPPORTED
    assert result.part("printed totals").verdict is Verdict.TOO_SMALL


# The measurements that a part compares; at all others coverage may be anything.
COMPARED = {
    ("A1", "drop"): (1, 2, 100),
    ("A1", "growth"): (2, 3000),
    ("A2", "relative_change"): (0, 1, 10, 799, 800, 1000),
    ("A3", "block 1 lowest"): (500, 3000),
    ("A3", "block 2 highest early"): (3000,),
    ("A4", "dense for a while"): (1, 300),
    ("A4", "thin later"): (500, 3000),
    ("A5", "ToyNet finds some again"): (1, 41, 3000),
    ("A5", "block 1 most"): (1, 41, 400),
    ("A5", "block 1 most, to step 0"): (0, 41, 400),
    ("A5", "printed ranges"): (1, 41, 3000),
    ("A6", "step 0"): (0,),
    ("A6", "step 1"): (1,),
    ("A7", "falls"): (1, 9),
    ("A7", "order at 41"): (1, 41),
    ("A7", "spread is back"): (41, 200),
    ("A8", "formed"): (41, 60, 120),
    ("A8", "absent at first"): (1,),
    ("A8", "stronger in block 1"): (41, 120),
    ("A9", "ResNet saturated"): (100,),
    ("A10", "order of blocks"): (100, 110, 200),
    ("A10", "falls with depth"): (100, 200),
    ("A10", "printed values"): (50, 100, 110, 200),
    ("A11", "PyramidNet even"): (10, 190, 200),
    ("A11", "FixUp early"): (50, 200),
    ("A12", "OneCycle even"): (10, 190, 390, 400),
    ("A13", "early drop"): (1, 10),
    ("A13", "zigzag inverted"): (200,),
    ("A14", "brief rise"): (50, 90, 100, 110, 150),
    ("A15", "strikes that return"): (1, 130),
    ("A16", "ResNet lowest"): (10, 300),
    ("A17", "damped"): (1, 10),
    ("A17", "lower last sites"): (200,),
    ("A18", "FixUp lowest in block 1"): (10, 200),
    ("A18", "PyramidNet rises"): (1, 200),
    ("A19", "one sign"): (100, 200),
    ("A20", "plain nets dip"): (1, 10, 100),
    ("A21", "falls within 500 steps"): (0, 50, 399, 500),
    ("A21", "ToyNet at once"): (0, 1),
}


@pytest.mark.parametrize(("claim", "part"), COMPARED)
def test_coverage_counts_at_the_measurements_compared(claim, part):
    needed = COMPARED[claim, part]
    steps = {step for study in CASES[claim][0]() for step in study.steps.tolist()}
    for step in needed:
        result = judged(claim, coverage=lambda at, site, low=step: 0.2 if at == low else 1.0).part(part)
        assert result.verdict is Verdict.TOO_SMALL, step
    if not_compared := steps - set(range(min(needed), max(needed) + 1)):
        result = judged(claim, coverage=lambda at, site: 0.2 if at in not_compared else 1.0).part(part)
        assert result.verdict is Verdict.SUPPORTED, result.reason
