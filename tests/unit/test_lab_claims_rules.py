"""The rules by which claims are decided: seeds, errors, coverage, length of a training, parts into a verdict."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from reluscope.lab.claims import Check, Claim, Part, Verdict, made_up_study
from reluscope.lab.claims.claim import decide_claim
from reluscope.lab.claims.evidence import Evidence, Need, compared, rank_correlation, ratio, span
from reluscope.lab.claims.study import inner_pairs
from reluscope.lab.claims.table import claims_as_dict, claims_page, decided_on, verdict_counts
from reluscope.lab.claims.verdict import Undecidable, combined, standard_error

NEED = Need(experiment="fig1", net="resnet", method=None)


# One inequality ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "relation", "bound", "holds"),
    [
        (1.0, "<", 2.0, True),
        (2.0, "<", 2.0, False),
        (2.0, "<=", 2.0, True),
        (3.0, "<=", 2.0, False),
        (3.0, ">", 2.0, True),
        (2.0, ">", 2.0, False),
        (2.0, ">=", 2.0, True),
        (1.0, ">=", 2.0, False),
        (math.inf, "<=", 0.2, False),
        (math.inf, ">", 1.0, True),
        (math.nan, ">", 1.0, None),
    ],
)
def test_one_seed_decides_by_the_sign(value, relation, bound, holds):
    assert Check.of("x", value, relation, bound).holds is holds


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ((1.0, 2.0, 3.0), None),  # mean 2, standard error 0.577: 1.155 is what the margin has to exceed
        ((2.2, 3.2, 4.2), True),
        ((0.1, 1.1, 2.1), None),
        ((-0.2, 0.8, 1.8), False),
    ],
)
def test_three_seeds_have_to_exceed_two_standard_errors(values, holds):
    assert Check.of("x", values, ">", 2.0).holds is holds
    assert Check.of("x", [-value for value in values], "<", -2.0).holds is holds


def test_two_groups_of_seeds_add_their_errors():
    check = Check.of("x", (0.0, 1.0, 2.0), ">", (-1.0, 0.0, 1.0))
    assert check.margin_error == pytest.approx(math.sqrt(2.0 / 3.0))
    assert check.holds is None
    # two seeds have no such error: the sign of the means decides
    assert Check.of("x", (0.0, 1.0), ">", (-1.0, 0.0, 1.0)).holds is True


def test_errors_of_samples_count_where_seeds_do_not():
    assert Check.of("x", 0.50, ">", 0.40, error=0.04).holds is True
    assert Check.of("x", 0.50, ">", 0.43, error=0.04).holds is None
    assert Check.of("x", 0.30, ">", 0.40, error=0.04).holds is False
    assert Check.of("x", (0.50, 0.51, 0.49), ">", 0.43, error=0.04).holds is True
    check = compared("x", [(0.5, 0.03)], ">", [(0.4, 0.04)])
    assert (check.margin, check.margin_error, check.holds) == (pytest.approx(0.1), pytest.approx(0.05), None)


def test_checks_that_all_have_to_hold():
    good, bad, unclear = (Check.of("x", value, ">", 0.0) for value in (1.0, -1.0, math.nan))
    shown = Check.of("x", -1.0, ">", 0.0, counts=False)
    assert combined([good, good, shown]) is Verdict.SUPPORTED
    assert combined([good, unclear]) is Verdict.TOO_SMALL
    assert combined([good, unclear, bad]) is Verdict.CONTRADICTED
    assert combined([shown]) is Verdict.NOT_MEASURED


def test_small_functions():
    assert standard_error((1.0, 2.0, 3.0)) == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(standard_error((1.0,)))
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 2], [1, 1, 2]) == pytest.approx(1.0)
    assert math.isnan(rank_correlation([1, 2, 3], [5, 5, 5]))
    assert math.isnan(rank_correlation([1, 2], [1, 2]))
    assert (ratio(1.0, 2.0), ratio(1.0, 0.0), ratio(0.0, 0.0)) == (0.5, math.inf, 1.0)
    assert span([9, 0, 1, 2]) == "0-2, 9"


# Parts into a verdict ---------------------------------------------------------------------------------------


def claim_of(*parts):
    outcomes = {"yes": 1.0, "no": -1.0, "unclear": math.nan}

    def decide(evidence, outcome):
        if outcome == "missing":
            raise Undecidable(Verdict.NOT_MEASURED, "nothing there")
        evidence.take(NEED)
        yield Check.of("x", outcomes[outcome], ">", 0.0)

    made = tuple(
        Part(
            name=str(number),
            asks="?",
            decide=lambda evidence, outcome=outcome: decide(evidence, outcome),
            role=role,
        )
        for number, (role, outcome) in enumerate(parts)
    )
    return Claim(id="A0", says="something", parts=made, needs=(NEED,), changed=None)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([("main", "yes")], Verdict.SUPPORTED),
        ([("main", "yes"), ("further", "missing")], Verdict.SUPPORTED),
        ([("main", "yes"), ("further", "unclear")], Verdict.SUPPORTED),
        ([("main", "yes"), ("further", "no")], Verdict.CONTRADICTED),
        ([("main", "unclear"), ("further", "no")], Verdict.CONTRADICTED),
        ([("main", "missing"), ("main", "no")], Verdict.CONTRADICTED),
        ([("main", "yes"), ("apart", "no")], Verdict.SUPPORTED),
        ([("main", "yes"), ("main", "unclear")], Verdict.TOO_SMALL),
        ([("main", "unclear"), ("main", "missing")], Verdict.NOT_MEASURED),
        ([("main", "missing"), ("further", "yes")], Verdict.NOT_MEASURED),
    ],
)
def test_parts_make_the_verdict(parts, verdict):
    assert decide_claim(claim_of(*parts), [study()]).verdict is verdict


def test_a_changed_predicate_says_so():
    from dataclasses import replace

    changed = replace(claim_of(("main", "yes")), changed="the bound was 0.2: too strict for 20 epochs")
    result = decide_claim(changed, [study()])
    assert claims_as_dict([result])["claims"][0]["changed"] == changed.changed
    assert claims_page([result]).count(changed.changed) == 2  # in the table, and beside its numbers
    assert "| A0 | supported | same | something | 0 (n = 50,000, 1 seed, sites ) |  |" in claims_page(
        [decide_claim(claim_of(("main", "yes")), [study()])]
    )


def test_page_and_values():
    study = made_up_study("resnet", "fig1", [0, 1], method="constant", total=5, num_images=4000)

    def decide(evidence):
        (found,) = evidence.take(NEED)
        sites = evidence.covered([(found, 1)], np.arange(3))
        yield Check.of("T | of sites", found.at("total", 1)[sites].mean(), "<", 4.0)
        yield Check.of("shown", math.inf, "<", 4.0, counts=False)

    part = Part(name="the part", asks="T is below 4", decide=decide)
    result = decide_claim(Claim(id="A0", says="few patterns", parts=(part,), needs=(NEED,)), [study])
    assert decided_on(result) == "T | of sites: 5 < 4"
    page = claims_page([result], left_out={"other": "belongs to no figure"})
    assert "| A0 | contradicted | same | few patterns | T \\| of sites: 5 < 4 |  |" in page
    assert "  - T | of sites: 5 < 4: fails\n  - shown: inf < 4: shown only\n" in page
    assert "  - on n = 4,000, 1 seed, sites 0-2; runs resnet-3-relu-constant-fig1-seed0" in page
    assert page.endswith("- other: belongs to no figure\n")
    values = claims_as_dict([result])
    assert values["counts"] == verdict_counts([result])
    assert values["counts"] == {"supported": 0, "contradicted": 1, "scale too small": 0, "not measured": 0}
    (numbers,) = values["claims"][0]["parts"]
    assert (numbers["num_images"], numbers["num_seeds"], numbers["sites"]) == ([4000], 1, [0, 1, 2])
    assert [(one["value"], one["bound"], one["holds"]) for one in numbers["numbers"]] == [
        (5.0, 4.0, False),
        (None, 4.0, False),
    ]


def test_what_covered_sites_alone_say_is_shown_and_decides_nothing():
    def decide(evidence):
        (found,) = evidence.take(NEED)
        sites = evidence.covered([(found, 1)], np.arange(19))
        yield Check.of("T", found.at("total", 1)[sites].mean(), "<", 4.0)

    claim = Claim(id="A0", says="few", parts=(Part(name="the part", asks="?", decide=decide),), needs=(NEED,))

    def result(num_covered):
        covered = made_up_study(
            "resnet", "fig1", [0, 1], method="constant", total=lambda step, site: site,
            coverage=lambda step, site: 1.0 if site < num_covered else 0.1,
        )  # fmt: skip
        return decide_claim(claim, [covered])

    few = result(2)
    (part,) = few.parts
    assert (few.verdict, part.verdict, part.checks[0].value) == (Verdict.TOO_SMALL, Verdict.TOO_SMALL, 9.0)
    alone = part.at_covered
    assert (alone.verdict, alone.reason, alone.sites) == (Verdict.SUPPORTED, "", (0, 1))
    assert alone.checks[0].value == 0.5
    text = "at the covered sites alone (of 0-1) supported"
    assert decided_on(few) == "the part: coverage of ResNet-20, 2 of sites 0-18"
    assert f"  - {text}\n    - T: 0.5 < 4: holds\n" in claims_page([few])
    (values,) = claims_as_dict([few])["claims"][0]["parts"]
    assert values["at_covered_sites"]["sites"] == [0, 1]
    # with enough of them there is one answer, and without any there is no second one
    assert [result(num).verdict for num in (3, 10)] == [Verdict.SUPPORTED, Verdict.CONTRADICTED]
    assert [result(num).parts[0].at_covered for num in (0, 10)] == [None, None]


# What evidence hands out ------------------------------------------------------------------------------------


def study(**more):
    steps = more.pop("steps", [0, 1, 10, 50, 100])
    return made_up_study("resnet", "fig1", steps, method="constant", **more)


def test_runs_are_taken_by_need():
    runs = [
        study(seed=1),
        study(seed=0),
        study(blocks=2),
        made_up_study("resnet", "fig3", [0, 1], method="cyclic"),
    ]
    assert [run.seed for run in Evidence(runs).take(NEED)] == [0, 1]
    stepwise = Need(experiment="fig3", net="resnet")
    command = '`reluscope reproduce fig3 --only "resnet20-relu-stepwise-*" --scale paper --out DIR`'
    with pytest.raises(Undecidable, match=re.escape(f"needs fig3 of resnet: {command}")):
        Evidence(runs).take(stepwise)
    every = Need(experiment="fig1", net="resnet", method=None, blocks=None)
    assert len(Evidence(runs).take(every)) == 3


def test_texts_of_needs():
    assert Need(experiment="fig1", net="toynet", method=None).text == "fig1 of toynet"
    assert Need(experiment="fig3", net="convnet").text == "fig3 of convnet"
    assert (
        Need(experiment="fig3", net="convnet", activation="prelu").text == "fig3 of convnet (prelu, stepwise)"
    )
    assert Need(experiment="fig3", net="convnet", method="cyclic").text == "fig3 of convnet (relu, cyclic)"


def test_covered_sites_decide_when_there_are_three():
    run = study(coverage=lambda step, site: 1.0 if step == 10 or site < 3 else 0.49)
    evidence = Evidence([run])
    assert evidence.covered([(run, [1, 10])], np.arange(19)).tolist() == [0, 1, 2]
    assert evidence.covered([(run, 1)], np.arange(1, 3)).tolist() == [1, 2]  # about two sites only
    assert (evidence.too_small, sorted(evidence.sites)) == ([], [0, 1, 2])
    assert evidence.covered([(run, 10)], np.arange(19)).tolist() == list(range(19))
    assert evidence.covered([(run, 1)], np.arange(1, 4)).tolist() == [1, 2, 3]
    assert evidence.too_small == ["ResNet-20: coverage is at least 0.5 at 2 of the 3 sites 1-3 only"]


def test_of_an_extreme_or_a_spread_half_of_the_sites_have_to_be_covered():
    run = study(coverage=lambda step, site: 1.0 if site < 10 else 0.49)
    evidence = Evidence([run])
    assert evidence.covered([(run, 1)], np.arange(19), want="most").tolist() == list(range(10))
    assert not evidence.lacks_coverage
    assert evidence.covered([(run, 1)], np.arange(1, 19), want="most").tolist() == list(range(1, 10))
    assert not evidence.lacks_coverage
    assert evidence.covered([(run, 1)], np.arange(2, 19), want="most").tolist() == list(range(2, 19))
    assert evidence.lacks_coverage


def test_without_a_covered_site_nothing_is_decided():
    run = study(coverage=lambda step, site: 0.49)
    evidence = Evidence([run], rule="any")
    assert evidence.covered([(run, 1)], np.arange(2)).tolist() == [0, 1]
    assert evidence.lacks_coverage


def test_too_few_covered_sites_are_told_with_the_nets_and_the_step():
    at_first = study(coverage=lambda step, site: 0.2 if step == 1 and site > 1 else 1.0)
    prelu = study(activation="prelu", coverage=lambda step, site: 0.2 if site != 1 else 1.0)
    evidence = Evidence([at_first, prelu])
    evidence.covered([(at_first, [1, 10, 50])], np.arange(19))
    evidence.covered([(at_first, 10), (prelu, [1, 10])], np.arange(19))
    assert evidence.too_small == [
        "ResNet-20: coverage is at least 0.5 at 2 of the 19 sites 0-18 only",
        "ResNet-20 relu constant and ResNet-20 prelu constant: coverage is at least 0.5 at 1 of the 19 sites 0-18 only",
    ]
    assert evidence.briefs[0] == "coverage of ResNet-20, 2 of sites 0-18"
    apart = study(coverage=lambda step, site: 1.0 if site % 2 == (step > 1) else 0.2)  # never the same ones
    evidence = Evidence([apart])
    evidence.covered([(apart, [1, 10])], np.arange(19))
    assert evidence.too_small[0].endswith("0 of the 19 sites 0-18 only, at the fewest 9 of them at step 10")


def test_windows_know_short_from_cut_off():
    run = study()
    evidence = Evidence([run])
    assert evidence.window(run, 1, 50).tolist() == [1, 10, 50]
    assert evidence.window(run, 50).tolist() == [50, 100]
    assert evidence.too_small == []
    assert evidence.window(run, 50, 300).tolist() == [50, 100]
    assert "is 100 steps long; step 300 is asked for" in evidence.too_small[0]
    with pytest.raises(Undecidable, match="no measurement from step 11 to 49") as caught:
        Evidence([run]).window(run, 11, 49)
    assert caught.value.verdict is Verdict.NOT_MEASURED
    with pytest.raises(Undecidable, match="no measurement from step 500") as caught:
        Evidence([run]).window(run, 500)
    assert caught.value.verdict is Verdict.TOO_SMALL
    cut_off = study(num_steps=1000)
    assert Evidence([cut_off]).window(cut_off, 1, 50).tolist() == [1, 10, 50]
    for last in (300, None):
        with pytest.raises(
            Undecidable,
            match=r'measured up to step 100 of 1,000; go on with `reluscope reproduce fig1 --only "resnet20-relu-constant-'
            r'seed0" --scale paper --out DIR`',
        ):
            Evidence([cut_off]).window(cut_off, 1, last)


# Where in a training ----------------------------------------------------------------------------------------


def test_before_and_after_the_drop():
    run = study(steps=[0, 1, 48, 50, 55, 62, 100])  # the rate of update 50 is the first lower one
    assert (run.before_drop, run.after_drop, run.end) == (50, 62, 100)
    assert run.rates([0, 1, 50, 55]).tolist() == [0.1, 0.1, 0.1, 0.01]
    with pytest.raises(Undecidable, match=r"no measurement one to two epochs after the drop .* at step 50"):
        _ = study(steps=[0, 50, 55, 71, 100]).after_drop
    with pytest.raises(Undecidable, match="has not dropped so far"):
        _ = study(rate=lambda step: 0.1).before_drop


def test_cycles_of_the_rate():
    assert study(rate=lambda step: abs(step % 50 - 25)).num_cycles() == 1
    assert study(rate=lambda step: 25 - abs(step % 50 - 25)).num_cycles() == 2
    assert study().num_cycles() == 0


def test_what_is_not_measured_is_named():
    run = study(total=3)
    with pytest.raises(
        Undecidable, match=r"ResNet-20 relu constant \(fig1, seed 0\) has no measurement at step 9"
    ):
        run.at("total", [1, 9])
    with pytest.raises(Undecidable, match="does not hold the measure relative_entropy"):
        run.at("relative_entropy", 1)
    with pytest.raises(Undecidable, match="neither samples nor tables"):
        run.similar(1, 10)


def test_blocks_and_pairs():
    assert [stage.tolist() for stage in study().stages] == [
        list(range(7)),
        list(range(7, 13)),
        list(range(13, 19)),
    ]
    assert [len(stage) for stage in study(blocks=1).stages] == [3, 2, 2]
    pyramid = made_up_study("pyramidnet", "fig3", [0, 1])
    assert [stage.tolist() for stage in pyramid.stages] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert inner_pairs(np.arange(7)).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert inner_pairs(np.array([1, 3, 4])).tolist() == [[3, 4]]
    assert inner_pairs(np.array([2, 3])).shape == (0, 2)
