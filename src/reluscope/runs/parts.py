"""A table in parts: part-000000.parquet, part-000001.parquet, ... ordered by step.

The last part is rewritten whole, under the same name, until it holds 256 steps or 16 MB; then a new one begins.
Each part holds a range of steps of its own, so the parts in order are the table in order. Which rows stand in
which part follows from the rows alone (unless steps come that lie between older ones), so a run that was
interrupted and resumed has the same bytes as one that was not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reluscope.errors import RunCorruptError
from reluscope.runs.durable import make_folder, remove_file, replace_file
from reluscope.runs.schema import check_part_version

__all__ = ["DAMAGE", "PartLimits", "PartTable", "check_columns", "first_line", "part_paths", "read_part"]

# What reading a damaged Parquet file ends in. An OSError with an errno is the disk's own: not found, not allowed.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)

_NAME = re.compile(r"part-(\d{6,})\.parquet")


@dataclass(frozen=True, kw_only=True)
class PartLimits:
    """When a part is full: at this many steps, or this many bytes of values (8 each, before compression)."""

    max_steps: int = 256
    max_bytes: int = 16 * 2**20


@dataclass(frozen=True)
class _Part:
    """A part that is full: its number, and the first of its steps."""

    number: int
    first_step: int


class PartTable:
    """The writing end of a table in parts. One at a time per folder: the run's lock sees to that."""

    def __init__(self, folder: Path, schema: pa.Schema, limits: PartLimits | None = None) -> None:
        """Open what is there, or write an empty first part, so that a glob always finds one."""
        self._folder = folder
        self._schema = schema
        self._texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._limits = limits or PartLimits()
        self._full: list[_Part] = []
        self._number = 0
        self._tail = schema.empty_table()
        make_folder(folder)
        paths = part_paths(folder)
        for path in paths[:-1]:
            steps = read_part(path, columns=["step"]).column("step")
            if len(steps):
                self._full.append(_Part(_number_of(path), steps[0].as_py()))
        if paths:
            self._load_tail(paths[-1])
        else:
            self._write(0, self._tail)

    @property
    def last_step(self) -> int | None:
        """The largest step in the table; None while it is empty."""
        if self._tail.num_rows:
            return self._tail.column("step")[-1].as_py()
        return self._read_full(self._full[-1]).column("step")[-1].as_py() if self._full else None

    def steps(self) -> list[int]:
        """Every step with a row, in order."""
        parts = [self._read_full(part, columns=["step"]) for part in self._full]
        found = [np.unique(part.column("step").to_numpy()) for part in [*parts, self._tail]]
        return [int(step) for step in np.concatenate(found)]

    def rows_at(self, step: int) -> pa.Table:
        """The rows of one step; an empty table when there are none."""
        if step >= self._tail_start():
            return _only(self._tail, step)
        holding = [part for part in self._full if part.first_step <= step]
        return _only(self._read_full(holding[-1]) if holding else self._schema.empty_table(), step)

    def append(self, rows: pa.Table) -> None:
        """Put rows at the end, durably; their steps must be in order and beyond the last one of the table.

        On an OSError the table holds the rows of the parts that were written before, and stays usable.
        """
        while rows.num_rows:
            number, tail = self._number, self._tail
            if self._is_full(tail):
                self._full.append(_Part(number, tail.column("step")[0].as_py()))
                self._number, self._tail = number + 1, self._schema.empty_table()
                number, tail = self._number, self._tail
            taken = self._num_rows_that_fit(tail, rows)
            tail = pa.concat_tables([tail, rows.slice(0, taken)]).combine_chunks()
            self._write(number, tail)
            self._tail = tail
            rows = rows.slice(taken)

    def replace_from(self, step: int, rows: pa.Table) -> None:
        """Drop every row at `step` and beyond, then append: a training that went back writes over itself."""
        while self._full and self._tail_start() >= step:
            remove_file(self._path(self._number))
            last = self._full[-1]
            self._tail = self._read_full(last)
            self._number = last.number
            self._full.pop()
        kept = self._tail.slice(0, _first_row(self._tail, step)).combine_chunks()
        if kept.num_rows == self._tail.num_rows:
            self.append(rows)
            return
        # One write for both where it can be: what is dropped and what replaces it change in the same instant.
        taken = 0 if self._is_full(kept) else self._num_rows_that_fit(kept, rows)
        tail = pa.concat_tables([kept, rows.slice(0, taken)]).combine_chunks()
        self._write(self._number, tail)
        self._tail = tail
        self.append(rows.slice(taken))

    def merge(self, rows: pa.Table) -> None:
        """Put rows in, durably, each in the place of the row of its step; every other row stays where it is.

        One row per step, in order. A row goes to the part in whose range its step falls, and no row ever moves
        to another file: at a crash between any two writes each step that was there is there, once. Steps that
        are new between old ones may so make a part larger than its limits.

        On an OSError the rows of some parts are in; the same call again puts in the rest.
        """
        last = self.last_step
        num_inside = 0 if last is None else _first_row(rows, last + 1)
        inside = rows.slice(0, num_inside)
        starts = [part.first_step for part in self._full]
        if self._tail.num_rows:
            starts.append(self._tail_start())
        # The first part's range is open towards the past.
        places = np.maximum(np.searchsorted(starts, inside.column("step").to_numpy(), side="right") - 1, 0)
        for place in np.unique(places):
            self._merge_into(int(place), inside.filter(pa.array(places == place)))
        self.append(rows.slice(num_inside))

    def keep_only(self, steps: Collection[int]) -> None:
        """Drop the rows of every step not in `steps`: they were never committed, so they are at the end."""
        kept = set(steps)
        orphans = [step for step in self.steps() if step not in kept]
        if orphans:
            self.replace_from(min(orphans), self._schema.empty_table())

    def _merge_into(self, place: int, rows: pa.Table) -> None:
        """Put rows over those of the same step in one part: a full one by its place, or the last."""
        part = self._full[place] if place < len(self._full) else None
        before = self._tail if part is None else self._read_full(part)
        is_replaced = np.isin(before.column("step").to_numpy(), rows.column("step").to_numpy())
        both = pa.concat_tables([before.filter(pa.array(~is_replaced)), rows])
        merged = both.sort_by("step").combine_chunks()
        self._write(self._number if part is None else part.number, merged)
        if part is None:
            self._tail = merged
        else:
            self._full[place] = _Part(part.number, merged.column("step")[0].as_py())

    def _tail_start(self) -> int:
        """The first step of the last part; beyond every step while that part is empty."""
        return self._tail.column("step")[0].as_py() if self._tail.num_rows else np.iinfo(np.int64).max

    def _is_full(self, tail: pa.Table) -> bool:
        num_steps = len(np.unique(tail.column("step").to_numpy()))
        return num_steps >= self._limits.max_steps or int(_row_bytes(tail).sum()) >= self._limits.max_bytes

    def _num_rows_that_fit(self, tail: pa.Table, rows: pa.Table) -> int:
        """How many rows, in whole steps, go into this part before it is full. At least one step does."""
        if not rows.num_rows:
            return 0
        steps = rows.column("step").to_numpy()
        starts = np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))
        bytes_before = np.concatenate([[0], np.cumsum(_row_bytes(rows))])[starts] + int(
            _row_bytes(tail).sum()
        )
        steps_before = np.arange(len(starts)) + len(np.unique(tail.column("step").to_numpy()))
        full = (steps_before >= self._limits.max_steps) | (bytes_before >= self._limits.max_bytes)
        return int(starts[np.argmax(full)]) if full.any() else rows.num_rows

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.parquet"

    def _write(self, number: int, tail: pa.Table) -> None:
        def write(stream) -> None:
            # One row group. Dictionaries of numbers, and bounds of all but the step, would cost time only.
            pq.write_table(
                tail,
                stream,
                row_group_size=max(1, tail.num_rows),
                compression="snappy",
                use_dictionary=self._texts,  # pyright: ignore[reportArgumentType] - the stub knows bool only
                write_statistics=["step"],  # pyright: ignore[reportArgumentType]
                write_page_checksum=True,
            )

        replace_file(self._path(number), write)

    def _load_tail(self, path: Path) -> None:
        self._number = _number_of(path)
        self._tail = self._conform(read_part(path), path)

    def _read_full(self, part: _Part, columns: list[str] | None = None) -> pa.Table:
        path = self._path(part.number)
        table = read_part(path, columns=columns)
        return table if columns else self._conform(table, path)

    def _conform(self, table: pa.Table, path: Path) -> pa.Table:
        """The columns of the run, in their order and types, as one chunk each."""
        check_columns(table, self._schema.names, path)
        try:
            return table.select(self._schema.names).cast(self._schema).combine_chunks()
        except DAMAGE as error:
            raise RunCorruptError(f'"{path}" is damaged: {first_line(error)}.') from error


