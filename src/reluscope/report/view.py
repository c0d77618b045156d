"""What the report needs of a run, in one plain form: all else here works on it and never on the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from reluscope.errors import ExportError
from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs import open_run
from reluscope.runs.health import Finding
from reluscope.runs.strikes import RunStrikes

if TYPE_CHECKING:
    from reluscope.runs import Run

__all__ = ["RunLike", "RunView", "Runs", "view_of", "views_of"]

RunLike: TypeAlias = "str | os.PathLike[str] | Run | RunView"
Runs: TypeAlias = "RunLike | Sequence[RunLike]"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunView:
    """One run, ready to be drawn.

    Attributes:
        name: as it stands in headings; told apart from the other runs of the same report.
        state: "closed", "recording" or "interrupted".
        info: run.json.
        steps: int64 (S,), increasing.
        sites: names of the L sites in the order of the forward pass.
        values: for each measure that was taken, float64 (S, L); NaN where it is not defined.
        seconds: float64 (S,), cost of each measurement; empty when not known.
        times: when each measurement was taken, ISO 8601; empty when not known.
        scalars: training curve, one row per logged step.
        sites_table: one row per site.
        warnings: what a reader of the numbers should know, in words, but for the findings.
        findings: what stands out in the numbers, in words, naming the sites.
        strikes: steps at which many sites jumped at once.
        run: the run itself, None for a view made by hand; only similarities of steps are read from it.
    """

    name: str
    state: str = "closed"
    info: Mapping[str, Any] = field(default_factory=dict)
    steps: npt.NDArray[np.int64]
    sites: tuple[str, ...]
    values: Mapping[str, npt.NDArray[np.float64]]
    seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    times: tuple[str, ...] = ()
    scalars: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"step": []}))
    sites_table: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    strikes: RunStrikes = field(default_factory=RunStrikes)
    run: Run | None = None

    def has(self, measure: str) -> bool:
        """Whether any value of the measure is defined."""
        return measure in self.values and bool(np.isfinite(self.values[measure]).any())

    def thinned(self, limit: int) -> RunView:
        """The same run with about `limit` measurements, evenly chosen, with the first, the last and strikes.

        At most a fifth more for the strikes, the largest of them.
        """
        if len(self.steps) <= limit:
            return self
        largest = sorted(self.strikes.strikes, key=lambda one: -one.largest_z)[: limit // 5]
        struck = np.searchsorted(self.steps, [one.step for one in largest])
        even = np.linspace(0, len(self.steps) - 1, limit).round()
        chosen = np.unique(np.concatenate([even, struck]).astype(np.int64))
        return replace(
            self,
            steps=self.steps[chosen],
            values={name: values[chosen] for name, values in self.values.items()},
            seconds=self.seconds[chosen] if self.seconds.size else self.seconds,
            times=tuple(self.times[index] for index in chosen) if self.times else (),
        )


def view_of(run: RunLike, *, with_health: bool = True) -> RunView:
    """The run as the report sees it.

    Args:
        run: the folder of a run, a Run, or a view, which is returned as it is.
        with_health: with warnings, findings and strikes, which take a second for thousands of measurements.

    Raises:
        RunNotFoundError, RunSchemaError, RunCorruptError: as `reluscope.runs.open_run` does.
    """
    if isinstance(run, RunView):
        return run
    if isinstance(run, str | os.PathLike):
        run = open_run(run)
    seen: dict[str, Any] = {
        "name": str(run.name),
        "state": str(run.state),
        "info": run.info,
        "scalars": run.scalars,
        "sites_table": run.sites,
        "run": run,
    }
    if with_health:
        findings = tuple(run.health)
        told = {finding.text for finding in findings}
        seen["warnings"] = tuple(warning for warning in run.warnings if warning not in told)
        seen |= {"findings": findings, "strikes": run.strikes}
    if not run.steps:  # before the first measurement there is no dataset to speak of
        names = tuple(run.sites["name"]) if len(run.sites) else ()
        return RunView(steps=np.empty(0, np.int64), sites=names, values={}, **seen)
    dataset = run.dataset.transpose("step", "site", ...)
    return RunView(
        steps=dataset["step"].to_numpy().astype(np.int64),
        sites=tuple(str(name) for name in dataset["site"].to_numpy()),
        values={
            name: dataset[name].to_numpy().astype(np.float64) for name in LAYER_MEASURES if name in dataset
        },
        seconds=dataset["seconds"].to_numpy().astype(np.float64),
        times=tuple(str(time) for time in dataset["time"].to_numpy()),
        **seen,
    )


def views_of(runs: Runs) -> list[RunView]:
    """The runs as views whose names tell them apart.

    Raises:
        ExportError: no run was given.
    """
    several = runs if isinstance(runs, list | tuple) else [cast("RunLike", runs)]
    views = [view_of(run) for run in several]
    if not views:
        raise ExportError("a report of no runs was asked for; give at least one run or run folder.")
    seen: dict[str, int] = {}
    told_apart = []
    for view in views:
        seen[view.name] = seen.get(view.name, 0) + 1
        number = seen[view.name]
        told_apart.append(view if number == 1 else replace(view, name=f"{view.name} ({number})"))
    return told_apart
