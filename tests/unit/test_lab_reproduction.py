"""Reproducing a figure: processes side by side, failures, interruption, and going on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import reluscope as rs
from reluscope.errors import DataError, SpecificationError
from reluscope.lab import reproduction
from reluscope.lab.reproduction import reproduce
from reluscope.lab.specification import Specification
from reluscope.lab.specification_text import parse_specification
from reluscope.lab.training import train

NUM_STEPS = 8


@pytest.fixture(autouse=True)
def one_thread():
    """These tensors are so small that several threads only wait for each other, long so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(net: str, seed: int = 0, **optimizer: float) -> tuple[str, Specification]:
    content = {
        "model": {"name": net, "depth": 8},
        "data": {"name": "mnist-sample", "num_images": 64},
        "optimizer": {"name": "sgd", "lr": 0.05, **optimizer},
        "schedule": {"name": "milestones"},
        "training": {"steps": NUM_STEPS, "batch_size": 16, "seed": seed},
        "probe": {"num_images": 16},
        "recording": {"at": [0, 1], "every": 4, "per_decade": None},
        "experiment": "fig4",
        "scale": "smoke",
    }
    return f"{net}8-relu-stepwise-seed{seed}", parse_specification(content)


@pytest.fixture
def trainings(monkeypatch):
    """Three small trainings in the place of those of figure 4; the list can be changed."""
    made = [tiny("resnet"), tiny("convnet"), tiny("toynet")]
    monkeypatch.setattr(reproduction, "experiment", lambda figure, scale, seeds=None: made)
    return made


@pytest.fixture
def drawn(monkeypatch):
    """Which runs the picture and the page were drawn of; drawing itself is tested elsewhere."""
    names: list[list[str]] = []
    begun: list[list[str]] = []

    class Picture:
        def savefig(self, path, metadata=None):
            path.write_text("")

    def draw(figure, runs, unfinished):
        names.append([run.name for run in runs])
        begun.append([run.name for run in unfinished])
        return Picture()

    monkeypatch.setattr(reproduction, "draw_paper_figure", draw)
    monkeypatch.setattr(reproduction, "write_report", lambda runs, path: path)
    return names


def states(result) -> dict[str, str]:
    return {outcome.name: outcome.state for outcome in result.outcomes}


def contents(run) -> dict[str, bytes]:
    """The bytes of all tables but `timings`, which hold the clock; rows of a table in one part or in several."""
    opened = rs.open_run(run)
    found = {"layers": opened.layers.drop(columns=["seconds", "time"]), "scalars": opened.scalars}
    content = {name: frame.to_csv(float_format=float.hex).encode() for name, frame in found.items()}
    samples = pa.concat_tables(pq.read_table(path) for path in sorted((run / "samples").glob("part-*")))
    assert samples.num_rows
    content["samples"] = repr(samples.to_pydict()).encode()
    return content | {path.name: path.read_bytes() for path in sorted((run / "tables").glob("*"))}


def test_interrupted_then_gone_on_with_then_found_finished(tmp_path, trainings, drawn):
    """One training diverges and does not stop the others; the second call does what is left."""
    trainings.append(tiny("convnet", seed=1, lr=1e30))
    names = [name for name, _ in trainings]
    events = []

    def interrupt(event):
        events.append(event)
        if event.kind == "progress" and event.name == names[1] and event.progress.step >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        # One process: the first training is finished, the second begun, when the interruption comes.
        reproduce("fig4", scale="smoke", out=tmp_path, jobs=1, on_event=interrupt)
    assert not multiprocessing.active_children()
    assert not drawn
    folder = tmp_path / "fig4" / "runs"
    assert rs.open_run(folder / names[0]).state == "closed"
    assert {event.name for event in events} == set(names[:2])

    begun = []
    result = reproduce(
        "fig4", scale="smoke", out=tmp_path, jobs=2, on_start=lambda todo, found: begun.append((todo, found))
    )
    assert begun == [(names[1:], names[:1])]
    assert states(result) == {
        names[0]: "found finished",
        names[1]: "finished",
        names[2]: "finished",
        names[3]: "failed",
    }
    assert "TrainingDivergedError: the loss of step" in result.failed[0].text
    assert drawn == [names[:3]]
    assert {path.name for path in result.pictures} == {"fig4.pdf", "fig4.png"}
    assert result.page == tmp_path / "fig4.html"

    # One process had all cores to itself; going on, it keeps its threads though two processes share them now.
    num_threads = rs.open_run(folder / names[1]).info["environment"]["threads"]
    assert num_threads == os.cpu_count()
    assert rs.open_run(folder / names[1]).info["resumptions"][0]["environment"]["threads"] == num_threads
    torch.set_num_threads(num_threads)
    train(trainings[1][1], tmp_path / "whole")
    assert contents(folder / names[1]) == contents(tmp_path / "whole")


