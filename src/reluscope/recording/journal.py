"""Measurements on their way to the disk: what it refuses is held in memory and tried again, in order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reluscope.patterns import PatternSample
from reluscope.runs import RunWriter
from reluscope.runs.tables import StoredTable

__all__ = ["Entry", "Journal"]

# A full disk is asked again at most this often between measurements.
_RETRY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One measurement, as `RunWriter.commit` takes it."""

    step: int
    rows: list[dict[str, Any]]
    seconds: float
    tables: Mapping[tuple[str, str], StoredTable] = field(default_factory=dict)
    samples: Mapping[str, PatternSample] = field(default_factory=dict)


class Journal:
    """Commits measurements in order; those that the disk refused wait here."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._waiting: list[Entry] = []
        self._tried = 0.0

    @property
    def waiting(self) -> list[int]:
        """Steps that are measured and not yet on disk."""
        return [entry.step for entry in self._waiting]

    def add(self, entry: Entry) -> None:
        """Take a measurement in, behind those that wait; `write` makes it durable."""
        self._waiting.append(entry)

    def try_again(self) -> None:
        """Write what waits, unless that failed a moment ago. Raises as `write` does."""
        if self._waiting and time.monotonic() - self._tried > _RETRY_S:
            self.write()

    def write(self) -> None:
        """Write everything that waits, in order; durable on return.

        Raises:
            OSError, MemoryError: the disk refused; what is not written waits on.
            Exception: a measurement can never be written, and is given up.
        """
        self._tried = time.monotonic()
        while self._waiting:
            first = self._waiting[0]
            last = self._writer.last_step
            if last is not None and first.step <= last:  # interrupted just after it had been committed
                del self._waiting[0]
                continue
            try:
                self._writer.commit(
                    first.step,
                    first.rows,
                    tables=first.tables,
                    samples=first.samples,
                    seconds=first.seconds,
                )
            except (OSError, MemoryError):
                raise
            except Exception:
                del self._waiting[0]
                raise
            del self._waiting[0]
