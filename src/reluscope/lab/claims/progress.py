"""Progress of the judging for a person: runs read, claims judged."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from reluscope.lab.display import Display

__all__ = ["JudgingDisplay", "JudgingProgress"]


@dataclass(frozen=True, kw_only=True)
class JudgingProgress:
    """How far it is.

    Attributes:
        done, total: runs read and claims judged, of all.
        doing: the run that is read or the claim that is judged now.
    """

    done: int
    total: int
    doing: str


class JudgingDisplay(Display):
    """A context manager with one bar over runs and claims. Args: `console` and `quiet` as of `Display`."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        super().__init__(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            quiet=quiet,
        )
        self._task = self._progress.add_task("", total=None)

    def show(self, progress: JudgingProgress) -> None:
        """How far it is; goes to `judge_folder(..., on_progress=...)`."""
        self._progress.update(
            self._task, total=progress.total, completed=progress.done, description=progress.doing
        )
