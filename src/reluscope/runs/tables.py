"""Exact tables of patterns that a run keeps: tables/init.parquet, final.parquet, all-000000012.parquet.

One file holds the tables of every site at one step; each site's rows are row groups of their own, so that one
site is read without the others. Columns: site, key_0, key_1, ... (the words of the key, lowest first; null
beyond a site's own number of words), count; where a site is an estimate also level (null for the others). What
belongs to a table beside its rows stands as JSON in the file's metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reluscope.errors import RunCorruptError, RunSchemaError
from reluscope.runs.durable import make_folder, remove_file, replace_file
from reluscope.runs.parts import DAMAGE, first_line
from reluscope.runs.schema import RUN_SCHEMA_VERSION, check_version

__all__ = [
    "KINDS",
    "StoredTable",
    "all_tables_nbytes",
    "damaged_tables",
    "drop_tables",
    "read_table",
    "read_tables_info",
    "table_path",
    "write_tables",
]

KINDS = ("init", "final", "all")
StoredTable = tuple[np.ndarray, np.ndarray, dict[str, Any]]

_NAME = re.compile(r"(init|final|all-(\d{9,}))\.parquet")
_META_KEY = b"reluscope_tables"
_DAMAGE = (*DAMAGE, KeyError, TypeError, ValueError)  # the JSON in the metadata too
_CHUNK_ROWS = 2**20  # rows per row group: bounds what writing needs beside the table itself


def table_path(folder: Path, kind: str, step: int | None = None) -> Path:
    """Where the tables of a kind stand; `step` only for kind "all".

    Raises:
        RunSchemaError: a kind that does not exist, or "all" without a step.
    """
    if kind not in KINDS:
        raise RunSchemaError(f'no tables of the kind "{kind}"; there are {", ".join(KINDS)}.')
    if kind != "all":
        return folder / f"{kind}.parquet"
    if step is None:
        raise RunSchemaError('tables of the kind "all" are kept for every step: say which, step=...')
    return folder / f"all-{step:09d}.parquet"


def write_tables(folder: Path, kind: str, step: int, tables: Mapping[str, StoredTable]) -> None:
    """Write the tables of all sites at one step as one file, durably and whole.

    Args:
        tables: by site: keys uint64 (patterns, words), counts int64 (patterns,), and plain values about the
            table; for an estimate also "levels", uint8 (patterns,).
    """
    num_words = max((keys.shape[1] for keys, _, _ in tables.values()), default=1)
    names = [f"key_{word}" for word in range(num_words)]
    sites, first_group = [], 0
    levels = {site: meta["levels"] for site, (_, _, meta) in tables.items() if "levels" in meta}
    for site, (keys, _, meta) in tables.items():
        num_groups = -(-len(keys) // _CHUNK_ROWS)
        sites.append(
            {
                "site": site,
                "row_groups": [first_group, first_group + num_groups],
                "num_words": keys.shape[1],
                **{name: value for name, value in meta.items() if name != "levels"},
            }
        )
        first_group += num_groups
    about = {"schema_version": RUN_SCHEMA_VERSION, "kind": kind, "step": step, "sites": sites}
    fields = [
        pa.field("site", pa.dictionary(pa.int32(), pa.string())),
        *(pa.field(name, pa.uint64()) for name in names),
        pa.field("count", pa.int64()),
        *([pa.field("level", pa.uint8())] if levels else []),
    ]
    schema = pa.schema(fields, metadata={_META_KEY: json.dumps(about, allow_nan=False).encode()})

    def write(stream) -> None:
        with pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True) as writer:
            for site, (keys, counts, _) in tables.items():
                for start in range(0, len(keys), _CHUNK_ROWS):
                    rows = slice(start, start + _CHUNK_ROWS)
                    chunk = _chunk(site, keys[rows], counts[rows], num_words, schema, levels, rows)
                    writer.write_table(chunk, _CHUNK_ROWS)

    make_folder(folder)
    replace_file(table_path(folder, kind, step), write)


def read_table(path: Path, site: str) -> StoredTable | None:
    """The table of one site: keys, counts and what is known about it, its step too; None where there is none.

    Raises:
        FileNotFoundError: no such file.
        RunCorruptError, RunSchemaError: a damaged file, or a newer one.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = _about(file, path)
            for entry in about["sites"]:
                if entry["site"] != site:
                    continue
                names = [f"key_{word}" for word in range(entry["num_words"])]
                own = ["level"] if entry.get("exact") is False else []
                rows = file.read_row_groups(
                    list(range(*entry["row_groups"])), columns=[*names, "count", *own], use_threads=False
                )
                keys = np.empty((rows.num_rows, len(names)), dtype=np.uint64)
                for word, name in enumerate(names):
                    keys[:, word] = rows.column(name).to_numpy()
                meta = {
                    key: value
                    for key, value in entry.items()
                    if key not in ("site", "row_groups", "num_words")
                }
                if own:
                    meta["levels"] = rows.column("level").to_numpy().copy()
                return keys, rows.column("count").to_numpy().copy(), {**meta, "step": about["step"]}
    except _DAMAGE as error:
        if isinstance(error, RunCorruptError | RunSchemaError):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RunCorruptError(
            f'"{path}" is damaged: {first_line(error)}. The measures in "layers" do not need it: '
            "to go on with the run without it, move it elsewhere."
        ) from error
    return None


