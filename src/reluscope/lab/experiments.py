"""The trainings behind figures 1 to 4 of [A], at three scales: `smoke`, `laptop` and `paper`.

Each figure is a plain function that returns names and specifications; a scale is a row of numbers in
`NUMBERS`, and nothing else. Slow networks come first, so that processes side by side end together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reluscope.errors import SpecificationError
from reluscope.lab.paper_trainings import MethodName, NetworkName, paper_training
from reluscope.lab.section import ActivationName
from reluscope.lab.specification import (
    ConstantSchedule,
    CyclicSchedule,
    InstrumentsSpecification,
    PatternsSpecification,
    ProbeSpecification,
    RecordingSpecification,
    Specification,
)

__all__ = ["FIGURES", "NUMBERS", "SCALES", "Numbers", "ScaleName", "experiment"]

ScaleName = Literal["smoke", "laptop", "paper"]
SCALES: tuple[ScaleName, ...] = ("smoke", "laptop", "paper")

Trainings = list[tuple[str, Specification]]

# Beyond the schedule of a figure: the steps at which its claims are decided.
_STEPS_OF_CLAIMS = (0, 1, 2, 8, 9, 40, 41)
# The paper gives more slots where there are more patterns, to keep its lists emptier than 15 %. PyramidNet is wide
# from its first block on: 3.0 M patterns in one site of 4,000 images at initialisation.
_HASHLIST_FACTORS = {"pyramidnet": 4}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """All that a scale says about a figure.

    Attributes:
        data: the image set; num_images: of which so many are trained on, None for all.
        held_out: what is kept back: a fraction, or "test" for the set's own test images.
        probe: images measured.
        batch_size: of the methods that have 128 in the paper; OneCycle has twice as many.
        steps, epochs: length of the trainings, one of the two; epochs by method or network where they differ.
        until, every, per_epoch, shares: when to measure, as in the section `recording`.
        is_paired: also measure just before each of `every`: the change over a single update is then known there.
        depths: of the networks.
        seeds: how many.
        cycles: of CyclicLR.
        hashlist: slots of the paper's hash list of each site (PyramidNet: four times as many), beside the exact
            counts; None: without.
        sample_size: patterns kept of each site at each measurement, for similarities between any two steps.
    """

    data: str = "cifar10"
    num_images: int | None = None
    held_out: float | Literal["test"] = "test"
    probe: int = 4000
    batch_size: int = 128
    steps: int | None = None
    epochs: Mapping[str, float] = field(default_factory=dict)
    until: int | None = None
    every: int | None = None
    is_paired: bool = False
    per_epoch: int | None = None
    shares: tuple[float, ...] = ()
    depths: tuple[int, ...] = (20,)
    seeds: int = 1
    cycles: int = 5
    hashlist: int | None = None
    sample_size: int = 4096


_SMOKE = {"data": "mnist-sample", "held_out": 0.1, "probe": 64, "batch_size": 32}

NUMBERS: dict[str, dict[ScaleName, Numbers]] = {
    "fig1": {
        "smoke": Numbers(**_SMOKE, num_images=320, steps=50, until=6, every=10, sample_size=256),
        "laptop": Numbers(held_out=0.01, steps=1000, until=200, every=20, is_paired=True, sample_size=1024),
        "paper": Numbers(held_out=0.01, steps=3000, every=1, probe=49_500, sample_size=1024),
    },
    "fig2": {
        "smoke": Numbers(
            **_SMOKE, num_images=256, epochs={"stepwise": 8}, shares=(0.5,), depths=(8, 14), seeds=2
        ),
        "laptop": Numbers(
            num_images=10_000, epochs={"stepwise": 12}, shares=(0.5,), depths=(8, 14, 20), seeds=3
        ),
        "paper": Numbers(
            probe=50_000, epochs={"stepwise": 200}, shares=(0.5,), depths=(8, 14, 20, 26, 32), seeds=25
        ),
    },
    "fig3": {
        "smoke": Numbers(
            **_SMOKE,
            num_images=192,
            epochs={"stepwise": 4, "cyclic": 4, "onecycle": 4, "pyramidnet": 2},
            per_epoch=1,
            shares=(0.5,),
            cycles=2,
            hashlist=2**16,
            sample_size=1024,
        ),
        "laptop": Numbers(
            num_images=10_000,
            epochs={"stepwise": 20, "cyclic": 20, "onecycle": 20, "pyramidnet": 20},
            per_epoch=1,
            shares=(0.5,),
            cycles=2,
            hashlist=2**23,
        ),
        "paper": Numbers(
            probe=50_000,
            epochs={"stepwise": 200, "cyclic": 100, "onecycle": 50, "pyramidnet": 300},
            per_epoch=1,
            shares=(0.5,),
            hashlist=2**26,
        ),
    },
    "fig4": {
        "smoke": Numbers(
            **_SMOKE, num_images=256, epochs={"stepwise": 6}, per_epoch=2, shares=(0.5,), sample_size=1024
        ),
        "laptop": Numbers(
            num_images=10_000, held_out=0.01, epochs={"stepwise": 20}, per_epoch=2, shares=(0.5,)
        ),
        "paper": Numbers(held_out=0.01, probe=49_500, epochs={"stepwise": 200}, per_epoch=2, shares=(0.5,)),
    },
}


def experiment(figure: str, scale: str, *, seeds: int | None = None) -> Trainings:
    """The trainings behind a figure.

    Args:
        figure: "fig1" ... "fig4".
        scale: "smoke" (embedded digits, under a minute), "laptop" (CIFAR-10, each training under an hour on
            two cores) or "paper" (as printed; wants a GPU).
        seeds: how many of each; None: the scale's number.

    Returns:
        (name, specification) of each training, in the order in which to train them; names like
        "resnet20-relu-stepwise-seed0".

    Raises:
        SpecificationError: no such figure or scale, or no seed at all.
    """
    if figure not in FIGURES:
        raise SpecificationError(f'no figure "{figure}" is reproduced. Allowed: {", ".join(FIGURES)}.')
    if scale not in NUMBERS[figure]:
        raise SpecificationError(f'no scale is called "{scale}". Allowed: {", ".join(SCALES)}.')
    numbers = NUMBERS[figure][scale]
    num_seeds = numbers.seeds if seeds is None else seeds
    if num_seeds < 1:
        raise SpecificationError(f"{num_seeds} seeds were asked for; give at least 1.")
    trainings = [made for seed in range(num_seeds) for made in FIGURES[figure](numbers, seed)]
    tags = {"experiment": figure, "scale": scale}
    return [(name, spec.model_copy(update=tags)) for name, spec in trainings]


# The figures -----------------------------------------------------------------------------------------------


def figure1(numbers: Numbers, seed: int) -> Trainings:
    """The early phase: the first updates of the stepwise training, before its rate drops."""
    made = [_training(numbers, net, seed=seed) for net in ("toynet", "resnet", "convnet")]
    constant = {"schedule": ConstantSchedule(name="constant")}
    return [(name.replace("stepwise", "constant"), spec.model_copy(update=constant)) for name, spec in made]


def figure2(numbers: Numbers, seed: int) -> Trainings:
    """Entropy across the sites for nets of several depths; the seeds are what its bands are made of."""
    return [
        _training(numbers, net, depth=depth, seed=seed)
        for depth in sorted(numbers.depths, reverse=True)
        for net in ("toynet", "resnet", "convnet")
    ]


def figure3(numbers: Numbers, seed: int) -> Trainings:
    """Full trainings of ten methods, measured once per epoch, with the hash list beside the exact counts."""
    made = [_training(numbers, "pyramidnet", seed=seed)]
    for net in ("resnet", "convnet"):
        made += [
            _training(numbers, net, activation="prelu", seed=seed),
            _training(numbers, net, seed=seed),
            _training(numbers, net, method="cyclic", seed=seed),
            _training(numbers, net, method="onecycle", seed=seed),
        ]
    return [*made, _training(numbers, "fixup_resnet", seed=seed)]


def figure4(numbers: Numbers, seed: int) -> Trainings:
    """Full stepwise trainings, measured twice per epoch."""
    return [_training(numbers, net, seed=seed) for net in ("toynet", "resnet", "convnet")]


FIGURES: dict[str, Callable[[Numbers, int], Trainings]] = {
    "fig1": figure1,
    "fig2": figure2,
    "fig3": figure3,
    "fig4": figure4,
}


def _training(
    numbers: Numbers,
    network: NetworkName,
    *,
    method: MethodName = "stepwise",
    activation: ActivationName = "relu",
    depth: int | None = None,
    seed: int,
) -> tuple[str, Specification]:
    """One training of the paper with the numbers of a scale, and its name."""
    depth = numbers.depths[0] if depth is None else depth
    spec = paper_training(network, method=method, depth=depth, activation=activation, seed=seed)
    schedule = spec.schedule
    if isinstance(schedule, CyclicSchedule):
        schedule = schedule.model_copy(update={"cycles": numbers.cycles})
    epochs = numbers.epochs.get(network, numbers.epochs.get(method))
    length = {"steps": numbers.steps, "epochs": epochs}
    batch_size = spec.training.batch_size * numbers.batch_size // 128
    data = {"name": numbers.data, "num_images": numbers.num_images, "held_out": numbers.held_out}
    patterns = PatternsSpecification(
        labels=False,
        hashlist=numbers.hashlist and numbers.hashlist * _HASHLIST_FACTORS.get(network, 1),
        sample_size=numbers.sample_size,
        sample_every=1,
    )
    scaled = spec.model_copy(
        update={
            "data": spec.data.model_copy(update=data),
            "schedule": schedule,
            "training": spec.training.model_copy(update={**length, "batch_size": batch_size}),
            "probe": ProbeSpecification(num_images=numbers.probe),
            "recording": _recording(numbers),
            "instruments": InstrumentsSpecification(patterns=patterns),
        }
    )
    return f"{network.replace('_', '-')}{depth}-{activation}-{method}-seed{seed}", scaled


def _recording(numbers: Numbers) -> RecordingSpecification:
    steps = set(_STEPS_OF_CLAIMS)
    if numbers.is_paired and numbers.every and numbers.steps:
        steps |= {step - 1 for step in range(numbers.every, numbers.steps + 1, numbers.every)}
    return RecordingSpecification(
        at=tuple(sorted(steps)),
        until=numbers.until,
        every=numbers.every,
        per_decade=None,
        per_epoch=numbers.per_epoch,
        shares=numbers.shares,
    )
