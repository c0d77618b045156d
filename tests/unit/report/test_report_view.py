"""What the report sees of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reluscope.errors import ExportError, RunNotFoundError
from reluscope.report import view_of, views_of
from reluscope.runs import RunWriter, open_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small recorded run: two sites, of which the second is measured at the second step only."""
    rows = {
        0: [{"site": "b", "site_index": 0, "total": 2**40 + 1, "entropy": 1.5, "churn_rate": float("nan")}],
        3: [
            {"site": "b", "site_index": 0, "total": 5, "entropy": 1.25, "churn_rate": 0.5},
            {"site": "a", "site_index": 1, "total": 7, "entropy": 2.0, "churn_rate": 0.25},
        ],
    }
    common = {"num_evaluations": 8, "width": 4, "num_units": 4, "exact": True, "parameter_hash": "0"}
    info = {"model": {"class": "Net"}, "sites": [{"name": "b", "width": 4}, {"name": "a", "width": 4}]}
    with RunWriter.create(tmp_path / "mine", info) as writer:
        for step, layers in rows.items():
            writer.commit(step, [row | common for row in layers], seconds=0.5)
        writer.add_scalars([{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}])
    return tmp_path / "mine"


def test_a_recorded_run(folder: Path) -> None:
    view = view_of(folder)
    assert view.name == "mine"
    assert view.state == "closed"
    assert view.steps.tolist() == [0, 3]
    assert view.sites == ("b", "a")  # in the order of the forward pass
    assert view.values["total"][0, 0] == 2**40 + 1
    np.testing.assert_array_equal(view.values["entropy"], [[1.5, np.nan], [1.25, 2.0]])
    np.testing.assert_array_equal(view.values["churn_rate"], [[np.nan, np.nan], [0.5, 0.25]])
    assert set(view.values) == {"total", "entropy", "churn_rate"}
    assert view.seconds.tolist() == [0.5, 0.5]
    assert len(view.times) == 2
    assert view.scalars["loss"].tolist() == [2.0, 1.0]
    assert view.has("entropy")
    assert not view.has("coverage")


def test_a_path_a_text_and_a_run_are_the_same(folder: Path) -> None:
    for given in (str(folder), open_run(folder), [folder], (open_run(folder),)):
        (view,) = views_of(given)
        assert view.sites == ("b", "a")
    assert view_of(view) is view


def test_a_run_without_measurements(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "empty", {}):
        view = view_of(tmp_path / "empty")
    assert view.state == "recording"
    assert view.steps.size == 0
    assert view.sites == ()
    assert view.values == {}


def test_runs_of_one_name_are_told_apart(make_view) -> None:
    assert [view.name for view in views_of([make_view("a"), make_view("b"), make_view("a")])] == [
        "a",
        "b",
        "a (2)",
    ]


def test_a_long_run_is_thinned_evenly_with_both_ends(make_view) -> None:
    view = make_view(num_steps=90)
    thinned = view.thinned(10)
    assert thinned.steps[0] == view.steps[0]
    assert thinned.steps[-1] == view.steps[-1]
    assert len(thinned.steps) == len(thinned.times) == len(thinned.seconds) == 10
    index = np.searchsorted(view.steps, thinned.steps)
    np.testing.assert_array_equal(thinned.values["entropy"], view.values["entropy"][index])
    assert view.thinned(90) is view


def test_no_run_and_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="report of no runs"):
        views_of([])
    with pytest.raises(RunNotFoundError):
        views_of([tmp_path / "nowhere"])


def test_drawing_a_run_loads_neither_torch_nor_numba(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, reluscope.report as report\n"
        "assert not {'matplotlib', 'plotly', 'torch', 'numba'} & set(sys.modules), 'at import'\n"
        "for name in ('x.html', 'x.png'): report.write_report(sys.argv[1], sys.argv[2] + '/' + name)\n"
        "print([m for m in ('torch', 'numba') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
