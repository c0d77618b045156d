"""Checkpoints: whole or not there, and nothing but tensors is unpickled."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from reluscope.errors import CheckpointError
from reluscope.lab import checkpoints
from reluscope.lab.checkpoints import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        specification={"training": {"seed": 1}},
        model={"weight": torch.full((3,), float(step))},
        optimizer={
            "state": {0: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        generator=torch.get_rng_state(),
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    folder = tmp_path / "checkpoints"
    path = save_checkpoint(folder, checkpoint(12), keep_others=False)
    found = load_checkpoint(path)
    assert found.step == 12
    assert torch.equal(found.model["weight"], torch.full((3,), 12.0))
    assert torch.equal(found.generator, torch.get_rng_state())
    assert found.specification == {"training": {"seed": 1}}
    assert [entry.name for entry in folder.iterdir()] == ["step-00000012.pt"]


def test_the_last_or_all_are_kept(tmp_path):
    for step in (0, 9, 10):
        save_checkpoint(tmp_path / "all", checkpoint(step), keep_others=True)
        save_checkpoint(tmp_path / "last", checkpoint(step), keep_others=False)
    assert len(list((tmp_path / "all").iterdir())) == 3
    assert latest_checkpoint(tmp_path / "all").name == "step-00000010.pt"
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["step-00000010.pt"]
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_a_write_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, checkpoint(1), keep_others=False)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OSError):
        save_checkpoint(tmp_path, checkpoint(2), keep_others=False)
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_checkpoint_runs_nothing(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "step-00000001.pt"
    torch.save({"version": 1, "step": _Touch(victim)}, path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2], protocol=2)])
def test_a_damaged_checkpoint(tmp_path, content):
    path = tmp_path / "step-00000001.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_other_files_are_not_checkpoints_of_ours(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "step-00000001.pt")
    torch.save({"version": 2}, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="has checkpoint version 2, this version of reluscope reads 1"):
        load_checkpoint(tmp_path / "newer.pt")
    torch.save({"version": 1, "step": 3}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match="is incomplete: it holds only step"):
        load_checkpoint(tmp_path / "part.pt")


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, checkpoint(3), keep_others=False)
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
