"""`reluscope train`: train and record what a specification describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluscope.cli.console import print_json, print_line
from reluscope.errors import RunExistsError

if TYPE_CHECKING:
    from reluscope.lab import Specification, TrainingResult

__all__ = ["train"]


def train(
    specification: Annotated[
        str | None,
        typer.Argument(metavar="SPEC.yaml|NAME", help="A YAML file, or a preset's name; see --list."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field: optimizer.lr=0.05. Repeatable."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Folder of the run. Default: runs/NAME.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the image files. Default: $RELUSCOPE_DATA_DIR."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run.")] = False,
    list_presets: Annotated[bool, typer.Option("--list", help="List the presets.")] = False,
    show_specification: Annotated[
        bool, typer.Option("--show", help="Print the whole specification as YAML and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Train a network and record its activation patterns.

    Press Ctrl-C to stop; `reluscope train --resume --run DIR` goes on where it was, bit for bit.
    """
    if list_presets:
        _list_presets(as_json)
        return
    spec, folder = _what_to_train(specification, overrides or [], run, resume)
    if show_specification:
        from reluscope.lab import specification_to_yaml

        if as_json:
            print_json(spec.model_dump(mode="json"))
        else:
            print_line(specification_to_yaml(spec).rstrip())
        return
    if not resume:
        _check_free(folder)
    from reluscope.lab import ProgressDisplay
    from reluscope.lab import train as run_training

    try:
        with ProgressDisplay(quiet=quiet or as_json) as display:
            on_step = display.training(folder.name)
            result = run_training(spec, folder, data_dir=data_dir, resume=resume, on_step=on_step)
    except KeyboardInterrupt:
        typer.echo(f"Stopped. Go on with: reluscope train --resume --run {folder}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(vars(result))
        return
    print_line(_in_words(result))
    print_line(f"Look at it: reluscope report {folder} -o report.html    or: reluscope show {folder}")


def _what_to_train(
    specification: str | None, overrides: list[str], run: Path | None, resume: bool
) -> tuple[Specification, Path]:
    """The specification and the run's folder, from what was given; usage errors where that is too little."""
    from reluscope.lab import read_specification, stored_specification

    if resume:
        if run is None:
            raise typer.BadParameter("say which run to go on with.", param_hint="--run DIR")
        if specification is None and not overrides:
            return stored_specification(run), run
    if specification is None:
        raise typer.BadParameter(
            "say what to train: a YAML file or a preset (reluscope train --list), or --resume --run DIR.",
            param_hint="SPEC.yaml|NAME",
        )
    if run is None:
        run = Path("runs") / Path(specification).stem
    return read_specification(specification, overrides=overrides), run


def _check_free(run: Path) -> None:
    """Before anything is loaded: the recorder would refuse too, in the words of the Python API."""
    from reluscope.runs.writer import is_free

    if (run / "run.json").exists() and not is_free(run):
        raise RunExistsError(
            f'a run is already at "{run}". Go on with it: reluscope train --resume --run {run}. Or train '
            "into another folder: --run DIR."
        )


def _list_presets(as_json: bool) -> None:
    from reluscope.lab import PRESETS

    meanings = {name: (make.__doc__ or "").split("\n\n")[0] for name, make in PRESETS.items()}
    meanings = {name: " ".join(text.split()) for name, text in meanings.items()}
    if as_json:
        print_json(meanings)
        return
    width = max(map(len, meanings)) + 2
    for name, text in meanings.items():
        print_line(f"{name:<{width}}{text}")


def _in_words(result: TrainingResult) -> str:
    text = f"{result.num_steps} updates, {result.num_measurements} measurements, {result.seconds:.0f} s"
    if result.first_step == result.num_steps:
        text = f"Nothing left to train: all {result.num_steps} updates were done already"
    elif result.first_step:
        text += f" (resumed after {result.first_step})"
    if result.held_out_accuracy == result.held_out_accuracy:  # not NaN: some images were kept back
        text += f", {result.held_out_accuracy:.1%} of the images kept back right"
    return text + "."
