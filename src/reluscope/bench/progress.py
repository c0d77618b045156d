"""Progress of a benchmark for a person: cases done, the one at work, time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reluscope.bench import cases
from reluscope.lab.display import Display

__all__ = ["BenchDisplay"]


class BenchDisplay(Display):
    """A context manager with one bar over all cases. Args: `console` and `quiet` as of `Display`."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            quiet=quiet,
            speed_estimate_period=600.0,  # a case may take minutes between two signs of life
        )
        self._task = self._progress.add_task("", total=None, numbers="")

    def show(self, progress: cases.Progress) -> None:
        """How far it is; goes to `run_cases(..., on_progress)`. Every case counts the same."""
        self._progress.update(
            self._task,
            description=progress.case,
            total=progress.num_cases,
            completed=progress.index + progress.share,
            numbers=f"case {progress.index + 1} of {progress.num_cases}",
        )
