"""Replay: measure saved weights, in order of their steps, into a run, as if they had been recorded live."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from reluscope.errors import RecorderError, ReluscopeWarning
from reluscope.instruments import Instrument, Patterns, check_instruments
from reluscope.observe import ObservationMode, Probe
from reluscope.recording.conditions import conditions_of, differing_conditions
from reluscope.recording.environment import instruments_from
from reluscope.recording.fingerprints import check_same_probe
from reluscope.recording.recorder import Recorder
from reluscope.recording.schedule import at
from reluscope.recording.weights import SavedWeights, load_weights, locate_weights
from reluscope.runs import Run, open_run
from reluscope.runs.parts import part_paths, read_part

__all__ = ["ReplayProgress", "ReplayResult", "replay"]


@dataclass(frozen=True, kw_only=True)
class ReplayProgress:
    """What `replay` tells after every checkpoint.

    Attributes:
        step: of the checkpoint just measured.
        num_done, num_checkpoints: how many are in the run, of how many.
    """

    step: int
    num_done: int
    num_checkpoints: int


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """How a replay ended.

    Attributes:
        run: the run's folder.
        steps: of all its measurements, in order.
        num_measured: checkpoints that were measured by this call; the others were in the run already.
        seconds: wall time of this call.
    """

    run: Path
    steps: list[int]
    num_measured: int
    seconds: float


def replay(
    model: nn.Module,
    probe: Probe,
    checkpoints: Iterable[str | os.PathLike[str]],
    run: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    instruments: Sequence[Instrument] | None = None,
    mode: ObservationMode | None = None,
    keep: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    key: str | None = None,
    if_exists: str = "error",
    on_measured: Callable[[ReplayProgress], None] | None = None,
) -> ReplayResult:
    """Measure saved weights of any training into a run folder.

    The rows are those that `rs.Recorder` would have written when the weights were saved. With `like`, a run of the
    same training measured at the same steps, they are equal to its rows, and so are tables and samples, byte for
    byte, as long as device, threads, memory format and versions are the same: threads, memory format and matmul
    precision are set as that run had them, and a warning names what else differs. What compares a
    measurement with the last one refers to the checkpoint before it.

        rs.replay(model, probe, sorted(Path("checkpoints").glob("*.pt")), "runs/replayed", like="runs/mine")

    Args:
        model: of the architecture that was trained. It is loaded with one checkpoint after the other and is
            left with the last one, on the device and in the memory format of `like`.
        probe: what it is measured on; with `like`, the probe of that run.
        checkpoints: files that torch.save wrote, or .safetensors: a state dict, or a dict that holds one under
            "model", "state_dict", "model_state_dict" or "network". Only tensors and plain values are unpickled.
        run: the run folder to make.
        like: a run that says how to measure: mode, instruments, threads, memory format, precision.
        instruments, mode: how to measure, over what `like` says; None without it: `[rs.Patterns()]`,
            `rs.ObservationMode()`.
        keep: which exact tables the run keeps, whatever the instruments say; see `rs.Patterns`.
        steps: of each checkpoint; None: what it holds under "step" or "global_step", else the last number in
            its name, else in that of its folder.
        key: the name of the state dict in the files, where it is another.
        if_exists: as in `rs.Recorder`; "resume" goes on with a replay that was cut off, and ends as if it had
            not been.
        on_measured: called after every checkpoint.

    Raises:
        CheckpointError, ScheduleError: a checkpoint that cannot be read, placed or loaded.
        ProbeError: the probe is not that of `like`.
        RunNotFoundError, RunSchemaError, RunCorruptError: `like` cannot be read.
        and whatever `rs.Recorder` raises.
    """
    started = time.perf_counter()
    saved = locate_weights(checkpoints, steps=steps)
    original = None if like is None else open_run(like)
    if original is not None:
        check_same_probe(original.info, probe, original.path)
        mode = mode or ObservationMode(**original.info.get("mode", {}))
        instruments = instruments or instruments_from(original.info, original.path)
    mode = mode or ObservationMode()
    chosen = check_instruments(instruments, probe)
    if keep is not None:
        chosen = check_instruments([_keeping(one, tuple(keep)) for one in chosen], probe)
    environment = {} if original is None else original.info.get("environment", {})
    with nullcontext() if original is None else conditions_of(environment, model):
        if differences := differing_conditions(environment, model):
            _warn_of(differences, like)
        recorder = _open(model, probe, run, saved, chosen, mode, if_exists)
        with recorder:
            recorder.note({"replayed": _describe(saved, original)})
            forced = {saved[-1].step} if original is None else _sampled_steps(original)
            num_measured = _measure_all(model, recorder, saved, chosen, forced, key, on_measured)
    return ReplayResult(
        run=recorder.path,
        steps=open_run(recorder.path).steps,
        num_measured=num_measured,
        seconds=time.perf_counter() - started,
    )


def _keeping(instrument: Instrument, keep: tuple[str, ...]) -> Instrument:
    """The same with other tables; a budget of the disk is one for the tables of all measurements."""
    if not isinstance(instrument, Patterns):
        return instrument
    return dataclasses.replace(
        instrument, keep=keep, disk_budget=instrument.disk_budget if "all" in keep else None
    )


def _open(
    model: nn.Module,
    probe: Probe,
    run: str | os.PathLike[str],
    saved: Sequence[SavedWeights],
    instruments: Sequence[Instrument],
    mode: ObservationMode,
    if_exists: str,
) -> Recorder:
    with warnings.catch_warnings():
        # Where they were not kept, a replay that goes on measures the first checkpoint again.
        warnings.filterwarnings("ignore", "the run keeps no initial tables", ReluscopeWarning)
        return Recorder(
            model,
            probe,
            run,
            schedule=at(*(one.step for one in saved)),
            instruments=instruments,
            if_exists=if_exists,
            on_error="raise",
            sites=mode.sites,
            batch_norm=mode.batch_norm,
            channel_dim=mode.channel_dim,
            smooth=mode.smooth,
            autocast=mode.autocast,
        )


def _measure_all(
    model: nn.Module,
    recorder: Recorder,
    saved: Sequence[SavedWeights],
    instruments: Sequence[Instrument],
    forced: Collection[int],
    key: str | None,
    on_measured: Callable[[ReplayProgress], None] | None,
) -> int:
    """Record every checkpoint that the run does not have; returns how many those were.

    Args:
        forced: steps to be sampled whatever the schedule of samples says.
    """
    recorded = open_run(recorder.path).steps
    _check_grows(saved, recorded, recorder.path)
    # Measured again for what follows: the last one to compare with, and the first where it was not kept.
    keeps_initial = any("init" in getattr(one, "keep", ()) for one in instruments)
    again = {*recorded[-1:], *(() if keeps_initial else recorded[:1])}
    there = set(recorded)
    for index, one in enumerate(saved):
        if one.step not in there or one.step in again:
            load_weights(model, one.path, key=key)
            recorder.record(one.step, force=one.step in forced)
        if on_measured is not None:
            on_measured(ReplayProgress(step=one.step, num_done=index + 1, num_checkpoints=len(saved)))
    return sum(one.step not in there for one in saved)


def _sampled_steps(original: Run) -> set[int]:
    """The steps that a run has samples of, forced ones too; not one that was sampled only because it was the last."""
    parts = (read_part(path, columns=["step"]) for path in part_paths(original.path / "samples"))
    return {step for part in parts for step in part.column("step").to_pylist()}


def _check_grows(saved: Sequence[SavedWeights], recorded: Sequence[int], path: Path) -> None:
    late = [one for one in saved if recorded and one.step < recorded[-1] and one.step not in set(recorded)]
    if late:
        raise RecorderError(
            f'the checkpoint "{late[0].path}" of step {late[0].step} cannot be measured into the run at "{path}", '
            f"which goes to step {recorded[-1]} without it: a run grows at its end only. Replay all of them into "
            "another folder."
        )


def _describe(saved: Sequence[SavedWeights], original: Run | None) -> dict[str, object]:
    """What run.json says of a replay: the files, by name only, and the run that said how."""
    like = None if original is None else {"name": original.name, "run_id": original.info.get("run_id")}
    return {"like": like, "checkpoints": [{"step": one.step, "file": one.path.name} for one in saved]}


def _warn_of(differences: Sequence[str], like: object) -> None:
    warnings.warn(
        f"the replay does not run as the run at {like} did: {'; '.join(differences)}. What is measured may differ "
        "from it by rounding.",
        ReluscopeWarning,
        stacklevel=3,
    )
