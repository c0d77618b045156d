"""Progress bars with time left, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reluscope.lab.training import TrainingProgress

__all__ = ["ProgressDisplay"]


class ProgressDisplay:
    """A context manager that shows one bar per training: updates done, time left, loss and accuracy.

    Nothing is shown when `quiet`, or when the console is not a terminal: a log file wants no bars.

    Args:
        console: where to draw; None: the standard error stream, so that standard output stays free for
            results.
        quiet: show nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def training(self, title: str) -> Callable[[TrainingProgress], None]:
        """A new bar; what is returned goes to `train(..., on_step=...)`."""
        task = self._progress.add_task(title, total=None, numbers="")

        def show(progress: TrainingProgress) -> None:
            numbers = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:6.1%}"
            self._progress.update(task, total=progress.num_steps, completed=progress.step, numbers=numbers)

        return show
