"""The recorder: what is measured when, what a resume accepts, and what happens when something fails."""

from __future__ import annotations

import errno
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import reluscope as rs
from reluscope.errors import (
    InstrumentError,
    LabelsError,
    ProbeError,
    RecorderError,
    ReluscopeWarning,
    RunCorruptError,
    RunExistsError,
    RunLockedError,
    ScheduleError,
    SitesChangedError,
    TrajectoryMismatchError,
    UnknownSiteError,
    UnsupportedModelError,
)
from reluscope.runs import RunWriter, durable

SINCE_LAST = [
    "appeared",
    "vanished",
    "net_change",
    "relative_change",
    "churn_rate",
    "weighted_jaccard_to_last",
]


def make_model(width: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 3))


def make_probe(seed: int = 1, labels: bool = True, batch_size: int = 16) -> rs.Probe:
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(seed))
    return rs.Probe(inputs, torch.arange(32) % 3 if labels else None, batch_size=batch_size)


def update(model: nn.Module, step: int) -> float:
    """One plain gradient step that depends on the step only."""
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(100 + step))
    loss = model(inputs).square().mean()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.3 * parameter.grad
    return loss.item()


def model_at(step: int) -> nn.Module:
    model = make_model()
    for one in range(step):
        update(model, one)
    return model


def recorder_for(model, path, **options) -> rs.Recorder:
    given = {"schedule": rs.every(1), "on_error": "raise", **options}
    probe = given.pop("probe") if "probe" in given else make_probe()
    return rs.Recorder(model, probe, path, **given)


def train(path, first: int, last: int, **options) -> None:
    """Record from `first` to `last`, both included, with the state that belongs to each."""
    model = model_at(first)
    with recorder_for(model, path, **options) as recorder:
        for step in range(first, last):
            recorder.record(step)
            recorder.log(step, loss=update(model, step), lr=0.3)
        recorder.record(last)


def rows_of(path):
    return rs.open_run(path).layers.drop(columns=["seconds", "time"])


# What is measured ------------------------------------------------------------------------------------------


def test_the_scheduled_steps_are_measured_and_returned(tmp_path):
    model = make_model()
    with recorder_for(model, tmp_path / "run", schedule=rs.at(0) | rs.every(3)) as recorder:
        measured = [step for step in range(8) if recorder.record(step) is not None]
        assert measured == [0, 3, 6]
        assert rs.open_run(tmp_path / "run").steps == measured  # durable on return
        assert recorder.path == tmp_path / "run"


def test_rows_are_those_of_a_single_look(tmp_path):
    model = model_at(3)
    with recorder_for(model, tmp_path / "run") as recorder:
        recorder.record(3)
    looked = rs.measure(model, make_probe()).to_dataframe()
    layers = rs.open_run(tmp_path / "run").layers.set_index("site")
    for name in ("total", "entropy", "coverage", "information", "num_evaluations", "width"):
        assert layers[name].tolist() == looked[name].tolist()
    assert layers["jaccard_to_init"].tolist() == [1.0, 1.0]  # it is the initial state


def test_since_last_and_to_init_are_those_of_the_tables(tmp_path):
    train(tmp_path / "run", 0, 3, instruments=[rs.Patterns(keep=("init", "all", "final"))])
    run = rs.open_run(tmp_path / "run")

    def counts(step):
        keys, found, meta = run.table("all", "1", step=step)
        return rs.PatternCounts(keys, found, meta["width"])

    assert counts(0) == rs.PatternCounts(*run.table("init", "1")[:2], 6)
    assert counts(3) == rs.PatternCounts(*run.table("final", "1")[:2], 6)
    assert counts(2) == rs.measure(model_at(2), make_probe()).patterns["1"]
    before, after = counts(1).join(counts(2))
    row = run.layers.query("step == 2 and site == '1'").iloc[0]
    assert row["appeared"] == np.count_nonzero((before == 0) & (after > 0))
    assert row["vanished"] == np.count_nonzero((before > 0) & (after == 0))
    assert (
        row["weighted_jaccard_to_last"] == np.minimum(before, after).sum() / np.maximum(before, after).sum()
    )
    before, after = counts(0).join(counts(2))
    assert (
        row["weighted_jaccard_to_init"] == np.minimum(before, after).sum() / np.maximum(before, after).sum()
    )


