"""The trainings of [A] as printed: every network by every method, on CIFAR-10, at full length.

[A] is Hartmann, Franzen, Brodehl 2021, section 3. Presets are these trainings; the figures of `experiments.py`
are these trainings with other numbers.
"""

from __future__ import annotations

from typing import Literal

from reluscope.errors import SpecificationError
from reluscope.lab.section import ActivationName
from reluscope.lab.specification import (
    SGD,
    ConvolutionalModel,
    CyclicSchedule,
    DataSpecification,
    FixupModel,
    MilestonesSchedule,
    ModelSpecification,
    OneCycleSchedule,
    ProbeSpecification,
    PyramidModel,
    RecordingSpecification,
    Specification,
    TrainingSpecification,
)

__all__ = ["MethodName", "NetworkName", "paper_training"]

NetworkName = Literal["resnet", "convnet", "toynet", "pyramidnet", "fixup_resnet"]
MethodName = Literal["stepwise", "cyclic", "onecycle"]


def paper_training(
    network: NetworkName,
    *,
    method: MethodName = "stepwise",
    depth: int = 20,
    activation: ActivationName = "relu",
    seed: int = 0,
) -> Specification:
    """One training of [A]: SGD with momentum 0.9, crop and flip, the whole training set, a probe of it.

    | method | epochs | learning rate | weight decay | batch | more |
    |---|---|---|---|---|---|
    | stepwise | 200 | 0.1, x 0.1 at 50 % and 75 % | 1e-4 | 128 | PyramidNet: 300 epochs, Nesterov; FixUp: decay 5e-4 |
    | cyclic | 100 | 0.002 to 0.2, 5 cycles | 5e-4 | 128 | momentum 0.9 to 0.765 |
    | onecycle | 50 | 0.08 to 0.8 to 8e-5 | 2e-4 | 256 | momentum as above, Nesterov, batch norm 0.05 |

    FixUp's biases and multipliers have a tenth of the learning rate. The probe has the training's batch size.

    Raises:
        SpecificationError: OneCycle's batch-norm momentum has no place in a FixUp net, which has none.
    """
    base = _METHODS[method]
    optimizer, training = base.optimizer, base.training
    if network == "pyramidnet" and method == "stepwise":
        optimizer = optimizer.model_copy(update={"nesterov": True})
        training = training.model_copy(update={"epochs": 300.0})
    if network == "fixup_resnet":
        optimizer = optimizer.model_copy(update={"weight_decay": 5e-4, "bias_lr_factor": 0.1})
    return base.model_copy(
        update={
            "model": _network(network, depth, activation, _BATCH_NORM_MOMENTUM[method]),
            "optimizer": optimizer,
            "training": training.model_copy(update={"seed": seed}),
        }
    )


def _network(
    name: NetworkName, depth: int, activation: ActivationName, momentum: float
) -> ModelSpecification:
    if name == "fixup_resnet":
        if momentum != 0.1:
            raise SpecificationError(
                "a FixUp ResNet by method onecycle was asked for: that method sets the momentum of batch "
                "norms, and this net has none. Use stepwise or cyclic."
            )
        return FixupModel(name="fixup_resnet", depth=depth, activation=activation)
    if name == "pyramidnet":
        return PyramidModel(
            name="pyramidnet", depth=depth, activation=activation, batch_norm_momentum=momentum
        )
    return ConvolutionalModel(name=name, depth=depth, activation=activation, batch_norm_momentum=momentum)


def _cifar10(optimizer: SGD, schedule: object, epochs: float, batch_size: int) -> Specification:
    return Specification.model_validate(
        {
            "model": ConvolutionalModel(name="resnet"),
            "data": DataSpecification(name="cifar10", held_out="test", augmentation="crop_flip"),
            "optimizer": optimizer,
            "schedule": schedule,
            "training": TrainingSpecification(epochs=epochs, batch_size=batch_size),
            "probe": ProbeSpecification(num_images=4000),
            "recording": RecordingSpecification(per_epoch=1),
        }
    )


_BATCH_NORM_MOMENTUM = {"stepwise": 0.1, "cyclic": 0.1, "onecycle": 0.05}

_METHODS: dict[str, Specification] = {
    "stepwise": _cifar10(
        SGD(name="sgd", lr=0.1, weight_decay=1e-4),
        MilestonesSchedule(name="milestones", milestones=(0.5, 0.75), factor=0.1),
        epochs=200,
        batch_size=128,
    ),
    "cyclic": _cifar10(
        SGD(name="sgd", lr=0.2, weight_decay=5e-4),
        CyclicSchedule(name="cyclic", cycles=5, floor=0.01, lowest_momentum=0.765),
        epochs=100,
        batch_size=128,
    ),
    "onecycle": _cifar10(
        SGD(name="sgd", lr=0.8, nesterov=True, weight_decay=2e-4),
        OneCycleSchedule(name="onecycle", warmup=0.1, start=0.1, end=1e-4, lowest_momentum=0.765),
        epochs=50,
        batch_size=256,
    ),
}
