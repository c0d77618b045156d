"""How long a training takes beside others: for the time left of those that have not begun.

Only ratios count: the clock of the trainings that run says what a unit is on this machine.
"""

from __future__ import annotations

from reluscope.lab.specification import Specification
from reluscope.lab.training import recording_schedule

__all__ = ["relative_cost"]

# One update of 128 images with 20 layers, in seconds on one core of the machine that docs/reproduce.md tells of.
_UPDATE_S = {"resnet": 0.41, "convnet": 0.37, "toynet": 0.66, "pyramidnet": 1.4, "fixup_resnet": 0.37}
_OTHER_S = 0.4
_PRELU = 1.35  # times ReLU
_MEASUREMENT = 1.6 / 3.0  # of an update on as many images: 1.6 forward passes, of which an update takes three
_CIFAR10 = 50_000  # images, where the specification does not say how many


def relative_cost(specification: Specification) -> float:
    """Of the whole training, in units of which only ratios mean something; > 0.

    Updates times the cost of one, by network, depth, activation and batch size, plus the measurements due.
    """
    model, training = specification.model, specification.training
    num_images = specification.data.num_images or _CIFAR10
    num_steps = training.num_steps(num_images)
    steps_per_epoch = training.steps_per_epoch(num_images)
    measurements = recording_schedule(specification.recording, num_steps, steps_per_epoch).steps(num_steps)
    depth = getattr(model, "depth", 20)
    image_s = _UPDATE_S.get(model.name, _OTHER_S) * (depth - 2) / 18 / 128
    if getattr(model, "activation", "relu") == "prelu":
        image_s *= _PRELU
    updated = num_steps * training.batch_size
    return image_s * (updated + _MEASUREMENT * len(measurements) * specification.probe.num_images)
