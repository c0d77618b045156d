"""Trainings side by side in processes of their own: one that fails, or dies, does not stop the others.

Processes are spawned, not forked (a forked child has torch's locks but not its threads), take one training
after the other, and report through a pipe. They are simply ended when the caller is interrupted: a run
survives that at any moment, and goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from reluscope.errors import ReluscopeError, ReluscopeWarning
from reluscope.lab.data import ImageData, load_for
from reluscope.lab.specification import DataSpecification, Specification
from reluscope.lab.training import TrainingProgress, TrainingResult, train

__all__ = ["TrainingEvent", "TrainingTask", "run_tasks"]

_REPORT_EVERY_S = 0.25
_KERNEL_THREADS = "RELUSCOPE_NUM_THREADS"


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """One training to be done: begun, or gone on with if its run is there.

    Attributes:
        name: for people.
        specification: the training.
        run: its run folder.
        data_dir: where image files are.
        num_threads: threads of torch and of the kernels.
    """

    name: str
    specification: Specification
    run: Path
    data_dir: Path | None = None
    num_threads: int = 1


@dataclass(frozen=True, kw_only=True)
class TrainingEvent:
    """What happened to a training.

    Attributes:
        name: of its task.
        kind: "started", "progress", "warning", "finished" or "failed"; the last two end it.
        text: of a warning or a failure.
        progress: after an update, a few times per second.
        result: of a finished training.
    """

    name: str
    kind: Literal["started", "progress", "warning", "finished", "failed"]
    text: str = ""
    progress: TrainingProgress | None = None
    result: TrainingResult | None = None


def run_tasks(
    tasks: Sequence[TrainingTask], *, num_processes: int, on_event: Callable[[TrainingEvent], None]
) -> None:
    """Do all trainings, in this order, `num_processes` at a time.

    A script that calls this must do so under `if __name__ == "__main__":`, as always with spawned processes.

    Args:
        tasks: with names and run folders of their own.
        num_processes: at least 1.
        on_event: told what happens, in the caller's process and thread.

    Raises:
        KeyboardInterrupt, or what `on_event` raises: after all processes were ended.
    """
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    try:
        workers += [_Worker() for _ in range(min(num_processes, len(tasks)))]
        while True:
            for index, worker in enumerate(workers):
                if worker.task is None and waiting:
                    if not worker.is_alive:
                        worker.end()
                        workers[index] = worker = _Worker()
                    worker.start(waiting.pop())
            busy = {worker.connection: worker for worker in workers if worker.task is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                on_event(busy[connection].receive())  # pyright: ignore[reportArgumentType]
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that does trainings, seen from outside."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.task: TrainingTask | None = None
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here when it dies

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def start(self, task: TrainingTask) -> None:
        self.task = task
        with suppress(OSError):  # it died while it had nothing to do; `receive` says so
            self.connection.send(task)

    def receive(self) -> TrainingEvent:
        """The next event of its task; a failure when the process is no more."""
        assert self.task is not None
        try:
            event: TrainingEvent = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            text = f"its process ended with exit code {self._process.exitcode}"
            if self._process.exitcode == -9:
                text += " (killed: perhaps there was too little memory for so many at once; lower --jobs)"
            event = TrainingEvent(name=self.task.name, kind="failed", text=text)
        if event.kind in ("finished", "failed"):
            self.task = None
        return event

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()


# In the process --------------------------------------------------------------------------------------------


def _work(connection: Connection) -> None:
    """Do one task after the other until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the caller ends us
    images = _LastImages()
    while True:
        try:
            task: TrainingTask = connection.recv()
        except EOFError:
            return
        _do(task, images, connection.send)


class _LastImages:
    """The images of the last task, which are mostly those of the next."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._images: ImageData | None = None

    def of(self, specification: DataSpecification, data_dir: Path | None) -> ImageData:
        key = (specification, data_dir)
        if self._images is None or key != self._key:
            self._images = None  # not two at once
            self._key, self._images = key, load_for(specification, data_dir)
        return self._images


def _do(task: TrainingTask, images: _LastImages, send: Callable[[TrainingEvent], None]) -> None:
    def tell(kind: Any, **what: Any) -> None:
        send(TrainingEvent(name=task.name, kind=kind, **what))

    tell("started")
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReluscopeWarning)
        warnings.showwarning = lambda message, *_rest, **_more: tell("warning", text=str(message))
        try:
            import torch

            torch.set_num_threads(task.num_threads)
            os.environ[_KERNEL_THREADS] = str(task.num_threads)  # they would take every core
            data = images.of(task.specification.data, task.data_dir)
            report = _Throttle(lambda progress: tell("progress", progress=progress))
            result = train(task.specification, task.run, data=data, resume=True, on_step=report)
        except ReluscopeError as error:
            tell("failed", text=f"{type(error).__name__}: {error}")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            tell("failed", text=f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})")
        else:
            tell("finished", result=result)


class _Throttle:
    """Passes progress on a few times per second, and the last one always."""

    def __init__(self, tell: Callable[[TrainingProgress], None]) -> None:
        self._tell = tell
        self._last = -math.inf

    def __call__(self, progress: TrainingProgress) -> None:
        now = time.monotonic()
        if now - self._last >= _REPORT_EVERY_S or progress.step == progress.num_steps:
            self._last = now
            self._tell(progress)
