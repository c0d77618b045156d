"""The lab's training loop: build, train, record, checkpoint; from top to bottom in `train`.

It uses the public API only, the way any training loop would, and never more than `recorder.record(step)`
before and `recorder.log(step, ...)` after an update.
"""

from __future__ import annotations

import bisect
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import reluscope as rs
from reluscope.errors import (
    CheckpointError,
    ReluscopeWarning,
    SpecificationError,
    TrainingDivergedError,
)
from reluscope.lab.augmentation import crop_flip
from reluscope.lab.checkpoints import (
    CHECKPOINT_FOLDER,
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from reluscope.lab.data import ImageData, load_for
from reluscope.lab.devices import exact_convolutions, resolve_device
from reluscope.lab.models import build
from reluscope.lab.optimization import make_optimizer, set_rates
from reluscope.lab.order import AUGMENTATION_STREAM, BatchOrder, generator_for
from reluscope.lab.specification import PatternsSpecification, RecordingSpecification, Specification
from reluscope.lab.specification_text import (
    parse_specification,
    read_specification,
    specification_differences,
    specification_to_yaml,
)
from reluscope.recording import Schedule

__all__ = [
    "BATCH_INDICES",
    "SPECIFICATION_FILE",
    "TrainingProgress",
    "TrainingResult",
    "make_probe",
    "recording_schedule",
    "stored_specification",
    "train",
]

SPECIFICATION_FILE = "specification.yaml"  # below the run's folder
BATCH_INDICES = "places in the data set's own training images"  # what run.json says of those that are logged


@dataclass(frozen=True)
class TrainingProgress:
    """What `train` tells about itself after every update.

    Attributes:
        step: updates done.
        num_steps: updates of the whole training.
        loss, accuracy: of the batch just used, before its update.
        seconds_left: what the updates and measurements to come will take, by the mean time of each so far; NaN where that
            is not known.
        seconds_whole: the same for the whole training.
    """

    step: int
    num_steps: int
    loss: float
    accuracy: float
    seconds_left: float = math.nan
    seconds_whole: float = math.nan


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        run: the run's folder.
        first_step: updates that had been done before, by an earlier, interrupted training; else 0.
        num_steps: updates of the whole training.
        num_measurements: measurements that the run now holds.
        loss, accuracy: of the last batch; NaN when there was nothing left to train.
        held_out_accuracy: on the images kept back, at the end; NaN when none were.
        seconds: wall time of this call, loading of the data included.
    """

    run: Path
    first_step: int
    num_steps: int
    num_measurements: int
    loss: float
    accuracy: float
    held_out_accuracy: float
    seconds: float


def train(
    specification: Specification,
    run: str | Path,
    *,
    data_dir: str | Path | None = None,
    data: ImageData | None = None,
    resume: bool = False,
    on_step: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Train what a specification describes and record it.

    Equal specifications give equal parameters and equal run tables, bit for bit, on one machine with one
    number of threads, and so does a training that was killed and resumed. torch's global generator is put
    back at the end.

    Args:
        specification: the whole training.
        run: folder of the run, which must not hold one yet; with `resume`, the one to go on with.
        data_dir: where the image files are; see `reluscope.lab.data.load`.
        data: images that are loaded already, instead of those that the specification names.
        resume: go on from the last checkpoint in `run`; from the beginning if there is none.
        on_step: called after every update.

    Raises:
        DataError, MissingExtraError: the images cannot be had.
        SpecificationError: the probe asks for more images than there are.
        RunExistsError: `run` holds a run and `resume` is False.
        CheckpointError: the checkpoint is damaged, or of a training with another specification.
        TrainingDivergedError: the loss is not finite any more.
    """
    started = time.perf_counter()
    run = Path(run)
    spec = specification
    if data is None:
        data = load_for(spec.data, data_dir)
    device = resolve_device(spec.training.device)
    indices, data = data.indices, data.to(device)
    layout = torch.channels_last if spec.training.channels_last else torch.contiguous_format
    order = BatchOrder(len(data.images), spec.training.batch_size, spec.training.seed)
    num_steps = spec.training.num_steps(len(data.images))
    probe = make_probe(spec, data, layout)
    loss = accuracy = math.nan

    with torch.random.fork_rng(devices=[]), exact_convolutions(device):
        torch.manual_seed(spec.training.seed)
        model = build(spec.model, data.image_shape, data.num_classes, seed=spec.training.seed)
        model.to(device=device, memory_format=layout).train()  # pyright: ignore[reportCallIssue]
        optimizer = make_optimizer(spec.optimizer, model)
        first_step = _restore(run, spec, model, optimizer) if resume else 0
        indices = None if _logged_places(run, first_step) else indices
        clock = _Clock(recording_schedule(spec.recording, num_steps, order.steps_per_epoch), num_steps)

        with rs.Recorder(
            model,
            probe,
            run=run,
            schedule=recording_schedule(spec.recording, num_steps, order.steps_per_epoch),
            instruments=[_patterns(spec.instruments.patterns)],
            sites=spec.recording.sites,
            batch_norm=spec.recording.batch_norm,
            if_exists="resume" if resume else "error",
        ) as recorder:
            (run / SPECIFICATION_FILE).write_text(specification_to_yaml(spec), encoding="utf-8")
            recorder.note(_described(spec, num_steps, order.steps_per_epoch))
            if spec.recording.batch_indices and indices is not None:
                recorder.note({"batch_indices": BATCH_INDICES})

            for step in range(first_step, num_steps):
                clock.begins()
                if recorder.record(step) is not None:
                    _checkpoint(run, spec, model, optimizer, step)
                    clock.measured()

                batch = order.batch(step)
                images, labels = data.images[batch.to(device)], data.labels[batch.to(device)]
                if spec.data.augmentation == "crop_flip":
                    generator = generator_for(spec.training.seed, AUGMENTATION_STREAM, step)
                    images = crop_flip(images, generator, fill=data.black)
                lr = set_rates(optimizer, spec.optimizer, spec.schedule, step, num_steps)

                logits = model(images.contiguous(memory_format=layout))
                batch_loss = F.cross_entropy(logits, labels)
                optimizer.zero_grad(set_to_none=True)
                batch_loss.backward()
                optimizer.step()

                loss = batch_loss.item()
                accuracy = _accuracy(logits, labels)
                if not math.isfinite(loss):
                    raise TrainingDivergedError(
                        f"the loss of step {step} is {loss}: the training has diverged. What was measured "
                        f"until then is in {run}. Try a lower rate than optimizer.lr={spec.optimizer.lr:g}."
                    )
                recorder.log(
                    step,
                    loss=loss,
                    accuracy=accuracy,
                    lr=lr,
                    batch_indices=(batch if indices is None else indices[batch])
                    if spec.recording.batch_indices
                    else None,
                )
                clock.updated()
                if on_step is not None:
                    on_step(
                        TrainingProgress(
                            step=step + 1,
                            num_steps=num_steps,
                            loss=loss,
                            accuracy=accuracy,
                            seconds_left=clock.seconds(step + 1),
                            seconds_whole=clock.seconds(0),
                        )
                    )

            recorder.record(num_steps, force=True)
            _checkpoint(run, spec, model, optimizer, num_steps)
            held_out_accuracy = _evaluate(model, data, layout)
            recorder.note({"held_out_accuracy": None if math.isnan(held_out_accuracy) else held_out_accuracy})

    return TrainingResult(
        run=run,
        first_step=first_step,
        num_steps=num_steps,
        num_measurements=len(rs.open_run(run).steps),
        loss=loss,
        accuracy=accuracy,
        held_out_accuracy=held_out_accuracy,
        seconds=time.perf_counter() - started,
    )


def stored_specification(run: str | Path) -> Specification:
    """The specification that a run of the lab was trained by.

    Raises:
        CheckpointError: the folder holds no specification: it is no run of the lab, or not there at all.
    """
    path = Path(run) / SPECIFICATION_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{run} holds no {SPECIFICATION_FILE}, so there is nothing to resume. "
            "Only what `reluscope train` began can be resumed by it."
        )
    return read_specification(path)


