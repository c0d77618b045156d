"""What a training is: one validated description of model, data, optimizer, schedule, probe and recording.

Every section is a frozen pydantic model that refuses unknown fields. Sections that come in kinds (model,
optimizer, schedule) are told apart by their `name`; a new kind is one more class in a union. The kinds of
schedules are in `schedules.py`, YAML, overrides and errors in words in `specification_text.py`, ready-made
configurations in `presets.py`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from reluscope.errors import SpecificationError
from reluscope.lab.schedules import (
    ConstantSchedule,
    CyclicSchedule,
    MilestonesSchedule,
    OneCycleSchedule,
    ScheduleSpecification,
)
from reluscope.lab.section import ActivationName, Section, blocks_per_stage

__all__ = [
    "SGD",
    "ActivationName",
    "Adam",
    "ConstantSchedule",
    "ConvolutionalModel",
    "CyclicSchedule",
    "DataSpecification",
    "FixupModel",
    "InstrumentsSpecification",
    "MLPModel",
    "MilestonesSchedule",
    "ModelSpecification",
    "OneCycleSchedule",
    "OptimizerSpecification",
    "PatternsSpecification",
    "ProbeSpecification",
    "PyramidModel",
    "RecordingSpecification",
    "ScheduleSpecification",
    "Section",
    "Specification",
    "TrainingSpecification",
    "blocks_per_stage",
]

# The model -------------------------------------------------------------------------------------------------


_Depth = Annotated[int, AfterValidator(lambda depth: blocks_per_stage(depth) * 6 + 2)]


class ConvolutionalModel(Section):
    """ResNet-, ConvNet- or ToyNet-`depth` of [A], with 6b + 1 sites for depth = 6b + 2."""

    name: Literal["resnet", "convnet", "toynet"]
    depth: _Depth = 20
    activation: ActivationName = "relu"
    batch_norm_momentum: float = Field(default=0.1, gt=0.0, le=1.0)


class PyramidModel(Section):
    """PyramidNet-`depth` of [A], with 3b + 1 sites for depth = 6b + 2; `alpha` says how much it widens."""

    name: Literal["pyramidnet"]
    depth: _Depth = 20
    alpha: int = Field(default=84, ge=0)
    activation: ActivationName = "relu"
    batch_norm_momentum: float = Field(default=0.1, gt=0.0, le=1.0)


class FixupModel(Section):
    """FixUp ResNet-`depth` of [A], without normalisation; give its scalars `optimizer.bias_lr_factor` 0.1."""

    name: Literal["fixup_resnet"]
    depth: _Depth = 20
    activation: ActivationName = "relu"


class MLPModel(Section):
    """A fully connected net with `hidden_layers` layers of `width` units, one site each."""

    name: Literal["mlp"]
    hidden_layers: int = Field(default=5, ge=1)
    width: int = Field(default=80, ge=1)
    activation: ActivationName = "relu"


ModelSpecification = Annotated[
    ConvolutionalModel | PyramidModel | FixupModel | MLPModel, Field(discriminator="name")
]


# The data --------------------------------------------------------------------------------------------------


_DATA_SETS = ("mnist-sample", "mnist", "fashion-mnist", "cifar10")


class DataSpecification(Section):
    """Which images, how many, and what is kept back.

    `name` is one of the sets that the lab reads itself, or "hf:" and the name, or the folder, of any image
    classification set for the library `datasets`, whose image and label columns are found, or given in
    `columns`; `image_size` makes its images squares of that many pixels. `held_out` is the fraction of the
    training images that is kept back (the same images for every seed), or "test" for the data set's own test
    images. `num_images` uses only that many training images, the first of a fixed order.
    """

    name: str
    columns: tuple[str, str] | None = None
    image_size: int | None = Field(default=None, ge=1)
    held_out: float | Literal["test"] = 0.1
    num_images: int | None = Field(default=None, ge=1)
    augmentation: Literal["none", "crop_flip"] = "none"

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in _DATA_SETS and not (name.startswith("hf:") and len(name) > 3):
            known = ", ".join(map(repr, _DATA_SETS))
            raise SpecificationError(
                f"{name!r} is no data set; it must be {known}, or 'hf:' and a name that the library datasets "
                "knows"
            )
        return name

    @model_validator(mode="after")
    def _check_columns(self) -> DataSpecification:
        if not self.name.startswith("hf:") and (self.columns or self.image_size):
            raise SpecificationError(
                f"columns and image_size are for sets of the library datasets (hf:...), not for {self.name}"
            )
        return self

    @field_validator("held_out", mode="before")
    @classmethod
    def _check_held_out(cls, held_out: Any) -> float | str:
        """Both alternatives in one sentence; pydantic would report each on its own."""
        if held_out == "test":
            return held_out
        try:
            fraction = float(held_out)
        except (TypeError, ValueError):
            fraction = math.nan
        if not 0.0 <= fraction <= 0.9:
            raise SpecificationError(f'{held_out!r} is neither a fraction from 0 to 0.9 nor "test"')
        return fraction


# How it is trained -----------------------------------------------------------------------------------------


class SGD(Section):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    `lr` and `momentum` are the highest that the schedule reaches. `bias_lr_factor`: the learning rate of
    biases and of scalar multipliers, as a share of that of the rest (every parameter whose own name contains
    "bias" or "scale"; FixUp: 0.1).
    """

    name: Literal["sgd"]
    lr: float = Field(default=0.1, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0.0)
    bias_lr_factor: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _check_nesterov(self) -> SGD:
        if self.nesterov and self.momentum == 0.0:
            raise SpecificationError("nesterov needs a momentum above 0")
        return self


