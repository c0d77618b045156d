"""`reluscope reproduce`: a figure of the paper from one's own trainings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluscope.cli.console import print_json, print_line

if TYPE_CHECKING:
    from reluscope.lab import Reproduction

__all__ = ["FigureName", "Scale", "reproduce"]


class FigureName(StrEnum):
    """The figures of [A]."""

    FIG1 = "fig1"
    FIG2 = "fig2"
    FIG3 = "fig3"
    FIG4 = "fig4"


class Scale(StrEnum):
    """How much of a figure."""

    SMOKE = "smoke"
    LAPTOP = "laptop"
    PAPER = "paper"


def reproduce(
    figure: Annotated[FigureName, typer.Argument(metavar="FIGURE", help="Which figure.")],
    scale: Annotated[
        Scale,
        typer.Option(help="smoke: embedded digits, a minute. laptop: CIFAR-10, hours. paper: as printed."),
    ] = Scale.LAPTOP,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the image files. Default: $RELUSCOPE_DATA_DIR."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for runs, picture and page.")] = Path(
        "reproduction"
    ),
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="How many of each training. Default: the scale's number."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Trainings at a time. Default: one per core; one on a GPU."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only trainings of this name or glob; see --list. Repeatable."),
    ] = None,
    list_trainings: Annotated[bool, typer.Option("--list", help="List the trainings and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Train what a figure of the paper shows, and draw it: picture, page and runs.

    Press Ctrl-C to stop; the same command goes on where it was. The trainings are those of Hartmann, Franzen,
    Brodehl 2021; docs/reproduce.md says how long they take.
    """
    if list_trainings:
        _list(figure, scale, seeds, only or [], as_json)
        return
    from reluscope.lab import TrainingsDisplay, experiment, relative_cost
    from reluscope.lab import reproduce as run_reproduction

    trainings = experiment(figure.value, scale.value, seeds=seeds)
    costs = {name: relative_cost(specification) for name, specification in trainings}
    try:
        with TrainingsDisplay(quiet=quiet or as_json, costs=costs) as display:
            result = run_reproduction(
                figure.value,
                scale=scale.value,
                out=out,
                data_dir=data_dir,
                seeds=seeds,
                jobs=jobs,
                only=only or [],
                on_start=display.begin,
                on_event=display.show,
            )
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on where it was.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json({**vars(result), "outcomes": [vars(one) for one in result.outcomes]})
    else:
        _summarize(result)
    if result.failed:
        raise typer.Exit(1)


def _list(figure: FigureName, scale: Scale, seeds: int | None, only: list[str], as_json: bool) -> None:
    from reluscope.lab import experiment, selected_trainings

    chosen = selected_trainings(experiment(figure.value, scale.value, seeds=seeds), only)
    if as_json:
        print_json({name: spec.model_dump(mode="json") for name, spec in chosen})
        return
    for name, spec in chosen:
        length = (
            f"{spec.training.steps:,} updates" if spec.training.steps else f"{spec.training.epochs:g} epochs"
        )
        images = f"{spec.data.num_images:,} of " if spec.data.num_images else ""
        print_line(f"{name:<40}{length:<15}{images}{spec.data.name}, probe {spec.probe.num_images:,}")


def _summarize(result: Reproduction) -> None:
    for one in result.outcomes:
        if one.state != "failed" and one.held_out_accuracy is not None:
            print_line(f"{one.name:<40}{one.held_out_accuracy:6.1%} of the images kept back right")
    for one in result.outcomes:
        if one.state == "failed":
            print_line(f"{one.name:<40}failed: {one.text}")
    if result.page is None:
        print_line("Nothing is drawn: no training is finished.")
        return
    print_line()
    for path in result.pictures:
        print_line(f"Figure: {path}")
    print_line(f"Page:   {result.page}")