def read_tables_info(folder: Path) -> list[tuple[str, int, Path]]:
    """Every file of tables: kind, step, path. Damaged ones are left out; `damaged_tables` names them."""
    found = []
    for path, match in _files(folder):
        if match[2] is not None:
            found.append(("all", int(match[2]), path))
            continue
        try:
            found.append((match[1], _step_of(path), path))
        except _DAMAGE:
            continue
    return found


def all_tables_nbytes(folder: Path) -> dict[int, int]:
    """Bytes on the disk of the tables of kind "all", by step."""
    return {int(match[2]): path.stat().st_size for path, match in _files(folder) if match[2] is not None}


def damaged_tables(folder: Path) -> list[str]:
    """In words, every file of tables that cannot be opened. A damaged page shows when its rows are read."""
    found = []
    for path, _ in _files(folder):
        try:
            _step_of(path)
        except _DAMAGE as error:
            found.append(f'"{path}" is damaged: {first_line(error)}.')
    return found


def _files(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    named = [(path, _NAME.fullmatch(path.name)) for path in sorted(folder.glob("*.parquet"))]
    return [(path, match) for path, match in named if match is not None]


def _step_of(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return int(_about(file, path)["step"])


def drop_tables(folder: Path, steps: Collection[int]) -> None:
    """Remove the tables of every step that was never committed."""
    committed = set(steps)
    for _, step, path in read_tables_info(folder):
        if step not in committed:
            remove_file(path)


def _about(file: pq.ParquetFile, path: Path) -> dict[str, Any]:
    text = (file.schema_arrow.metadata or {}).get(_META_KEY)
    if text is None:
        raise RunCorruptError(f'"{path}" does not say what it holds, so it is not a table of a run.')
    about = json.loads(text)
    check_version(about.get("schema_version"), path)
    return about


def _chunk(
    site: str,
    keys: np.ndarray,
    counts: np.ndarray,
    num_words: int,
    schema: pa.Schema,
    levels: Mapping[str, np.ndarray],
    rows: slice,
) -> pa.Table:
    sites = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(keys), dtype=np.int32)), pa.array([site]))
    words = [pa.array(np.ascontiguousarray(keys[:, word])) for word in range(keys.shape[1])]
    words += [pa.nulls(len(keys), pa.uint64())] * (num_words - keys.shape[1])
    arrays = [sites, *words, pa.array(np.ascontiguousarray(counts))]
    if levels:
        own = levels.get(site)
        arrays.append(pa.nulls(len(keys), pa.uint8()) if own is None else pa.array(own[rows]))
    return pa.Table.from_arrays(arrays, schema=schema)