# The parts of the loop -------------------------------------------------------------------------------------


def make_probe(spec: Specification, data: ImageData, layout: torch.memory_format) -> rs.Probe:
    """The first training images, as they are, in batches of the training's size unless said otherwise.

    Raises:
        SpecificationError: the probe asks for more images than there are.
    """
    num_images = spec.probe.num_images
    if num_images > len(data.images):
        raise SpecificationError(
            f"the probe asks for {num_images} images, {data.name} has {len(data.images)} to train on. "
            "Lower probe.num_images."
        )
    images = data.images[:num_images].contiguous(memory_format=layout)
    return rs.Probe(
        images, data.labels[:num_images], batch_size=spec.probe.batch_size or spec.training.batch_size
    )


def recording_schedule(spec: RecordingSpecification, num_steps: int, steps_per_epoch: int) -> Schedule:
    """Everything the section `recording` asks for, joined; the final state always."""
    shares = (math.ceil(share * num_steps) for share in spec.shares)
    schedule = rs.at(*(step for step in (*spec.at, *shares) if step < num_steps), num_steps)
    if spec.until is not None:
        schedule |= rs.at(*range(spec.until + 1))
    if spec.every is not None:
        schedule |= rs.every(spec.every)
    if spec.per_decade is not None:
        schedule |= rs.logspaced(1, num_steps, per_decade=spec.per_decade)
    if spec.per_epoch is not None:
        schedule |= rs.epochs(1 / spec.per_epoch, steps_per_epoch)
    return schedule


