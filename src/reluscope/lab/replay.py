"""Replay a training of the lab: model and probe from the specification in its run, weights from its checkpoints."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from reluscope.errors import CheckpointError, ReluscopeWarning
from reluscope.lab.checkpoints import CHECKPOINT_FOLDER
from reluscope.lab.data import ImageData, load_for
from reluscope.lab.devices import exact_convolutions, resolve_device
from reluscope.lab.models import build
from reluscope.lab.training import SPECIFICATION_FILE, make_probe, stored_specification
from reluscope.recording import ReplayProgress, ReplayResult, replay
from reluscope.runs import Run, RunWriter, open_run

__all__ = ["replay_training"]

# What run.json says about the training itself, and a run of its own checkpoints says too.
_OF_THE_TRAINING = ("training", "training_steps", "batch_indices", "held_out_accuracy")


def replay_training(
    like: str | Path,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    run: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    data: ImageData | None = None,
    keep: Sequence[str] | None = None,
    resume: bool = False,
    on_measured: Callable[[ReplayProgress], None] | None = None,
) -> ReplayResult:
    """Measure the checkpoints of a training of the lab, as `rs.replay` does.

    Of a training that kept all its checkpoints (`training.checkpoints: all`) the run that this makes has the
    layers, scalars, tables and samples of the run that recorded it, byte for byte, under the conditions that
    `rs.replay` names.

    Args:
        like: the run of the training.
        checkpoints: files; none: all that the training kept.
        run: the run folder to make; None: that of the training with `-replayed` behind its name.
        data_dir: where the image files are; see `reluscope.lab.data.load`.
        data: images that are loaded already, instead of those that the specification names.
        keep: which exact tables the new run keeps ("init", "final", "all"); None: those that `like` keeps.
        resume: go on with a replay that was cut off.
        on_measured: called after every checkpoint.

    Raises:
        RunNotFoundError: no run at all.
        CheckpointError: no run of the lab, or it kept no checkpoints.
        and what `rs.replay` raises.
    """
    like = Path(like)
    original = open_run(like)
    if not (like / SPECIFICATION_FILE).is_file():
        raise CheckpointError(
            f'the run at "{like}" holds no {SPECIFICATION_FILE}: it is not of `reluscope train`, so that its network and '
            "probe are not known. Give them: rs.replay(model, probe, ...), or --model and --probe."
        )
    spec = stored_specification(like)
    own = sorted((like / CHECKPOINT_FOLDER).glob("step-*.pt"))
    files = [Path(path) for path in checkpoints] or own
    if not files:
        raise CheckpointError(
            f'the training at "{like}" kept no checkpoints. Keep them with training.checkpoints=all, or name '
            "files of weights."
        )
    is_its_own = {path.resolve() for path in files} <= {path.resolve() for path in own}
    if is_its_own and len(files) < len(original.steps):
        warnings.warn(
            f"the checkpoints give {len(files)} of the {len(original.steps)} states that the run at {like} was "
            "measured in; what changed since the last measurement refers to the last of these. A training keeps "
            "them all with training.checkpoints=all.",
            ReluscopeWarning,
            stacklevel=2,
        )
    if data is None:
        data = load_for(spec.data, data_dir)
    layout = torch.channels_last if spec.training.channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=[]), exact_convolutions(resolve_device(spec.training.device)):
        model = build(spec.model, data.image_shape, data.num_classes, seed=spec.training.seed)
        model.train()
        result = replay(
            model,
            make_probe(spec, data, layout),
            files,
            like.with_name(f"{like.name}-replayed") if run is None else run,
            like=like,
            keep=keep,
            if_exists="resume" if resume else "error",
            on_measured=on_measured,
        )
    if is_its_own:
        _take_over(original, result.run)
    return result


def _take_over(original: Run, folder: Path) -> None:
    """What the run of the training knows beside its measurements: what was trained, and the scalars."""
    rows = original.scalars.to_dict("records")
    with RunWriter.resume(folder) as writer:
        writer.add_scalars([{str(name): _given(value) for name, value in row.items()} for row in rows])
        writer.update_info({name: original.info[name] for name in _OF_THE_TRAINING if name in original.info})


def _given(value: object) -> object:
    """A scalar as it was logged: what was not is NaN in a DataFrame, and None in a row."""
    return None if isinstance(value, float) and value != value else value
