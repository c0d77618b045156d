"""Replay: saved weights give the rows that recording live gave, byte for byte, interrupted or not."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import reluscope as rs
from reluscope.errors import (
    CheckpointError,
    ProbeError,
    RecorderError,
    ReluscopeWarning,
    RunExistsError,
    RunSchemaError,
    ScheduleError,
)
from reluscope.recording import replaying
from reluscope.recording.environment import instruments_from
from reluscope.recording.schedule import schedule_from

STEPS = (0, 1, 2, 5, 9)
FULL = rs.Patterns(
    keep=("init", "final", "all"),
    permutations=2,
    hashlist=64,
    sample_size=5,
    sample_schedule=rs.at(1, 2, 9),
    sample_seed=3,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    stem = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()]
    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def make_probe(batch_size: int = 20) -> rs.Probe:
    inputs = torch.randn(40, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    return rs.Probe(inputs, torch.arange(40) % 3, batch_size=batch_size)


def train(folder, *, instruments=None, model=None, forced=(), **mode):
    """A training that is recorded and leaves a checkpoint of every measured state beside the run."""
    model = make_model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.randn(32, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    (folder / "saved").mkdir(parents=True)
    with rs.Recorder(
        model, make_probe(), folder / "live", schedule=rs.at(*STEPS), instruments=instruments, **mode
    ) as recorder:
        for step in range(STEPS[-1] + 1):
            if recorder.record(step, force=step in forced) is not None:
                torch.save({"net": 1, "model": model.state_dict()}, folder / "saved" / f"net-{step}.pt")
            loss = nn.functional.cross_entropy(model(inputs), torch.arange(32) % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return folder


def saved(folder):
    return sorted((folder / "saved").iterdir(), reverse=True)  # whatever the order, steps decide


def contents(run) -> dict[str, bytes]:
    """The bytes of all tables but `timings`, which hold the clock."""
    found = {}
    for table in ("layers", "tables", "samples"):
        found |= {f"{table}/{path.name}": path.read_bytes() for path in sorted((run / table).glob("*"))}
    return found


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with everything on, in channels-last."""
    model = make_model().to(memory_format=torch.channels_last)
    return train(tmp_path_factory.mktemp("full"), instruments=[FULL], model=model)


def test_a_replay_has_the_bytes_of_the_live_run(full, tmp_path):
    model = make_model(seed=5)  # other weights, other layout
    torch.set_num_threads(2)
    try:
        result = rs.replay(model, make_probe(), saved(full), tmp_path / "again", like=full / "live")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert (result.run, result.steps, result.num_measured) == (tmp_path / "again", list(STEPS), len(STEPS))
    expected = contents(full / "live")
    assert {"layers/part-000000.parquet", "tables/all-000000009.parquet", "tables/final.parquet"} <= set(
        expected
    )
    assert contents(tmp_path / "again") == expected
    live, again = rs.open_run(full / "live"), rs.open_run(tmp_path / "again")
    assert again.state == "closed"
    for name in ("model", "probe", "mode", "instruments", "sites"):
        assert again.info[name] == live.info[name], name
    assert again.info["environment"] == live.info["environment"]
    assert again.info["replayed"]["like"]["run_id"] == live.info["run_id"]
    assert again.info["replayed"]["checkpoints"][1] == {"step": 1, "file": "net-1.pt"}


def test_the_mode_of_the_other_run_is_used(tmp_path):
    mode = {"batch_norm": "running", "sites": ["2", "7"], "channel_dim": {"2": 1}}
    folder = train(tmp_path, instruments=[rs.Patterns(keep=(), labels=False, sample_size=0)], **mode)
    rs.replay(make_model(3), make_probe(), saved(folder), tmp_path / "again", like=folder / "live")
    assert contents(tmp_path / "again") == contents(folder / "live")
    other = rs.ObservationMode(batch_norm="batch")
    rs.replay(make_model(3), make_probe(), saved(folder), tmp_path / "b", like=folder / "live", mode=other)
    assert contents(tmp_path / "b") != contents(folder / "live")


@pytest.mark.parametrize("forced", [(), (5, 9)])
def test_samples_are_taken_at_the_same_steps(tmp_path, forced):
    """Forced ones too; the last one that was not stands in a file of its own."""
    instruments = [rs.Patterns(sample_size=5, sample_schedule=rs.at(1))]
    folder = train(tmp_path, instruments=instruments, forced=forced)
    assert (folder / "live" / "samples" / "final.parquet").exists() == (not forced)
    rs.replay(make_model(3), make_probe(), saved(folder), tmp_path / "again", like=folder / "live")
    assert contents(tmp_path / "again") == contents(folder / "live")


def test_without_another_run_it_is_measured_as_one_would(full, tmp_path):
    rs.replay(make_model(), make_probe(), saved(full)[:2], tmp_path / "run")
    run = rs.open_run(tmp_path / "run")
    assert run.steps == [5, 9]
    model = make_model()
    model.load_state_dict(torch.load(full / "saved" / "net-5.pt", weights_only=True)["model"])
    looked = rs.measure(model, make_probe()).to_dataframe()
    assert run.dataset["entropy"].sel(step=5).values.tolist() == looked["entropy"].tolist()
    assert run.dataset["weighted_jaccard_to_last"].sel(step=5).isnull().all()  # nothing before it


class Stop(Exception):
    """The replay is cut off."""


