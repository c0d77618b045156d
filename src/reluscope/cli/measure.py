"""`reluscope measure`: measure saved weights of any training into a run, as if they had been recorded live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluscope.cli.console import print_json, print_line
from reluscope.errors import RunExistsError

if TYPE_CHECKING:
    from reluscope.recording import ReplayProgress, ReplayResult

__all__ = ["measure"]


def measure(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Files that torch.save wrote, or .safetensors. Default: all that the training of --like kept.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Measure as this run did: mode, instruments, threads, layout."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Folder to make. Default: RUN-replayed.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FACTORY", help="Your model: a function without arguments, a class or a model."
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FACTORY", help="Your probe: a function that returns an rs.Probe, or one."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="0,100,...", help="The step of each checkpoint, where neither it nor its name says it."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Under which name a file holds the state dict.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="init,final,all", help="Exact tables to keep. Default: as --like does; without it, init."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the image files. Default: $RELUSCOPE_DATA_DIR."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun in --run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Measure saved weights into a run, with the rows that recording live would have given.

    Of `reluscope train`: reluscope measure --like RUN. Of your own training: reluscope measure
    --model mine:net --probe mine:probe --run runs/mine checkpoints/*.pt
    """
    asked = _Asked(
        checkpoints=checkpoints or [],
        like=like,
        run=run,
        model=model,
        probe=probe,
        steps=steps,
        key=key,
        keep=keep,
        data_dir=data_dir,
        resume=resume,
    )
    _check(asked)
    try:
        with _progress_bar(asked.folder.name, quiet=quiet or as_json) as on_measured:
            result = _replay(asked, on_measured)
    except KeyboardInterrupt:
        typer.echo("Stopped. Go on with the same command and --resume.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(vars(result))
        return
    print_line(_in_words(result))
    print_line(f"Look at it: reluscope report {result.run} -o report.html    or: reluscope show {result.run}")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The arguments of the command."""

    checkpoints: list[Path]
    like: Path | None
    run: Path | None
    model: str | None
    probe: str | None
    steps: str | None
    key: str | None
    keep: str | None
    data_dir: Path | None
    resume: bool

    @property
    def folder(self) -> Path:
        """Where the measurements go."""
        if self.run is not None:
            return self.run
        if self.like is None:
            raise typer.BadParameter("say where the measurements shall go.", param_hint="--run DIR")
        return self.like.with_name(f"{self.like.name}-replayed")


def _check(asked: _Asked) -> None:
    """Usage errors for what does not go together, before anything heavy is loaded."""
    if (asked.model is None) != (asked.probe is None):
        missing = "--model" if asked.model is None else "--probe"
        raise typer.BadParameter("--model and --probe go together.", param_hint=f"{missing} MODULE:FACTORY")
    if asked.model is None and asked.like is None:
        raise typer.BadParameter(
            "say what the weights belong to: --like RUN for a training of `reluscope train`, --model and "
            "--probe for one of your own.",
            param_hint="--like RUN",
        )
    if asked.model is not None and not asked.checkpoints:
        raise typer.BadParameter("name the files of saved weights.", param_hint="CHECKPOINT")
    if asked.model is None and (asked.steps is not None or asked.key is not None):
        raise typer.BadParameter("they go with --model and --probe only.", param_hint="--steps, --key")
    if not asked.resume and (asked.folder / "run.json").exists():
        from reluscope.runs.writer import (
            is_free,
        )  # the recorder would refuse too, in the words of the Python API

        if not is_free(asked.folder):
            raise RunExistsError(
                f'a run is already at "{asked.folder}". Go on with it: the same command and --resume. Or measure '
                "into another folder: --run DIR."
            )


def _replay(asked: _Asked, on_measured: Callable[[ReplayProgress], None]) -> ReplayResult:
    """Of a training of the lab, or of the user's own."""
    keep = None if asked.keep is None else _words(asked.keep)
    if asked.model is None or asked.probe is None:
        assert asked.like is not None  # checked
        from reluscope.lab import replay_training

        return replay_training(
            asked.like,
            asked.checkpoints,
            asked.folder,
            data_dir=asked.data_dir,
            keep=keep,
            resume=asked.resume,
            on_measured=on_measured,
        )
    steps = None if asked.steps is None else _parse_steps(asked.steps)
    import reluscope as rs
    from reluscope.cli.factories import make_model, make_probe

    return rs.replay(
        make_model(asked.model),
        make_probe(asked.probe),
        asked.checkpoints,
        asked.folder,
        like=asked.like,
        keep=keep,
        steps=steps,
        key=asked.key,
        if_exists="resume" if asked.resume else "error",
        on_measured=on_measured,
    )


def _parse_steps(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" is no list of steps. Write whole numbers with commas: 0,100,200.', param_hint="--steps"
        ) from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@contextmanager
def _progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[ReplayProgress], None]]:
    """A bar with the time left, where somebody watches; what is yielded goes to `on_measured`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda progress: bar.update(task, total=progress.num_checkpoints, completed=progress.num_done)


def _in_words(result: ReplayResult) -> str:
    checkpoints = "1 checkpoint" if result.num_measured == 1 else f"{result.num_measured} checkpoints"
    text = f"{checkpoints} measured in {result.seconds:.0f} s"
    if before := len(result.steps) - result.num_measured:
        text += f", {before} were there already"
    first, last = result.steps[0], result.steps[-1]
    return f"{text}: {result.run} " + (
        f"goes from step {first} to {last}." if first < last else f"holds step {first}."
    )
