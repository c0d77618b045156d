"""Facts about a training that its recorder keeps in run.json."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import reluscope as rs
from reluscope.errors import RecorderError, ReluscopeWarning


@pytest.fixture
def recorder(tmp_path):
    probe = rs.Probe(torch.randn(6, 3))
    with rs.Recorder(
        nn.Sequential(nn.Linear(3, 4), nn.ReLU()), probe, tmp_path / "run", schedule=rs.at(0)
    ) as made:
        yield made


def test_a_note_is_in_the_run_at_once_and_a_later_one_replaces_it(recorder):
    recorder.note({"training": {"lr": 0.1}, "who": "me"})
    assert rs.open_run(recorder.path).info["training"] == {"lr": 0.1}
    recorder.record(0)
    recorder.note({"who": "you"})
    info = rs.open_run(recorder.path).info
    assert (info["who"], info["training"]) == ("you", {"lr": 0.1})


@pytest.mark.parametrize("name", ["model", "probe", "sites", "schema_version", "environment"])
def test_the_recorders_own_names_are_refused(recorder, name):
    before = rs.open_run(recorder.path).info
    with pytest.raises(RecorderError, match=f"note.. under {name}: the recorder keeps its own facts there"):
        recorder.note({"fine": 1, name: {}})
    assert rs.open_run(recorder.path).info == before


def test_a_full_disk_does_not_end_a_training_for_a_note(recorder, monkeypatch):
    recorder.record(0)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(recorder._writer), "update_info", full)
    with pytest.warns(ReluscopeWarning, match="a note was not kept.*No space left"):
        recorder.note({"who": "me"})
    monkeypatch.undo()


def test_a_note_on_a_closed_recorder_warns(tmp_path):
    probe = rs.Probe(torch.randn(6, 3))
    made = rs.Recorder(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), probe, tmp_path / "run", schedule=rs.at(0))
    made.close()
    with pytest.warns(ReluscopeWarning, match=r"note\(\) on a closed recorder"):
        made.note({"who": "me"})
