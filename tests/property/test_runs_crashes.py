"""The run writer as a state machine, with crashes and refusals between any two operations on the disk.

The disk of these tests forgets what was not synced: at a crash, a file that was written and not synced loses
its end, and a rename or removal whose folder was not synced may or may not have happened.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reluscope.measures.similarity import PatternSample
from reluscope.runs import RunWriter, durable, open_run, parts, samples, scalars
from reluscope.runs.parts import PartLimits
from reluscope.runs.tables import read_tables_info

SITES = ("first", "second")
NO_FAULT = 10_000


class Crash(BaseException):
    """The machine lost its power."""


class FaultyDisk:
    """Stands in for the operations of `durable`: counts them, fails at one, forgets what was not synced."""

    def __init__(self) -> None:
        self.countdown = NO_FAULT
        self.fault: BaseException | None = None
        self.is_down = False
        self._unsynced: set[Path] = set()
        self._pending: list[tuple[Path, bytes | None]] = []  # target and what it held, oldest first
        self._real = {name: getattr(durable, name) for name in ("_open_new", "_rename", "_unlink", "_mkdir")}

    def install(self) -> None:
        for name in ("_open_new", "_sync_file", "_rename", "_unlink", "_mkdir", "_sync_folder"):
            setattr(durable, name, getattr(self, name.removeprefix("_")))

    @contextlib.contextmanager
    def failing(self, countdown: int, fault: BaseException):
        self.countdown, self.fault = countdown, fault
        try:
            yield
        finally:
            self.countdown = NO_FAULT

    def settle(self, lost: list[bool]) -> None:
        """After a crash: what was not made durable is lost, or not, as `lost` says."""
        answers = iter([*lost, *[True] * 1000])
        for path in self._unsynced:
            if path.exists():
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
        # A lost operation takes every later one on the same path with it, so: newest first.
        kept = set()
        for path, before in reversed(self._pending):
            if path in kept or not next(answers):
                kept.add(path)
            elif before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)
        self._unsynced.clear()
        self._pending.clear()
        self.is_down = False

    def open_new(self, path: Path):
        stream = self._real["_open_new"](path)
        self._unsynced.add(path)
        try:
            self._step()
        except BaseException:
            stream.close()  # it was made, and nothing was written
            raise
        return stream

    def sync_file(self, stream) -> None:
        self._step()
        self._unsynced.discard(Path(stream.name))

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        self._pending.append((target, target.read_bytes() if target.exists() else None))
        if source in self._unsynced:
            self._unsynced.remove(source)
            self._unsynced.add(target)
        self._real["_rename"](source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        if path.exists():
            self._pending.append((path, path.read_bytes()))
        self._real["_unlink"](path)

    def mkdir(self, folder: Path) -> None:
        self._step()
        self._real["_mkdir"](folder)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        self._pending = [(path, before) for path, before in self._pending if path.parent != folder]

    def _step(self) -> None:
        assert not self.is_down, "something went on after the crash"
        self.countdown -= 1
        if self.countdown < 0:
            self.countdown = NO_FAULT
            self.is_down = isinstance(self.fault, Crash)
            assert self.fault is not None
            raise self.fault


def rows_of(step: int) -> list[dict]:
    """Rows that depend on the step only, as those of a training that repeats itself do."""
    values = np.random.default_rng(step).random(len(SITES))
    return [
        {"site": site, "site_index": index, "total": step + index, "entropy": float(value), "exact": True}
        for index, (site, value) in enumerate(zip(SITES, values, strict=True))
    ]


def tables_of(step: int, kind: str) -> dict:
    keys = np.arange(step + 1, dtype=np.uint64)[:, None]
    return {(kind, site): (keys, np.ones(step + 1, np.int64), {"width": 16}) for site in SITES}


def samples_of(step: int) -> dict:
    """Samples at two steps of three; of one and of two words, of a whole table and of part of one."""
    if step % 3 == 2:
        return {}
    keys = np.arange(2 * step + 2, dtype=np.uint64).reshape(-1, 2)
    counts = np.ones(step + 1, np.int64)
    return {
        SITES[0]: PatternSample(keys[:, :1], counts, 0.0, step + 1, step + 1),
        SITES[1]: PatternSample(keys, counts, 2.5, 10 * step + 10, 5 * step + 5),
    }


COUNTDOWNS = st.one_of(st.just(NO_FAULT), st.integers(0, 11), st.integers(0, 24))
LOST = st.lists(st.booleans(), max_size=8)


class WriterUnderCrashes(RuleBasedStateMachine):
    """The model: `committed` are steps whose commit returned; `logged` what the scalars are once they are flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="reluscope-"))
        self.folder = self.home / "run"
        self.disk = FaultyDisk()
        self.undo = contextlib.ExitStack()
        self.writer: RunWriter | None = None
        self.committed: list[int] = []
        self.in_doubt: int | None = None  # a step whose commit crashed: whole or absent
        self.logged: dict[int, float] = {}  # of the writer that is open: what the table holds once flushed
        self.durable_scalars: dict[int, float] = {}
        self.since: dict[int, set[float]] = {}  # logged and not yet known to be durable
        self.filled_a_gap = False
        self.counter = 0

    @initialize(countdown=COUNTDOWNS, lost=LOST, leaves_gaps=st.booleans())
    def create(self, countdown, lost, leaves_gaps):
        self.leaves_gaps = leaves_gaps
        small = functools.partial(PartLimits, max_steps=3)
        for module, name, value in (
            (parts, "PartLimits", small),
            (scalars, "_LIMITS", PartLimits(max_steps=4)),
            (samples, "_LIMITS", PartLimits(max_steps=2)),
        ):
            self.undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        for name in ("_open_new", "_sync_file", "_rename", "_unlink", "_mkdir", "_sync_folder"):
            self.undo.callback(setattr, durable, name, getattr(durable, name))
        self.disk.install()
        try:
            with self.disk.failing(countdown, Crash()):
                self.writer = RunWriter.create(self.folder, {"model": "m"})
        except Crash:
            self.disk.settle(lost)
            self.writer = RunWriter.create(self.folder, {"model": "m"}, if_exists="resume")

    @precondition(lambda self: self.writer is not None)
    @rule(
        ahead=st.integers(1, 3),
        countdown=COUNTDOWNS,
        lost=LOST,
        keep=st.sampled_from(["none", "all", "init"]),
    )
    def commit(self, ahead, countdown, lost, keep):
        step = self.committed[-1] + ahead if self.committed else 0
        tables = {} if keep == "none" else tables_of(step, keep)
        try:
            with self.disk.failing(countdown, Crash()):
                self.writer.commit(step, rows_of(step), tables=tables, samples=samples_of(step), seconds=1.0)
        except Crash:
            self.in_doubt = step
            self.crash(lost)
        else:
            self.committed.append(step)
            self.scalars_are_durable()

    @precondition(lambda self: self.writer is not None)
    @rule(ahead=st.integers(1, 3), countdown=st.integers(0, 30))
    def commit_on_a_full_disk(self, ahead, countdown):
        """A refusal at any operation: nothing of the measurement counts, and the same again succeeds."""
        step = self.committed[-1] + ahead if self.committed else 0
        refusal = OSError(errno.ENOSPC, "No space left on device")
        try:
            with self.disk.failing(countdown, refusal):
                self.writer.commit(step, rows_of(step), samples=samples_of(step), seconds=1.0)
        except OSError:
            assert self.writer.recorded_steps() == self.committed
            self.writer.commit(step, rows_of(step), samples=samples_of(step), seconds=1.0)
        self.committed.append(step)
        self.scalars_are_durable()

    @precondition(lambda self: self.writer is not None)
    @rule(back=st.integers(-2, 6), num=st.integers(1, 6))
    def add_scalars(self, back, num):
        """Rows from a step on; sometimes one that was logged before, as after a resume."""
        beyond = max(self.logged, default=-1) + 1
        first = max(0, beyond - (back if self.leaves_gaps else max(back, 0)))
        rows = []
        for step in range(first, first + num):
            self.counter += 1
            rows.append({"step": step, "loss": float(self.counter), "batch_indices": [step] * (step % 3)})
            self.since.setdefault(step, set()).add(float(self.counter))
            self.filled_a_gap |= step < beyond and step not in self.logged
        self.logged |= {row["step"]: row["loss"] for row in rows}
        self.writer.add_scalars(rows)

    @precondition(lambda self: self.writer is not None)
    @rule(countdown=COUNTDOWNS, lost=LOST)
    def flush(self, countdown, lost):
        try:
            with self.disk.failing(countdown, Crash()):
                self.writer.flush()
        except Crash:
            self.crash(lost)
        else:
            self.scalars_are_durable()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close_and_resume(self):
        self.writer.close()
        self.scalars_are_durable()
        assert open_run(self.folder).state == "closed"
        self.writer = RunWriter.resume(self.folder)

    @precondition(lambda self: self.writer is not None)
    @rule(lost=LOST, countdowns=st.lists(st.integers(0, 12), max_size=2))
    def power_cut(self, lost, countdowns):
        """At rest, or while the run is being opened again."""
        self.crash(lost, countdowns)

    def crash(self, lost, countdowns=()):
        self.disk.settle(lost)
        self.writer._lock.release(closed=False)  # what the system does for a dead process
        self.writer = None
        assert open_run(self.folder).state == "interrupted"
        # As the folder lies, before anybody cleans up, others can read it.
        run = open_run(self.folder)
        assert run.stored_samples.steps(SITES[1]) == [step for step in run.steps if samples_of(step)]
        found = pl.read_parquet(self.folder / "layers" / "*.parquet").select("step", "site").rows()
        assert found == [(step, site) for step in open_run(self.folder).steps for site in SITES]
        for countdown in countdowns:
            try:
                with self.disk.failing(countdown, Crash()):
                    writer = RunWriter.resume(self.folder)
                writer.close(complete=False)
            except Crash:
                self.disk.settle(lost)
        self.writer = RunWriter.resume(self.folder)
        found = self.writer.recorded_steps()
        if self.in_doubt is not None and found[-1:] == [self.in_doubt]:
            self.committed.append(self.in_doubt)
        self.in_doubt = None
        stored = self.stored_scalars()
        # Every step that was durable is there, with its value or one that was logged again since; a step that
        # was not logged again has the value it had.
        for step in self.durable_scalars.keys() | stored.keys():
            before = {self.durable_scalars[step]} if step in self.durable_scalars else set()
            assert stored.get(step) in before | self.since.get(step, set())
        self.logged, self.durable_scalars = dict(stored), stored
        self.since = {}

    def scalars_are_durable(self):
        self.durable_scalars = dict(self.logged)
        self.since = {}
        assert self.stored_scalars() == self.logged

    def stored_scalars(self) -> dict[int, float]:
        """What a reader finds, with reluscope and without."""
        frame = open_run(self.folder).scalars
        steps = frame["step"].tolist()
        assert steps == sorted(set(steps)), "a step stands twice, or out of order"
        raw = pl.read_parquet(self.folder / "scalars" / "*.parquet")
        assert raw["step"].to_list() == steps
        assert raw["batch_indices"].to_list() == [[step] * (step % 3) for step in steps]
        return dict(zip(steps, raw["loss"].to_list(), strict=True))

    @invariant()
    def every_committed_measurement_is_there_once_and_whole(self):
        if self.writer is None:
            return
        run = open_run(self.folder)
        assert run.steps == self.committed
        expected = [{**row, "step": step} for step in self.committed for row in rows_of(step)]
        if expected:
            assert run.layers[["step", *rows_of(0)[0]]].to_dict("records") == [
                {"step": row["step"], **row} for row in expected
            ]
            assert run.layers["seconds"].eq(1.0).all()
        other = pl.read_parquet(self.folder / "layers" / "*.parquet")
        assert other.select("step", "site", "entropy").rows() == [
            (row["step"], row["site"], row["entropy"]) for row in expected
        ]

    @invariant()
    def nothing_of_a_step_that_was_not_committed_is_there(self):
        if self.writer is not None:
            timings = pl.read_parquet(self.folder / "timings" / "*.parquet")["step"].to_list()
            tables = {step for _, step, _ in read_tables_info(self.folder / "tables")}
            assert timings == self.committed
            assert tables <= set(self.committed)
            assert self.writer.sampled_steps() == [step for step in self.committed if samples_of(step)]

    @invariant()
    def samples_are_those_of_the_committed_steps(self):
        stored = open_run(self.folder).stored_samples if self.writer is not None else None
        for step in self.committed if stored is not None else []:
            expected = samples_of(step)
            for site in SITES:
                found, sample = stored.get(step, site), expected.get(site)
                assert (found is None) == (sample is None)
                if sample is not None:
                    assert np.array_equal(found.keys, sample.keys)
                    assert np.array_equal(found.counts, sample.counts)
                    assert (found.tau, found.num_patterns) == (sample.tau, sample.num_patterns)

    def teardown(self):
        try:
            if self.writer is not None:
                self.writer.close()
                self.assert_same_bytes_as_uninterrupted()
        finally:
            self.undo.close()
            shutil.rmtree(self.home, ignore_errors=True)

    def assert_same_bytes_as_uninterrupted(self):
        with RunWriter.create(self.home / "other", {"model": "m"}) as other:
            for step in self.committed:
                other.commit(step, rows_of(step), samples=samples_of(step), seconds=1.0)
            other.add_scalars(
                [{"step": s, "loss": loss, "batch_indices": [s] * (s % 3)} for s, loss in self.logged.items()]
            )
        assert open_run(self.folder).scalars.equals(open_run(self.home / "other").scalars)
        # Steps that came between older ones stay in the part whose range they fall in, which may so be larger.
        for table in ("layers",) if self.filled_a_gap else ("layers", "scalars"):
            assert contents(self.folder / table) == contents(self.home / "other" / table)
        if any(samples_of(step) for step in self.committed):  # else the folder need not be there
            assert contents(self.folder / "samples") == contents(self.home / "other" / "samples")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


WriterUnderCrashes.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestWriterUnderCrashes = WriterUnderCrashes.TestCase
