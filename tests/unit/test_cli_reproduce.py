"""`reluscope reproduce` as a user types it: what is made and printed, failures, exit codes, and its display."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from reluscope.cli import main
from reluscope.kernels import pool
from reluscope.lab import experiments, reproduction, workers
from reluscope.lab.costs import relative_cost
from reluscope.lab.experiments import Numbers
from reluscope.lab.progress import TrainingsDisplay
from reluscope.lab.training import TrainingProgress, TrainingResult
from reluscope.lab.workers import TrainingEvent

TINY = Numbers(
    data="mnist-sample",
    held_out=0.1,
    num_images=64,
    probe=16,
    batch_size=16,
    epochs={"stepwise": 2},
    shares=(0.5,),
    depths=(8,),
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELUSCOPE_DATA_DIR", raising=False)


@pytest.fixture
def here(monkeypatch):
    """Figure 2 with tiny trainings, done in this process: processes have tests of their own."""

    def run_tasks(tasks, *, num_processes, on_event):
        images = workers._LastImages()
        for task in tasks:
            workers._do(task, images, on_event)

    monkeypatch.setattr(reproduction, "run_tasks", run_tasks)
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "1")  # put back afterwards, whatever a task sets
    monkeypatch.setitem(experiments.NUMBERS["fig2"], "smoke", TINY)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_figure_from_trainings_to_picture_and_page(here, tmp_path, capsys, monkeypatch):
    assert main(["reproduce", "fig2", "--scale", "smoke"]) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "reproduction"
    assert {path.name for path in folder.iterdir()} == {"fig2", "fig2.pdf", "fig2.png", "fig2.html"}
    assert {path.name for path in (folder / "fig2" / "runs").iterdir()} == {
        f"{net}8-relu-stepwise-seed0" for net in ("resnet", "convnet", "toynet")
    }
    assert (folder / "fig2.pdf").read_bytes().startswith(b"%PDF")
    assert "Figure: reproduction/fig2.png" in out
    assert "toynet8-relu-stepwise-seed0" in out
    assert "of the images kept back right" in out
    assert "finished: convnet8-relu-stepwise-seed0 in" in err
    assert "(3 of 3)" in err

    assert main(["reproduce", "fig2", "--scale", "smoke", "--json"]) == 0  # again: nothing left but to draw
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [one["state"] for one in result["outcomes"]] == ["found finished"] * 3
    assert result["page"] == "reproduction/fig2.html"
    assert err == ""


def test_a_task_has_its_share_of_the_cores(here, monkeypatch):
    """Those of torch and of the kernels, which would take all cores each."""
    seen = []

    def look(*_arguments, **_keywords):
        seen.append((torch.get_num_threads(), pool.num_threads()))
        raise RuntimeError

    monkeypatch.setattr(workers, "train", look)
    monkeypatch.setattr(reproduction.os, "cpu_count", lambda: 6)
    assert main(["reproduce", "fig2", "--scale", "smoke", "--jobs", "2", "--quiet"]) == 1
    assert seen == [(3, 3)] * 3


def test_a_failure_is_told_and_exits_1(here, tmp_path, capsys, monkeypatch):
    def diverge(*_arguments, **_keywords):
        raise RuntimeError("the loss is on fire")

    monkeypatch.setattr(workers, "train", diverge)
    assert main(["reproduce", "fig2", "--scale", "smoke", "--only", "toynet*", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert "failed: RuntimeError: the loss is on fire" in out
    assert "Nothing is drawn: no training is finished." in out
    assert "failed: toynet8-relu-stepwise-seed0 (1 of 1): RuntimeError" in err


def test_ctrl_c_says_how_to_go_on(here, capsys, monkeypatch):
    def interrupted(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduction, "run_tasks", interrupted)
    assert main(["reproduce", "fig2", "--scale", "smoke"]) == 130
    assert "The same command goes on where it was." in capsys.readouterr().err


def test_the_list(capsys):
    assert main(["reproduce", "fig3", "--list", "--only", "*cyclic*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        [f"{net}20-relu-cyclic-seed0", *["20", "epochs", "10,000", "of", "cifar10,", "probe", "4,000"]]
        for net in ("resnet", "convnet")
    ]
    assert main(["reproduce", "fig1", "--list", "--json", "--scale", "paper"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["resnet20-relu-constant-seed0"]["training"]["steps"] == 3000


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["fig5"], 2, "'fig5' is not one of"),
        (["fig1", "--scale", "huge"], 2, "'huge' is not one of"),
        (["fig1", "--jobs", "0"], 2, "Invalid value for '--jobs'"),
        (["fig1", "--scale", "smoke", "--only", "lenet"], 2, 'no training of this figure is called "lenet"'),
        (["fig1"], 1, "no data folder was named. Give --data-dir"),
    ],
)
def test_mistakes(arguments, code, text, capsys):
    assert main(["reproduce", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert " ".join(text.split()) in " ".join(err.replace("│", " ").split())


# The display -----------------------------------------------------------------------------------------------


def result_of(seconds: float) -> TrainingResult:
    numbers = {"first_step": 0, "num_steps": 10, "num_measurements": 2, "loss": 1.0, "accuracy": 0.5}
    return TrainingResult(run="run", held_out_accuracy=0.5, seconds=seconds, **numbers)


def shown(*, terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    display = TrainingsDisplay(console, quiet=quiet, costs={"a": 1.5, "b": 3.0})
    with display:
        display.begin(["a", "b"], ["c"])
        progress = TrainingProgress(
            step=5, num_steps=10, loss=0.25, accuracy=0.75, seconds_left=120.0, seconds_whole=240.0
        )
        display.show(TrainingEvent(name="a", kind="started"))
        display.show(TrainingEvent(name="a", kind="progress", progress=progress))
        display._progress.refresh()
        display.show(TrainingEvent(name="a", kind="warning", text="a site is dead"))
        display.show(TrainingEvent(name="a", kind="finished", result=result_of(75)))
        display.show(TrainingEvent(name="b", kind="started"))
        display.show(TrainingEvent(name="b", kind="failed", text="diverged"))
    return stream.getvalue()


def test_a_terminal_sees_bars_and_the_time_left():
    text = shown(terminal=True)
    assert "loss 0.250  accuracy  75.0%" in text
    # Two minutes of the one that runs, then the other one, which costs twice its four minutes.
    assert "0 of 2, about 10 min left" in text


def test_side_by_side_they_end_with_the_last():
    """Two at a time, the third after the first that ends; equal costs where none are given."""
    display = TrainingsDisplay(Console(file=io.StringIO()))
    display.begin(["a", "b", "c"], [])
    for name, left in (("a", 600.0), ("b", 100.0)):
        display.show(TrainingEvent(name=name, kind="started"))
        progress = TrainingProgress(1, 10, 0.5, 0.5, seconds_left=left, seconds_whole=700.0)
        display.show(TrainingEvent(name=name, kind="progress", progress=progress))
    assert display._time_left() == "about 13 min"  # 100 s and 700 s


def test_the_cost_of_a_training_beside_others():
    """By what docs/reproduce.md measured: a measurement of 4,000 images is some 17 updates of 128."""
    fig1, fig3 = (dict(experiments.experiment(figure, "laptop")) for figure in ("fig1", "fig3"))
    resnet = relative_cost(fig1["resnet20-relu-constant-seed0"])
    assert resnet == pytest.approx(0.41 * (1000 + 281 * 1.6 / 3 * 4000 / 128))
    assert relative_cost(fig1["toynet20-relu-constant-seed0"]) == pytest.approx(resnet * 0.66 / 0.41)
    pyramid = relative_cost(fig3["pyramidnet20-relu-stepwise-seed0"])
    assert pyramid == pytest.approx(relative_cost(fig3["convnet20-relu-stepwise-seed0"]) * 1.4 / 0.37)


def test_a_log_sees_lines():
    lines = shown(terminal=False).splitlines()
    assert lines == [
        "1 of 3 trainings are finished already",
        "warning: a: a site is dead",
        "finished: a in 75 s (1 of 2, about 8 min left)",
        "failed: b (2 of 2): diverged",
    ]


def test_quiet_leaves_warnings_and_failures():
    assert shown(terminal=False, quiet=True).splitlines() == [
        "warning: a: a site is dead",
        "failed: b (2 of 2): diverged",
    ]