def part_paths(folder: Path) -> list[Path]:
    """The parts of a table, in order."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_number_of)


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One part.

    Raises:
        RunCorruptError: the file is damaged; names it.
        RunSchemaError: it was written with a newer schema.
        FileNotFoundError: it is not there (any more).
    """
    try:
        # The whole file at once: it may be replaced at any moment, and a mapped or half-read one would tear.
        content = pa.BufferReader(path.read_bytes())
        file = pq.ParquetFile(content, page_checksum_verification=True)
        check_part_version(file.schema_arrow, path)
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)  # text that is no UTF-8 would show only where it is looked at
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own error: not found, not allowed
        raise RunCorruptError(
            f'"{path}" is damaged: {first_line(error)}. The other parts are still readable: '
            f'rs.open_run("{path.parent.parent}", skip_damaged=True).'
        ) from error
    if columns is None and "step" not in table.column_names:
        raise RunCorruptError(f'"{path}" has no column "step", so it is not a part of a run.')
    return table


def check_columns(table: pa.Table, columns: Iterable[str], path: Path) -> None:
    """Raise RunCorruptError when a part lacks a column that the run has: a bit of its name was lost."""
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise RunCorruptError(
            f'"{path}" is damaged: it lacks the column "{missing[0]}". The other parts are still readable: '
            f'rs.open_run("{path.parent.parent}", skip_damaged=True).'
        )


def first_line(error: Exception) -> str:
    """The first line of an error's text, without the full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _number_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _first_row(table: pa.Table, step: int) -> int:
    """Where the rows of a step begin, or would begin: a table is ordered by step."""
    return int(np.searchsorted(table.column("step").to_numpy(), step))


def _only(table: pa.Table, step: int) -> pa.Table:
    start = _first_row(table, step)
    return table.slice(start, _first_row(table, step + 1) - start)


def _chunks(column: pa.ChunkedArray) -> Iterator[tuple[pa.ListArray, int]]:
    """The arrays of a column, each with the row that it starts at."""
    start = 0
    for chunk in column.chunks:
        yield chunk, start
        start += len(chunk)


def _row_bytes(table: pa.Table) -> np.ndarray:
    """Bytes of the values of each row, 8 for every number or text: a size that no library changes."""
    found = np.full(table.num_rows, 8 * table.num_columns, dtype=np.int64)
    for name in table.column_names:
        if pa.types.is_list(table.schema.field(name).type):
            for chunk, start in _chunks(table.column(name)):
                # A null is empty, so the offsets alone give the lengths.
                found[start : start + len(chunk)] += 8 * np.diff(chunk.offsets.to_numpy())
    return found
