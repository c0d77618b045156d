"""One process's share in a run: measures, compares, commits, and meets what a resume finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from reluscope.instruments import Instrument, Snapshot, take_snapshot
from reluscope.observe import ObservationMode, Probe
from reluscope.recording.environment import describe_sites, sites_from
from reluscope.recording.fingerprints import parameter_hash
from reluscope.recording.journal import Entry, Journal
from reluscope.recording.keeping import Keeper
from reluscope.recording.trajectory import (
    Trajectory,
    check_same_parameters,
    differing_columns,
    patterns_of,
)
from reluscope.runs import RunWriter

__all__ = ["Session"]


class Session:
    """Knows the model, the run and the steps between them; the recorder decides when, this does it.

    Attributes:
        journal: what is measured and not yet on disk.
        snapshot: the last measurement; None before the first one of this process.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        mode: ObservationMode,
        instruments: Sequence[Instrument],
        writer: RunWriter,
        warn: Callable[[str], None],
    ) -> None:
        self._model, self._probe, self._mode, self._instruments = model, probe, mode, instruments
        self._writer = writer
        self._warn = warn
        self._keeper = Keeper(instruments, writer, warn)
        self._is_sampled = False
        self._sites = sites_from(writer.info)
        self._recorded = frozenset(writer.recorded_steps())
        self._trajectory = Trajectory()
        self._told: set[str] = set()
        self.snapshot: Snapshot | None = None
        self.journal = Journal(writer)
        names = [site.name for site in self._sites or ()]
        if self._recorded and not self._trajectory.restore_initial(writer, names):
            warn(
                "the run keeps no initial tables; similarity to the initial state is left out, unless the "
                "first step is passed again."
            )

    def is_done(self, step: int) -> bool:
        """Whether this step was the last to be measured in this process, and is on disk."""
        return step == self._trajectory.step and step in self._writer.recorded_steps()

    @property
    def last_recorded(self) -> int | None:
        """The last step of the run, measurements that wait to be written included."""
        waiting = self.journal.waiting
        return waiting[-1] if waiting else self._writer.last_step

    def can_take(self, step: int) -> bool:
        """Whether a step can be measured: one at the end of the run, or one that it has."""
        last = self.last_recorded
        return last is None or step > last or step in self._recorded

    def measure(self, step: int, before_commit: Callable[[], None], *, force: bool = False) -> None:
        """Measure this step; durable on return.

        Args:
            before_commit: called when the measurement is taken and about to be written.
            force: whether it was asked for beyond the schedule, so that it is sampled in any case.

        Raises:
            TrajectoryMismatchError: the run has this step with other parameters.
            SitesChangedError: the model visits other sites than before.
            OSError, MemoryError: the disk refused; the measurement waits in the journal.
        """
        started = time.perf_counter()
        snapshot = take_snapshot(
            self._model, self._probe, self._instruments, self._mode, expected=self._sites
        )
        before = self._step_before(step)
        since_last = before is not None and self._trajectory.step == before
        rows = self._trajectory.rows(snapshot, since_last=since_last, is_first=before is None)
        hashed = parameter_hash(self._model)
        if step in self._recorded:
            self._compare(step, rows, hashed)
            self._is_sampled = step in self._writer.sampled_steps()
            self._advance(step, snapshot, is_first=before is None)
            self._tell(step, snapshot)
            return
        if before is not None and not since_last:
            self._warn(
                f"the run's last measurement, step {before}, was not passed again, so what changed since "
                f"then is left out at step {step}. Resume from the state of a measured step to avoid this."
            )
        if self._sites is None:
            self._meet_sites(snapshot)
        patterns = patterns_of(snapshot)
        known = self._known_steps()
        tables = self._keeper.tables(step, patterns, is_first=before is None)
        samples = self._keeper.samples(step, patterns, known, force=force)
        entry = Entry(
            step=step,
            rows=[{**row, "parameter_hash": hashed} for row in rows],
            seconds=time.perf_counter() - started,
            tables=tables,
            samples=samples,
        )
        # First of all it is held: whatever fails from here on, it is a measurement that the next one follows.
        self.journal.add(entry)
        self._advance(step, snapshot, is_first=before is None)
        self._is_sampled = bool(samples)
        before_commit()
        self._keeper.note()
        self.journal.write()
        self._tell(step, snapshot)

    def keep_final(self) -> None:
        """Write what is to be kept of the last measurement, if it is the run's last."""
        step = self._trajectory.step
        if step is not None and step == self._writer.last_step:
            self._keeper.keep_final(step, self._trajectory.last, is_sampled=self._is_sampled)

    def report_gaps(self, missed: Mapping[int, str]) -> None:
        """Say, in a warning and in run.json, which due steps the run does not have."""
        there = set(self._writer.recorded_steps())  # a step can be there although something failed after it
        lost = {step: reason for step, reason in missed.items() if step not in there}
        lost |= dict.fromkeys(self.journal.waiting, "it could not be written")
        if not lost:
            return
        listed = "; ".join(f"step {step}: {reason}" for step, reason in sorted(lost.items())[:5])
        more = f"; and {len(lost) - 5} more" if len(lost) > 5 else ""
        text = f"{len(lost)} due measurements are missing from this run: {listed}{more}."
        self._warn(text)
        self._writer.update_info({"notes": [*self._writer.info.get("notes", []), text]})

    def _step_before(self, step: int) -> int | None:
        return next((one for one in reversed(self._known_steps()) if one < step), None)

    def _known_steps(self) -> list[int]:
        return [*self._writer.recorded_steps(), *self.journal.waiting]

    def _meet_sites(self, snapshot: Snapshot) -> None:
        """The first measurement of the run shows its sites; every later one is held to them."""
        self._writer.update_info(describe_sites(snapshot))
        self._sites = list(snapshot.sites)

    def _advance(self, step: int, snapshot: Snapshot, *, is_first: bool) -> None:
        self._trajectory.advance(step, snapshot, is_first=is_first)
        self.snapshot = snapshot

    def _tell(self, step: int, snapshot: Snapshot) -> None:
        """Once of each kind, at the first measurement of this process that has it, whenever in the training that is."""
        for text in snapshot.warnings:
            kind = text.split(" of ")[0]
            if kind not in self._told:
                self._told.add(kind)
                self._warn(f"at step {step}: {text}")

    def _compare(self, step: int, rows: list[dict[str, Any]], hashed: str) -> None:
        """Hold a step that the run has already against what it has."""
        stored = self._writer.layers_at(step)
        check_same_parameters(stored, hashed, step, self._writer.path)
        found = differing_columns(stored, rows)
        if found:
            self._warn(
                f"step {step} was measured again with the same parameters and differs in {len(found)} "
                f"values, first {found[0]}. The run keeps the old ones. Device, threads, memory format or "
                'versions may differ from those under "environment" in run.json.'
            )
