"""What a measurement leaves in the run beside its rows: exact tables and samples of patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reluscope.instruments import Instrument, Patterns
from reluscope.patterns import AnyCounts, PatternSample, draw_sample
from reluscope.recording.trajectory import as_stored
from reluscope.runs import RunWriter
from reluscope.runs.tables import StoredTable

__all__ = ["Keeper"]

# Measurements that are sampled before they thin out, and how many are in every tenfold of steps from then on.
_NUM_DENSE = 128
_PER_DECADE = 24
# What a file of tables has beside them: a footer, page headers, dictionaries. Compression never adds more.
_FILE_BYTES, _SITE_BYTES, _GROWTH = 4096, 4096, 1.02

_STOPPED = "tables_end_before"


class Keeper:
    """Decides, from the configuration and from what the run holds, so that a resumed run decides alike."""

    def __init__(
        self, instruments: Sequence[Instrument], writer: RunWriter, warn: Callable[[str], None]
    ) -> None:
        found = [one for one in instruments if isinstance(one, Patterns)]
        self._config = found[0] if found else None
        self._writer = writer
        self._warn = warn
        self._keep = self._config.keep if self._config else ()
        self._has_stopped = _STOPPED in writer.info
        self._pending_note: dict[str, Any] = {}
        self._waiting_bytes: dict[int, int] = {}

    def tables(
        self, step: int, patterns: Mapping[str, AnyCounts], *, is_first: bool
    ) -> dict[tuple[str, str], StoredTable]:
        """The tables of this measurement that are to be kept, by (kind, site)."""
        kinds = ["init"] if is_first and "init" in self._keep else []
        if "all" in self._keep and patterns and self._has_room(step, patterns):
            kinds.append("all")
        return {(kind, site): as_stored(counts) for kind in kinds for site, counts in patterns.items()}

    def samples(
        self, step: int, patterns: Mapping[str, AnyCounts], before: Sequence[int], *, force: bool = False
    ) -> dict[str, PatternSample]:
        """The samples of this measurement, by site; none where the schedule of samples leaves it out.

        Args:
            before: the measured steps before this one, in order.
            force: sample it whatever the schedule says.
        """
        if not (force or not before or self._is_sampled(step, before)):
            return {}
        return self._draw(patterns)

    def keep_final(self, step: int, patterns: Mapping[str, AnyCounts], *, is_sampled: bool) -> None:
        """Write what is kept of the run's last measurement only.

        Raises:
            OSError: the disk refused.
        """
        if "final" in self._keep:
            tables = {("final", site): as_stored(counts) for site, counts in patterns.items()}
            self._writer.keep_tables(step, tables)
        samples = {} if is_sampled else self._draw(patterns)
        if samples:
            self._writer.keep_final_samples(step, samples)

    def note(self) -> None:
        """Put into run.json, once, that no more tables are kept, and from which step on.

        Raises:
            OSError: the disk refused; the next call tries again.
        """
        if self._pending_note:
            self._writer.update_info(self._pending_note)
            self._pending_note = {}

    def _draw(self, patterns: Mapping[str, AnyCounts]) -> dict[str, PatternSample]:
        if self._config is None or not self._config.sample_size:
            return {}
        size, seed = self._config.sample_size, self._config.sample_seed
        return {site: draw_sample(counts, size, site=site, seed=seed) for site, counts in patterns.items()}

    def _is_sampled(self, step: int, before: Sequence[int]) -> bool:
        schedule = self._config.sample_schedule if self._config else None
        if schedule is not None:
            return schedule.due(step)
        # Beyond the dense ones: whether a point of a logarithmic scale lies between the last one and this one.
        return len(before) < _NUM_DENSE or _decade_point(before[-1]) < _decade_point(step)

    def _has_room(self, step: int, patterns: Mapping[str, AnyCounts]) -> bool:
        """Whether these tables surely fit the budget; says so once when they may not."""
        budget = self._config.disk_budget if self._config else None
        if budget is None or self._has_stopped:
            return not self._has_stopped
        needed = _FILE_BYTES + sum(
            _SITE_BYTES + math.ceil(counts.nbytes * _GROWTH) for counts in patterns.values()
        )
        written = self._writer.tables_nbytes()
        self._waiting_bytes = {one: size for one, size in self._waiting_bytes.items() if one not in written}
        taken = sum(written.values()) + sum(self._waiting_bytes.values())
        if taken + needed <= budget:
            self._waiting_bytes[step] = needed
            return True
        self._has_stopped = True
        text = (
            f"from step {step} on no exact tables are kept: those of {len(written)} steps take {taken:,} bytes, "
            f"the next ones may take {needed:,} more, and disk_budget is {budget:,}."
        )
        self._warn(text)
        notes = [*self._writer.info.get("notes", []), text]
        self._pending_note = {_STOPPED: step, "notes": notes}
        return False


def _decade_point(step: int) -> int:
    return math.floor(_PER_DECADE * math.log10(max(1, step)))
