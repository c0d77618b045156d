"""Checkpoints of a training: written whole or not at all, read without unpickling anything but tensors.

A checkpoint holds everything that the next update depends on: parameters, buffers, optimizer state, torch's
generator, and the step, from which the order of the data and the augmentation follow (see `order.py`).
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reluscope.errors import CheckpointError

__all__ = ["CHECKPOINT_FOLDER", "Checkpoint", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]

CHECKPOINT_FOLDER = "checkpoints"  # below the run's folder

_VERSION = 1
_NAME = re.compile(r"step-(\d+)\.pt")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training after `step` updates.

    Attributes:
        step: updates done.
        specification: the training's specification as plain values.
        model: parameters and buffers by name.
        optimizer: the optimizer's own `state_dict()`.
        generator: state of torch's CPU generator, uint8.
    """

    step: int
    specification: dict[str, Any]
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    generator: torch.Tensor


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep_others: bool) -> Path:
    """Write `folder/step-00000123.pt`, durable on return; then, unless `keep_others`, remove the older ones.

    Raises:
        OSError: the disk is full or may not be written; what was there before is untouched.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{checkpoint.step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save({"version": _VERSION, **vars(checkpoint)}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(folder)
    if not keep_others:
        for other in _checkpoints(folder):
            if other != path:
                other.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Only tensors and plain values are unpickled (`weights_only`).

    Raises:
        CheckpointError: no such file, damaged, of a newer version, or something else altogether.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}.") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        version = content.get("version") if isinstance(content, dict) else None
        raise CheckpointError(
            f"{path} has checkpoint version {version}, this version of reluscope reads {_VERSION}."
        )
    del content["version"]
    try:
        return Checkpoint(**content)
    except TypeError:
        raise CheckpointError(f"{path} is incomplete: it holds only {', '.join(content)}.") from None


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder, or None when there is none."""
    return max(_checkpoints(folder), default=None)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows has no such call on folders and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
