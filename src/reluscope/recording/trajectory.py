"""The states a measurement is compared with: the initial one and the last one, as tables in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluscope.errors import TrajectoryMismatchError
from reluscope.instruments import Snapshot, compare_to_init, compare_to_last
from reluscope.measures.estimates import error_name
from reluscope.patterns import AnyCounts, EstimatedCounts, PatternCounts
from reluscope.runs import RunWriter
from reluscope.runs.tables import StoredTable

__all__ = ["Trajectory", "as_stored", "check_same_parameters", "differing_columns", "patterns_of"]

_SINCE_LAST = ("appeared", "vanished", "net_change", "relative_change", "churn_rate")
_TO_LAST = ("weighted_jaccard_to_last", "jaccard_to_last")
_EXCUSED = {name for one in (*_SINCE_LAST, *_TO_LAST) for name in (one, error_name(one))}


class Trajectory:
    """Initial and last tables of every site, and the step the last ones belong to.

    Attributes:
        step: of the last measurement; None before the first one of this process.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._initial: Mapping[str, AnyCounts] = {}
        self._last: Mapping[str, AnyCounts] = {}

    @property
    def last(self) -> Mapping[str, AnyCounts]:
        """The tables of the last measurement, by site."""
        return self._last

    def restore_initial(self, writer: RunWriter, sites: Sequence[str]) -> bool:
        """Take the initial tables from the run; False when it did not keep them."""
        found = {site: writer.table("init", site) for site in sites}
        if not found or any(table is None for table in found.values()):
            return False
        self._initial = {site: _from_stored(table) for site, table in found.items() if table is not None}
        return True

    def rows(self, snapshot: Snapshot, *, since_last: bool, is_first: bool) -> list[dict[str, Any]]:
        """The rows of a measurement, with what compares it to the last and to the initial state.

        Args:
            since_last: whether the last tables are those of the measurement before this one in the run.
            is_first: whether this is the initial state itself, which is like itself.
        """
        tables = patterns_of(snapshot)
        initial = tables if is_first else self._initial
        rows = snapshot.rows()
        for row in rows:
            site = row["site"]
            if site in tables and since_last and site in self._last:
                row.update(compare_to_last(self._last[site], tables[site]))
            if site in tables and site in initial:
                row.update(compare_to_init(initial[site], tables[site]))
        return rows

    def advance(self, step: int, snapshot: Snapshot, *, is_first: bool) -> None:
        """Make this measurement the last one, and the initial one when it is the first of the run."""
        self._last = patterns_of(snapshot)
        if is_first:
            self._initial = self._last
        self.step = step


def patterns_of(snapshot: Snapshot) -> Mapping[str, AnyCounts]:
    """The tables of a measurement; none without the pattern instrument."""
    return snapshot.patterns if "patterns" in snapshot.results else {}


def as_stored(counts: AnyCounts) -> StoredTable:
    """A table as the run folder keeps it; an estimate with what tells it apart from an exact one."""
    meta: dict[str, Any] = {
        "width": counts.width,
        "num_evaluations": counts.num_evaluations,
        "fingerprint_seed": counts.seed,
    }
    if isinstance(counts, EstimatedCounts):
        meta |= {"exact": False, "num_patterns": counts.num_patterns, "level": counts.level}
        meta |= {"salt": counts.salt.tolist(), "heavy_frequency": counts.heavy_frequency}
        meta["levels"] = counts.levels
    return counts.keys, counts.counts, meta


def _from_stored(table: StoredTable) -> AnyCounts:
    keys, counts, meta = table
    if "levels" in meta:
        return EstimatedCounts(
            keys=keys,
            counts=counts,
            levels=meta["levels"],
            level=meta["level"],
            width=meta["width"],
            num_evaluations=meta["num_evaluations"],
            seed=meta["fingerprint_seed"],
            salt=np.array(meta["salt"], np.uint64),
            heavy_frequency=meta["heavy_frequency"],
        )
    return PatternCounts(keys, counts, meta["width"], seed=meta["fingerprint_seed"])


def check_same_parameters(stored: pd.DataFrame, found: str, step: int, path: object) -> None:
    """Raise TrajectoryMismatchError when a recorded step comes again with other parameters."""
    before = str(stored["parameter_hash"].iloc[0])
    if before != found:
        raise TrajectoryMismatchError(
            f'step {step} is already in the run at "{path}", with other parameters: their hash was {before} '
            f"and is {found}. This is another training, or one that does not repeat itself bit for bit; "
            "going on would mix two in one run. Resume from the checkpoint of a measured step, or record to "
            'another folder (if_exists="new").'
        )


def differing_columns(stored: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a step that was measured again has other values than the run, each in words."""
    by_site = stored.set_index("site")
    found = []
    for row in rows:
        if row["site"] not in by_site.index:
            found.append(f'"{row["site"]}" is not in the run')
            continue
        before = by_site.loc[row["site"]]
        for name, value in row.items():
            if name in ("site", "step") or name not in by_site.columns:
                continue
            old = before[name]
            both_missing = pd.isna(old) and pd.isna(value)
            # Null since-last values: the run's own row was taken without the measurement before it.
            excused = pd.isna(old) and name in _EXCUSED
            if not (both_missing or excused or old == value):
                found.append(f'"{row["site"]}": {name} was {old} and is {value}')
    return found
