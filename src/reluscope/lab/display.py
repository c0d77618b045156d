"""What all displays of progress have in common: bars in a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn

__all__ = ["Display"]


class Display:
    """A context manager that draws bars.

    Nothing is drawn when `quiet`, or when the console is not a terminal: a log file wants no bars.

    Args:
        columns: of each bar.
        console: where to draw; None: the standard error stream, so that standard output stays free for results.
        quiet: draw nothing.
        speed_estimate_period: seconds of the past that the time left is estimated from.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        console: Console | None,
        quiet: bool,
        speed_estimate_period: float = 30.0,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            *columns,
            console=self._console,
            speed_estimate_period=speed_estimate_period,
            disable=quiet or not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
