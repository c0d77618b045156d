"""When to measure: schedules over steps; step s is the state after s optimizer updates, 0 is initialisation.

at(0) | logspaced(1, 3000, per_decade=12)    # dense where most happens
every(50)                                    # 0, 50, 100, ...
epochs(0.5, steps_per_epoch=391)             # twice per epoch
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reluscope.errors import ScheduleError

__all__ = ["Schedule", "as_step", "at", "epochs", "every", "logspaced"]


class Schedule:
    """A set of steps. Made by `at`, `every`, `logspaced` and `epochs`, and joined by `|`."""

    def due(self, step: int) -> bool:
        """Whether the state after `step` updates is to be measured.

        Raises:
            ScheduleError: a step that is negative or no whole number.
        """
        return self._holds(as_step(step))

    def steps(self, last: int) -> list[int]:
        """Every due step from 0 to `last`, in order, each once."""
        return sorted(set(self._up_to(as_step(last, "last"))))

    def __or__(self, other: Schedule) -> Schedule:
        if not isinstance(other, Schedule):
            raise ScheduleError(
                f"{self!r} | {other!r}: only schedules can be joined. For a step of its own: {self!r} | rs.at(...)."
            )
        return _Joined(parts=(*_parts(self), *_parts(other)))

    def as_dict(self) -> dict[str, Any]:
        """The schedule in plain values, for run.json: {"every": {"n": 50}}, or {"any": [...]} when joined."""
        raise NotImplementedError

    def _holds(self, step: int) -> bool:
        raise NotImplementedError

    def _up_to(self, last: int) -> Iterator[int]:
        raise NotImplementedError


def at(*steps: int) -> Schedule:
    """Exactly these steps.

    Raises:
        ScheduleError: no step, or one that is negative or no whole number.

    >>> at(0, 10, 5).steps(last=20)
    [0, 5, 10]
    """
    if not steps:
        raise ScheduleError(
            "at() names no step, so it would never measure; give steps, for example at(0, 100)."
        )
    return _At(listed=tuple(sorted({as_step(step) for step in steps})))


def every(n: int) -> Schedule:
    """Step 0 and every n-th step after it.

    Raises:
        ScheduleError: n is no whole number of at least 1.

    >>> every(4).steps(last=10)
    [0, 4, 8]
    """
    return _Every(n=_at_least_one("n", n, "every"))


def logspaced(first: int, last: int, per_decade: int = 12) -> Schedule:
    """About `per_decade` steps for every tenfold, evenly spaced in the logarithm, both ends included.

    The steps are round(first * 10^(i / per_decade)), each once: where these are closer than 1, every step.

    Raises:
        ScheduleError: not 1 <= first <= last (step 0 has no logarithm: join it with `at(0) | ...`), or
            per_decade < 1.

    >>> logspaced(1, 100, per_decade=3).steps(last=1000)
    [1, 2, 5, 10, 22, 46, 100]
    """
    first, last = as_step(first, "first"), as_step(last, "last")
    if first < 1:
        raise ScheduleError(
            f"logspaced(first={first}, ...) starts at step {first}, which has no logarithm; the least is 1. "
            "For the initial state too: at(0) | logspaced(1, ...)."
        )
    if last < first:
        raise ScheduleError(
            f"logspaced(first={first}, last={last}) ends before it starts; last must be at least first."
        )
    return _Logspaced(first=first, last=last, per_decade=_at_least_one("per_decade", per_decade, "logspaced"))


def epochs(n: float, steps_per_epoch: int) -> Schedule:
    """Step 0 and the end of every n-th epoch, round(k * n * steps_per_epoch); n below 1: several per epoch.

    Raises:
        ScheduleError: n is not a positive number, or steps_per_epoch no whole number of at least 1.

    >>> epochs(0.5, steps_per_epoch=5).steps(last=10)
    [0, 3, 5, 8, 10]
    """
    length = _at_least_one("steps_per_epoch", steps_per_epoch, "epochs")
    if isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) or n <= 0:
        raise ScheduleError(
            f"epochs(n={n!r}) is no number of epochs above 0; 1 measures after each epoch, 0.5 twice per "
            "epoch."
        )
    return _Epochs(n=n, steps_per_epoch=length)


def schedule_from(stored: Any) -> Schedule:
    """The schedule that `as_dict` described.

    Raises:
        ScheduleError: nothing that this version describes so.

    >>> schedule_from((at(0) | every(4)).as_dict()).steps(last=10)
    [0, 4, 8]
    """
    makers: dict[str, Any] = {"at": _At, "every": _Every, "logspaced": _Logspaced, "epochs": _Epochs}
    kind, values = next(iter(stored.items())) if isinstance(stored, dict) and len(stored) == 1 else ("", {})
    try:
        if kind == "any":
            return _Joined(parts=tuple(schedule_from(one) for one in values))
        if kind == "at":
            return at(*values["steps"])
        return makers[kind](**values)
    except (KeyError, TypeError):
        raise ScheduleError(
            f"{stored!r} describes no schedule of this version; it knows {', '.join(makers)}. It was written by "
            "another reluscope, or the file is damaged."
        ) from None


def as_step(value: Any, name: str = "step") -> int:
    """A step as a plain int.

    Raises:
        ScheduleError: not a whole number, or negative.
    """
    try:
        step = operator.index(value)
    except TypeError:
        step = -1
    if step < 0 or isinstance(value, bool):
        raise ScheduleError(
            f"{name}={value!r} is no step; a step is the number of optimizer updates done: 0, 1, 2, ..."
        )
    return step


@dataclass(frozen=True, kw_only=True)
class _At(Schedule):
    listed: tuple[int, ...]

    def _holds(self, step: int) -> bool:
        return step in self.listed

    def _up_to(self, last: int) -> Iterator[int]:
        return (step for step in self.listed if step <= last)

    def as_dict(self) -> dict[str, Any]:
        return {"at": {"steps": list(self.listed)}}

    def __repr__(self) -> str:
        return f"at({', '.join(map(str, self.listed))})"


@dataclass(frozen=True, kw_only=True)
class _Every(Schedule):
    n: int

    def _holds(self, step: int) -> bool:
        return step % self.n == 0

    def _up_to(self, last: int) -> Iterator[int]:
        return iter(range(0, last + 1, self.n))

    def as_dict(self) -> dict[str, Any]:
        return {"every": {"n": self.n}}

    def __repr__(self) -> str:
        return f"every({self.n})"


@dataclass(frozen=True, kw_only=True)
class _Logspaced(Schedule):
    first: int
    last: int
    per_decade: int

    def _holds(self, step: int) -> bool:
        if not self.first <= step <= self.last:
            return False
        if step == self.last:
            return True
        # The point nearest to the step, and its neighbours against rounding of the logarithm.
        near = round(math.log10(step / self.first) * self.per_decade)
        return any(self._point(index) == step for index in (near - 1, near, near + 1))

    def _up_to(self, last: int) -> Iterator[int]:
        num_points = math.ceil(math.log10(self.last / self.first) * self.per_decade) + 1
        points = [*(self._point(index) for index in range(num_points)), self.last]
        return (step for step in points if step <= min(last, self.last))

    def _point(self, index: int) -> int:
        return round(self.first * 10 ** (index / self.per_decade))

    def as_dict(self) -> dict[str, Any]:
        return {"logspaced": {"first": self.first, "last": self.last, "per_decade": self.per_decade}}

    def __repr__(self) -> str:
        return f"logspaced({self.first}, {self.last}, per_decade={self.per_decade})"


@dataclass(frozen=True, kw_only=True)
class _Epochs(Schedule):
    n: float
    steps_per_epoch: int

    def _holds(self, step: int) -> bool:
        near = round(step / (self.n * self.steps_per_epoch))
        return any(self._point(index) == step for index in (near - 1, near, near + 1) if index >= 0)

    def _up_to(self, last: int) -> Iterator[int]:
        num_points = math.floor(last / (self.n * self.steps_per_epoch)) + 2
        return (step for step in map(self._point, range(num_points)) if step <= last)

    def _point(self, index: int) -> int:
        # Halves up, not to even: two measurements per epoch of 5 steps are 2 or 3 apart, whichever the epoch.
        return math.floor(index * self.n * self.steps_per_epoch + 0.5)

    def as_dict(self) -> dict[str, Any]:
        return {"epochs": {"n": self.n, "steps_per_epoch": self.steps_per_epoch}}

    def __repr__(self) -> str:
        return f"epochs({self.n:g}, steps_per_epoch={self.steps_per_epoch})"


@dataclass(frozen=True, kw_only=True)
class _Joined(Schedule):
    parts: tuple[Schedule, ...]

    def _holds(self, step: int) -> bool:
        return any(part._holds(step) for part in self.parts)

    def _up_to(self, last: int) -> Iterator[int]:
        return (step for part in self.parts for step in part._up_to(last))

    def as_dict(self) -> dict[str, Any]:
        return {"any": [part.as_dict() for part in self.parts]}

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


def _parts(schedule: Schedule) -> tuple[Schedule, ...]:
    return schedule.parts if isinstance(schedule, _Joined) else (schedule,)


def _at_least_one(name: str, value: Any, function: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ScheduleError(f"{function}({name}={value!r}): {name} must be a whole number of at least 1.")
    return number
