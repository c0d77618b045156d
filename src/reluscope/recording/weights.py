"""Saved weights of anybody's training: which step a file is of, the state dict in it, and loading it.

Only tensors and plain values are unpickled (`weights_only`), since a checkpoint may come from anywhere.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reluscope.errors import CheckpointError, MissingExtraError, ScheduleError
from reluscope.observe.subject import unwrap
from reluscope.recording.schedule import as_step

__all__ = ["STATE_KEYS", "SavedWeights", "load_weights", "locate_weights"]

# Where training loops put a model's state dict when they save more than that.
STATE_KEYS = ("model", "state_dict", "model_state_dict", "network")
_STEP_KEYS = ("step", "global_step")
# Folders that are named by a step, as `checkpoint-500/pytorch_model.bin`.
_STEP_FOLDER = re.compile(r"(?:checkpoint|global_step|step)[-_]?(\d+)")
_NAMED = 4


@dataclass(frozen=True)
class SavedWeights:
    """A file of saved weights and the optimizer updates that had been done when it was saved."""

    step: int
    path: Path


def locate_weights(
    paths: Iterable[str | os.PathLike[str]], *, steps: Sequence[int] | None = None
) -> list[SavedWeights]:
    """The files in order of their steps.

    Args:
        paths: files that torch.save wrote, or .safetensors.
        steps: the step of each file, in their order. None: what a file holds under "step" or "global_step";
            else the last number in its name (`epoch-3.pt`: 3); else the one its folder is named by
            (`checkpoint-500/model.safetensors`).

    Raises:
        CheckpointError: a file that cannot be read, has no step, or has the step of another one; no file.
        ScheduleError: `steps` are not one whole number for each file.
        MissingExtraError: a .safetensors file, and safetensors is not installed.
    """
    files = [Path(path).expanduser() for path in paths]
    if not files:
        raise CheckpointError("there are no checkpoints to measure; name at least one file of saved weights.")
    if steps is None:
        found = [SavedWeights(_step_of(path), path) for path in files]
    else:
        if len(steps) != len(files):
            raise ScheduleError(f"{len(steps)} steps for {len(files)} checkpoints; give one for each file.")
        found = [SavedWeights(as_step(step), path) for step, path in zip(steps, files, strict=True)]
    found.sort(key=lambda one: one.step)
    for one, other in pairwise(found):
        if one.step == other.step:
            raise CheckpointError(
                f'"{one.path}" and "{other.path}" are both of step {one.step}, and a run has one measurement '
                "of a step. Leave one out, or say which step each is of: steps=[...], --steps 0,100,..."
            )
    return found


def load_weights(model: nn.Module, path: Path, *, key: str | None = None) -> None:
    """Put saved weights into a model, all of them; wrappers (DDP, torch.compile) count on neither side.

    Args:
        model: its parameters and buffers are written to, and keep their device, dtype and memory format.
        path: a state dict, or a dict that holds one.
        key: under which name; None: the file itself, or what is under one of `STATE_KEYS`.

    Raises:
        CheckpointError: no such file, damaged, no state dict in it, or one of another model.
    """
    state = _state_in(_read(path), path, key)
    inner = unwrap(model)
    state = _fitted(state, list(inner.state_dict()), path)
    try:
        inner.load_state_dict(state)
    except RuntimeError as error:  # shapes
        reasons = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise CheckpointError(
            f'"{path}" holds the weights of another model: {" ".join(reasons[:_NAMED])} Give the model that '
            "was trained."
        ) from None


def _read(path: Path) -> Any:
    """What a file holds; of files in torch's usual format the tensors are read only when they are used."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise CheckpointError(f'there is no checkpoint at "{path}".') from None
    except pickle.UnpicklingError as error:
        if "Weights only load failed" not in str(error):
            raise CheckpointError(f'"{path}" is no file that torch.save wrote, or is damaged.') from None
        raise CheckpointError(
            f'"{path}" holds more than tensors and plain values, and nothing else is unpickled here, because '
            "that runs code. Save model.state_dict() alone, or allow a class that you trust with "
            "torch.serialization.add_safe_globals."
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f'"{path}" cannot be read as saved weights: {reason}') from None


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError  # pyright: ignore[reportMissingImports]
        from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError(
            f'"{path}" is read with safetensors, which is not installed: pip install safetensors. Or save the '
            "state dict with torch.save."
        ) from None
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f'there is no checkpoint at "{path}".') from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'"{path}" cannot be read as saved weights: {error}') from None


