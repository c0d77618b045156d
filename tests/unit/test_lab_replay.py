"""Replaying a training of the lab: what it was recorded as, again, from its specification and checkpoints."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

import reluscope as rs
from reluscope.errors import CheckpointError, ReluscopeWarning, RunNotFoundError
from reluscope.lab import replay_training, train
from reluscope.lab.data import ImageData
from reluscope.lab.specification_text import parse_specification


def make_images():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(150) % 10
    images = torch.randn(150, 3, 12, 12, generator=generator) + labels.view(-1, 1, 1, 1) / 3
    return ImageData(
        name="small",
        images=images[:120],
        labels=labels[:120],
        held_out_images=images[120:],
        held_out_labels=labels[120:],
        num_classes=10,
        black=torch.tensor([-1.0, -1.0, -1.0]),
    )


def specification(**training):
    return parse_specification(
        {
            "model": {"name": "resnet", "depth": 8},
            "data": {"name": "mnist-sample", "augmentation": "crop_flip"},
            "optimizer": {"name": "sgd", "lr": 0.05},
            "training": {"steps": 8, "batch_size": 32, "seed": 3, "checkpoints": "all", **training},
            "probe": {"num_images": 40, "batch_size": 20},
            "recording": {"at": [0, 1, 2, 5], "per_decade": None},
            "instruments": {
                "patterns": {"keep": ["init", "final", "all"], "permutations": 1, "hashlist": 100}
            },
        }
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "run"
    train(specification(), folder, data=make_images())
    return folder


def contents(run) -> dict[str, bytes]:
    """The bytes of all tables but `timings`, which hold the clock."""
    found = {}
    for table in ("layers", "scalars", "tables", "samples"):
        found |= {f"{table}/{path.name}": path.read_bytes() for path in sorted((run / table).glob("*"))}
    return found


def test_a_replay_is_the_training_again(trained, tmp_path):
    seen = []
    result = replay_training(trained, run=tmp_path / "again", data=make_images(), on_measured=seen.append)
    assert result.num_measured == 5
    assert [one.step for one in seen] == result.steps == [0, 1, 2, 5, 8]
    expected = contents(trained)
    assert {"layers/part-000000.parquet", "scalars/part-000000.parquet", "tables/final.parquet"} <= set(
        expected
    )
    assert contents(tmp_path / "again") == expected
    live, again = rs.open_run(trained), rs.open_run(tmp_path / "again")
    assert again.scalars["batch_indices"].iloc[3].tolist() == live.scalars["batch_indices"].iloc[3].tolist()
    for name in ("training", "training_steps", "held_out_accuracy", "model", "probe", "mode", "instruments"):
        assert again.info[name] == live.info[name], name


def test_other_tables_can_be_kept(trained, tmp_path):
    """All else as in the run; a budget of the disk goes with the tables that it limits."""
    replay_training(trained, run=tmp_path / "again", data=make_images(), keep=("init",))
    again, live = contents(tmp_path / "again"), contents(trained)
    assert {name for name in again if name.startswith("tables/")} == {"tables/init.parquet"}
    assert {name for name in live if name.startswith("tables/")} > {"tables/init.parquet"}
    assert [again[name] == live[name] for name in again] == [True] * len(again)


def test_by_default_it_goes_beside_the_run(trained):
    result = replay_training(trained, data=make_images())
    assert result.run == trained.with_name("run-replayed")


def test_killed_and_resumed_it_is_the_same(trained, tmp_path):
    start = textwrap.dedent(
        """
        import os, signal, sys
        import torch
        from reluscope.lab import replay_training
        from reluscope.lab.data import ImageData

        def kill(progress):
            if progress.num_done == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        """
    )
    end = "replay_training(sys.argv[1], run=sys.argv[2], data=make_images(), on_measured=kill)"
    script = "\n".join([start, inspect.getsource(make_images), "torch.set_num_threads(1)", end])
    again = tmp_path / "again"
    ended = subprocess.run([sys.executable, "-c", script, str(trained), str(again)], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (rs.open_run(again).steps, rs.open_run(again).state) == ([0, 1, 2], "interrupted")
    result = replay_training(trained, run=again, data=make_images(), resume=True)
    assert result.num_measured == 2
    assert contents(again) == contents(trained)


def test_checkpoints_that_are_named(trained, tmp_path):
    files = sorted((trained / "checkpoints").glob("*.pt"))
    with pytest.warns(ReluscopeWarning, match="the checkpoints give 2 of the 5 states"):
        replay_training(trained, [files[-1], files[0]], tmp_path / "again", data=make_images())
    live, again = rs.open_run(trained).dataset, rs.open_run(tmp_path / "again").dataset
    assert again.step.values.tolist() == [0, 8]
    for name in ("total", "entropy", "weighted_jaccard_to_init"):
        assert again[name].sel(step=8).values.tolist() == live[name].sel(step=8).values.tolist()
    assert (again["appeared"].sel(step=8).values != live["appeared"].sel(step=8).values).any()


def test_weights_of_another_training_bring_no_scalars(trained, tmp_path):
    other = tmp_path / "other"
    train(specification(seed=4), other, data=make_images())
    replay_training(trained, sorted(other.glob("checkpoints/*.pt")), tmp_path / "again", data=make_images())
    again = rs.open_run(tmp_path / "again")
    assert again.scalars.empty
    assert "training" not in again.info
    assert (tmp_path / "again/layers/part-000000.parquet").read_bytes() == (
        other / "layers/part-000000.parquet"
    ).read_bytes()


def test_a_training_without_checkpoints_and_what_is_none(trained, tmp_path):
    train(specification(checkpoints="none"), tmp_path / "run", data=make_images())
    with pytest.raises(CheckpointError, match=r"kept no checkpoints.*training\.checkpoints=all"):
        replay_training(tmp_path / "run", data=make_images())
    (tmp_path / "run" / "specification.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"holds no specification\.yaml.*--model and --probe"):
        replay_training(tmp_path / "run", data=make_images())
    with pytest.raises(RunNotFoundError):
        replay_training(tmp_path / "nothing", data=make_images())


def test_run_json_says_what_was_measured(trained, tmp_path):
    replay_training(trained, run=tmp_path / "again", data=make_images())
    noted = json.loads((tmp_path / "again" / "run.json").read_text())["replayed"]
    assert noted["like"]["name"] == "run"
    assert noted["checkpoints"][-1] == {"step": 8, "file": "step-00000008.pt"}
