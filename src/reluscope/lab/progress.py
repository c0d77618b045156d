"""Progress with time left, for a person: of one training, and of many side by side."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reluscope.lab.display import Display
from reluscope.lab.training import TrainingProgress
from reluscope.lab.workers import TrainingEvent

__all__ = ["ProgressDisplay", "TrainingsDisplay"]


class ProgressDisplay(Display):
    """A context manager that shows one bar per training: updates done, time left, loss and accuracy.

    Args: `console` and `quiet` as of `Display`.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            quiet=quiet,
        )

    def training(self, title: str) -> Callable[[TrainingProgress], None]:
        """A new bar; what is returned goes to `train(..., on_step=...)`."""
        task = self._progress.add_task(title, total=None, numbers="")

        def show(progress: TrainingProgress) -> None:
            numbers = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:6.1%}"
            self._progress.update(task, total=progress.num_steps, completed=progress.step, numbers=numbers)

        return show


class TrainingsDisplay(Display):
    """A context manager that shows many trainings: a bar for each that runs, and the time left for all.

    What ends, fails or warns is a line of its own, in a terminal above the bars; a log file gets these lines
    only.

    Args:
        console: where to draw; None: the standard error stream.
        quiet: show nothing but warnings and failures.
        costs: what each training costs beside the others (`relative_cost`); None: all the same.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>4.0f} %"),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            quiet=quiet,
        )
        self._costs = costs or {}
        self._quiet = quiet
        self._all: TaskID | None = None
        self._bars: dict[str, TaskID] = {}
        self._names: list[str] = []
        self._share: dict[str, float] = {}  # of a training that is done
        self._ends: dict[str, float] = {}  # of those that run: when, by the clock, as far as that is known
        self._whole: dict[str, float] = {}  # seconds of a whole training, of those that began
        self._running: set[str] = set()
        self._num_at_once = 1
        self._num_ended = 0

    def begin(self, todo: Sequence[str], found: Sequence[str]) -> None:
        """The trainings that are to be done, and those that are found finished."""
        self._names = list(todo)
        if found:
            self._say(f"{len(found)} of {len(found) + len(todo)} trainings are finished already")
        total = sum(self._costs.get(name, 1.0) for name in todo)
        self._all = self._progress.add_task("all trainings", total=total or 1.0, numbers="")

    def show(self, event: TrainingEvent) -> None:
        """What happened to a training; goes to `reproduce(..., on_event=...)`."""
        if event.kind == "started":
            self._running.add(event.name)
            self._num_at_once = max(self._num_at_once, len(self._running))
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
            done = sum(share * self._costs.get(name, 1.0) for name, share in self._share.items())
            self._progress.update(self._all, completed=done, numbers=numbers)

    def _step(self, name: str, progress: TrainingProgress) -> None:
        share = progress.step / progress.num_steps
        if math.isfinite(progress.seconds_left):
            self._ends[name] = time.monotonic() + progress.seconds_left
            self._whole[name] = progress.seconds_whole
            share = 1.0 - progress.seconds_left / progress.seconds_whole
        self._share[name] = share
        numbers = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:6.1%}"
        self._progress.update(self._bars[name], completed=share, numbers=numbers)

    def _end(self, event: TrainingEvent) -> None:
        self._num_ended += 1
        self._share[event.name] = 1.0
        self._running.discard(event.name)
        if event.name in self._bars:
            self._progress.remove_task(self._bars.pop(event.name))
        left = self._time_left()
        place = f"{self._num_ended} of {len(self._names)}" + (f", {left} left" if left else "")
        if event.result is None:
            self._say(f"failed: {event.name} ({place}): {event.text}", always=True)
        else:
            self._say(f"finished: {event.name} in {_in_words(event.result.seconds)} ({place})")

    def _time_left(self) -> str:
        """Until the last one ends: those that run by their own clocks, the others by theirs and the costs."""
        begun = sum(self._costs.get(name, 1.0) for name in self._whole)
        waiting = [name for name in self._names if name not in self._share and name not in self._running]
        if not begun or not (waiting or self._running):
            return ""
        unit = sum(self._whole.values()) / begun
        now = time.monotonic()
        ends = [
            max(0.0, self._ends.get(name, now + unit * self._costs.get(name, 1.0)) - now)
            for name in self._running
        ]
        ends += [0.0] * (self._num_at_once - len(ends))
        heapq.heapify(ends)
        for name in waiting:  # each begins when one before it ends
            heapq.heappush(ends, heapq.heappop(ends) + unit * self._costs.get(name, 1.0))
        return f"about {_in_words(max(ends))}"

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
