"""Writing a run: create or resume, commit measurements, add scalars, close.

Durability, the whole of it: every file is replaced whole (durable.py); `layers` is written last and is the
commit; rows of other tables without a row in `layers` are dropped at the next opening for writing. So a
process may die between any two operations and the run holds every measurement whose `commit` had returned,
and no part of another.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reluscope.errors import (
    RunCorruptError,
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    RunSchemaError,
    TrajectoryMismatchError,
)
from reluscope.runs.durable import TEMPORARY_SUFFIX, make_folder, remove_file, remove_temporaries
from reluscope.runs.lock import LOCK_NAME, RunLock, must_be_writable, run_state
from reluscope.runs.parts import PartTable, part_paths, read_part
from reluscope.runs.samples import SamplesTable
from reluscope.runs.scalars import ScalarsTable
from reluscope.runs.schema import (
    INFO_NAME,
    RUN_SCHEMA_VERSION,
    TIMINGS_COLUMNS,
    arrow_schema,
    as_path,
    error_columns,
    layers_columns,
    read_info,
    rows_to_table,
    write_info,
)
from reluscope.runs.tables import (
    StoredTable,
    all_tables_nbytes,
    drop_tables,
    read_table,
    table_path,
    write_tables,
)

if TYPE_CHECKING:
    import pandas as pd

    from reluscope.measures.similarity import PatternSample

__all__ = ["IF_EXISTS", "RunWriter", "is_free"]

IF_EXISTS = ("error", "resume", "new")
_FOLDERS = ("layers", "scalars", "timings", "tables")
_OPTIONAL_FOLDERS = ("samples",)  # made when something comes


class RunWriter:
    """The one writer of a run folder. Made by `create` or `resume`; a context manager that closes.

    Attributes:
        path: the folder.
        resumed: whether the run was there before.
    """

    def __init__(self, path: Path, lock: RunLock, info: dict[str, Any], *, resumed: bool) -> None:
        """Not for users: takes over a locked folder whose run.json holds `info`."""
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self._info = info
        self._schema = arrow_schema(info["columns"])
        self._layers = PartTable(path / "layers", self._schema)
        try:
            self._timings = PartTable(path / "timings", arrow_schema(TIMINGS_COLUMNS))
            self._scalars = ScalarsTable(path / "scalars")
            has_estimates = not error_columns().keys().isdisjoint(info["columns"])
            self._samples = SamplesTable(path / "samples", with_ceilings=has_estimates)
        except RunCorruptError as error:
            raise RunCorruptError(
                f"{error} No measurement needs that file: to go on with the run without it, move it elsewhere."
            ) from error
        self._steps = self._layers.steps()
        self._is_closed = False
        self._process = os.getpid()

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], info: Mapping[str, Any], *, if_exists: str = "error"
    ) -> Self:
        """Make a run, or what `if_exists` says where there is one.

        A run that holds no measurement and no scalars, because the first measurement failed, is in nobody's
        way: unless it is being written, it is made anew, whatever `if_exists` says.

        Args:
            path: the folder; parents are made.
            info: what run.json shall hold, in plain values.
            if_exists: "error" raises; "resume" continues the run that is there, whose own run.json stays;
                "new" makes the first free one of `path`, `path`-2, `path`-3, ...

        Raises:
            RunExistsError: a run, or a folder with other things in it, is there.
            RunLockedError: another process is writing there.
            RunSchemaError: `info` holds more than plain values, or the run to resume has a newer schema.
            RunCorruptError: the run to resume is damaged.
            RunNotWritableError: nothing may be written there.
            OSError: the disk refused.
        """
        if if_exists not in IF_EXISTS:
            raise RunExistsError(f"if_exists={if_exists!r}; allowed are {', '.join(map(repr, IF_EXISTS))}.")
        folder = as_path(path)
        if if_exists == "resume" and (folder / INFO_NAME).exists() and not is_free(folder):
            return cls.resume(folder)
        if if_exists != "new":
            return cls._make(folder, info)
        for candidate in _numbered(folder):
            if not is_free(candidate) or run_state(candidate) == "recording":
                continue
            try:
                return cls._make(candidate, info)
            except (RunExistsError, RunLockedError):
                continue  # another process was faster
        raise AssertionError("unreachable: the numbers do not end")

    @classmethod
    def resume(cls, path: str | os.PathLike[str]) -> Self:
        """Open a run to write on, dropping what was never committed.

        Raises:
            RunNotFoundError, RunLockedError, RunNotWritableError, RunSchemaError, RunCorruptError, OSError.
        """
        folder = as_path(path)
        read_info(folder)
        lock = RunLock(folder)
        try:
            info = read_info(folder)
            if not isinstance(info.get("columns"), dict):
                raise RunCorruptError(
                    f'"{folder / INFO_NAME}" does not name the columns of "layers"; it is damaged.'
                )
            remove_temporaries(folder)
            if not part_paths(folder / "layers"):  # the first one is made before run.json is
                raise RunCorruptError(
                    f'the run at "{folder}" has lost its measurements: there is no part in '
                    f'"{folder / "layers"}". Put that folder back, or record to another one.'
                )
            writer = cls(folder, lock, info, resumed=True)
            writer._timings.keep_only(writer._steps)
            writer._samples.keep_only(writer._steps)
            drop_tables(folder / "tables", writer._steps)
        except BaseException:
            lock.release(closed=False)
            raise
        return writer

    @classmethod
    def _make(cls, folder: Path, info: Mapping[str, Any]) -> Self:
        if not is_free(folder):
            raise _exists(folder)
        with must_be_writable(folder):
            make_folder(folder)
        lock = RunLock(folder)
        try:
            if not is_free(folder):  # somebody else was faster
                raise _exists(folder)
            remove_temporaries(folder)
            _clear(folder)
            about = {
                "schema_version": RUN_SCHEMA_VERSION,
                "name": folder.resolve().name,
                "run_id": secrets.token_hex(8),
                "created": _now(),
                "columns": layers_columns(),
                **info,
            }
            for name in _FOLDERS:
                make_folder(folder / name)
            writer = cls(folder, lock, about, resumed=False)
            write_info(folder, about)  # the last: from here on the folder is a run
        except BaseException:
            lock.release()
            raise
        return writer

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds; a copy."""
        return dict(self._info)

    @property
    def is_closed(self) -> bool:
        """Whether the writer was closed."""
        return self._is_closed

    def update_info(self, values: Mapping[str, Any]) -> None:
        """Put values into run.json, over those of the same name, durably. The schema and the columns stay."""
        fixed = {name: self._info[name] for name in ("schema_version", "columns")}
        info = {**self._info, **values, **fixed}
        if info != self._info:
            write_info(self.path, info)
            self._info = info

    def recorded_steps(self) -> list[int]:
        """The steps of all committed measurements, in order."""
        return list(self._steps)

    def sampled_steps(self) -> list[int]:
        """The steps whose samples the run keeps, in order."""
        return self._samples.steps()

    @property
    def last_step(self) -> int | None:
        """The step of the last committed measurement; None before the first one."""
        return self._steps[-1] if self._steps else None

    def layers_at(self, step: int) -> pd.DataFrame:
        """The committed rows of one step; empty when there are none."""
        return self._layers.rows_at(step).to_pandas()

    def table(self, kind: str, site: str, step: int | None = None) -> StoredTable | None:
        """A kept table of patterns, or None when it was not kept."""
        try:
            return read_table(table_path(self.path / "tables", kind, step), site)
        except FileNotFoundError:
            return None

    def tables_nbytes(self) -> dict[int, int]:
        """Bytes on the disk of the tables of kind "all", by step."""
        return all_tables_nbytes(self.path / "tables")

    def commit(
        self,
        step: int,
        layers: Sequence[Mapping[str, Any]],
        *,
        tables: Mapping[tuple[str, str], StoredTable] | None = None,
        samples: Mapping[str, PatternSample] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Write a measurement. Durable on return; after an error nothing of it counts; try it again.

        Args:
            step: beyond every recorded one.
            layers: one row per site: "site", "site_index" and any of the run's columns. A column that is left
                out or None is null; NaN in an integer column is null too.
            tables: by (kind, site), tables to keep; durable before the rows are.
            samples: by site, samples of patterns; durable before the rows are.
            seconds: how long the measurement took.

        Raises:
            TrajectoryMismatchError: the step is not beyond the last one.
            RunSchemaError: a row that does not fit the table.
            OSError: the disk refused.
        """
        self._check_open()
        if self._steps and step <= self._steps[-1]:
            raise TrajectoryMismatchError(
                f'step {step} was to be written to the run at "{self.path}", which already goes to step '
                f"{self._steps[-1]}; a run grows at its end only."
            )
        rows = rows_to_table(
            ({**row, "step": step} for row in _checked(layers)), self._schema, table="layers"
        )
        self._scalars.flush()
        self.keep_tables(step, tables or {})
        timing = {"step": step, "seconds": seconds, "time": _now()}
        timings = rows_to_table([timing], arrow_schema(TIMINGS_COLUMNS), table="timings")
        self._timings.replace_from(step, timings)
        self._samples.write(step, samples or {})
        # Not `append`: a commit that is interrupted after this line and tried again must not double rows.
        self._layers.replace_from(step, rows)
        self._steps.append(step)

    def keep_tables(self, step: int, tables: Mapping[tuple[str, str], StoredTable]) -> None:
        """Write tables by (kind, site), durably; those of a step that is never committed are dropped."""
        self._check_open()
        for kind in dict.fromkeys(kind for kind, _ in tables):
            of_kind = {site: table for (other, site), table in tables.items() if other == kind}
            write_tables(self.path / "tables", kind, step, of_kind)

    def keep_final_samples(self, step: int, samples: Mapping[str, PatternSample]) -> None:
        """Write the samples of the run's last measurement, durably; they count until the run goes on."""
        self._check_open()
        self._samples.write_final(step, samples)

    def add_scalars(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in rows of training scalars ("step" and any of loss, accuracy, lr, batch_indices).

        They become durable with the next commit, flush or close, or with the next rows a few seconds later. A
        step that the table has already is replaced; all others stay.

        Raises:
            RunSchemaError: a row that does not fit; none of the rows is taken in.
            OSError: the disk refused; the rows stay in memory.
        """
        self._check_open()
        self._scalars.add(rows)

    def flush(self) -> None:
        """Make the scalars durable that are still in memory."""
        self._check_open()
        self._scalars.flush()

    def close(self, *, complete: bool = True) -> None:
        """Flush and give the lock back; `complete=False` leaves the run marked as interrupted."""
        if self._is_closed:
            return
        try:
            self._scalars.flush()
        except BaseException:
            complete = False
            raise
        finally:
            self._is_closed = True
            self._lock.release(closed=complete)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close(complete=kind is None)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RunLockedError(
                f'the writer of the run at "{self.path}" is closed; RunWriter.resume opens it again.'
            )
        if self._process != os.getpid():
            raise RunLockedError(
                f'the writer of the run at "{self.path}" belongs to process {self._process}; its fork '
                f"{os.getpid()} cannot write, because a run has one writer."
            )


def _checked(layers: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    if not layers:
        raise RunSchemaError("a measurement needs at least one row, one per site; found none.")
    seen = set()
    for row in layers:
        if not isinstance(row.get("site"), str) or row.get("site_index") is None:
            raise RunSchemaError(f'a row for "layers" needs "site" and "site_index"; found {sorted(row)}.')
        if row["site"] in seen:
            raise RunSchemaError(
                f'two rows for the site "{row["site"]}" in one measurement; there is one per site.'
            )
        seen.add(row["site"])
        yield row


def is_free(folder: Path) -> bool:
    """Whether a run can be made here: nothing is there, or what a creation that was cut off or a first
    measurement that failed left behind. It may be in use by another process; the lock knows.
    """
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if (folder / INFO_NAME).exists():
        return _is_empty_run(folder)
    names = {entry.name for entry in folder.iterdir()}
    foreign = {
        name
        for name in names
        if name not in (LOCK_NAME, *_FOLDERS, *_OPTIONAL_FOLDERS) and not name.endswith(TEMPORARY_SUFFIX)
    }
    # Rows without a run.json: somebody lost that file, and with it nothing else may be lost.
    return not foreign and not any(read_part(path).num_rows for path in part_paths(folder / "layers"))


def _is_empty_run(folder: Path) -> bool:
    """Whether a run was made here and never held anything. Not: one that lost its tables, or is damaged."""
    measured, logged = part_paths(folder / "layers"), part_paths(folder / "scalars")
    try:
        read_info(folder)
        return bool(measured) and not any(read_part(path).num_rows for path in (*measured, *logged))
    except (RunCorruptError, RunSchemaError, RunNotFoundError):
        return False


def _clear(folder: Path) -> None:
    """Remove an empty run, run.json first: without it the rest is the rest of a creation that was cut off."""
    remove_file(folder / INFO_NAME)
    for path in (*part_paths(folder / "layers"), *part_paths(folder / "timings")):
        remove_file(path)
    for path in sorted((folder / "samples").glob("*.parquet")):
        remove_file(path)
    drop_tables(folder / "tables", ())


def _exists(folder: Path) -> RunExistsError:
    if (folder / INFO_NAME).exists():
        return RunExistsError(
            f'a run is already at "{folder}". Choose another folder, or say if_exists="resume" to continue '
            'it or if_exists="new" to record beside it.'
        )
    found = f"a folder with other files in it and no {INFO_NAME}" if folder.is_dir() else "a file"
    return RunExistsError(
        f'the run was to be made at "{folder}", where {found} is; give a new or empty folder.'
    )


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 1
    while True:
        number += 1
        yield folder.with_name(f"{folder.name}-{number}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
