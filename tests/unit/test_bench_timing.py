"""Interleaving: the order of calls, what slow alternatives get, what is checked; and cases by name."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from reluscope.bench import Case, Effort, Progress, run_cases, select
from reluscope.bench.rows import rows_of
from reluscope.bench.timing import interleave
from reluscope.errors import BenchmarkError


def test_every_second_round_runs_in_reverse_order():
    calls: list[str] = []
    alternatives = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    seconds = interleave(alternatives, Effort(rounds=3, seconds=math.inf))
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"  # the first three warm up
    assert [times.shape for times in seconds.values()] == [(3,)] * 3
    assert not any(np.isnan(times).any() for times in seconds.values())


def test_a_slow_alternative_is_timed_in_fewer_rounds_and_at_least_in_one():
    alternatives = {
        "fast": lambda: None,
        "slow": lambda: time.sleep(0.05),
        "endless": lambda: time.sleep(0.3),
    }
    seconds = interleave(alternatives, Effort(rounds=5, seconds=0.12))
    rounds = {name: int((~np.isnan(times)).sum()) for name, times in seconds.items()}
    assert rounds["endless"] == 1
    assert 1 <= rounds["slow"] <= 2
    assert rounds["fast"] >= 1
    assert seconds["slow"][0] >= 0.05


def test_effort_says_how_many_rounds():
    effort = Effort(rounds=7, seconds=10.0)
    assert [effort.rounds_for(seconds) for seconds in (0.0, 1.0, 3.0, 10.0, 99.0)] == [7, 7, 3, 1, 1]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.0}, {"seconds": math.nan}])
def test_effort_that_measures_nothing_is_refused(wrong):
    with pytest.raises(BenchmarkError, match="give"):
        Effort(**wrong)


def test_what_an_alternative_returns_is_checked_before_it_is_timed():
    calls = []

    def check(name: str, result: object) -> None:
        if result != 1:
            raise BenchmarkError(f"{name} is wrong")

    alternatives = {"right": lambda: 1, "wrong": lambda: calls.append("called")}
    with pytest.raises(BenchmarkError, match="wrong is wrong"):
        interleave(alternatives, Effort(rounds=3), check=check)
    assert calls == ["called"]


def test_the_share_done_rises_to_one():
    shares: list[float] = []
    interleave(
        {"a": lambda: None, "b": lambda: None}, Effort(rounds=4, seconds=math.inf), on_share=shares.append
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[0] > 0.0


def named(*names: str) -> list[Case]:
    return [Case(name=name, run=lambda tell: []) for name in names]


def test_cases_are_chosen_by_glob_or_part():
    cases = named("keys/zipf/16", "keys/zipf/64", "packing/rows/16")
    assert [case.name for case in select(cases, [])] == [case.name for case in cases]
    assert [case.name for case in select(cases, ["zipf"])] == ["keys/zipf/16", "keys/zipf/64"]
    assert [case.name for case in select(cases, ["*/16"])] == ["keys/zipf/16", "packing/rows/16"]
    assert [case.name for case in select(cases, ["packing", "zipf/64"])] == [
        "keys/zipf/64",
        "packing/rows/16",
    ]


def test_a_pattern_that_chooses_nothing_is_refused_with_what_comes_close():
    with pytest.raises(BenchmarkError, match=r'none of the 2 cases matches "kays/zipf".*"keys/zipf/16"'):
        select(named("keys/zipf/16", "first-use"), ["kays/zipf"])


def test_progress_goes_through_all_cases():
    seen: list[Progress] = []
    cases = [Case(name=name, run=lambda tell: (tell(0.5), [])[1]) for name in ("a", "b")]
    assert run_cases(cases, seen.append) == []
    assert [(one.case, one.index, one.num_cases, one.share) for one in seen] == [
        (name, index, 2, share) for index, name in enumerate("ab") for share in (0.0, 0.5, 1.0)
    ]


def test_what_was_found_is_handed_on_before_a_later_case_fails():
    def fail(tell):
        raise KeyboardInterrupt

    rows = rows_of("keys", "a", {"ours": np.ones(3)}, baseline="ours", work=1, unit="keys")
    cases = [Case(name="a", run=lambda tell: rows), Case(name="b", run=fail)]
    kept: list[list[str]] = []
    with pytest.raises(KeyboardInterrupt):
        run_cases(cases, on_rows=lambda rows: kept.append([row.case for row in rows]))
    assert kept == [["a"]]
