"""What happens when recording fails in the middle of somebody's training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reluscope.errors import ReluscopeWarning, TrajectoryMismatchError

__all__ = ["ON_ERROR", "FailurePolicy"]

ON_ERROR = ("warn", "raise")


class FailurePolicy:
    """Raises or warns, as `on_error` says; everything raises until the first measurement is durable.

    Attributes:
        is_armed: whether that has happened, so that a failure may pass as a warning.
        missed: steps that were due and could not be measured, with the reason.
    """

    def __init__(self, on_error: str, path: Path) -> None:
        self._on_error = on_error
        self._path = path
        self._num_failures = 0
        self.is_armed = False
        self.missed: dict[int, str] = {}

    def warn(self, text: str) -> None:
        """Give a warning with the run's folder in it."""
        warnings.warn(f"{text} [run {self._path}]", ReluscopeWarning, stacklevel=5)

    @contextmanager
    def forgive(
        self, what: str, *, step: int | None = None, waiting: Callable[[], list[int]]
    ) -> Iterator[None]:
        """Let an exception of the block pass as a warning, if it may; KeyboardInterrupt never does.

        Args:
            what: what the failure means, "step 12 was not measured".
            step: the step that was to be measured.
            waiting: steps that are measured and wait to be written: those are not missed.
        """
        try:
            yield
        except TrajectoryMismatchError:
            raise  # going on would mix two trainings in one run
        except Exception as error:
            if self._on_error == "raise" or not self.is_armed:
                raise
            reason = f"{type(error).__name__}: {error}"
            held = waiting()
            if step is not None and step not in held:
                self.missed[step] = reason
            self._num_failures += 1
            # Of a disk that stays full for 90,000 steps, only the 1st, 2nd, 4th, 8th, ... failure is told.
            if self._num_failures & (self._num_failures - 1) == 0:
                kept = f"; {len(held)} measurements wait in memory and are tried again" if held else ""
                self.warn(f"{what} ({reason}){kept}. This is failure {self._num_failures} of this recorder.")
