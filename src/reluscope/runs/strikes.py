"""The strikes of a run, with the names of the sites and the batch that led there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reluscope.measures.strikes import KINDS, StrikeRule, StrikeSearch, find_strikes

if TYPE_CHECKING:
    from reluscope.runs.reader import Run

__all__ = ["RunStrike", "RunStrikes", "strikes_of"]


@dataclass(frozen=True, kw_only=True)
class RunStrike:
    """One step at which many sites jumped.

    Attributes:
        step: the step whose measurement shows it; the update from step - 1 to step made it.
        appeared, vanished: names of the sites where far more patterns than usual appeared, or vanished; empty
            where that kind did not strike.
        num_sites: sites that could be judged.
        largest_z: the largest robust z-score among them.
        batch_indices: indices of the training batch of that update (`recorder.log(step, batch_indices=...)`),
            None where they were not logged.
    """

    step: int
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    num_sites: int
    largest_z: float
    batch_indices: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class RunStrikes:
    """All strikes of a run, and how many measurements could be judged."""

    strikes: tuple[RunStrike, ...] = ()
    num_judged: int = 0
    num_unjudged: int = 0


def strikes_of(run: Run, *, rule: StrikeRule | None = None) -> RunStrikes:
    """Find the strikes of a run: see `reluscope.measures.strikes.find_strikes` for the rule.

    Args:
        run: an opened run.
        rule: window and thresholds, by default those of DEFINITIONS.

    Returns:
        RunStrikes: in order of step. Without measurements at consecutive steps nothing is judged.
    """
    dataset = run.dataset if run.steps else {}
    if any(kind not in dataset for kind in KINDS):
        return RunStrikes(num_unjudged=len(run.steps))
    changes = {kind: dataset[kind].transpose("step", "site").to_numpy().astype(np.float64) for kind in KINDS}
    search = find_strikes(run.steps, changes["appeared"], changes["vanished"], rule=rule)
    names = [str(name) for name in dataset["site"].to_numpy()]
    return RunStrikes(
        strikes=_joined(search, names, run.scalars),
        num_judged=search.num_judged,
        num_unjudged=search.num_unjudged,
    )


def _joined(search: StrikeSearch, names: list[str], scalars: pd.DataFrame) -> tuple[RunStrike, ...]:
    """One entry for each step, whatever struck there."""
    by_step: dict[int, dict[str, tuple[str, ...]]] = {}
    judged: dict[int, tuple[int, float]] = {}
    for one in search.strikes:
        by_step.setdefault(one.step, {})[one.kind] = tuple(names[site] for site in one.sites)
        largest = max(*one.z, judged.get(one.step, (0, 0.0))[1])
        judged[one.step] = (one.num_sites, largest)
    batches = _batches(scalars, {step - 1 for step in by_step})
    return tuple(
        RunStrike(
            step=step,
            appeared=kinds.get("appeared", ()),
            vanished=kinds.get("vanished", ()),
            num_sites=judged[step][0],
            largest_z=judged[step][1],
            batch_indices=batches.get(step - 1),
        )
        for step, kinds in by_step.items()
    )


def _batches(scalars: pd.DataFrame, steps: set[int]) -> dict[int, tuple[int, ...]]:
    """The batches of these updates; the row of step s belongs to the update from s to s + 1."""
    if not steps or "batch_indices" not in scalars:
        return {}
    rows = scalars[scalars["step"].isin(list(steps))]
    return {
        int(step): tuple(int(index) for index in batch)
        for step, batch in zip(rows["step"], rows["batch_indices"], strict=True)
        if batch is not None and np.ndim(batch) == 1
    }
