"""Learning-rate schedules: pure functions of the step and of the length of the whole training.

Lengths are shares of the training or numbers of cycles, never epochs or steps, so that a shortened training
has the whole schedule, only faster. Every kind says two things for the update after `step` of `num_steps`:

    multiplier(step, num_steps)              what `optimizer.lr`, the highest rate, is multiplied with
    momentum(step, num_steps, highest)       the momentum, where `optimizer.momentum` is the highest

On whole numbers of steps, `cyclic` and `onecycle` are torch's CyclicLR and OneCycleLR, step for step.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from reluscope.lab.section import Section

__all__ = [
    "ConstantSchedule",
    "CyclicSchedule",
    "MilestonesSchedule",
    "OneCycleSchedule",
    "ScheduleSpecification",
]

_MomentumShare = Annotated[float, Field(ge=0.0, lt=1.0)]


class ConstantSchedule(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]

    def multiplier(self, step: int, num_steps: int) -> float:
        """1."""
        return 1.0

    def momentum(self, step: int, num_steps: int, highest: float) -> float:
        """`highest`."""
        return highest


class MilestonesSchedule(Section):
    """The learning rate is multiplied by `factor` at each milestone, a share of the whole training."""

    name: Literal["milestones"]
    milestones: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(default=(0.5, 0.75), min_length=1)
    factor: float = Field(default=0.1, gt=0.0, lt=1.0)

    def multiplier(self, step: int, num_steps: int) -> float:
        """factor ** (number of milestones m with step >= m * num_steps), in (0, 1].

        >>> schedule = MilestonesSchedule(name="milestones", milestones=(0.5,), factor=0.1)
        >>> schedule.multiplier(49, 100), schedule.multiplier(50, 100)
        (1.0, 0.1)
        """
        return self.factor ** sum(step >= milestone * num_steps for milestone in self.milestones)

    def momentum(self, step: int, num_steps: int, highest: float) -> float:
        """`highest`."""
        return highest


class CyclicSchedule(Section):
    """The learning rate goes up and down `cycles` times, half as high above its floor each time.

    That is torch's CyclicLR, mode "triangular2", with equal steps up and down: from `floor` x lr up to lr and
    back, then up to half of that range, and so on. The momentum goes the other way, from its highest value
    down to `lowest_momentum` and back, its range halved likewise; None leaves it alone. Source: Smith 2017,
    "Cyclical Learning Rates for Training Neural Networks"; the numbers are [A]'s: 0.002 to 0.2, 5 cycles.
    """

    name: Literal["cyclic"]
    cycles: int = Field(default=5, ge=1)
    floor: float = Field(default=0.01, gt=0.0, lt=1.0)
    lowest_momentum: _MomentumShare | None = 0.765

    def height(self, step: int, num_steps: int) -> float:
        """Where between floor (0) and top (1) the rate is: a triangle wave, halved from cycle to cycle.

        >>> schedule = CyclicSchedule(name="cyclic", cycles=2)
        >>> [schedule.height(step, 16) for step in (0, 2, 4, 6, 8, 12)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
        """
        cycle, step_in_cycle = divmod(step * self.cycles, num_steps)
        share = step_in_cycle / num_steps
        return (1.0 - abs(2.0 * share - 1.0)) / 2**cycle

    def multiplier(self, step: int, num_steps: int) -> float:
        """floor + (1 - floor) * height, in [floor, 1]."""
        return self.floor + (1.0 - self.floor) * self.height(step, num_steps)

    def momentum(self, step: int, num_steps: int, highest: float) -> float:
        """highest - (highest - lowest_momentum) * height."""
        if self.lowest_momentum is None:
            return highest
        return highest - (highest - self.lowest_momentum) * self.height(step, num_steps)


class OneCycleSchedule(Section):
    """The learning rate rises once, for the share `warmup` of the training, then falls to almost nothing.

    That is torch's OneCycleLR with cosines: from `start` x lr to lr, then to `end` x lr. The momentum goes
    from its highest value to `lowest_momentum` and back; None leaves it alone. Source: Smith, Topin 2017,
    "Super-Convergence"; the numbers are [A]'s: 0.08 to 0.8 to 8e-5.
    """

    name: Literal["onecycle"]
    warmup: float = Field(default=0.1, gt=0.0, lt=1.0)
    start: float = Field(default=0.1, gt=0.0, le=1.0)
    end: float = Field(default=1e-4, gt=0.0, le=1.0)
    lowest_momentum: _MomentumShare | None = 0.765

    def multiplier(self, step: int, num_steps: int) -> float:
        """Along cosines from `start` to 1 at step warmup * num_steps - 1, then to `end` at the last update.

        >>> schedule = OneCycleSchedule(name="onecycle")
        >>> [round(schedule.multiplier(step, 100), 6) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.50005, 0.0001]
        """
        rising, share = self._place(step, num_steps)
        return _cosine(self.start, 1.0, share) if rising else _cosine(1.0, self.end, share)

    def momentum(self, step: int, num_steps: int, highest: float) -> float:
        """Along cosines from `highest` to `lowest_momentum` and back, turning where the rate turns."""
        if self.lowest_momentum is None:
            return highest
        rising, share = self._place(step, num_steps)
        ends = (highest, self.lowest_momentum) if rising else (self.lowest_momentum, highest)
        return _cosine(*ends, share)

    def _place(self, step: int, num_steps: int) -> tuple[bool, float]:
        """Whether the rate still rises, and how far the rise or the fall has come, 0 to 1."""
        top = max(self.warmup * num_steps - 1, 0.0)  # torch's last step of the rise, which may be no integer
        last = num_steps - 1
        if step <= top and top > 0.0:
            return True, step / top
        return False, (step - top) / (last - top) if last > top else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))


ScheduleSpecification = Annotated[
    ConstantSchedule | MilestonesSchedule | CyclicSchedule | OneCycleSchedule, Field(discriminator="name")
]
