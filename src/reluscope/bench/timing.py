"""Timing alternatives fairly: in turn, in alternating order, with the spread kept."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reluscope.errors import BenchmarkError

__all__ = ["Effort", "interleave"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How often alternatives are timed.

    Attributes:
        rounds: how often each is, at most.
        seconds: how long one alternative may take in one case, all rounds together. One that is slower than
            seconds / rounds is timed in fewer of the rounds, at least in one, and its row says in how many.

    Raises:
        BenchmarkError: less than one round, or no time.
    """

    rounds: int = 7
    seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise BenchmarkError(f"rounds={self.rounds} measure nothing; give 1 or more.")
        if not self.seconds > 0:
            raise BenchmarkError(f"seconds={self.seconds} leave no time; give more than 0.")

    def rounds_for(self, seconds: float) -> int:
        """Rounds for an alternative that takes so long."""
        return max(1, int(min(self.rounds, self.seconds / max(seconds, 1e-9))))


def interleave(
    alternatives: Mapping[str, Callable[[], object]],
    effort: Effort,
    *,
    check: Callable[[str, object], None] | None = None,
    on_share: Callable[[float], None] | None = None,
) -> dict[str, np.ndarray]:
    """Seconds of each alternative in each round; every second round runs in reverse order.

    What slows the machine for a while then slows all alternatives alike, and a ratio within a round is fairer
    than a ratio of two medians. Each runs once before, untimed.

    Args:
        alternatives: by name; what they return is let go outside of the timing.
        effort: how many rounds.
        check: called with each name and what its untimed run returned; raises where that is wrong.
        on_share: called with the share that is done, 0 to 1.

    Returns:
        float64 (rounds,) per alternative, NaN in rounds in which it did not run.
    """
    rounds = {}
    for index, (name, run) in enumerate(alternatives.items()):
        seconds_once, result = _timed(run)
        if check:
            check(name, result)
        del result
        rounds[name] = effort.rounds_for(seconds_once)
        if on_share:
            on_share((index + 1) / (len(alternatives) * (effort.rounds + 1)))
    num_rounds = max(rounds.values())
    seconds = {name: np.full(num_rounds, np.nan) for name in alternatives}
    for index in range(num_rounds):
        names = [name for name in alternatives if index < rounds[name]]
        for name in names if index % 2 == 0 else reversed(names):
            seconds[name][index] = _timed(alternatives[name])[0]  # what it returned is let go untimed
        if on_share:
            on_share((index + 2) / (num_rounds + 1))
    return seconds


def _timed(run: Callable[[], object]) -> tuple[float, object]:
    gc.collect()
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result
