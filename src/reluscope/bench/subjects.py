"""What is measured: networks of the lab at initialisation or after a short training, and two larger ones.

Images are CIFAR-10 where a data folder is named, else the embedded digits, else noise; the description of each
subject says which.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from reluscope.bench.networks import ResNet18, Transformer
from reluscope.errors import BenchmarkError, MissingExtraError, closest
from reluscope.lab import ImageData, build, latest_checkpoint, load, load_checkpoint, train
from reluscope.lab.checkpoints import CHECKPOINT_FOLDER
from reluscope.lab.data import DATA_DIR_VARIABLE
from reluscope.lab.specification import (
    ConvolutionalModel,
    DataSpecification,
    InstrumentsSpecification,
    PatternsSpecification,
    ProbeSpecification,
    RecordingSpecification,
    Specification,
    TrainingSpecification,
)

__all__ = [
    "LAB_NETWORKS",
    "SUBJECTS",
    "Subject",
    "bench_images",
    "check_models",
    "large_subject",
    "network_after",
    "subject_of",
]

LAB_NETWORKS = ("resnet20", "convnet20", "toynet20")
_NUM_DIGITS = 5000
_TRAINING_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model in eval mode with the inputs that it is measured on, both channels-last where they are images.

    Attributes:
        case: its name in results ("resnet20, step 200, 10000 CIFAR-10 images").
        model: freshly made; nobody else holds it.
        inputs: all samples.
        labels: int64 (samples,), or None.
        batch_size: of bare passes and of the probe alike.
    """

    case: str
    model: nn.Module
    inputs: Tensor
    labels: Tensor | None
    batch_size: int


def bench_images(num_images: int, data_dir: str | Path | None = None) -> ImageData:
    """The images to measure on, channels-last.

    Args:
        num_images: how many; of the embedded digits there are 5,000 at most.
        data_dir: folder with CIFAR-10; None: the one that RELUSCOPE_DATA_DIR names. Without either the embedded
            digits are taken, and noise where these are not installed.

    Raises:
        BenchmarkError: no image at all.
        DataError: the folder holds no CIFAR-10, or fewer images.
    """
    if num_images < 1:
        raise BenchmarkError(f"num_images={num_images} is nothing to measure on; give 1 or more.")
    if data_dir or os.environ.get(DATA_DIR_VARIABLE):
        data = load("cifar10", data_dir, held_out=0.0, num_images=num_images)
    else:
        try:
            data = load("mnist-sample", held_out=0.0, num_images=min(num_images, _NUM_DIGITS))
        except MissingExtraError:
            data = _noise(num_images)
    return replace(data, images=data.images.contiguous(memory_format=torch.channels_last))


def network_after(name: str, steps: int, data: ImageData) -> nn.Module:
    """A network of the lab after so many updates on the images, the same for equal arguments; channels-last, eval.

    The training is the lab's own, with [A]'s optimizer; within a process it is done once.

    Args:
        name: one of LAB_NETWORKS.
        steps: 0 is initialisation.
        data: from `bench_images`.
    """
    spec = _specification(name, steps, data)
    model = build(spec.model, data.image_shape, data.num_classes, seed=0)
    if steps > 0:
        key = (name, steps, data.name, len(data.images))
        if key not in _trained:
            _trained[key] = _train(spec, data)
        model.load_state_dict(_trained[key])
    return model.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def subject_of(name: str, steps: int, data: ImageData, *, labels: bool = False) -> Subject:
    """A network of the lab after `steps` updates, on these images.

    Raises:
        BenchmarkError: no such network.
    """
    check_models([name], LAB_NETWORKS)
    with_labels = " with labels" if labels else ""
    return Subject(
        case=f"{name}, step {steps}{with_labels}, {len(data.images)} {_described(data)}",
        model=network_after(name, steps, data),
        inputs=data.images,
        labels=data.labels if labels else None,
        batch_size=_TRAINING_BATCH,
    )


def large_subject(name: str, num_samples: int) -> Subject:
    """ "resnet18" on noise images of 224 x 224, or "transformer" (4 layers, 2,048-wide ReLU) on random tokens.

    Raises:
        BenchmarkError: another name, or no sample.
    """
    check_models([name], tuple(_LARGE))
    if num_samples < 1:
        raise BenchmarkError(f"{num_samples} samples are nothing to measure on; give 1 or more.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _LARGE[name](num_samples)


def check_models(names: Sequence[str], allowed: Sequence[str] | None = None) -> None:
    """Raise BenchmarkError for the first name that is not among the allowed ones (all subjects for None)."""
    known = SUBJECTS if allowed is None else tuple(allowed)
    for name in names:
        if name not in known:
            raise BenchmarkError(
                f'no network of the benchmark is called "{name}". Closest: {closest(name, known)}; all: '
                f"{', '.join(known)}."
            )


_trained: dict[tuple[str, int, str, int], dict[str, Tensor]] = {}


def _specification(name: str, steps: int, data: ImageData) -> Specification:
    return Specification(
        model=ConvolutionalModel(name=name.removesuffix("20"), depth=20),  # pyright: ignore[reportArgumentType]
        data=DataSpecification(name="mnist-sample"),  # the images are given; this name is not looked at
        training=TrainingSpecification(steps=max(1, steps), batch_size=_TRAINING_BATCH, device="cpu"),
        probe=ProbeSpecification(num_images=min(2, len(data.images))),
        recording=RecordingSpecification(at=(), per_decade=None, batch_indices=False),
        instruments=InstrumentsSpecification(
            patterns=PatternsSpecification(keep=(), labels=False, sample_size=0)
        ),
    )


def _train(spec: Specification, data: ImageData) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory(prefix="reluscope-bench-") as folder:
        train(spec, Path(folder) / "run", data=data)
        path = latest_checkpoint(Path(folder) / "run" / CHECKPOINT_FOLDER)
        if path is None:
            raise BenchmarkError(
                "the training left no checkpoint behind; is there space in the temporary folder?"
            )
        return load_checkpoint(path).model


def _noise(num_images: int) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    return ImageData(
        name="noise",
        images=torch.randn(num_images, 3, 32, 32, generator=generator),
        labels=torch.arange(num_images) % 10,
        held_out_images=torch.empty(0, 3, 32, 32),
        held_out_labels=torch.empty(0, dtype=torch.int64),
        num_classes=10,
        black=torch.zeros(3),
    )


def _described(data: ImageData) -> str:
    names = {"cifar10": "CIFAR-10 images", "mnist-sample": "embedded digits", "noise": "noise images"}
    return names[data.name]


def _resnet18(num_samples: int) -> Subject:
    images = torch.randn(num_samples, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    model = ResNet18().to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    case = f"resnet18, step 0, {num_samples} noise images 224 x 224"
    return Subject(case=case, model=model, inputs=images, labels=None, batch_size=32)


def _transformer(num_samples: int) -> Subject:
    tokens = torch.randint(0, 1024, (num_samples, 128))
    case = f"transformer, step 0, {num_samples} random sequences of 128 tokens"
    return Subject(case=case, model=Transformer().eval(), inputs=tokens, labels=None, batch_size=32)


_LARGE: dict[str, Callable[[int], Subject]] = {"resnet18": _resnet18, "transformer": _transformer}
SUBJECTS = (*LAB_NETWORKS, *_LARGE)