def test_killed_and_gone_on_with_it_gives_the_same_picture(tmp_path, trainings, monkeypatch):
    """A process that is killed in the middle of a training: afterwards the figure is the same, byte for byte."""
    monkeypatch.setattr(reproduction, "write_report", lambda runs, path: path)
    name, spec = trainings[0]
    model = spec.model.model_copy(update={"depth": 20})  # one that the figure has a place for
    trainings[:] = [(name := name.replace("8", "20"), spec.model_copy(update={"model": model}))]
    killed = []

    def kill(event):
        if event.kind == "progress" and not killed:
            killed.append(event.name)
            (child,) = multiprocessing.active_children()
            os.kill(child.pid, signal.SIGKILL)

    arguments = {"scale": "smoke", "jobs": 1}
    first = reproduce("fig4", out=tmp_path / "killed", on_event=kill, **arguments)
    assert killed
    assert first.failed
    assert first.pictures == ()
    gone_on = reproduce("fig4", out=tmp_path / "killed", **arguments)
    whole = reproduce("fig4", out=tmp_path / "whole", **arguments)
    assert states(gone_on) == states(whole) == {name: "finished"}
    run = gone_on.outcomes[0].run
    assert rs.open_run(run).info["resumptions"]
    assert contents(run) == contents(whole.outcomes[0].run)
    pictures = [path.read_bytes() for path in gone_on.pictures]
    assert pictures == [path.read_bytes() for path in whole.pictures]
    again = reproduce("fig4", out=tmp_path / "whole", **arguments)  # finished long ago: drawn anew, and equal
    assert [path.read_bytes() for path in again.pictures] == pictures


def test_a_process_that_dies_fails_its_training_only(tmp_path, trainings, drawn):
    names = [name for name, _ in trainings]
    killed = []

    def kill(event):
        if event.kind == "progress" and not killed:
            killed.append(event.name)
            (child,) = multiprocessing.active_children()
            os.kill(child.pid, signal.SIGKILL)

    result = reproduce("fig4", scale="smoke", out=tmp_path, jobs=1, only=names[:2], on_event=kill)
    assert killed == names[:1]
    assert states(result) == {names[0]: "failed", names[1]: "finished"}
    assert "exit code -9 (killed: perhaps there was too little memory" in result.failed[0].text
    assert drawn == [names[1:2]]


def test_what_is_there_already(tmp_path, trainings, drawn):
    """Another training in the folder, and a damaged run: said, and left alone; nothing is trained for them."""
    (first, spec), (second, _), _ = trainings
    folder = tmp_path / "fig4" / "runs"
    train(spec.model_copy(update={"scale": "laptop"}), folder / first)
    (folder / second).mkdir()
    (folder / second / "run.json").write_text("{")
    result = reproduce("fig4", scale="smoke", out=tmp_path, only=[first, second])
    assert states(result) == {first: "failed", second: "failed"}
    assert "holds another training: scale was laptop, is smoke. Move it away" in result.failed[0].text
    assert "RunCorruptError" in result.failed[1].text
    assert (result.pictures, result.page) == ((), None)


def test_what_cannot_begin(tmp_path, trainings):
    with pytest.raises(SpecificationError, match="0 jobs were asked for"):
        reproduce("fig4", scale="smoke", out=tmp_path, jobs=0)
    with pytest.raises(SpecificationError, match='is called "lenet"'):
        reproduce("fig4", scale="smoke", out=tmp_path, only=["lenet"])
    with pytest.raises(SpecificationError, match=r'For all 1 whose names begin so: "resnet8\*"\.'):
        reproduce("fig4", scale="smoke", out=tmp_path, only=["resnet8"])
    name, spec = trainings[0]
    trainings[:] = [
        (name, spec.model_copy(update={"data": spec.data.model_copy(update={"name": "cifar10"})}))
    ]
    with warnings.catch_warnings(), pytest.raises(DataError, match="the files are not there"):
        reproduce("fig4", scale="smoke", out=tmp_path, data_dir=tmp_path)


def test_jobs_and_threads_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reproduction._num_jobs(None, 27) == 8
    assert reproduction._num_jobs(None, 3) == 3
    assert reproduction._num_jobs(2, 27) == 2
    assert reproduction._num_jobs(None, 0) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert reproduction._num_jobs(None, 27) == 1
