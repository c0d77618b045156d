"""The scalars of training, one row per step: loss, accuracy, learning rate, the indices of the batch.

They are not measurements and need no commit: they wait in memory and become durable with the next
measurement, at a flush, or when rows come in a few seconds after the last time. A step that comes again (a
resumed training) replaces its own row and no other, so no step stands in the table twice and none is lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reluscope.errors import RunSchemaError
from reluscope.runs.parts import PartLimits, PartTable
from reluscope.runs.schema import SCALARS_COLUMNS, arrow_schema, rows_to_table

__all__ = ["ScalarsTable"]

_FLUSH_S = 3.0
_LIMITS = PartLimits(max_steps=16_384)


class ScalarsTable:
    """The writing end of the `scalars` table, with a buffer."""

    def __init__(self, folder: Path) -> None:
        self._schema = arrow_schema(SCALARS_COLUMNS)
        self._table = PartTable(folder, self._schema, _LIMITS)
        self._pending: dict[int, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows in; those of one step are joined into one. Writes when the last writing was seconds ago.

        Raises:
            RunSchemaError: a column that scalars do not have, or a value of another type; none is taken in.
            OSError: the disk refused; the rows stay in the buffer.
        """
        taken = [dict(row) for row in rows]
        if any(row.get("step") is None for row in taken):
            raise RunSchemaError('a row for "scalars" needs a "step".')
        rows_to_table(taken, self._schema, table="scalars")
        for row in taken:
            self._take(row)
        if self._pending and time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Make everything taken in durable."""
        if self._pending:
            rows = [self._pending[step] for step in sorted(self._pending)]
            self._table.merge(rows_to_table(rows, self._schema, table="scalars"))
            self._pending.clear()
        self._flushed = time.monotonic()

    def _take(self, row: dict[str, Any]) -> None:
        step = row["step"]
        given = {name: value for name, value in row.items() if value is not None}
        if self._last is not None and self._last["step"] == step:
            given = {**self._last, **given}
        self._pending[step] = self._last = given
