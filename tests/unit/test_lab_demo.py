"""The demonstration, in small: two runs, one page, and an earlier demonstration replaced but nothing else."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

import reluscope as rs
from reluscope.cli import main
from reluscope.errors import RunExistsError
from reluscope.lab import demo
from reluscope.lab.demo import demo_specifications, run_demo
from reluscope.lab.progress import ProgressDisplay
from reluscope.lab.specification import MLPModel, ProbeSpecification
from reluscope.lab.training import TrainingProgress


def test_the_two_trainings_differ_in_the_model_alone():
    resnet, convnet = demo_specifications().values()
    assert resnet.model_copy(update={"model": convnet.model}) == convnet
    assert resnet.model.depth == convnet.model.depth == 20


@pytest.fixture
def small(monkeypatch):
    """The same demonstration with nets that train in a moment."""
    real = demo_specifications

    def smaller(*, steps):
        changes = {"model": MLPModel(name="mlp", width=8), "probe": ProbeSpecification(num_images=50)}
        return {title: spec.model_copy(update=changes) for title, spec in real(steps=steps).items()}

    monkeypatch.setattr(demo, "demo_specifications", smaller)


def test_a_demo_leaves_two_runs_and_a_page(small, tmp_path):
    titles = []

    def on_training(title):
        titles.append(title)
        return lambda progress: None

    result = run_demo(tmp_path / "demo", steps=10, on_training=on_training)
    assert titles == ["ResNet-20", "ConvNet-20"]
    assert result.report == tmp_path / "demo" / "report.html"
    page = result.report.read_text(encoding="utf-8")
    for title in titles:
        folder = tmp_path / "demo" / title.lower()
        assert rs.open_run(folder).steps[-1] == 10
        assert folder.name in page


def test_a_second_demo_replaces_the_first_and_nothing_else(small, tmp_path):
    run_demo(tmp_path, steps=10)
    (tmp_path / "mine.txt").write_text("mine")
    run_demo(tmp_path, steps=11)
    assert rs.open_run(tmp_path / "resnet-20").steps[-1] == 11
    assert (tmp_path / "mine.txt").exists()


def test_a_folder_that_is_no_run_is_not_touched(small, tmp_path):
    (tmp_path / "convnet-20").mkdir()
    (tmp_path / "convnet-20" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match=r"convnet-20 is there and is no run.*reluscope demo --out DIR"):
        run_demo(tmp_path, steps=10)
    assert (tmp_path / "convnet-20" / "thesis.tex").exists()


def test_the_command_says_where_the_report_is_and_what_to_look_at(small, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--steps", "10"]) == 0
    captured = capsys.readouterr()
    assert str(tmp_path / "demo" / "report.html") in captured.out
    assert "What to look at" in captured.out
    assert captured.err == ""  # no terminal, no bars
    assert main(["demo", "--out", str(tmp_path / "demo"), "--steps", "10", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["trainings"]) == {"ResNet-20", "ConvNet-20"}


def progress_text(*, terminal: bool, quiet: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    with ProgressDisplay(console, quiet=quiet) as display:
        show = display.training("ResNet-20")
        for step in range(1, 4):
            show(TrainingProgress(step=step, num_steps=3, loss=1.25, accuracy=0.5))
    return stream.getvalue()


def test_progress_is_for_terminals():
    shown = progress_text(terminal=True, quiet=False)
    assert "ResNet-20" in shown
    assert "3/3" in shown
    assert "loss 1.250" in shown
    assert progress_text(terminal=True, quiet=True).strip("\n") == ""
    assert progress_text(terminal=False, quiet=False).strip("\n") == ""