def _step_of(path: Path) -> int:
    # A .safetensors file holds tensors only, so there is nothing to look for in it.
    content = {} if path.suffix == ".safetensors" and path.is_file() else _read(path)
    for name in _STEP_KEYS if isinstance(content, Mapping) else ():
        value = content.get(name)
        if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_floating_point():
            value = value.item()
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    numbers = re.findall(r"\d+", path.stem)
    if not numbers and (folder := _STEP_FOLDER.fullmatch(path.absolute().parent.name)):
        numbers = [folder[1]]
    if not numbers:
        raise CheckpointError(
            f'which step "{path}" is of cannot be told: it holds no {" or ".join(map(repr, _STEP_KEYS))}, and its '
            "name has no number. Say it: steps=[...], --steps 0,100,..."
        )
    return int(numbers[-1])


def _state_in(content: Any, path: Path, key: str | None) -> dict[str, Any]:
    """The state dict in what a file holds."""
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'"{path}" holds a {type(content).__name__}, no state dict; save model.state_dict().'
        )
    if key is None and _is_state(content):
        return dict(content)
    names = [key] if key is not None else [name for name in STATE_KEYS if name in content]
    found = [name for name in names if _is_state(content.get(name))]
    if len(found) == 1:
        return dict(content[found[0]])
    held = ", ".join(map(repr, list(content)[:8])) or "nothing"
    if found:
        problem = f"several state dicts, under {', '.join(map(repr, found))}"
    elif key is not None:
        problem = f"no state dict under {key!r}; it holds {held}"
    else:
        problem = f"no state dict, neither by itself nor under {', '.join(STATE_KEYS)}; it holds {held}"
    raise CheckpointError(f'"{path}" holds {problem}. Say which name it stands under: key="...", --key NAME.')


def _is_state(value: Any) -> bool:
    """Whether this is a state dict: names and tensors (and what modules add by `get_extra_state`)."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(
            isinstance(name, str) and (isinstance(one, torch.Tensor) or name.endswith("_extra_state"))
            for name, one in value.items()
        )
    )


def _fitted(state: dict[str, Any], wanted: list[str], path: Path) -> dict[str, Any]:
    """The state under the model's own names: without what wrappers and trainers put in front of them.

    `module.` (DDP), `_orig_mod.` (compile), `model.` (Lightning, which may hold other things beside it).
    """
    names = {_bare(name): name for name in state}
    own = {_bare(name): name for name in wanted}
    if own.keys() == names.keys():
        return {own[name]: state[names[name]] for name in own}
    ending = f".{next(iter(own), '')}"
    prefixes = sorted(name.removesuffix(ending) + "." for name in names if name.endswith(ending))
    fitting = [
        prefix
        for prefix in prefixes
        if {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == own.keys()
    ]
    if len(fitting) == 1:
        return {own[name]: state[names[fitting[0] + name]] for name in own}
    if fitting:
        problem = f"several sets of weights that fit, under {', '.join(map(repr, fitting))}"
        raise CheckpointError(f'"{path}" holds {problem}. Save the one to be measured alone.')
    missing = [name for name in own if name not in names]
    extra = [name for name in names if name not in own]
    differences = [
        f"{len(some)} {what}, first {', '.join(some[:_NAMED])}"
        for what, some in (("that the model has are not in it", missing), ("that it has not are", extra))
        if some
    ]
    raise CheckpointError(
        f'"{path}" holds the weights of another model: of the names, {"; ".join(differences)}. Give the model '
        "that was trained, or the name of its state dict in the file: key=..., --key NAME."
    )


def _bare(name: str) -> str:
    """A name in a state dict, without the parts that compiled modules put into it."""
    return name.replace("_orig_mod.", "")
