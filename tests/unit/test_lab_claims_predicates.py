"""Each claim on made-up trainings: satisfied, violated part by part on both sides of every threshold, and undecided.

The trainings are in lab_claims_worlds/: CASES maps a claim to a function that makes them, with all numbers as keyword
arguments whose defaults satisfy the claim, and to rows (part, numbers that just satisfy it, numbers that just do not).
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reluscope.lab import experiment, selected_trainings
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
    assert "coverage of " in decided_on(result)
    assert ", 0 of sites " in decided_on(result)
    assert any("coverage is at least 0.5 at 0 of the" in part.reason for part in result.parts)
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
        assert result.by_first_rule is Verdict.NOT_MEASURED
        for figure in {need.experiment for need in claim.needs}:
            (command,) = (one for one in result.commands if one.startswith(f"reluscope reproduce {figure} "))
            assert f"`{command}`" in decided_on(result)
            wanted = [need.name for need in claim.needs if need.experiment == figure]
            found = selected(command)
            assert all(any(fnmatch.fnmatchcase(name, one) for one in wanted) for name in found)
            assert all(fnmatch.filter(found, one) for one in wanted)


def selected(command):
    """The names of the trainings that a command makes."""
    words = shlex.split(command)
    assert words[:2] == ["reluscope", "reproduce"]
    assert words[-2:] == ["--out", "DIR"]
    options = list(zip(words[3:-2:2], words[4:-2:2], strict=True))
    only = [value for name, value in options if name == "--only"]
    more = {name: value for name, value in options if name != "--only"}
    assert set(more) <= {"--scale", "--seeds"}
    trainings = experiment(words[2], more.get("--scale", "laptop"), seeds=int(more.get("--seeds", 0)) or None)
    return [name for name, _ in selected_trainings(trainings, only)]


@pytest.mark.parametrize(("claim", "position"), NEEDS)
def test_without_one_training_the_claim_names_it(claim, position):
    need = CLAIM[claim].needs[position]
    studies = [study for study in CASES[claim][0]() if not need.covers(study)]
    result = decide_claim(CLAIM[claim], studies)
    assert result.verdict is Verdict.NOT_MEASURED
    assert result.missing == (need,)
    (command,) = result.commands
    assert decided_on(result).startswith(f"needs {need.text}: `{command}`")
    assert f'--only "{need.name}"' in command
    assert all(fnmatch.fnmatchcase(name, need.name) for name in selected(command))


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
    assert f"needs {least} seeds, has {least - 1}: `reluscope reproduce fig2 --only " in result.reason
    assert "--scale paper" in result.reason  # as those that are there, of which the scale has 25
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
    ("A5", "block 1 most"): (1, 41, 300, 400, 1000),
    ("A5", "block 1 most, to step 0"): (0, 41, 400, 1000),
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


# Partial coverage ---------------------------------------------------------------------------------------------


def partly(num_covered, first=0):
    """Coverage of the sites first, first + 1, ... only."""
    return lambda step, site: 1.0 if first <= site < first + num_covered else 0.1


def with_coverage(studies, **sites):
    """Studies whose covered sites are given by network, method or activation; the others are covered everywhere."""
    found = []
    for study in studies:
        keys = [key for key in (study.net, study.method, study.activation) if key in sites]
        covered = sites[keys[0]] if keys else range(study.num_sites)
        grid = coverage(study, list(covered))
        found.append(replace(study, measures={**study.measures, "coverage": grid}))
    return found


@pytest.mark.parametrize(
    ("claim", "part", "broken", "skip", "least"),
    [
        ("A4", "thin later", {"thin_1": 0.03}, 1, 2),
        ("A4", "dense for a while", {"peak": 0.5}, 0, 6),
        ("A16", "ToyNet only at first", {"late_1": 0.2}, 1, 2),
    ],
)
def test_a_bound_on_every_site_is_broken_by_one_and_kept_by_half(claim, part, broken, skip, least):
    """The same numbers of covered sites have the same meaning in every claim of this form."""
    for num in (least, 8):
        result = judged(claim, coverage=partly(num), **broken).part(part)
        assert result.verdict is Verdict.CONTRADICTED, (num, result.reason)
        assert result.by_first_rule is Verdict.TOO_SMALL
        kept = judged(claim, coverage=partly(num)).part(part)
        assert kept.verdict is Verdict.TOO_SMALL
        assert f"holds at the {num - skip} covered ones of the {19 - skip} sites" in kept.reason
    assert judged(claim, coverage=partly(10)).part(part).verdict is Verdict.SUPPORTED
    # what is beyond the bound at a site that is not covered says nothing
    assert judged(claim, coverage=partly(7, first=8), **broken).part(part).verdict is Verdict.TOO_SMALL


def test_where_a_bound_is_broken_is_told():
    result = judged("A16", coverage=partly(8), dense_until=300).part("ToyNet only at first")
    assert result.checks[0].name.endswith("sites 1-18 (beyond at steps 151-300, sites 1-7)")
    assert "ToyNet: largest M" in decided_on(judged("A16", coverage=partly(8), dense_until=300))


@pytest.mark.parametrize(
    ("claim", "parts"),
    [
        ("A2", ["relative_change", "churn_rate"]),
        ("A6", ["step 1", "step 0"]),
        ("A10", ["falls with depth"]),
        ("A11", ["PyramidNet even", "last site slowest", "first site highest"]),
        ("A12", ["OneCycle even"]),
    ],
)
def test_trends_and_spreads_over_all_sites_want_half_of_them(claim, parts):
    result = judged(
        claim, coverage=lambda step, site: 1.0 if site < 4 or site > 15 else 0.1
    )  # 7 of 19, 4 of 10
    assert {result.part(name).verdict for name in parts} == {Verdict.TOO_SMALL}
    assert {result.part(name).by_first_rule for name in parts} == {Verdict.TOO_SMALL}


def test_means_over_time_are_decided_by_three_sites_the_spread_by_half():
    """A12 with 8 of 19 sites covered, as on 4,000 images: three of its four parts are means."""
    result = judged("A12", coverage=partly(8))
    assert {part.part.name: part.verdict for part in result.parts} == {
        "waves": Verdict.SUPPORTED,
        "OneCycle later": Verdict.SUPPORTED,
        "OneCycle even": Verdict.TOO_SMALL,
        "OneCycle fast": Verdict.SUPPORTED,
    }
    assert {part.by_first_rule for part in result.parts} == {Verdict.TOO_SMALL}
    assert judged("A12", coverage=partly(8), wave=-0.1).verdict is Verdict.CONTRADICTED
    assert judged("A12", coverage=partly(10)).verdict is Verdict.SUPPORTED


def test_trainings_are_compared_at_the_sites_covered_in_both():
    """Where the site decides: values that rise with the site are higher in whoever has higher sites covered."""
    rising = np.linspace(0.0, 0.2, 19)

    def tilted(studies, measure):
        return [
            replace(
                study,
                measures={**study.measures, measure: study.measures[measure] + rising[: study.num_sites]},
            )
            for study in studies
        ]

    fixup = tilted(CASES["A18"][0](f1=0.62), "relative_entropy")  # above the others' 0.60 at every site
    result = decide_claim(
        CLAIM["A18"], with_coverage(fixup, fixup_resnet=[0, 1, 2, 3], resnet=range(1, 7), convnet=range(1, 7))
    )
    part = result.part("FixUp lowest in block 1")
    assert part.verdict is Verdict.CONTRADICTED
    own = [check for check in part.checks if "pyramidnet" not in check.name]
    assert {round(check.value - check.bound_value, 9) for check in own} == {0.02}

    dips = CASES["A20"][0](res=0.101)  # more than half of ConvNet's 0.2
    dips = [
        replace(
            study,
            measures={
                **study.measures,
                "relative_entropy": study.measures["relative_entropy"]
                * (1 + (study.net == "convnet") * rising),
            },
        )
        for study in dips
    ]
    covered = with_coverage(dips, resnet=range(5), convnet=range(2, 19))
    part = decide_claim(CLAIM["A20"], covered).part("ResNet does not")
    assert part.sites == (2, 3, 4)
    apart = with_coverage(dips, resnet=range(5), convnet=range(5, 19))
    assert decide_claim(CLAIM["A20"], apart).part("ResNet does not").verdict is Verdict.TOO_SMALL


@pytest.mark.parametrize(
    ("claim", "part", "covered", "sites"),
    [
        ("A5", "ToyNet least", {"toynet": range(4), "convnet": range(13), "resnet": range(1, 13)}, range(4)),
        ("A5", "ResNet more than ConvNet", {"resnet": range(4), "convnet": range(1, 7)}, range(1, 4)),
        ("A12", "OneCycle later", {"onecycle": range(5), "stepwise": range(2, 9)}, range(2, 5)),
        ("A12", "OneCycle fast", {"onecycle": range(5), "stepwise": range(2, 9)}, range(2, 5)),
        ("A12", "OneCycle even", {"onecycle": range(15), "stepwise": range(4, 19)}, range(4, 15)),
        ("A13", "zigzag inverted", {"prelu": range(6, 13), "relu": range(7, 14)}, range(7, 13)),
    ],
)
def test_sites_of_a_comparison_are_those_covered_in_both(claim, part, covered, sites):
    result = decide_claim(CLAIM[claim], with_coverage(CASES[claim][0](), **covered)).part(part)
    assert result.reason == ""
    assert result.sites == tuple(sites)


def test_pyramidnet_is_contradicted_by_one_site_and_wants_half():
    part = "PyramidNet rises"
    some = {"pyramidnet": [3, 6, 9]}  # one of the eight others
    assert (
        decide_claim(CLAIM["A18"], with_coverage(CASES["A18"][0](), **some)).part(part).verdict
        is Verdict.TOO_SMALL
    )
    falls = CASES["A18"][0](gain=-0.01)
    assert decide_claim(CLAIM["A18"], with_coverage(falls, **some)).part(part).verdict is Verdict.CONTRADICTED
    most = {"pyramidnet": [0, 1, 2, 3, 6, 9]}
    assert (
        decide_claim(CLAIM["A18"], with_coverage(CASES["A18"][0](), **most)).part(part).verdict
        is Verdict.SUPPORTED
    )


def test_early_is_a_window_not_a_step():
    """A5: a dip at step 41 weighs what it lasts, however densely its surroundings were measured."""
    result = judged("A5", res_dip=0.0).part("ResNet more than ConvNet")
    assert result.checks[0].name == "mean J1 of block 1 over steps 41-1,000: ResNet > ConvNet"
    assert result.checks[0].value == pytest.approx(0.15 * (1 - (300 - 41) / 2 / 959))
    share = judged("A5", res_dip=0.0).part("ResNet more than ConvNet, share of steps").checks[0]
    assert share.value == 0.75  # steps 2, 300, 1,000 of 2, 41, 300, 1,000
    assert "share of the 4 measured steps 2-1,000" in share.name


# Strikes ------------------------------------------------------------------------------------------------------


def test_that_there_is_no_strike_wants_many_updates():
    few = judged("A15", struck=9)  # of 19: no strike
    assert few.verdict is Verdict.TOO_SMALL
    reason = few.part("strikes that return").reason
    assert re.search(r"ToyNet: no strike in the 1\d\d updates that could be judged, of 3,000", reason)
    assert "inf" not in reason + decided_on(few)
    long = []
    for study in CASES["A15"][0](struck=9):
        grid = np.full((2131, 19), 100.0)
        grid[0] = np.nan
        measures = {"appeared": grid, "vanished": grid, "coverage": np.ones(grid.shape)}
        long.append(replace(study, steps=np.arange(2131), num_steps=2130, measures=measures))
    result = decide_claim(CLAIM["A15"], long)
    assert result.verdict is Verdict.CONTRADICTED
    assert re.search(r"ResNet: strikes in 2,\d\d\d updates: 0 >= 1", decided_on(result))


def test_a_strike_without_a_next_measurement_is_none():
    steps = [step for step in range(131) if step != 101]
    cut = []
    for study in CASES["A15"][0]():
        rows = np.isin(study.steps, steps)
        measures = {name: grid[rows] for name, grid in study.measures.items()}
        cut.append(replace(study, steps=np.array(steps), measures=measures))
    result = decide_claim(CLAIM["A15"], cut).part("strikes that return")
    assert result.verdict is Verdict.TOO_SMALL
    assert "no strike in the" in result.reason


# What was changed ---------------------------------------------------------------------------------------------

# What differs from the predicates as they were before any run was looked at, in a word that has to be told.
CHANGED = {
    "A1": ["growth: three covered sites"],
    "A2": ["half again"],
    "A3": ["three covered sites"],
    "A4": ["however few are covered"],
    "A5": ["three covered sites", "instead of step 41", "covered in both"],
    "A6": ["half again"],
    "A7": ["three covered sites"],
    "A8": ["three covered sites", "was added"],
    "A10": ["three covered sites", "half again"],
    "A11": ["three covered sites"],
    "A12": ["three covered sites", "covered in both"],
    "A13": ["three covered sites", "covered in both"],
    "A15": ["three covered sites", "was added", "2,000 updates"],
    "A16": ["three covered sites", "however few are covered"],
    "A17": ["three covered sites"],
    "A18": ["three covered sites", "covered in both", "half of the other sites"],
    "A19": ["three covered sites"],
    "A20": ["three covered sites", "covered in both"],
    "A21": ["three covered sites"],
}


def test_what_was_changed_is_told_with_the_figures_it_was_changed_after():
    assert {claim.id for claim in CLAIMS if claim.changed} == set(CHANGED)
    for claim, words in CHANGED.items():
        text = CLAIM[claim].changed
        assert all(word in text for word in words), claim
        figures = (
            "after figures 1, 2 and 4"
            if set(words) - {"three covered sites", "growth: three covered sites", "was added"}
            else "after figures 2 and 4"
        )
        assert figures in text, claim


@pytest.mark.parametrize("claim", CASES)
@pytest.mark.parametrize("num_covered", [1, 3, 4, 7, 8, 9])
def test_a_verdict_that_the_first_rule_would_not_give_is_of_a_claim_that_says_so(claim, num_covered):
    for first in (0, 7):
        result = judged(claim, coverage=partly(num_covered, first))
        if any(part.verdict is not part.by_first_rule for part in result.parts):
            assert CLAIM[claim].changed
            assert re.search("three covered sites|however few", CLAIM[claim].changed)