def test_the_first_measurement_has_no_last_one(tmp_path):
    train(tmp_path / "run", 0, 1)
    first = rows_of(tmp_path / "run").query("step == 0")
    assert first[SINCE_LAST].isna().all(axis=None)
    assert rows_of(tmp_path / "run").query("step == 1")[SINCE_LAST].notna().all(axis=None)


def test_the_final_state_is_measured_when_forced(tmp_path):
    with recorder_for(make_model(), tmp_path / "run", schedule=rs.every(10)) as recorder:
        recorder.record(0)
        assert recorder.record(7) is None
        assert recorder.record(7, force=True) is not None
        assert recorder.record(7, force=True) is None  # once is enough
    assert rs.open_run(tmp_path / "run").steps == [0, 7]


def test_the_same_step_again_does_nothing(tmp_path):
    with recorder_for(make_model(), tmp_path / "run") as recorder:
        assert recorder.record(0) is not None
        assert recorder.record(0) is None


def test_steps_grow(tmp_path):
    with recorder_for(make_model(), tmp_path / "run") as recorder:
        recorder.record(5)
        with pytest.raises(ScheduleError, match=r"record\(4\) after record\(5\): steps grow"):
            recorder.record(4)
        recorder.log(5, loss=1.0)
        with pytest.raises(ScheduleError, match=r"log\(4\) after log\(5\)"):
            recorder.log(4, loss=1.0)
        for wrong in (-1, 1.5, "2", True):
            with pytest.raises(ScheduleError, match="is no step"):
                recorder.record(wrong)


def test_run_json_says_what_state_was_measured(tmp_path):
    model = make_model().to(torch.float64)
    inputs = torch.randn(8, 4, dtype=torch.float64)
    with rs.Recorder(model, rs.Probe(inputs), tmp_path / "run", schedule=rs.at(0), sites="1") as recorder:
        recorder.record(0)
    info = rs.open_run(tmp_path / "run").info
    assert info["model"]["class"] == "Sequential"
    assert info["model"]["parameters"]["0.weight"] == "float64[6, 4]"
    assert info["mode"]["sites"] == "1"
    assert info["mode"]["batch_norm"] == "batch"
    assert [site["name"] for site in info["sites"]] == ["1"]
    assert info["probe"]["fingerprint"] == rs.Probe(inputs).fingerprint
    assert info["schedule"] == {"at": {"steps": [0]}}
    assert info["instruments"][0]["name"] == "patterns"
    assert info["seed"] == torch.initial_seed()
    environment = info["environment"]
    assert environment["dtypes"] == ["float64"]
    assert environment["device"] == ["cpu"]
    assert environment["memory_format"] == "contiguous"
    assert environment["torch"] == torch.__version__


def test_memory_format_is_noted(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)).to(
        memory_format=torch.channels_last
    )
    with rs.Recorder(
        model, rs.Probe(torch.randn(4, 3, 5, 5)), tmp_path / "run", schedule=rs.at(0)
    ) as recorder:
        recorder.record(0)
    assert rs.open_run(tmp_path / "run").info["environment"]["memory_format"] == "channels_last"


def test_scalars_are_kept_as_given(tmp_path):
    with recorder_for(make_model(), tmp_path / "run", schedule=rs.at(0)) as recorder:
        recorder.record(0)
        recorder.log(0, loss=torch.tensor(2.0, requires_grad=True), batch_indices=torch.tensor([3, 1]))
        recorder.log(0, accuracy=np.float32(0.5))
        recorder.log(1, loss=1, lr=0.1, batch_indices=[7])
    scalars = rs.open_run(tmp_path / "run").scalars
    assert scalars["loss"].tolist() == [2.0, 1.0]
    assert scalars["accuracy"].tolist()[0] == 0.5
    assert [found.tolist() for found in scalars["batch_indices"]] == [[3, 1], [7]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "low"},
        {"loss": torch.ones(2)},
        {"lr": [1]},
        {"batch_indices": [0.5]},
        {"batch_indices": torch.ones(2)},
    ],
)
def test_scalars_that_are_none_are_refused(tmp_path, wrong):
    words = next(iter(wrong))
    with recorder_for(make_model(), tmp_path / "run") as recorder, pytest.raises(RecorderError, match=words):
        recorder.log(0, **wrong)


