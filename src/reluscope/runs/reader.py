"""Reading a run: `open_run(path) -> Run`, also while it is being written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from reluscope.errors import RunCorruptError, RunNotFoundError, RunSchemaError, UnknownSiteError, closest
from reluscope.measures.similarity import SimilarityKind
from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs import health as judging
from reluscope.runs import observations
from reluscope.runs import similarity as comparing
from reluscope.runs.lock import run_state
from reluscope.runs.parts import check_columns, part_paths, read_part
from reluscope.runs.samples import StoredSamples, read_samples
from reluscope.runs.schema import (
    LAYERS_KEYS,
    SCALARS_COLUMNS,
    TIMINGS_COLUMNS,
    arrow_schema,
    as_path,
    error_columns,
    layers_columns,
    read_info,
)
from reluscope.runs.strikes import RunStrikes, strikes_of
from reluscope.runs.tables import StoredTable, damaged_tables, read_table, read_tables_info, table_path

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Run", "open_run"]

# A part can be replaced or dropped between listing and reading; a fresh listing then shows the new state.
_TRIES = 5


def open_run(path: str | os.PathLike[str], *, skip_damaged: bool = False) -> Run:
    """Open a run folder for reading; a run that is being written shows its measurements so far.

    Args:
        path: the folder that `rs.Recorder` was given as `run`.
        skip_damaged: read what can be read; `Run.warnings` names each file that was left out.

    Returns:
        Run: the measurements of this moment; open it again to see later ones.

    Raises:
        RunNotFoundError: no run is there.
        RunSchemaError: it was written with a newer schema.
        RunCorruptError: a file is damaged; names it and says what can still be read.
    """
    folder = as_path(path)
    notes: list[str] = []
    try:
        info = read_info(folder)
    except RunCorruptError as error:
        if not skip_damaged:
            raise
        notes.append(str(error))
        info = {}
    except RunNotFoundError:
        if not (skip_damaged and part_paths(folder / "layers")):
            raise
        notes.append(f'"{folder}" has no run.json; what was measured is known from its tables only.')
        info = {}
    state = run_state(folder)  # before the tables: a run that is closed has no later rows than those read
    columns = info.get("columns")
    layers = _read_table(
        folder / "layers", columns if isinstance(columns, dict) else LAYERS_KEYS, skip_damaged, notes
    )
    timings = _read_table(folder / "timings", TIMINGS_COLUMNS, skip_damaged, notes)
    return Run(folder, info, state, layers, timings, notes, skip_damaged=skip_damaged)


class Run:
    """A run as it was when it was opened. Made by `open_run`.

    Attributes:
        path: the folder.
        info: what run.json holds: model, probe, mode, sites, schedule, versions and more
            (docs/run-folder.md).
        state: "recording", "interrupted" (its writer ended without closing it) or "closed".
    """

    def __init__(
        self,
        path: Path,
        info: dict[str, Any],
        state: str,
        layers: pa.Table | None,
        timings: pa.Table | None,
        notes: list[str],
        *,
        skip_damaged: bool = False,
    ) -> None:
        """Not for users: takes what `open_run` read."""
        self.path = path
        self.info = info
        self.state = state
        self._layers = layers if layers is not None else arrow_schema(layers_columns()).empty_table()
        self._timings = timings
        self._notes = notes
        self._skip_damaged = skip_damaged

    @property
    def name(self) -> str:
        """The run's name: that of its folder when it was made."""
        return str(self.info.get("name", self.path.resolve().name))

    @property
    def is_recording(self) -> bool:
        """Whether a process was writing the run when it was opened."""
        return self.state == "recording"

    @cached_property
    def steps(self) -> list[int]:
        """The steps of all measurements, in order."""
        return [int(step) for step in np.unique(self._layers.column("step").to_numpy())]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per (step, site): keys, measures that were taken, how they were taken, `seconds`, `time`.

        A measure that no measurement took is left out. NaN: not defined here, or not taken here.
        """
        frame = self._layers.to_pandas()
        possible = (*LAYER_MEASURES, *error_columns())
        unused = [name for name in possible if name in frame and self._is_null(name)]
        frame = frame.drop(columns=unused).sort_values(["step", "site_index"], ignore_index=True)
        return frame.merge(self._timings_frame(), on="step", how="left", validate="many_to_one")

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """One row per logged training step: step and what was given of loss, accuracy, lr, batch_indices."""
        notes: list[str] = []
        table = _read_table(self.path / "scalars", SCALARS_COLUMNS, self._skip_damaged, notes)
        self._notes.extend(notes)
        if table is None:
            table = arrow_schema(SCALARS_COLUMNS).empty_table()
        used = [
            name
            for name in table.column_names
            if name == "step" or table.column(name).null_count < len(table)
        ]
        return table.select(used).to_pandas()

    @cached_property
    def sites(self) -> pd.DataFrame:
        """One row per site, in the order of the forward pass: name and how it was observed."""
        described = self.info.get("sites") or []
        if described:
            frame = pd.DataFrame(described)
        else:  # before the first measurement, or without run.json
            order = self.layers.drop_duplicates("site").sort_values("site_index", ignore_index=True)
            frame = pd.DataFrame(
                {"name": order["site"], "width": order["width"], "num_units": order["num_units"]}
            )
        return frame

    @cached_property
    def dataset(self) -> xr.Dataset:
        """All measures over (step, site), with units and meanings as attributes; see `runs.observations`."""
        return observations.build(self)

    def table(self, kind: str, site: str, step: int | None = None) -> StoredTable:
        """A kept exact table of patterns.

        Args:
            kind: "init", "final", or "all" with `step`.
            site: the name of the site.
            step: for "all", the step whose table is wanted.

        Returns:
            keys uint64 (patterns, words), counts int64 (patterns,), and a dict with width, num_evaluations
            and what else is known; of an estimated site ("exact" false) "levels": each pattern is there with
            probability 2^-level. `reluscope.patterns.PatternCounts` wraps them.

        Raises:
            RunNotFoundError: no such table was kept, or the run went on after it was.
            UnknownSiteError: the run has no such site.
            RunCorruptError: the file is damaged.
        """
        names = list(self.sites["name"]) if len(self.sites) else []
        if site not in names:
            raise UnknownSiteError(
                f'no site "{site}" in the run "{self.name}"; closest: {closest(site, names)}.'
            )
        found = self._committed_table(kind, site, step)
        if found is None:
            kept = sorted({other for other, at, _ in self.kept_tables() if at in set(self.steps)})
            wanted = kind if step is None else f"{kind} at step {step}"
            raise RunNotFoundError(
                f'the run "{self.name}" keeps no tables of the kind "{wanted}" for its last state; it keeps '
                f"{', '.join(kept) or 'none'}. What is kept is said while recording: rs.Patterns(keep=(...))."
            )
        return found

    def similarity(
        self,
        site: str,
        kind: SimilarityKind = "weighted_jaccard",
        steps: Sequence[comparing.StepLike] | None = None,
    ) -> xr.DataArray:
        """Similarity of every two steps at one site.

        Exact where the run keeps tables, or whole tables as samples, and for pairs that were compared while
        recording; estimated from samples elsewhere (docs/similarity.md).

        Args:
            site: the name of the site.
            kind: "weighted_jaccard" or "jaccard".
            steps: recorded steps, "init", "final"; None for all that have a table or a sample.

        Returns:
            (step, step_other), symmetric, with coordinates `standard_error` (0 where exact) and `exact`. The
            errors of all pairs of a site come from one hash: they do not average out over steps.

        Raises:
            SimilarityError: nothing is kept of the site, or not of one of the steps; says what to do.
            UnknownSiteError: the run has no such site.
        """
        return comparing.similarity(self, site, kind, steps)

    def similarity_to(
        self, step: comparing.StepLike, kind: SimilarityKind = "weighted_jaccard"
    ) -> pd.DataFrame:
        """Similarity of the recorded steps to one of them, at every site, as `similarity` has it.

        Args:
            step: a recorded step, "init" (the first one) or "final" (the last one).
            kind: "weighted_jaccard" or "jaccard".

        Returns:
            One row per (step, site), for every step with a table or a sample, and those that were compared
            with this one while recording: step, site, site_index, value, standard_error, exact.

        Raises:
            SimilarityError: neither a table nor a sample of that step is kept; says which steps have one.
        """
        return comparing.similarity_to(self, step, kind)

    @cached_property
    def stored_samples(self) -> StoredSamples:
        """The samples of patterns of every step and site, read once: up to 0.75 MB a measurement."""
        for attempt in range(_TRIES):
            try:
                return read_samples(
                    self.path / "samples", self.steps, skip_damaged=self._skip_damaged, notes=self._notes
                )
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @cached_property
    def strikes(self) -> RunStrikes:
        """Steps at which far more patterns than usual appeared or vanished at many sites at once."""
        return strikes_of(self)

    @cached_property
    def health(self) -> list[judging.Finding]:
        """What stands out, naming the layers: NaN, dead or saturated sites, too small a probe, dips, strikes."""
        return judging.findings(self)

    @property
    def warnings(self) -> list[str]:
        """What somebody who reads the numbers should know, in words; the same whatever was read before."""
        if not self._skip_damaged:
            return [*self._notes, *observations.warnings(self)]
        _ = self.scalars, self.stored_samples  # read when asked for, and their damage is known only then
        damaged = damaged_tables(self.path / "tables")
        return [*self._notes, *damaged, *observations.warnings(self)]

    def export(self, target: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the dataset as .zarr or .nc (extra `export`), or the layers as .csv; see `runs.export`."""
        from reluscope.runs.export import export_run

        return export_run(self, as_path(target), overwrite=overwrite)

    def __repr__(self) -> str:
        steps = f"{len(self.steps)} measurements"
        if self.steps:
            steps += f", steps {self.steps[0]} to {self.steps[-1]}"
        return f'<Run "{self.name}": {steps}, {len(self.sites)} sites, {self.state}>'

    def _is_null(self, column: str) -> bool:
        return self._layers.column(column).null_count == self._layers.num_rows

    def _timings_frame(self) -> pd.DataFrame:
        if self._timings is None:
            return pd.DataFrame(
                {"step": pd.Series(dtype="int64"), "seconds": [], "time": pd.Series(dtype="str")}
            )
        return self._timings.to_pandas().drop_duplicates("step", keep="last")

    def kept_tables(self) -> list[tuple[str, int, Path]]:
        """Every file of exact tables: kind, step, path."""
        return read_tables_info(self.path / "tables")

    def _committed_table(self, kind: str, site: str, step: int | None) -> StoredTable | None:
        try:
            found = read_table(table_path(self.path / "tables", kind, step), site)
        except FileNotFoundError:
            return None
        if found is None or found[2]["step"] not in set(self.steps):
            return None
        # The final table is written at close; a run that was resumed and cut off has one of an earlier end.
        return None if kind == "final" and found[2]["step"] != self.steps[-1] else found


def _read_table(
    folder: Path, columns: Iterable[str], skip_damaged: bool, notes: list[str]
) -> pa.Table | None:
    """All parts of a table as one, in order of step; None where there is none."""
    for _ in range(_TRIES - 1):
        try:
            return _read_parts(folder, columns, skip_damaged, notes)
        except FileNotFoundError:
            continue
    return _read_parts(folder, columns, skip_damaged, notes)


def _read_parts(
    folder: Path, columns: Iterable[str], skip_damaged: bool, notes: list[str]
) -> pa.Table | None:
    parts, damaged = [], []
    for path in part_paths(folder):
        try:
            part = read_part(path)
            check_columns(part, columns, path)
            parts.append(part)
        except (RunCorruptError, RunSchemaError) as error:
            if not skip_damaged or isinstance(error, RunSchemaError):
                raise
            damaged.append(str(error))
    notes.extend(damaged)
    return pa.concat_tables(parts, promote_options="default") if parts else None
