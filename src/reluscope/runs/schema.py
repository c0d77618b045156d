"""What stands in a run folder: the schema version, run.json, and the columns of every table.

Columns are int64, float64, bool, text or lists of integers. In a float column NaN says "measured, and not defined here", null
says "not measured"; an integer column has only null. Every part of a table has the same columns, fixed when
the run is made, so that `layers/*.parquet` is one table to any reader at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from reluscope.errors import RunCorruptError, RunNotFoundError, RunSchemaError
from reluscope.measures.estimates import error_name
from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs.durable import replace_file

__all__ = [
    "CEILING_COLUMN",
    "INFO_NAME",
    "LAYERS_KEYS",
    "RUN_SCHEMA_VERSION",
    "SAMPLES_COLUMNS",
    "SCALARS_COLUMNS",
    "TIMINGS_COLUMNS",
    "arrow_schema",
    "as_path",
    "check_part_version",
    "check_version",
    "error_columns",
    "layers_columns",
    "read_info",
    "rows_to_table",
    "write_info",
]

RUN_SCHEMA_VERSION = 1
INFO_NAME = "run.json"

LAYERS_KEYS = {"step": "int64", "site": "string", "site_index": "int64"}
_LAYERS_REST = {
    "num_evaluations": "int64",
    "width": "int64",
    "num_units": "int64",
    "exact": "bool",
    "parameter_hash": "string",
}
# Wall-clock values have a table of their own: two runs of one training then have the same bytes in `layers`.
TIMINGS_COLUMNS = {"step": "int64", "seconds": "float64", "time": "string"}
SCALARS_COLUMNS = {
    "step": "int64",
    "loss": "float64",
    "accuracy": "float64",
    "lr": "float64",
    "batch_indices": "list<int64>",
}
# Samples of patterns, for similarities. A table that older readers do not know and need not: still version 1.
SAMPLES_COLUMNS = {
    "step": "int64",
    "site": "string",
    "key_0": "list<uint64>",
    "key_1": "list<uint64>",
    "count": "list<int64>",
    "tau": "float64",
    "num_evaluations": "int64",
    "num_patterns": "int64",
}
# Only in runs with a memory budget: with what probability an estimated site can have each pattern at all.
CEILING_COLUMN = {"ceiling": "list<float64>"}

_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "list<int64>": pa.list_(pa.field("element", pa.int64())),
    "list<uint64>": pa.list_(pa.field("element", pa.uint64())),
    "list<float64>": pa.list_(pa.field("element", pa.float64())),
}
_VERSION_KEY = b"reluscope_run_schema"


def layers_columns(*, with_errors: bool = False) -> dict[str, str]:
    """Columns of a new run's `layers` table and their types: keys, every measure of the spec, the rest.

    Args:
        with_errors: also the standard errors of estimates, for a run with a memory budget.
    """
    measures = {name: measure.dtype for name, measure in LAYER_MEASURES.items()}
    errors = dict.fromkeys(error_columns(), "float64") if with_errors else {}
    return {**LAYERS_KEYS, **measures, **_LAYERS_REST, **errors}


def error_columns() -> dict[str, str]:
    """The columns of standard errors, and the measure that each is of."""
    estimated = [
        name
        for name, measure in LAYER_MEASURES.items()
        if measure.family in ("counts", "changes", "similarity", "labels") and name != "information_excess"
    ]
    return {error_name(name): name for name in estimated}


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of these columns, with the schema version in its metadata."""
    fields = [pa.field(name, _TYPES[kind]) for name, kind in columns.items()]
    return pa.schema(fields, metadata={_VERSION_KEY: str(RUN_SCHEMA_VERSION).encode()})


def rows_to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, *, table: str) -> pa.Table:
    """Rows as an Arrow table; a column that a row lacks is null there.

    Raises:
        RunSchemaError: a row has a column that the table does not have, or a value of another type.
    """
    rows = list(rows)
    names = set(schema.names)
    for row in rows:
        unknown = [name for name in row if name not in names]
        if unknown:
            raise RunSchemaError(
                f'a row for "{table}" has the column "{unknown[0]}", which this run does not have. Its columns '
                f"were fixed when it was made: {', '.join(schema.names)}. Record what is new in a new run."
            )
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if field.type == pa.int64():  # undefined is null: integers have no NaN
            values = [None if value is None or value != value else value for value in values]
        try:
            arrays.append(pa.array(values, type=field.type, from_pandas=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise RunSchemaError(
                f'a row for "{table}" has a value in the column "{field.name}" that is not of type '
                f"{field.type}: {error}."
            ) from error
    return pa.Table.from_arrays(arrays, schema=schema)


def check_version(found: Any, path: Path) -> None:
    """Raise RunSchemaError for a newer schema, RunCorruptError for what is no version at all."""
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise RunCorruptError(
            f'"{path}" gives the schema version as {found!r}, which is no version; versions are 1 to '
            f"{RUN_SCHEMA_VERSION}. The file is damaged or not of a run."
        )
    if found > RUN_SCHEMA_VERSION:
        raise RunSchemaError(
            f'"{path}" was written with run schema {found}; this reluscope reads schemas 1 to '
            f"{RUN_SCHEMA_VERSION}. Update it: pip install --upgrade reluscope."
        )


def check_part_version(schema: pa.Schema, path: Path) -> None:
    """The same check for a table, whose version stands in its metadata."""
    text = (schema.metadata or {}).get(_VERSION_KEY, b"1")
    check_version(int(text) if text.isdigit() else text.decode(errors="replace"), path)


def read_info(folder: Path) -> dict[str, Any]:
    """What run.json holds.

    Raises:
        RunNotFoundError: no folder, or no run.json in it.
        RunCorruptError: run.json cannot be read; says what still can.
        RunSchemaError: a newer schema.
    """
    path = folder / INFO_NAME
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(f'no run at "{folder}": {_what_is_there(folder)}') from None
    except (ValueError, UnicodeDecodeError) as error:
        raise RunCorruptError(
            f'"{path}" is damaged: {error}. The tables beside it are still readable: rs.open_run("{folder}", '
            f'skip_damaged=True), or polars.read_parquet("{folder / "layers" / "*.parquet"}").'
        ) from error
    if not isinstance(info, dict):
        raise RunCorruptError(f'"{path}" holds a {type(info).__name__}, not the description of a run.')
    check_version(info.get("schema_version"), path)
    return info


def _what_is_there(folder: Path) -> str:
    """Where there is no run: what there is, and, for a folder of runs, which these are."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        return f"found {found} there. A run is the folder that rs.Recorder was given as run."
    runs = sorted(path.parent.name for path in folder.glob(f"*/{INFO_NAME}"))
    if not runs:
        return f"found a folder without {INFO_NAME} there. A run is the folder that rs.Recorder was given as run."
    named = ", ".join(f'"{folder / name}"' for name in runs[:3])
    further = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"found a folder of runs there. Name one or several of them: {named}{further}."


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write run.json, durably and whole.

    Raises:
        RunSchemaError: a value is not plain (text, number, bool, None, lists and dicts of them).
    """
    try:
        text = json.dumps(info, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunSchemaError(
            f"run.json takes text, finite numbers, booleans, None, and lists and dicts of them: {error}."
        ) from error
    replace_file(folder / INFO_NAME, lambda stream: _write_all(stream, text.encode() + b"\n"))


def _write_all(stream: Any, data: bytes) -> None:
    stream.write(data)


def as_path(path: str | os.PathLike[str]) -> Path:
    """A path as given by a user, with ~ for the home folder."""
    return Path(path).expanduser()
