"""What a training is: one validated description of model, data, optimizer, schedule, probe and recording.

Every section is a frozen pydantic model that refuses unknown fields. Sections that come in kinds (model,
optimizer, schedule) are told apart by their `name`; a new kind is one more class in a union. YAML, overrides
and errors in words are in `specification_text.py`, ready-made configurations in `presets.py`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reluscope.errors import SpecificationError

__all__ = [
    "SGD",
    "ActivationName",
    "Adam",
    "ConstantSchedule",
    "ConvolutionalModel",
    "DataSpecification",
    "InstrumentsSpecification",
    "MLPModel",
    "MilestonesSchedule",
    "ModelSpecification",
    "OptimizerSpecification",
    "PatternsSpecification",
    "ProbeSpecification",
    "RecordingSpecification",
    "ScheduleSpecification",
    "Section",
    "Specification",
    "TrainingSpecification",
    "blocks_per_stage",
]

ActivationName = Literal["relu", "leaky_relu", "prelu"]


class Section(BaseModel):
    """Base of every section: frozen, and a field it does not know is an error, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# The model -------------------------------------------------------------------------------------------------


def blocks_per_stage(depth: int) -> int:
    """The b of depth = 6b + 2.

    Raises:
        SpecificationError: there is no such b >= 1.

    >>> blocks_per_stage(20)
    3
    """
    num_blocks, rest = divmod(depth - 2, 6)
    if rest or num_blocks < 1:
        nearest = 6 * max(1, round((depth - 2) / 6)) + 2
        raise SpecificationError(
            f"depth {depth} cannot be built: these nets have 6b + 2 layers (8, 14, 20, 26, ...). Closest: "
            f"{nearest}"
        )
    return num_blocks


class ConvolutionalModel(Section):
    """ResNet-, ConvNet- or ToyNet-`depth` of [A], with 6b + 1 sites for depth = 6b + 2."""

    name: Literal["resnet", "convnet", "toynet"]
    depth: int = 20
    activation: ActivationName = "relu"

    @field_validator("depth")
    @classmethod
    def _check_depth(cls, depth: int) -> int:
        blocks_per_stage(depth)
        return depth


class MLPModel(Section):
    """A fully connected net with `hidden_layers` layers of `width` units, one site each."""

    name: Literal["mlp"]
    hidden_layers: int = Field(default=5, ge=1)
    width: int = Field(default=80, ge=1)
    activation: ActivationName = "relu"


ModelSpecification = Annotated[ConvolutionalModel | MLPModel, Field(discriminator="name")]


# The data --------------------------------------------------------------------------------------------------


class DataSpecification(Section):
    """Which images, how many, and what is kept back.

    `held_out` is the fraction of the training images that is kept back (the same images for every seed), or
    "test" for the data set's own test images. `num_images` uses only that many training images, the first of
    a fixed order.
    """

    name: Literal["mnist-sample", "mnist", "fashion-mnist", "cifar10"]
    held_out: float | Literal["test"] = 0.1
    num_images: int | None = Field(default=None, ge=1)
    augmentation: Literal["none", "crop_flip"] = "none"

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
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`."""

    name: Literal["sgd"]
    lr: float = Field(default=0.1, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0.0)

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


class ConstantSchedule(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]

    def multiplier(self, step: int, num_steps: int) -> float:
        """What the learning rate is multiplied with for the update after `step` of `num_steps` updates: 1."""
        return 1.0


class MilestonesSchedule(Section):
    """The learning rate is multiplied by `factor` at each milestone, a share of the whole training."""

    name: Literal["milestones"]
    milestones: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(default=(0.5, 0.75), min_length=1)
    factor: float = Field(default=0.1, gt=0.0, lt=1.0)

    def multiplier(self, step: int, num_steps: int) -> float:
        """What the learning rate is multiplied with for the update after `step` of `num_steps` updates.

        factor ** (number of milestones m with step >= m * num_steps), in (0, 1].

        >>> schedule = MilestonesSchedule(name="milestones", milestones=(0.5,), factor=0.1)
        >>> schedule.multiplier(49, 100), schedule.multiplier(50, 100)
        (1.0, 0.1)
        """
        return self.factor ** sum(step >= milestone * num_steps for milestone in self.milestones)


ScheduleSpecification = Annotated[ConstantSchedule | MilestonesSchedule, Field(discriminator="name")]


class TrainingSpecification(Section):
    """How long (either `steps` or `epochs`), in which batches, from which seed.

    `seed` decides initial weights, order of the images and augmentation; nothing else is random.
    `channels_last` lays images and convolution weights out so that a CPU convolves them several times faster;
    results differ by rounding. `checkpoints`: keep the last one (for resuming), all (to measure again later),
    or none.
    """

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0.0)
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    channels_last: bool = True
    checkpoints: Literal["last", "all", "none"] = "last"

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

    `at`: these steps. `every`: each n-th. `per_decade`: this many per power of ten, evenly on a logarithmic
    scale. `per_epoch`: this many per epoch. `sites` and `batch_norm` are those of `rs.Recorder`;
    `batch_indices` keeps beside every step which images were in its batch.
    """

    at: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2, 8, 9, 40, 41)
    every: int | None = Field(default=None, ge=1)
    per_decade: int | None = Field(default=12, ge=1)
    per_epoch: int | None = Field(default=None, ge=1)
    sites: str | tuple[str, ...] = "*"
    batch_norm: Literal["batch", "running"] = "batch"
    batch_indices: bool = True


class PatternsSpecification(Section):
    """Arguments of `rs.Patterns`."""

    keep: tuple[Literal["init", "final", "all"], ...] = ("init",)
    labels: bool = True
    permutations: int = Field(default=0, ge=0)
    hashlist: int | None = Field(default=None, ge=1)


class InstrumentsSpecification(Section):
    """What to take from each measurement."""

    patterns: PatternsSpecification = PatternsSpecification()


class Specification(Section):
    """A whole training. `model` and `data` must be given; everything else has a default.

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
