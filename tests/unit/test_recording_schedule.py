"""Schedules: which steps are due, how they join, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluscope.errors import ScheduleError
from reluscope.recording.schedule import at, epochs, every, logspaced

STEPS = st.integers(0, 400)
SCHEDULES = st.one_of(
    st.lists(STEPS, min_size=1, max_size=5).map(lambda steps: at(*steps)),
    st.integers(1, 50).map(every),
    st.builds(
        lambda a, b, n: logspaced(min(a, b), max(a, b), n),
        st.integers(1, 400),
        st.integers(1, 400),
        st.integers(1, 20),
    ),
    st.builds(epochs, st.floats(0.05, 5.0), st.integers(1, 60)),
)


def test_at_lists_its_steps():
    assert at(7, 0, 7).steps(100) == [0, 7]
    assert at(7, 0).steps(6) == [0]


def test_every_starts_at_zero():
    assert every(3).steps(9) == [0, 3, 6, 9]


def test_logspaced_holds_both_ends_and_each_step_once():
    steps = logspaced(1, 3000, per_decade=12).steps(10_000)
    assert steps[0] == 1
    assert steps[-1] == 3000
    assert len(steps) == len(set(steps))
    assert all(type(step) is int for step in steps)
    # Three decades and a half at 12 each, fewer where neighbours round to the same step.
    assert steps[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [step for step in steps if 100 <= step <= 1000] == [
        100,
        121,
        147,
        178,
        215,
        261,
        316,
        383,
        464,
        562,
        681,
        825,
        1000,
    ]


def test_logspaced_of_one_step():
    assert logspaced(5, 5).steps(10) == [5]


def test_epochs_end_with_the_epoch():
    assert epochs(1, steps_per_epoch=40).steps(100) == [0, 40, 80]
    assert epochs(2, steps_per_epoch=40).steps(100) == [0, 80]
    assert epochs(0.5, steps_per_epoch=391).steps(782) == [0, 196, 391, 587, 782]


def test_the_example_of_the_readme_measures_the_final_state():
    assert (at(0) | logspaced(1, 3000, per_decade=12)).due(3000)


@given(SCHEDULES, SCHEDULES)
def test_steps_are_those_that_are_due(one, other):
    joined = one | other
    assert joined.steps(400) == [step for step in range(401) if joined.due(step)]
    assert joined.steps(400) == sorted({*one.steps(400), *other.steps(400)})


@given(SCHEDULES, SCHEDULES)
def test_a_schedule_reads_back_from_its_repr(one, other):
    joined = one | other
    if "epochs" not in repr(joined):  # its number of epochs is shortened in the text
        assert eval(repr(joined)) == joined


def test_as_dict_is_plain():
    schedule = at(0) | every(10) | logspaced(1, 30, 4) | epochs(0.5, 8)
    assert schedule.as_dict() == {
        "any": [
            {"at": {"steps": [0]}},
            {"every": {"n": 10}},
            {"logspaced": {"first": 1, "last": 30, "per_decade": 4}},
            {"epochs": {"n": 0.5, "steps_per_epoch": 8}},
        ]
    }


def test_steps_of_numpy_are_steps():
    assert at(np.int64(3)).due(np.int32(3))


@pytest.mark.parametrize("step", [-1, 1.0, "1", None, True])
def test_what_is_no_step_is_refused(step):
    with pytest.raises(ScheduleError, match="is no step; a step is the number of optimizer updates done"):
        every(1).due(step)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: at(), r"at\(\) names no step"),
        (lambda: at(-3), "step=-3 is no step"),
        (lambda: every(0), r"every\(n=0\): n must be a whole number of at least 1"),
        (lambda: every(2.5), r"every\(n=2.5\)"),
        (lambda: logspaced(0, 10), r"at\(0\) \| logspaced\(1, \.\.\.\)"),
        (lambda: logspaced(10, 5), "ends before it starts"),
        (lambda: logspaced(1, 10, 0), r"logspaced\(per_decade=0\)"),
        (lambda: epochs(0, 10), "no number of epochs above 0"),
        (lambda: epochs(float("nan"), 10), "no number of epochs above 0"),
        (lambda: epochs(1, 0), r"epochs\(steps_per_epoch=0\)"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make, text):
    with pytest.raises(ScheduleError, match=text):
        make()


def test_joining_with_something_else_is_refused_in_words():
    with pytest.raises(ScheduleError, match=r"at\(0\) \| 3: only schedules can be joined"):
        at(0) | 3