@pytest.mark.parametrize("keep", [("init", "final"), ()])
def test_a_replay_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path, keep):
    folder = train(tmp_path, instruments=[rs.Patterns(keep=keep, sample_size=6)])
    given = {"like": folder / "live", "if_exists": "resume"}
    for num_done in (1, 2, 4):
        with pytest.raises(Stop):
            rs.replay(
                make_model(num_done),
                make_probe(),
                saved(folder),
                tmp_path / "again",
                on_measured=lambda progress, end=num_done: stop_at(progress, end),
                **given,
            )
        assert rs.open_run(tmp_path / "again").steps == list(STEPS[:num_done])
        assert rs.open_run(tmp_path / "again").state == "interrupted"
    result = rs.replay(make_model(), make_probe(), saved(folder), tmp_path / "again", **given)
    assert result.num_measured == 1
    assert contents(tmp_path / "again") == contents(folder / "live")
    # Once more, when there is nothing left to do.
    assert rs.replay(make_model(), make_probe(), saved(folder), tmp_path / "again", **given).num_measured == 0
    assert contents(tmp_path / "again") == contents(folder / "live")


def stop_at(progress, num_done: int) -> None:
    assert progress.num_checkpoints == len(STEPS)
    if progress.num_done == num_done:
        assert progress.step == STEPS[num_done - 1]
        raise Stop


def test_only_what_is_missing_is_measured_again(full, tmp_path, monkeypatch):
    loaded = []
    real = replaying.load_weights
    monkeypatch.setattr(
        replaying,
        "load_weights",
        lambda model, path, key: (loaded.append(path.name), real(model, path, key=key)),
    )
    rs.replay(make_model(), make_probe(), saved(full)[1:], tmp_path / "again", like=full / "live")
    loaded.clear()
    rs.replay(
        make_model(), make_probe(), saved(full), tmp_path / "again", like=full / "live", if_exists="resume"
    )
    assert loaded == ["net-5.pt", "net-9.pt"]


def test_a_probe_that_is_another_is_refused_with_what_differs(full, tmp_path):
    with pytest.raises(ProbeError, match=r"another probe.*batch_size was 20 and is 8; .*fingerprint was"):
        rs.replay(make_model(), make_probe(8), saved(full), tmp_path / "again", like=full / "live")
    assert not (tmp_path / "again").exists()


def test_conditions_that_differ_are_named(full, tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    for path in (full / "live").rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(full / "live")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    info = json.loads((folder / "run.json").read_text())
    info["environment"] |= {"torch": "2.0.1", "device": ["cuda:9"], "reluscope": "0.0.1"}
    (folder / "run.json").write_text(json.dumps(info))
    with pytest.warns(
        ReluscopeWarning, match=r"torch was 2\.0\.1 and is .*device was cuda:9 and is cpu"
    ) as caught:
        rs.replay(make_model(), make_probe(), saved(full), tmp_path / "again", like=folder)
    assert "reluscope was" not in str(caught[0].message)


def test_a_checkpoint_from_between_is_too_late(full, tmp_path):
    files = {path.stem: path for path in saved(full)}
    given = {"like": full / "live", "if_exists": "resume"}
    rs.replay(make_model(), make_probe(), [files["net-0"], files["net-2"]], tmp_path / "again", **given)
    with pytest.raises(RecorderError, match=r"net-1\.pt. of step 1 cannot .* goes to step 2 without it"):
        rs.replay(make_model(), make_probe(), list(files.values()), tmp_path / "again", **given)


def test_a_run_that_is_there_is_not_written_over(full, tmp_path):
    rs.replay(make_model(), make_probe(), saved(full), tmp_path / "again")
    with pytest.raises(RunExistsError):
        rs.replay(make_model(), make_probe(), saved(full), tmp_path / "again")


def test_weights_of_another_model_make_no_measurement(full, tmp_path):
    with pytest.raises(CheckpointError, match="weights of another model"):
        rs.replay(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), make_probe(), saved(full), tmp_path / "again")
    rs.replay(make_model(), make_probe(), saved(full), tmp_path / "again")  # so the folder is still free


def test_an_instrument_nobody_knows(tmp_path):
    for stored in (
        {"name": "future"},
        {"name": "patterns", "zoom": 2},
        {"name": "patterns", "keep": ["some"]},
    ):
        with pytest.raises(RunSchemaError, match=r"cannot be made again: .*say the instruments yourself"):
            instruments_from({"instruments": [stored]}, tmp_path)


@pytest.mark.parametrize(
    "instrument",
    [
        rs.Patterns(),
        FULL,
        rs.Patterns(keep=("all",), disk_budget=10**6, labels=False, sample_size=0),
        rs.Patterns(keep=(), sample_schedule=rs.at(0) | rs.logspaced(1, 100)),
    ],
)
def test_instruments_come_back_from_run_json(instrument, tmp_path):
    stored = json.loads(json.dumps(instrument.as_dict()))
    (made,) = instruments_from({"instruments": [stored]}, tmp_path)
    assert made == instrument


@pytest.mark.parametrize(
    "schedule",
    [rs.at(3, 8), rs.every(4), rs.logspaced(1, 50, 3), rs.epochs(0.5, 7), rs.at(0) | rs.every(9) | rs.at(5)],
)
def test_schedules_come_back_from_run_json(schedule):
    assert schedule_from(json.loads(json.dumps(schedule.as_dict()))) == schedule


@pytest.mark.parametrize("stored", [None, {}, {"weekly": {}}, {"at": {}}, {"every": {"m": 2}}, {"any": 3}])
def test_what_describes_no_schedule(stored):
    with pytest.raises(ScheduleError, match="describes no schedule"):
        schedule_from(stored)
