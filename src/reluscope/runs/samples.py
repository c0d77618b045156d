"""The samples of patterns in a run: samples/part-000000.parquet, ..., one row per (step, site).

Columns: key_0 (and key_1 for keys of two words, else null), count: lists with one entry per sampled pattern;
tau, 0 for a whole table; in runs with a memory budget also ceiling, null for exact sites; num_evaluations and
num_patterns of the distribution they were drawn from. They are written before the rows of `layers`, which are
the commit. `samples/final.parquet`, with the same columns, is the sample of the last measurement where the
schedule of samples left that out; like the final tables it counts only as long as that measurement is the
run's last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reluscope.errors import DistributionError, RunCorruptError
from reluscope.measures.similarity import PatternSample
from reluscope.runs.durable import replace_file
from reluscope.runs.parts import PartLimits, PartTable, check_columns, part_paths, read_part
from reluscope.runs.schema import CEILING_COLUMN, SAMPLES_COLUMNS, arrow_schema, rows_to_table

__all__ = ["SamplesTable", "StoredSamples", "read_samples"]

FINAL_NAME = "final.parquet"

# The last part is rewritten with every measurement, and a measurement may have 0.75 MB: a few of them a part.
_LIMITS = PartLimits(max_bytes=4 * 2**20)


class SamplesTable:
    """The writing end. The folder is made when the first samples come: a run may have none."""

    def __init__(self, folder: Path, *, with_ceilings: bool = False) -> None:
        self._folder = folder
        self._schema = arrow_schema({**SAMPLES_COLUMNS, **(CEILING_COLUMN if with_ceilings else {})})
        self._table = PartTable(folder, self._schema, _LIMITS) if folder.is_dir() else None

    def steps(self) -> list[int]:
        """Every step with a sample in the parts, in order."""
        return self._table.steps() if self._table is not None else []

    def write(self, step: int, samples: Mapping[str, PatternSample]) -> None:
        """Put the samples of a step at the end, durably, over what stands there at or beyond this step."""
        if self._table is None:
            if not samples:
                return
            self._table = PartTable(self._folder, self._schema, _LIMITS)
        self._table.replace_from(step, self._rows(step, samples))

    def write_final(self, step: int, samples: Mapping[str, PatternSample]) -> None:
        """Keep the samples of the run's last measurement beside the parts."""
        if self._table is None:
            self._table = PartTable(self._folder, self._schema, _LIMITS)
        rows = self._rows(step, samples)
        replace_file(
            self._folder / FINAL_NAME, lambda stream: pq.write_table(rows, stream, write_page_checksum=True)
        )

    def keep_only(self, steps: Collection[int]) -> None:
        """Drop the samples of every step that was never committed."""
        if self._table is not None:
            self._table.keep_only(steps)

    def _rows(self, step: int, samples: Mapping[str, PatternSample]) -> pa.Table:
        rows = (_row(step, site, sample) for site, sample in samples.items())
        return rows_to_table(rows, self._schema, table="samples")


class StoredSamples:
    """The samples of a run as they lie in memory once read; each is looked up by (step, site)."""

    def __init__(self, tables: Iterable[pa.Table], steps: Collection[int]) -> None:
        """Takes rows of steps in `steps` only: others were never committed."""
        committed = set(steps)
        self._chunks: list[pa.RecordBatch] = []
        self._place: dict[tuple[int, str], tuple[int, int]] = {}
        for table in tables:
            for chunk in table.to_batches():
                where = zip(chunk.column("step").to_pylist(), chunk.column("site").to_pylist(), strict=True)
                for row, (step, site) in enumerate(where):
                    if step in committed:
                        self._place.setdefault((step, site), (len(self._chunks), row))
                self._chunks.append(chunk)

    def steps(self, site: str) -> list[int]:
        """The steps with a sample of this site, in order."""
        return sorted(step for step, name in self._place if name == site)

    def get(self, step: int, site: str) -> PatternSample | None:
        """The sample of a site at a step, or None where none was taken.

        Raises:
            RunCorruptError: what is stored is no sample.
        """
        if (step, site) not in self._place:
            return None
        number, row = self._place[step, site]
        chunk = self._chunks[number]
        words = [_list_at(chunk, name, row) for name in ("key_0", "key_1")]
        about = {name: chunk.column(name)[row].as_py() for name in ("tau", "num_evaluations", "num_patterns")}
        try:
            keys = np.stack([word for word in words if word is not None], axis=1)
            counts = np.asarray(_list_at(chunk, "count", row))
            has_ceilings = "ceiling" in chunk.schema.names
            ceilings = _list_at(chunk, "ceiling", row) if has_ceilings else None
            return PatternSample(keys, counts, **about, ceilings=ceilings)
        except (DistributionError, ValueError, TypeError) as error:
            raise RunCorruptError(
                f'the sample of "{site}" at step {step} is damaged ({error}); the measures in "layers" do not '
                "need it."
            ) from error


def read_samples(
    folder: Path, steps: Collection[int], *, skip_damaged: bool = False, notes: list[str] | None = None
) -> StoredSamples:
    """The samples of committed steps.

    Args:
        folder: samples/ of a run; one that is not there holds no samples.
        steps: the steps that `layers` holds.
        skip_damaged: leave out damaged parts; `notes` names them.

    Raises:
        RunCorruptError, RunSchemaError: a damaged part, or a newer one.
        FileNotFoundError: a part was replaced while it was read; try again.
    """
    tables = []
    final = folder / FINAL_NAME
    for path in [*part_paths(folder), *([final] if final.exists() else [])]:
        try:
            table = read_part(path)
            check_columns(table, SAMPLES_COLUMNS, path)
        except RunCorruptError as error:
            if not skip_damaged:
                raise
            (notes if notes is not None else []).append(str(error))
            continue
        if path == final:  # of an earlier end, if the run went on after it
            last = max(steps, default=-1)
            table = table.filter(pc.field("step") == last)
        tables.append(table)
    return StoredSamples(tables, steps)


def _row(step: int, site: str, sample: PatternSample) -> dict[str, Any]:
    words = {
        f"key_{word}": np.ascontiguousarray(sample.keys[:, word]) for word in range(sample.keys.shape[1])
    }
    ceilings = {} if sample.ceilings is None else {"ceiling": sample.ceilings}
    return {
        "step": step,
        "site": site,
        **words,
        **ceilings,
        "count": sample.counts,
        "tau": float(sample.tau),
        "num_evaluations": sample.num_evaluations,
        "num_patterns": sample.num_patterns,
    }


def _list_at(chunk: pa.RecordBatch, name: str, row: int) -> np.ndarray | None:
    """One list of a column, as a view of the column's memory."""
    value = chunk.column(name)[row].values
    return None if value is None else value.to_numpy(zero_copy_only=True)
