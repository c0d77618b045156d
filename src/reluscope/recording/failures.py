"""What happens when recording fails in the middle of somebody's training."""

from __future__ import annotations

import warnings
from collections import Counter
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
        self._num_failures: Counter[tuple[str, type[Exception]]] = Counter()
        self.is_armed = False
        self.missed: dict[int, str] = {}

    def warn(self, text: str) -> None:
        """Give a warning with the run's folder in it."""
        warnings.warn(f"{text} [run {self._path}]", ReluscopeWarning, stacklevel=5)

    @contextmanager
    def forgive(
        self,
        what: str,
        *,
        step: int | None = None,
        is_measurement: bool = False,
        waiting: Callable[[], list[int]],
    ) -> Iterator[None]:
        """Let an exception of the block pass as a warning, if it may; KeyboardInterrupt never does.

        Args:
            what: what the failure means, "step {step} was not recorded"; failures are of one kind when this
                text and the type of the exception are the same.
            step: put in the place of "{step}".
            is_measurement: whether that step was to be measured.
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
            if is_measurement and step is not None and step not in held:
                self.missed[step] = reason
            kind = (what, type(error))
            self._num_failures[kind] += 1
            number = self._num_failures[kind]
            # Of a disk that stays full for 90,000 steps, only the 1st, 2nd, 4th, 8th, ... failure is told.
            if number & (number - 1) == 0:
                kept = f"; {len(held)} measurements wait in memory and are tried again" if held else ""
                text = what.format(step=step)
                self.warn(f"{text} ({reason}){kept}. This is failure {number} of its kind in this recorder.")
