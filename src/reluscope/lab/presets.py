"""Ready-made trainings: each preset is a plain function that returns a complete specification.

Their settings are those of the papers ([A] Hartmann et al. 2021, [B] Haasbroek, Davel 2020) where the scale
allows; what is shortened for a laptop says so. The first line of each docstring is its line in
`reluscope train --list`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reluscope.errors import SpecificationError, closest
from reluscope.lab.paper_trainings import paper_training
from reluscope.lab.specification import (
    SGD,
    Adam,
    ConvolutionalModel,
    DataSpecification,
    MilestonesSchedule,
    MLPModel,
    ProbeSpecification,
    RecordingSpecification,
    Specification,
    TrainingSpecification,
)

__all__ = [
    "PRESETS",
    "convnet20_cifar10",
    "convnet20_mnist_sample",
    "fixup_resnet20_cifar10",
    "mlp_mnist",
    "mlp_mnist_sample",
    "preset",
    "pyramidnet20_cifar10",
    "resnet20_cifar10",
    "resnet20_cyclic_cifar10",
    "resnet20_mnist_sample",
    "resnet20_onecycle_cifar10",
    "resnet20_prelu_cifar10",
    "toynet20_cifar10",
]


def _mnist_sample(net: Literal["resnet", "convnet"]) -> Specification:
    """A few minutes on two cores: 300 updates of [A]'s optimizer on the 5,000 embedded digits."""
    return Specification(
        model=ConvolutionalModel(name=net, depth=20),
        data=DataSpecification(name="mnist-sample", held_out=0.1),
        optimizer=SGD(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=MilestonesSchedule(name="milestones", milestones=(0.5, 0.75)),
        training=TrainingSpecification(steps=300, batch_size=128),
        probe=ProbeSpecification(num_images=1000),
    )


def resnet20_mnist_sample() -> Specification:
    """ResNet-20 on the embedded digits, 300 updates, a few minutes on two cores."""
    return _mnist_sample("resnet")


def convnet20_mnist_sample() -> Specification:
    """ConvNet-20, without shortcuts, on the embedded digits, 300 updates, a few minutes on two cores."""
    return _mnist_sample("convnet")


def resnet20_cifar10() -> Specification:
    """ResNet-20 on CIFAR-10 by the stepwise schedule of [A]: 200 epochs, hours on a CPU.

    `--set training.epochs=10 --set data.num_images=10000` is a laptop's afternoon.
    """
    return paper_training("resnet")


def convnet20_cifar10() -> Specification:
    """ConvNet-20 on CIFAR-10 by the stepwise schedule of [A]: 200 epochs, hours on a CPU."""
    return paper_training("convnet")


def toynet20_cifar10() -> Specification:
    """ToyNet-20 on CIFAR-10 by the stepwise schedule of [A]: 200 epochs, hours on a CPU."""
    return paper_training("toynet")


def resnet20_prelu_cifar10() -> Specification:
    """ResNet-20 with PReLU on CIFAR-10 by the stepwise schedule of [A]: 200 epochs, hours on a CPU."""
    return paper_training("resnet", activation="prelu")


def resnet20_cyclic_cifar10() -> Specification:
    """ResNet-20 on CIFAR-10 by the CyclicLR of [A]: 100 epochs in 5 cycles, hours on a CPU."""
    return paper_training("resnet", method="cyclic")


def resnet20_onecycle_cifar10() -> Specification:
    """ResNet-20 on CIFAR-10 by the OneCycleLR of [A]: 50 epochs, hours on a CPU."""
    return paper_training("resnet", method="onecycle")


def pyramidnet20_cifar10() -> Specification:
    """PyramidNet-20 on CIFAR-10 as in [A]: 300 epochs, a day on a CPU."""
    return paper_training("pyramidnet")


def fixup_resnet20_cifar10() -> Specification:
    """FixUp ResNet-20, without normalisation, on CIFAR-10 as in [A]: 200 epochs, hours on a CPU."""
    return paper_training("fixup_resnet")


def mlp_mnist_sample() -> Specification:
    """An MLP of 5 hidden layers, 80 wide, on the embedded digits with Adam: seconds."""
    return Specification(
        model=MLPModel(name="mlp", hidden_layers=5, width=80),
        data=DataSpecification(name="mnist-sample", held_out=0.1),
        optimizer=Adam(name="adam", lr=1e-3),
        training=TrainingSpecification(epochs=10, batch_size=128),
        probe=ProbeSpecification(num_images=1000),
    )


def mlp_mnist() -> Specification:
    """An MLP of 5 hidden layers, 80 wide, on MNIST with Adam, as in [B]: 200 epochs, 55,000 images."""
    return Specification(
        model=MLPModel(name="mlp", hidden_layers=5, width=80),
        data=DataSpecification(name="mnist", held_out=1 / 12),  # 5,000 of 60,000
        optimizer=Adam(name="adam", lr=1e-3),
        training=TrainingSpecification(epochs=200, batch_size=128),
        probe=ProbeSpecification(num_images=5000),
        recording=RecordingSpecification(per_epoch=1),
    )


PRESETS: dict[str, Callable[[], Specification]] = {
    "resnet20-mnist-sample": resnet20_mnist_sample,
    "convnet20-mnist-sample": convnet20_mnist_sample,
    "mlp-mnist-sample": mlp_mnist_sample,
    "resnet20-cifar10": resnet20_cifar10,
    "convnet20-cifar10": convnet20_cifar10,
    "toynet20-cifar10": toynet20_cifar10,
    "resnet20-prelu-cifar10": resnet20_prelu_cifar10,
    "resnet20-cyclic-cifar10": resnet20_cyclic_cifar10,
    "resnet20-onecycle-cifar10": resnet20_onecycle_cifar10,
    "pyramidnet20-cifar10": pyramidnet20_cifar10,
    "fixup-resnet20-cifar10": fixup_resnet20_cifar10,
    "mlp-mnist": mlp_mnist,
}


def preset(name: str) -> Specification:
    """The ready-made specification of that name.

    Raises:
        SpecificationError: no preset has that name; the text names the closest.

    >>> preset("mlp-mnist").model.width
    80
    """
    if name not in PRESETS:
        raise SpecificationError(
            f'no preset is called "{name}". There are {len(PRESETS)}; closest: {closest(name, PRESETS)}. '
            "List them with `reluscope train --list`, or give a YAML file (its name ends in .yaml)."
        )
    return PRESETS[name]()
