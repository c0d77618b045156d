"""The recorder: measures a model while it trains, when the schedule says so, and keeps it in a run folder."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from reluscope.errors import RecorderError, ScheduleError
from reluscope.instruments import Instrument, Snapshot, check_instruments
from reluscope.observe import ObservationMode, Probe
from reluscope.recording.environment import describe_recording
from reluscope.recording.failures import ON_ERROR, FailurePolicy
from reluscope.recording.fingerprints import check_continues
from reluscope.recording.schedule import Schedule, as_step
from reluscope.recording.session import Session
from reluscope.recording.training_log import Indices, Number, TrainingLog
from reluscope.runs import RunWriter
from reluscope.runs.writer import IF_EXISTS

__all__ = ["Recorder"]

# Scalars wait this long here, then go to the writer, which has a delay of its own.
_HAND_OVER_S = 1.0


class Recorder:
    """Observes a model at scheduled steps of its training and keeps what it sees, durably, in a run folder.

        schedule = rs.at(0) | rs.logspaced(1, 3000)
        with rs.Recorder(model, probe, run="runs/mine", schedule=schedule) as recorder:
            for step, (x, y) in enumerate(loader):
                recorder.record(step)                     # the state after `step` updates, when it is due
                ...                                       # the user's own update
                recorder.log(step, loss=loss, lr=lr)
            recorder.record(num_updates, force=True)      # the final state, due or not

    Training is not disturbed: no random number is drawn, nothing stays on the model. Under a process group of
    torch.distributed only rank 0 measures and writes; on other ranks every method returns at once.

    In memory it holds the exact states of the initial and the last measurement: up to 16 bytes a pattern, 24 beyond 64 bits.

    Args:
        model: any `nn.Module`, wrapped or not; the very object that is trained.
        probe: the fixed inputs, `rs.Probe(inputs, labels)`.
        run: the run folder to make.
        schedule: when to measure: `rs.at`, `rs.every`, `rs.logspaced`, `rs.epochs`, joined by `|`.
        instruments: what to take; None for `[rs.Patterns()]`.
        if_exists: where there is a run already: "error" raises; "resume" continues it (and makes it if it is
            not there); "new" records beside it, in the first free one of `run`, `run`-2, `run`-3, ...
        on_error: when a measurement or a writing fails after the first measurement: "warn" goes on with the
            training, holds what could not be written and tries again; "raise" raises. Wrong steps raise always.
        sites, batch_norm, channel_dim, smooth, autocast: how the model is observed, as in `rs.measure`.

    Raises:
        RunExistsError, RunLockedError, RunSchemaError, RunCorruptError: what is at `run` does not allow it.
        TrajectoryMismatchError: the run to resume was made with another model, probe, mode or instruments.
        RecorderError, ProbeError, InstrumentError, UnsupportedModelError: arguments that cannot work.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        run: str | os.PathLike[str],
        *,
        schedule: Schedule,
        instruments: Sequence[Instrument] | None = None,
        if_exists: str = "error",
        on_error: str = "warn",
        sites: str | Sequence[str] = "*",
        batch_norm: str = "batch",
        channel_dim: int | Mapping[str, int] | None = None,
        smooth: bool = False,
        autocast: torch.dtype | str | None = None,
    ) -> None:
        _check_choice("if_exists", if_exists, IF_EXISTS)
        _check_choice("on_error", on_error, ON_ERROR)
        if not isinstance(schedule, Schedule):
            raise ScheduleError(
                f"schedule={schedule!r} is no schedule; allowed are rs.every(10), rs.at(0) | rs.every(5), ..."
            )
        chosen = check_instruments(instruments, probe)
        mode = ObservationMode(
            sites=sites, batch_norm=batch_norm, channel_dim=channel_dim, smooth=smooth, autocast=autocast
        )
        self._schedule = schedule
        self._path = Path(run)
        self._is_closed = False
        self._writer: RunWriter | None = None
        if _is_other_rank():
            return
        about = describe_recording(model, probe, mode, chosen, schedule)
        self._writer = RunWriter.create(run, about, if_exists=if_exists)
        try:
            self._path = self._writer.path
            self._failures = FailurePolicy(on_error, self._path)
            if self._writer.resumed:
                check_continues(self._writer.info, about, self._path)
                self._note_resumption(self._writer, about)
            self._session = Session(model, probe, mode, chosen, self._writer, self._failures.warn)
        except BaseException:
            self._writer.close(complete=False)
            raise
        self._own_names = {*about, "schema_version", "columns", "created", "sites", "unobserved", "notes"}
        self._log = TrainingLog()
        self._handed_over = time.monotonic()
        self._last_step = self._last_logged = -1
        # Never closed by its user: at the latest at the end of the process the scalars in hand are written.
        self._finalizer = weakref.finalize(self, _abandon, self._writer, self._log, os.getpid())

    @property
    def path(self) -> Path:
        """The run folder; under if_exists="new" maybe another one than was asked for."""
        return self._path

    @property
    def is_closed(self) -> bool:
        """Whether the recorder was closed."""
        return self._is_closed

    def record(self, step: int, *, force: bool = False) -> Snapshot | None:
        """Measure the state after `step` updates if the schedule says so; durable on return.

        After a resume, a step that the run holds already is measured again and compared: other parameters
        raise, other values warn, and nothing is rewritten.

        Args:
            step: optimizer updates done so far; grows from call to call. A step that is recorded already
                does nothing; one that failed, or was interrupted, is measured or written then.
            force: measure even if the schedule does not list the step: for the final state.

        Returns:
            The Snapshot; None when nothing was measured, or what was measured could not be written yet.

        Raises:
            ScheduleError: a step that is none, or goes back, whatever `on_error` says.
            TrajectoryMismatchError: a resumed training is not the one of the run, whatever `on_error` says.
            Exception: anything at the first measurement; later, under on_error="raise", what went wrong.
        """
        if not self._is_ready("record"):
            return None
        step = self._checked(step)
        session, journal = self._session, self._session.journal
        if step in journal.waiting:  # called again after a writing that failed
            with self._forgive("step {step} was not recorded", step=step, is_measurement=True):
                journal.write()
            return self._durable(step)
        with self._forgive("waiting measurements could not be written"):
            journal.try_again()
        with self._forgive("step {step} was not recorded", step=step, is_measurement=True):
            if self._is_to_be_measured(step, force):
                session.measure(step, before_commit=self._pass_on, force=force)
                return self._durable(step)
        return None

    def log(
        self,
        step: int,
        *,
        loss: Number | None = None,
        accuracy: Number | None = None,
        lr: Number | None = None,
        batch_indices: Indices | None = None,
    ) -> None:
        """Keep scalars of the update that leads from `step` to `step` + 1; None: not given.

        They become durable with the next measurement, at close, and at the latest with a call a few seconds
        later. Two calls for one step are joined. After a resume, steps that are logged again are replaced,
        all others stay.

        Args:
            step: must not go back from call to call.
            loss, accuracy, lr: a number, or a tensor of one; tensors on an accelerator are fetched later.
            batch_indices: which training samples the update used.
        """
        if not self._is_ready("log"):
            return
        with self._forgive("the scalars of step {step} were not kept", step=step):
            step = as_step(step)
            if step < self._last_logged:
                raise ScheduleError(f"log({step}) after log({self._last_logged}): steps do not go back.")
            self._log.add(step, loss=loss, accuracy=accuracy, lr=lr, batch_indices=batch_indices)
            self._last_logged = step
        with self._forgive("scalars could not be written and wait in memory"):
            if time.monotonic() - self._handed_over > _HAND_OVER_S:
                self._pass_on()
            self._session.journal.try_again()

    def note(self, values: Mapping[str, Any]) -> None:
        """Keep facts about the training in run.json: its settings at the start, a test accuracy at the end.

        Args:
            values: by name, of JSON's own types; over those of the same name from an earlier call. Names
                that the recorder itself uses there ("model", "probe", "mode", ...) are refused.

        Raises:
            RecorderError: a name that is taken, whatever `on_error` says.
        """
        if not self._is_ready("note"):
            return
        if taken := sorted(self._own_names & set(values)):
            raise RecorderError(f"note() under {', '.join(taken)}: the recorder keeps its own facts there.")
        with self._forgive("a note was not kept"):
            assert self._writer is not None
            self._writer.update_info(values)

    def close(self) -> None:
        """Write what is still in memory, say what is missing, release the run. Once is enough."""
        self._close(complete=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is None:
            self._close(complete=True)
            return
        try:  # the training's own exception is the one to be seen
            self._close(complete=False)
        except Exception as problem:
            self._failures.warn(f"while closing the run after an error in the training: {problem}")

    def _checked(self, step: int) -> int:
        """The step as a plain int; raises ScheduleError, always: a wrong step is no failure to go on after."""
        step = as_step(step)
        if step < self._last_step:
            raise ScheduleError(
                f"record({step}) after record({self._last_step}): steps grow. To go back to an earlier "
                'state, close the recorder and open it again with if_exists="resume".'
            )
        self._last_step = step
        return step

    def _is_to_be_measured(self, step: int, force: bool) -> bool:
        session = self._session
        # The last step of a resumed run is measured again, due or not: what follows is compared with it.
        is_due = force or self._schedule.due(step) or step == session.last_recorded
        if session.is_done(step) or not is_due:
            return False
        if not session.can_take(step):
            self._failures.warn(
                f"step {step} is left out: the run already goes to step {session.last_recorded} without it, "
                "and a run grows at its end only."
            )
            return False
        return True

    def _durable(self, step: int) -> Snapshot | None:
        """The measurement of this step, if it is on disk; what fails after the first one may be forgiven."""
        if not self._session.is_done(step):
            return None
        self._failures.is_armed = True
        self._failures.missed.pop(step, None)
        return self._session.snapshot

    def _pass_on(self) -> None:
        """Give the logged scalars to the writer; they are durable with the next measurement or in a while."""
        assert self._writer is not None
        self._handed_over = time.monotonic()
        if len(self._log):
            self._writer.add_scalars(self._log.take())

    def _close(self, *, complete: bool) -> None:
        writer, was_closed, self._is_closed = self._writer, self._is_closed, True
        if writer is None or was_closed:
            return
        self._finalizer.detach()
        session = self._session
        try:
            with self._forgive("the end of the run could not be written"):
                self._pass_on()
                session.journal.write()
                session.keep_final()
            with self._forgive("the gaps of the run could not be noted in it"):
                session.report_gaps(self._failures.missed)
        finally:
            with self._forgive("the last scalars could not be written"):
                writer.close(complete=complete and not session.journal.waiting)

    def _forgive(
        self, what: str, *, step: int | None = None, is_measurement: bool = False
    ) -> AbstractContextManager[None]:
        return self._failures.forgive(
            what,
            step=step,
            is_measurement=is_measurement,
            waiting=lambda: self._session.journal.waiting,
        )

    def _is_ready(self, method: str) -> bool:
        if self._writer is not None and self._is_closed:
            self._failures.warn(f"{method}() on a closed recorder does nothing.")
        return self._writer is not None and not self._is_closed

    def _note_resumption(self, writer: RunWriter, about: Mapping[str, Any]) -> None:
        noted = {"after_step": writer.last_step, "environment": about["environment"]}
        writer.update_info(
            {"schedule": about["schedule"], "resumptions": [*writer.info.get("resumptions", []), noted]}
        )


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise RecorderError(f"{name}={value!r}; allowed are {', '.join(map(repr, allowed))}.")


def _is_other_rank() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_rank() != 0


def _abandon(writer: RunWriter, log: TrainingLog, process: int) -> None:
    """What is left to do for a recorder nobody closed. Not in a forked child: the run is its parent's."""
    if os.getpid() == process and not writer.is_closed:
        try:
            writer.add_scalars(log.take())
        finally:
            writer.close(complete=False)
