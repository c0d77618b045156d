"""`reluscope measure`: checkpoints of the lab and of one's own training, what is printed, and mistakes."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import reluscope as rs
from reluscope.cli import main

SMALL = [
    "mlp-mnist-sample",
    *("--set", "model.width=8", "--set", "model.hidden_layers=2", "--set", "training.steps=4"),
    *("--set", "probe.num_images=50", "--set", "training.checkpoints=all"),
]
MINE = """
import torch
import reluscope as rs
def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
def probe():
    return rs.Probe(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)))
def other():
    return rs.Probe(torch.zeros(30, 4))
def fails():
    raise OSError("no file")
number = 3
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "small"
    assert main(["train", *SMALL, "--run", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module with a model and a probe, and three checkpoints, in the folder one is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELUSCOPE_DEBUG", raising=False)
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MINE)
    for epoch in range(3):
        torch.manual_seed(epoch)
        state = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).state_dict()
        torch.save({"net": state}, f"epoch-{epoch}.pt")
    yield name
    sys.modules.pop(name, None)


def own(mine: str, *more: str) -> list[str]:
    files = [f"epoch-{epoch}.pt" for epoch in range(3)]
    given = {"--model": f"{mine}:net", "--probe": f"{mine}:probe", "--run": "out", "--key": "net"}
    words = [word for pair in given.items() if pair[0] not in more for word in pair]
    return ["measure", *files, *words, *more]


def test_the_checkpoints_of_a_training(run, capsys):
    assert main(["measure", "--like", str(run)]) == 0
    captured = capsys.readouterr()
    replayed = run.with_name("small-replayed")
    assert captured.out.startswith("5 checkpoints measured in ")
    assert f"s: {replayed} goes from step 0 to 4.\n" in captured.out
    assert captured.err == ""  # no bar where nobody watches
    part = "layers/part-000000.parquet"
    assert (replayed / part).read_bytes() == (run / part).read_bytes()
    # It is there now; going on with it finds nothing left.
    assert main(["measure", "--like", str(run)]) == 1
    assert "a run is already at" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    assert "--resume" in error
    assert main(["measure", "--like", str(run), "--resume", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["steps"], found["num_measured"]) == (str(replayed), [0, 1, 2, 3, 4], 0)


def test_one_checkpoint_is_said_to_be_one(mine, capsys):
    model = ["--model", f"{mine}:net", "--probe", f"{mine}:probe", "--key", "net"]
    assert main(["measure", "epoch-1.pt", *model, "--run", "one"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 checkpoint measured in ")
    assert "s: one holds step 1.\n" in out


def test_checkpoints_of_ones_own_training(mine, capsys):
    assert main(own(mine, "--keep", "init,all")) == 0
    assert "3 checkpoints measured" in capsys.readouterr().out
    found = rs.open_run("out")
    assert found.steps == [0, 1, 2]
    assert found.table("all", "1", step=1)[1].sum() == 30
    assert main(own(mine, "--run", "second", "--like", "out", "--steps", "0,10,20", "--quiet")) == 0
    second = rs.open_run("second")
    assert second.steps == [0, 10, 20]
    assert second.table("all", "1", step=10)[1].sum() == 30  # kept as in the run it is like
    assert second.layers["entropy"].tolist() == found.layers["entropy"].tolist()
    assert main(own(mine, "--run", "third", "--like", "out", "--keep", "final", "--quiet")) == 0
    third = rs.open_run("third")
    assert third.info["instruments"] == [{**found.info["instruments"][0], "keep": ["final"]}]
    assert third.table("final", "1")[1].sum() == 30


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (["--probe", "{}:other", "--like", "first"], "ProbeError: the run at"),
        (["--probe", "{}:fails"], "raised OSError: no file. Name a function that makes a probe"),
        (["--like", "nosuch"], 'no run at "nosuch"'),
        (["--key", "model"], "no state dict under 'model'; it holds 'net'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(mine, more, fragment, capsys):
    assert main(own(mine, "--run", "first")) == 0
    capsys.readouterr()
    assert main(own(mine, *(word.format(mine) for word in more))) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert fragment in captured.err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "say what the weights belong to"),
        (["a.pt", "--model", "x:y", "--run", "out"], "--model and --probe go together"),
        (["a.pt", "--probe", "x:y", "--run", "out"], "--model and --probe go together"),
        (["a.pt", "--model", "x:y", "--probe", "x:z"], "say where the measurements shall go"),
        (["--model", "x:y", "--probe", "x:z", "--run", "out"], "name the files of saved weights"),
        (["--like", "first", "--steps", "1"], "go with --model and --probe only"),
    ],
)
def test_usage_mistakes(mine, arguments, fragment, capsys):
    assert main(["measure", *arguments]) == 2
    assert fragment in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (["--steps", "1,x,3"], "is no list of steps"),
        (["--probe", "{}:number"], "is a int, not a probe"),
        (["--probe", "{}:net"], "returned a Sequential, not an rs.Probe"),
        (["--model", "{}:nett"], 'Closest: "net"'),
    ],
)
def test_usage_mistakes_in_what_is_given(mine, more, fragment, capsys):
    assert main(own(mine, *(word.format(mine) for word in more))) == 2
    assert fragment in " ".join(capsys.readouterr().err.split())


def test_stopped_with_ctrl_c(mine, monkeypatch, capsys):
    def stop(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(rs, "replay", stop)
    assert main(own(mine)) == 130
    assert "--resume" in capsys.readouterr().err