class Adam(Section):
    """Adam, as `torch.optim.Adam` with torch's default betas and epsilon."""

    name: Literal["adam"]
    lr: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)


OptimizerSpecification = Annotated[SGD | Adam, Field(discriminator="name")]


class TrainingSpecification(Section):
    """How long (either `steps` or `epochs`), in which batches, from which seed.

    `seed` decides initial weights, order of the images and augmentation; nothing else is random.
    `channels_last` lays images and convolution weights out so that a CPU convolves them several times faster;
    results differ by rounding. `checkpoints`: keep the last one (for resuming), all (to measure again later),
    or none. `device`: "auto" is a CUDA device where there is one, else the CPU.
    """

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0.0)
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    channels_last: bool = True
    checkpoints: Literal["last", "all", "none"] = "last"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"

    @model_validator(mode="after")
    def _check_length(self) -> TrainingSpecification:
        if (self.steps is None) == (self.epochs is None):
            raise SpecificationError("give either steps or epochs" + (", not both" if self.steps else ""))
        return self

    def steps_per_epoch(self, num_images: int) -> int:
        """Updates that show every image once; a last, smaller batch counts."""
        return math.ceil(num_images / self.batch_size)

    def num_steps(self, num_images: int) -> int:
        """Updates of the whole training, at least 1."""
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or 0.0) * self.steps_per_epoch(num_images)))


# What is watched -------------------------------------------------------------------------------------------


class ProbeSpecification(Section):
    """The probe: the first `num_images` training images, without augmentation.

    `batch_size` None: that of the training, which is what [A] does.
    """

    num_images: int = Field(default=1000, ge=1)
    batch_size: int | None = Field(default=None, ge=1)


class RecordingSpecification(Section):
    """When to measure: all that is given together, and the final state always.

    `at`: these steps. `until`: every step up to this one. `every`: each n-th. `per_decade`: this many per
    power of ten, evenly on a logarithmic scale. `per_epoch`: this many per epoch. `shares`: at these shares
    of the training (0.5: the last state before a milestone of 0.5 lowers the learning rate). `sites` and
    `batch_norm` are those of `rs.Recorder`; `batch_indices` keeps beside every step which images were in its
    batch.
    """

    at: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2, 8, 9, 40, 41)
    until: int | None = Field(default=None, ge=0)
    every: int | None = Field(default=None, ge=1)
    per_decade: int | None = Field(default=12, ge=1)
    per_epoch: int | None = Field(default=None, ge=1)
    shares: tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...] = ()
    sites: str | tuple[str, ...] = "*"
    batch_norm: Literal["batch", "running"] = "batch"
    batch_indices: bool = True


class PatternsSpecification(Section):
    """Arguments of `rs.Patterns`, with `sample_every` for its `sample_schedule`: which of the measured steps
    are sampled, 1 for all; None: as `rs.Patterns` does by default.
    """

    keep: tuple[Literal["init", "final", "all"], ...] = ("init",)
    labels: bool = True
    permutations: int = Field(default=0, ge=0)
    hashlist: int | None = Field(default=None, ge=1)
    sample_size: int = Field(default=4096, ge=0)
    sample_every: int | None = Field(default=None, ge=1)
    sample_seed: int = Field(default=0, ge=0)
    disk_budget: int | None = Field(default=None, ge=1)


class InstrumentsSpecification(Section):
    """What to take from each measurement."""

    patterns: PatternsSpecification = PatternsSpecification()


class Specification(Section):
    """A whole training. `model` and `data` must be given; everything else has a default.

    `experiment` and `scale` say which figure of a paper a training is made for, and how much of it; they
    change nothing in the training, readers of its run group by them.

    Read one with `read_specification`, which says in words what is wrong; constructed directly, pydantic's
    own ValidationError (a ValueError) comes through.
    """

    model: ModelSpecification
    data: DataSpecification
    optimizer: OptimizerSpecification = SGD(name="sgd")
    schedule: ScheduleSpecification = ConstantSchedule(name="constant")
    training: TrainingSpecification = TrainingSpecification(epochs=10)
    probe: ProbeSpecification = ProbeSpecification()
    recording: RecordingSpecification = RecordingSpecification()
    instruments: InstrumentsSpecification = InstrumentsSpecification()
    experiment: str | None = None
    scale: Literal["smoke", "laptop", "paper"] | None = None

    @model_validator(mode="after")
    def _check_momentum(self) -> Specification:
        lowest = getattr(self.schedule, "lowest_momentum", None)
        highest = self.optimizer.momentum if isinstance(self.optimizer, SGD) else None
        if lowest is not None and (highest is None or lowest > highest):
            found = "adam has no momentum" if highest is None else f"optimizer.momentum is {highest:g}"
            raise SpecificationError(
                f"schedule.lowest_momentum is {lowest:g}, but {found}; set schedule.lowest_momentum=null to "
                "leave the momentum alone"
            )
        return self