def test_training_streams_and_model_are_left_alone(tmp_path):
    model = make_model()
    torch.manual_seed(5)
    before = torch.get_rng_state(), {name: sorted(one.__dict__) for name, one in model.named_modules()}
    with recorder_for(model, tmp_path / "run") as recorder:
        recorder.record(0)
        recorder.log(0, loss=1.0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert {name: sorted(one.__dict__) for name, one in model.named_modules()} == before[1]


# Construction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"if_exists": "append"}, RecorderError, "if_exists='append'; allowed are 'error', 'resume', 'new'"),
        ({"on_error": "ignore"}, RecorderError, "on_error='ignore'; allowed are 'warn', 'raise'"),
        ({"schedule": 10}, ScheduleError, "schedule=10 is no schedule"),
        ({"instruments": []}, InstrumentError, "no instruments"),
        ({"probe": torch.ones(3, 4)}, ProbeError, "the probe is a Tensor"),
        (
            {"instruments": [rs.Patterns(permutations=2)], "probe": make_probe(labels=False)},
            LabelsError,
            "none",
        ),
    ],
)
def test_wrong_arguments_raise_at_once_and_make_no_folder(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        recorder_for(
            make_model(), tmp_path / "run", **{**options, "on_error": options.get("on_error", "warn")}
        )
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_none(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"the model is a function"):
        recorder_for(lambda x: x, tmp_path / "run")
    with pytest.raises(UnsupportedModelError, match="lazy module has no shape yet"):
        recorder_for(nn.LazyLinear(3), tmp_path / "run")


def test_a_run_that_is_there(tmp_path):
    train(tmp_path / "run", 0, 1)
    with pytest.raises(RunExistsError, match="already at"):
        recorder_for(make_model(), tmp_path / "run")
    with recorder_for(make_model(), tmp_path / "run", if_exists="new") as recorder:
        assert recorder.path == tmp_path / "run-2"


def test_two_recorders_of_one_run(tmp_path):
    with (
        recorder_for(make_model(), tmp_path / "run"),
        pytest.raises(RunLockedError, match="being written by process"),
    ):
        recorder_for(make_model(), tmp_path / "run", if_exists="resume")


# Resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed_at", [0, 3, 5])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, resumed_at):
    train(tmp_path / "whole", 0, 8)
    train(tmp_path / "parts", 0, 5)
    train(tmp_path / "parts", resumed_at, 8, if_exists="resume")
    for table in ("layers", "scalars", "tables"):
        whole, parts = ((tmp_path / name / table) for name in ("whole", "parts"))
        names = sorted(path.name for path in whole.iterdir())
        assert names == sorted(path.name for path in parts.iterdir())
        for name in names:
            assert (whole / name).read_bytes() == (parts / name).read_bytes(), f"{table}/{name}"
    assert rs.open_run(tmp_path / "parts").info["resumptions"][0]["after_step"] == 5


def test_the_last_recorded_step_is_passed_again_even_if_it_is_not_due(tmp_path):
    model = model_at(0)
    with recorder_for(model, tmp_path / "run", schedule=rs.at(0)) as recorder:
        recorder.record(0)
        update(model, 0)
        recorder.record(1, force=True)
    with recorder_for(model, tmp_path / "run", schedule=rs.at(5), if_exists="resume") as recorder:
        assert recorder.record(1) is not None
        assert recorder.record(5) is not None
    assert rows_of(tmp_path / "run").query("step == 5")[SINCE_LAST].notna().all(axis=None)


def test_resuming_elsewhere_gives_one_row_without_since_last_and_a_warning(tmp_path):
    train(tmp_path / "run", 0, 3)
    with pytest.warns(ReluscopeWarning, match="last measurement, step 3, was not passed again"):
        train(tmp_path / "run", 5, 7, if_exists="resume")
    layers = rows_of(tmp_path / "run")
    assert layers["step"].unique().tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert layers.query("step == 5")[SINCE_LAST].isna().all(axis=None)
    assert layers.query("step == 5")["weighted_jaccard_to_init"].notna().all()
    assert layers.query("step >= 6")[SINCE_LAST].notna().all(axis=None)


def test_without_initial_tables_a_resume_says_so(tmp_path):
    keep = {"instruments": [rs.Patterns(keep=())]}
    train(tmp_path / "run", 0, 3, **keep)
    assert rows_of(tmp_path / "run")["weighted_jaccard_to_init"].notna().all()
    with pytest.warns(ReluscopeWarning, match="the run keeps no initial tables"):
        train(tmp_path / "run", 3, 4, if_exists="resume", **keep)
    assert rows_of(tmp_path / "run").query("step == 4")["weighted_jaccard_to_init"].isna().all()


def test_another_trajectory_raises_whatever_on_error_says(tmp_path):
    train(tmp_path / "run", 0, 3)
    with (
        recorder_for(model_at(1), tmp_path / "run", if_exists="resume", on_error="warn") as recorder,
        pytest.raises(
            TrajectoryMismatchError, match=r"step 2 is already in the run .* their hash was .* and is "
        ),
    ):
        recorder.record(2)
    assert rs.open_run(tmp_path / "run").steps == [0, 1, 2, 3]


def test_a_mismatch_in_the_middle_raises_too(tmp_path):
    train(tmp_path / "run", 0, 3)
    model = model_at(1)
    with recorder_for(model, tmp_path / "run", if_exists="resume", on_error="warn") as recorder:
        recorder.record(1)
        update(model, 77)
        with pytest.raises(TrajectoryMismatchError, match="step 2"):
            recorder.record(2)


def test_a_difference_in_rows_is_a_warning_that_names_the_column(tmp_path, monkeypatch):
    from reluscope.recording import session

    train(tmp_path / "run", 0, 2)
    real = session.take_snapshot

    def other(*args, **kwargs):
        snapshot = real(*args, **kwargs)
        snapshot.results["patterns"]["1"].row["entropy"] += 0.5
        return snapshot

    monkeypatch.setattr(session, "take_snapshot", other)
    before = rows_of(tmp_path / "run")
    with (
        recorder_for(model_at(2), tmp_path / "run", if_exists="resume") as recorder,
        pytest.warns(
            ReluscopeWarning, match=r'step 2 .* differs in 1 values, first "1": entropy was .* and is '
        ),
    ):
        recorder.record(2)
    assert rows_of(tmp_path / "run").equals(before)


def test_a_step_the_run_went_past_without_it_is_left_out(tmp_path):
    train(tmp_path / "run", 0, 6, schedule=rs.every(3))
    with recorder_for(model_at(3), tmp_path / "run", if_exists="resume", schedule=rs.every(1)) as recorder:
        assert recorder.record(3) is not None
        with pytest.warns(ReluscopeWarning, match="step 4 is left out: the run already goes to step 6"):
            assert recorder.record(4) is None
    assert rs.open_run(tmp_path / "run").steps == [0, 3, 6]


def test_resume_names_every_difference(tmp_path):
    train(tmp_path / "run", 0, 2)

    def resume(model=None, **options):
        recorder_for(model or make_model(), tmp_path / "run", if_exists="resume", **options)

    with pytest.raises(
        TrajectoryMismatchError, match=r"the model: parameters\.0\.weight was 'float32\[6, 4\]' and is"
    ):
        resume(make_model(width=7))
    with pytest.raises(TrajectoryMismatchError, match=r"the probe: fingerprint was '.*' and is '"):
        resume(probe=make_probe(seed=2))
    with pytest.raises(TrajectoryMismatchError, match=r"the probe: .*has_labels was True and is False"):
        resume(probe=make_probe(labels=False))
    with pytest.raises(TrajectoryMismatchError, match=r"the probe: batch_size was 16 and is 8"):
        resume(probe=make_probe(batch_size=8))
    with pytest.raises(TrajectoryMismatchError, match=r"the mode: batch_norm was 'batch' and is 'running'"):
        resume(batch_norm="running")
    with pytest.raises(TrajectoryMismatchError, match=r"the instruments: 0\.labels was True and is False"):
        resume(instruments=[rs.Patterns(labels=False)])
    resume_with_wrapper = nn.DataParallel(make_model())
    recorder_for(resume_with_wrapper, tmp_path / "run", if_exists="resume").close()  # the same model inside


def test_other_sites_after_a_resume_are_refused(tmp_path):
    class Net(nn.Module):
        def __init__(self, extra: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.extra = nn.Linear(4, 4), extra

        def forward(self, x):
            x = torch.relu(self.first(x))
            return torch.relu(-x) if self.extra else x

    with recorder_for(Net(False), tmp_path / "run") as recorder:
        recorder.record(0)
    with (
        recorder_for(Net(True), tmp_path / "run", if_exists="resume") as recorder,
        pytest.raises(SitesChangedError),
    ):
        recorder.record(0)


# Failures --------------------------------------------------------------------------------------------------


class FullDisk:
    """Refuses every new file while `is_full`."""

    def __init__(self, monkeypatch) -> None:
        self.is_full = False
        real = durable._open_new

        def open_new(path):
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return real(path)

        monkeypatch.setattr(durable, "_open_new", open_new)


@pytest.fixture
def disk(monkeypatch):
    from reluscope.recording import journal

    monkeypatch.setattr(journal, "_RETRY_S", -1.0)
    return FullDisk(monkeypatch)


def test_a_full_disk_is_waited_out_without_a_gap(tmp_path, disk):
    train(tmp_path / "whole", 0, 6)
    model = model_at(0)
    with recorder_for(model, tmp_path / "run", on_error="warn") as recorder:
        for step in range(6):
            disk.is_full = 2 <= step < 5
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert recorder.record(step) is not None or disk.is_full
                recorder.log(step, loss=update(model, step), lr=0.3)
            if step == 2:
                assert "No space left on device" in str(caught[0].message)
                assert "1 measurements wait in memory and are tried again" in str(caught[0].message)
        recorder.record(6)
    assert rows_of(tmp_path / "run").equals(rows_of(tmp_path / "whole"))
    assert rs.open_run(tmp_path / "run").scalars.equals(rs.open_run(tmp_path / "whole").scalars)
    assert rs.open_run(tmp_path / "run").state == "closed"


def test_what_the_disk_never_took_is_reported_at_close(tmp_path, disk):
    model = model_at(0)
    recorder = recorder_for(model, tmp_path / "run", on_error="warn")
    recorder.record(0)
    disk.is_full = True
    with pytest.warns(ReluscopeWarning, match="step 1 was not recorded"):
        recorder.record(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder.close()
    text = "\n".join(str(one.message) for one in caught)
    assert "the end of the run could not be written (OSError" in text
    assert "1 due measurements are missing from this run: step 1: it could not be written." in text
    run = rs.open_run(tmp_path / "run")
    assert run.steps == [0]
    assert run.state == "interrupted"


def test_a_full_disk_raises_when_asked_to(tmp_path, disk):
    recorder = recorder_for(model_at(0), tmp_path / "run", on_error="raise")
    recorder.record(0)
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):
        recorder.record(1)
    disk.is_full = False
    recorder.close()  # tried again, and it fits now
    assert rs.open_run(tmp_path / "run").steps == [0, 1]


def test_a_failure_at_the_first_measurement_raises(tmp_path, disk):
    recorder = recorder_for(make_model(), tmp_path / "run", on_error="warn")
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):
        recorder.record(0)
    disk.is_full = False
    recorder.close()


class Fragile(nn.Module):
    """Fails in forward on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(4, 4), None

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return torch.relu(self.layer(x))


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("x")]
)
def test_a_measurement_that_fails_leaves_a_gap_that_is_told(tmp_path, error):
    model = Fragile()
    recorder = recorder_for(model, tmp_path / "run", on_error="warn")
    recorder.record(0)
    model.error = error
    with pytest.warns(ReluscopeWarning, match=rf"step 1 was not recorded \({type(error).__name__}"):
        assert recorder.record(1) is None
    model.error = None
    recorder.record(2)
    with pytest.warns(ReluscopeWarning, match=r"1 due measurements are missing from this run: step 1: "):
        recorder.close()
    run = rs.open_run(tmp_path / "run")
    assert run.steps == [0, 2]
    assert run.layers.query("step == 2")["churn_rate"].notna().all()  # since the last measurement, step 0
    assert "step 1" in run.warnings[-1]


def test_many_failures_give_few_warnings(tmp_path):
    model = Fragile()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with recorder_for(model, tmp_path / "run", on_error="warn") as recorder:
            recorder.record(0)
            model.error = RuntimeError("no")
            for step in range(1, 100):
                recorder.record(step)
    assert len(caught) == 8  # 1, 2, 4, ..., 64, and the gaps at close


def test_a_step_that_failed_to_be_written_is_written_when_it_is_passed_again(tmp_path, disk, monkeypatch):
    from reluscope.recording import journal

    monkeypatch.setattr(journal, "_RETRY_S", 3600.0)  # not because of the delay being over
    model = model_at(0)
    with recorder_for(model, tmp_path / "run", on_error="raise") as recorder:
        recorder.record(0)
        update(model, 0)
        disk.is_full = True
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                recorder.record(1)
        disk.is_full = False
        snapshot = recorder.record(1)
        assert snapshot is not None
        assert rs.open_run(tmp_path / "run").steps == [0, 1]
        assert recorder.record(1) is None  # done
    stored = rs.open_run(tmp_path / "run").layers.query("step == 1")
    assert stored["total"].tolist() == snapshot.to_dataframe()["total"].tolist()


def test_a_first_step_that_failed_to_be_written_is_written_when_it_is_passed_again(tmp_path, disk):
    with recorder_for(model_at(0), tmp_path / "run", on_error="warn") as recorder:
        disk.is_full = True
        with pytest.raises(OSError, match="No space left"):
            recorder.record(0)
        disk.is_full = False
        assert recorder.record(0) is not None
        assert rs.open_run(tmp_path / "run").steps == [0]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_that_was_interrupted_is_made_up_for(tmp_path, monkeypatch, moment):
    real = RunWriter.commit

    def interrupted(self, *args, **kwargs):
        if moment == "after":
            real(self, *args, **kwargs)
        raise KeyboardInterrupt

    with recorder_for(model_at(0), tmp_path / "run", on_error="raise") as recorder:
        recorder.record(0)
        with monkeypatch.context() as patch:
            patch.setattr(RunWriter, "commit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                recorder.record(1)
        assert recorder.record(1) is not None
        assert rs.open_run(tmp_path / "run").steps == [0, 1]
    assert rs.open_run(tmp_path / "run").state == "closed"


def test_a_measurement_that_failed_is_taken_when_it_is_passed_again(tmp_path):
    model = Fragile()
    with recorder_for(model, tmp_path / "run", on_error="warn") as recorder:
        recorder.record(0)
        model.error = RuntimeError("no")
        with pytest.warns(ReluscopeWarning, match="step 1 was not recorded"):
            recorder.record(1)
        model.error = None
        assert recorder.record(1) is not None
    assert "notes" not in rs.open_run(tmp_path / "run").info  # no gap


def test_wrong_steps_raise_whatever_on_error_says_and_are_no_gaps(tmp_path):
    with recorder_for(make_model(), tmp_path / "run", on_error="warn") as recorder:
        recorder.record(3)
        for wrong in (2, -1, "4", [3], None, 3.5, True):
            with pytest.raises(ScheduleError):
                recorder.record(wrong)
        recorder.record(4)
        with pytest.warns(ReluscopeWarning, match="RecorderError: log"):
            recorder.log(4, loss="low")
    run = rs.open_run(tmp_path / "run")
    assert run.steps == [3, 4]
    assert "notes" not in run.info


def test_one_kind_of_failure_does_not_hide_another(tmp_path, disk):
    with recorder_for(make_model(), tmp_path / "run", on_error="warn") as recorder:
        recorder.record(0)
        for _ in range(2):
            with pytest.warns(ReluscopeWarning, match="RecorderError: log"):
                recorder.log(0, loss="x")
        disk.is_full = True
        with pytest.warns(ReluscopeWarning, match="step 1 was not recorded .OSError"):
            recorder.record(1)
        disk.is_full = False


def test_nan_that_begins_in_the_training_is_told_once(tmp_path):
    model = make_model()
    with recorder_for(model, tmp_path / "run") as recorder:
        recorder.record(0)
        with torch.no_grad():
            model[0].weight[0, 0] = float("nan")
        with pytest.warns(ReluscopeWarning, match="at step 1: NaN among the pre-activations"):
            recorder.record(1)
        recorder.record(2)  # a second warning would be an error here


def test_a_warning_that_is_an_error_makes_no_gap(tmp_path):
    model = make_model()
    with recorder_for(model, tmp_path / "run", on_error="raise") as recorder:
        recorder.record(0)
        with torch.no_grad():
            model[0].weight[0, 0] = float("nan")
        with pytest.raises(ReluscopeWarning, match="at step 1: NaN"):  # as pytest makes it here
            recorder.record(1)
        recorder._failures.missed[1] = "it was forgiven"
    run = rs.open_run(tmp_path / "run")
    assert run.steps == [0, 1]
    assert "notes" not in run.info


def test_a_recorder_whose_first_measurement_failed_leaves_the_folder_free(tmp_path):
    with (
        recorder_for(make_model(), tmp_path / "run", sites="zz") as recorder,
        pytest.raises(UnknownSiteError),
    ):
        recorder.record(0)
    for if_exists in ("error", "resume"):
        with recorder_for(make_model(), tmp_path / "run", sites="1", if_exists=if_exists) as recorder:
            assert recorder.record(0) is not None
        assert rs.open_run(tmp_path / "run").info["mode"]["sites"] == "1"


def test_a_damaged_initial_table_says_the_way_on(tmp_path):
    train(tmp_path / "run", 0, 2)
    path = tmp_path / "run" / "tables" / "init.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(RunCorruptError, match=r"init\.parquet.*move it elsewhere"):
        recorder_for(model_at(2), tmp_path / "run", if_exists="resume")
    path.rename(tmp_path / "elsewhere")
    with pytest.warns(ReluscopeWarning, match="keeps no initial tables"):
        recorder_for(model_at(2), tmp_path / "run", if_exists="resume").close()


def test_an_interrupt_passes(tmp_path):
    model = Fragile()
    with recorder_for(model, tmp_path / "run", on_error="warn") as recorder:
        recorder.record(0)
        model.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            recorder.record(1)
        model.error = None
        recorder.record(2)
    assert rs.open_run(tmp_path / "run").steps == [0, 2]


# The end ---------------------------------------------------------------------------------------------------


def test_an_exception_of_the_training_is_not_masked(tmp_path, disk):
    def training() -> None:
        with recorder_for(make_model(), tmp_path / "run", on_error="raise") as recorder:
            recorder.record(0)
            recorder.log(0, loss=1.0)
            disk.is_full = True
            raise ZeroDivisionError

    with pytest.warns(ReluscopeWarning, match="while closing"), pytest.raises(ZeroDivisionError):
        training()
    assert rs.open_run(tmp_path / "run").state == "interrupted"


def test_after_close_a_warning_and_nothing_else(tmp_path):
    recorder = recorder_for(make_model(), tmp_path / "run")
    recorder.record(0)
    recorder.close()
    recorder.close()
    assert recorder.is_closed
    with pytest.warns(ReluscopeWarning, match=r"record\(\) on a closed recorder does nothing"):
        assert recorder.record(1) is None
    with pytest.warns(ReluscopeWarning, match=r"log\(\) on a closed recorder does nothing"):
        recorder.log(1, loss=1.0)
    assert rs.open_run(tmp_path / "run").steps == [0]


def test_a_recorder_that_is_forgotten_still_writes_its_scalars(tmp_path):
    recorder = recorder_for(make_model(), tmp_path / "run")
    recorder.record(0)
    recorder.log(0, loss=4.0)
    del recorder
    run = rs.open_run(tmp_path / "run")
    assert run.scalars["loss"].tolist() == [4.0]
    assert run.state == "interrupted"


def test_other_ranks_do_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    with recorder_for(make_model(), tmp_path / "run") as recorder:
        assert recorder.record(0) is None
        recorder.log(0, loss=1.0)
    assert not (tmp_path / "run").exists()
