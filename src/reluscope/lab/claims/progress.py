"""Progress of the judging for a person: runs read, claims judged."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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


class JudgingDisplay:
    """A context manager with one bar over runs and claims; nothing where the console is no terminal, or when `quiet`.

    Args:
        console: where to draw; None: the standard error stream.
        quiet: show nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> JudgingDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, progress: JudgingProgress) -> None:
        """How far it is; goes to `judge_folder(..., on_progress=...)`."""
        self._progress.update(
            self._task, total=progress.total, completed=progress.done, description=progress.doing
        )