def _patterns(spec: PatternsSpecification) -> rs.Patterns:
    """The instrument that the section describes."""
    arguments = spec.model_dump(exclude={"sample_every"})
    samples = None if spec.sample_every is None else rs.every(spec.sample_every)
    return rs.Patterns(**arguments, sample_schedule=samples)


class _Clock:
    """What updates and measurements take, and what they will: measurements are seldom alike in number along the way."""

    def __init__(self, schedule: Schedule, num_steps: int) -> None:
        self._due = schedule.steps(num_steps)
        self._num_steps = num_steps
        self._last = 0.0
        self._updates = self._measurements = (0, 0.0)  # how many, and the seconds of all

    def begins(self) -> None:
        self._last = time.perf_counter()

    def measured(self) -> None:
        self._measurements = self._add(self._measurements)

    def updated(self) -> None:
        self._updates = self._add(self._updates)

    def seconds(self, step: int) -> float:
        """From the state after `step` updates to the end; a measurement counts nothing before the first one."""
        number, total = self._updates
        if not number:
            return math.nan
        measurements = len(self._due) - bisect.bisect_left(self._due, step)
        each = self._measurements[1] / self._measurements[0] if self._measurements[0] else 0.0
        return (self._num_steps - step) * total / number + measurements * each

    def _add(self, before: tuple[int, float]) -> tuple[int, float]:
        now = time.perf_counter()
        taken, self._last = now - self._last, now
        return before[0] + 1, before[1] + taken


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.detach().argmax(1) == labels).double().mean().item()


def _evaluate(model: nn.Module, data: ImageData, layout: torch.memory_format) -> float:
    """Accuracy on the images kept back, in eval mode; NaN when there are none."""
    if not len(data.held_out_images):
        return math.nan
    model.eval()
    with torch.no_grad():
        logits = [
            model(images.contiguous(memory_format=layout)) for images in data.held_out_images.split(500)
        ]
    return _accuracy(torch.cat(logits), data.held_out_labels)


def _described(spec: Specification, num_steps: int, steps_per_epoch: int) -> dict[str, Any]:
    """What run.json says about a training of the lab, from its start."""
    return {
        "training": spec.model_dump(mode="json"),
        "training_steps": {"num_steps": num_steps, "steps_per_epoch": steps_per_epoch},
    }


# Interruption ----------------------------------------------------------------------------------------------


def _checkpoint(
    run: Path, spec: Specification, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    if spec.training.checkpoints == "none":
        return
    state = Checkpoint(
        step=step,
        specification=spec.model_dump(mode="json"),
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        generator=torch.get_rng_state(),
    )
    try:
        save_checkpoint(run / CHECKPOINT_FOLDER, state, keep_others=spec.training.checkpoints == "all")
    except OSError as error:  # a full disk must not end a training; it only makes a resume start further back
        warnings.warn(
            f"the checkpoint of step {step} was not written ({error}); the training goes on.",
            ReluscopeWarning,
            stacklevel=3,
        )


def _logged_places(run: Path, first_step: int) -> bool:
    """Whether the part before logged places in `ImageData.images`, as early versions did; the rest follows it."""
    return first_step > 0 and "batch_indices" not in rs.open_run(run).info


def _restore(run: Path, spec: Specification, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the last checkpoint back into model, optimizer and generator; returns its step, 0 without one."""
    path = latest_checkpoint(run / CHECKPOINT_FOLDER)
    if path is None:
        return 0
    checkpoint = load_checkpoint(path)
    before = parse_specification(checkpoint.specification, origin=f"the specification in {path}")
    if before != spec:
        raise CheckpointError(
            f"{path} belongs to another training: {specification_differences(before, spec)}. Resume with the same "
            f"specification ({run / SPECIFICATION_FILE}), or train into another folder."
        )
    model.load_state_dict(checkpoint.model)
    optimizer.load_state_dict(checkpoint.optimizer)
    torch.set_rng_state(checkpoint.generator)
    return checkpoint.step
