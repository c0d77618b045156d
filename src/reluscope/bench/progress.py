"""Progress of a benchmark for a person: cases done, the one at work, time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reluscope.bench import cases

__all__ = ["BenchDisplay"]


class BenchDisplay:
    """A context manager with one bar over all cases; nothing where the console is no terminal, or when `quiet`.

    Args:
        console: where to draw; None: the standard error stream.
        quiet: show nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=600.0,  # a case may take minutes between two signs of life
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, numbers="")

    def __enter__(self) -> BenchDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, progress: cases.Progress) -> None:
        """How far it is; goes to `run_cases(..., on_progress)`. Every case counts the same."""
        self._progress.update(
            self._task,
            description=progress.case,
            total=progress.num_cases,
            completed=progress.index + progress.share,
            numbers=f"case {progress.index + 1} of {progress.num_cases}",
        )
