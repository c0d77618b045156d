"""Progress with time left, for a person: of one training, and of many side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reluscope.lab.training import TrainingProgress
from reluscope.lab.workers import TrainingEvent

__all__ = ["ProgressDisplay", "TrainingsDisplay"]


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


class TrainingsDisplay:
    """A context manager that shows many trainings: a bar for each that runs, and the time left for all.

    What ends, fails or warns is a line of its own, in a terminal above the bars; a log file gets these lines
    only.

    Args:
        console: where to draw; None: the standard error stream.
        quiet: show nothing but warnings and failures.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>4.0f} %"),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._all: TaskID | None = None
        self._bars: dict[str, TaskID] = {}
        self._names: list[str] = []
        self._share: dict[str, float] = {}  # of a training that is done
        self._share_found: dict[str, float] = {}  # what an earlier call had done of it
        self._num_ended = 0
        self._started = time.monotonic()

    def __enter__(self) -> TrainingsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, todo: Sequence[str], found: Sequence[str]) -> None:
        """The trainings that are to be done, and those that are found finished."""
        self._names, self._started = list(todo), time.monotonic()
        if found:
            self._say(f"{len(found)} of {len(found) + len(todo)} trainings are finished already")
        self._all = self._progress.add_task("all trainings", total=max(1, len(todo)), numbers="")

    def show(self, event: TrainingEvent) -> None:
        """What happened to a training; goes to `reproduce(..., on_event=...)`."""
        if event.kind == "started":
            self._bars[event.name] = self._progress.add_task(event.name, total=1.0, numbers="")
        elif event.progress is not None:
            self._step(event.name, event.progress)
        elif event.kind == "warning":
            self._say(f"warning: {event.name}: {event.text}", always=True)
        elif event.kind in ("finished", "failed"):
            self._end(event)
        left = self._time_left()
        if self._all is not None:
            numbers = f"{self._num_ended} of {len(self._names)}" + (f", {left} left" if left else "")
            self._progress.update(self._all, completed=sum(self._share.values()), numbers=numbers)

    def _step(self, name: str, progress: TrainingProgress) -> None:
        share = progress.step / progress.num_steps
        self._share_found.setdefault(name, (progress.step - 1) / progress.num_steps)
        self._share[name] = share
        numbers = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:6.1%}"
        self._progress.update(self._bars[name], completed=share, numbers=numbers)

    def _end(self, event: TrainingEvent) -> None:
        self._num_ended += 1
        self._share[event.name] = 1.0
        if event.name in self._bars:
            self._progress.remove_task(self._bars.pop(event.name))
        left = self._time_left()
        place = f"{self._num_ended} of {len(self._names)}" + (f", {left} left" if left else "")
        if event.result is None:
            self._say(f"failed: {event.name} ({place}): {event.text}", always=True)
        else:
            self._say(f"finished: {event.name} in {_in_words(event.result.seconds)} ({place})")

    def _time_left(self) -> str:
        """As long as what was done took, for what is left: every training counts the same."""
        done = sum(self._share.values()) - sum(self._share_found.values())
        left = len(self._names) - sum(self._share.values())
        if done <= 0 or left <= 0:
            return ""
        return f"about {_in_words((time.monotonic() - self._started) * left / done)}"

    def _say(self, text: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _in_words(seconds: float) -> str:
    """A duration as people say it.

    >>> _in_words(48.2), _in_words(600), _in_words(9000)
    ('48 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
