"""Real disks that refuse: a tiny one that is full, a read-only one. Skipped without the right to mount."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

import reluscope as rs
from reluscope.errors import ReluscopeWarning
from reluscope.recording import journal
from reluscope.runs import RunWriter


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def train(model, recorder, first: int, last: int) -> None:
    for step in range(first, last):
        recorder.record(step)
        with torch.no_grad():
            model[0].weight.add_(0.01)
        recorder.log(step, loss=float(step))


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def make_recorder(model, folder) -> rs.Recorder:
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    return rs.Recorder(model, rs.Probe(inputs), folder, schedule=rs.every(1), on_error="warn")


def test_a_disk_that_is_full_for_a_while_costs_no_measurement(tiny_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_RETRY_S", 0.0)
    whole = make_model()
    with make_recorder(whole, tmp_path / "whole") as recorder:
        train(whole, recorder, 0, 30)
    model = make_model()
    with make_recorder(model, tiny_disk / "run") as recorder:
        train(model, recorder, 0, 5)
        fill(tiny_disk / "ballast")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(model, recorder, 5, 20)
        assert any("No space left on device" in str(one.message) for one in caught)
        assert all(issubclass(one.category, ReluscopeWarning) for one in caught)
        # Of what is on the full disk, everything can still be read.
        assert rs.open_run(tiny_disk / "run").steps == list(range(5))
        (tiny_disk / "ballast").unlink()
        train(model, recorder, 20, 30)
    for table in ("layers", "scalars"):
        name = f"{table}/part-000000.parquet"
        assert (tiny_disk / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_on_a_read_only_disk_reads_and_refuses_to_be_written(tiny_disk):
    model = make_model()
    with make_recorder(model, tiny_disk / "run") as recorder:
        train(model, recorder, 0, 2)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    run = rs.open_run(tiny_disk / "run")
    assert (run.steps, run.state) == ([0, 1], "closed")
    with pytest.raises(OSError, match="Read-only file system") as caught:
        RunWriter.resume(tiny_disk / "run")
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="Read-only file system"):
        make_recorder(model, tiny_disk / "other")


def fill(path) -> None:
    """Take what is left of the disk, to the last byte."""
    with open(path, "wb", buffering=0) as stream:
        for size in (4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
    assert os.statvfs(path).f_bavail == 0
