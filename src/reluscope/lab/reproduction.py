"""A figure of the paper, reproduced: its trainings, resumable and side by side; then picture and page.

OUT/fig1/runs/resnet20-relu-constant-seed0/     one run per training
OUT/fig1.pdf, OUT/fig1.png                      the figure, laid out as the paper's
OUT/fig1.html                                   the interactive page of the same runs
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from reluscope.errors import CheckpointError, SpecificationError, closest
from reluscope.lab.data import load_for
from reluscope.lab.experiments import experiment
from reluscope.lab.specification import Specification
from reluscope.lab.specification_text import parse_specification, specification_differences
from reluscope.lab.workers import TrainingEvent, TrainingTask, run_tasks
from reluscope.report import write_report
from reluscope.report.paper import draw_paper_figure
from reluscope.runs import Run, open_run
from reluscope.runs.writer import is_free

__all__ = ["Outcome", "Reproduction", "reproduce", "selected_trainings"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one training of a figure ended.

    Attributes:
        name: of the training.
        run: its run folder.
        state: "finished" now, "found finished" from an earlier call, or "failed".
        text: why it failed.
        seconds: wall time of this call's part of the training.
        held_out_accuracy: on images not trained on, at the end; None when there are none.
    """

    name: str
    run: Path
    state: Literal["finished", "found finished", "failed"]
    text: str = ""
    seconds: float = 0.0
    held_out_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What a call of `reproduce` made.

    Attributes:
        figure, scale: as asked for.
        outcomes: one per training.
        pictures: the figure as PDF and PNG; none without a finished training.
        page: the interactive page of all finished runs; None without one.
    """

    figure: str
    scale: str
    outcomes: tuple[Outcome, ...]
    pictures: tuple[Path, ...]
    page: Path | None

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The trainings that did not end well."""
        return tuple(one for one in self.outcomes if one.state == "failed")


def reproduce(
    figure: str,
    *,
    scale: str = "laptop",
    out: str | Path = "reproduction",
    data_dir: str | Path | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    only: Sequence[str] = (),
    on_start: Callable[[Sequence[str], Sequence[str]], None] | None = None,
    on_event: Callable[[TrainingEvent], None] | None = None,
) -> Reproduction:
    """Train what a figure of [A] shows, then draw it.

    Called again it goes on where it was: finished runs are left alone, interrupted ones continue from their
    last checkpoint, with the number of threads that they began with. Calls from a script belong under
    `if __name__ == "__main__":`.

    Args:
        figure: "fig1" ... "fig4".
        scale: "smoke", "laptop" or "paper"; see `lab.experiments`.
        out: folder for runs and pictures.
        data_dir: where the image files are; see `lab.data.load`.
        seeds: how many of each training; None: the scale's number.
        jobs: trainings at a time; None: one per core, or one on a GPU. They share the cores.
        only: names or globs of the trainings to do; none for all. The figure shows all that are finished.
        on_start: called once with the names to be trained and the names found finished.
        on_event: called with all that happens to a training.

    Raises:
        SpecificationError: no such figure or scale; `only` matches nothing; no job at all.
        DataError, MissingExtraError: the images cannot be had.
    """
    trainings = experiment(figure, scale, seeds=seeds)
    chosen = selected_trainings(trainings, only)
    out = Path(out)
    folder = out / figure / "runs"
    outcomes = {name: _standing(name, spec, folder / name) for name, spec in chosen}
    todo = [(name, spec) for name, spec in chosen if outcomes[name] is None]
    if on_start is not None:
        found = [name for name, outcome in outcomes.items() if outcome and outcome.state == "found finished"]
        on_start([name for name, _ in todo], found)
    if todo:
        load_for(todo[0][1].data, data_dir)  # what is wrong with the data is wrong for all: say it at once

    def note(event: TrainingEvent) -> None:
        if event.kind in ("finished", "failed"):
            outcomes[event.name] = _ended(event, folder / event.name)
        if on_event is not None:
            on_event(event)

    num_jobs = _num_jobs(jobs, len(todo))
    num_threads = max(1, (os.cpu_count() or 1) // num_jobs)
    where = Path(data_dir) if data_dir is not None else None
    tasks = [_task(name, spec, folder / name, where, num_threads) for name, spec in todo]
    folder.mkdir(parents=True, exist_ok=True)
    run_tasks(tasks, num_processes=num_jobs, on_event=note)

    standing = [outcomes.get(name) or _standing(name, spec, folder / name) for name, spec in trainings]
    runs = [open_run(one.run) for one in standing if one is not None and one.state != "failed"]
    drawn = {Path(run.path) for run in runs}
    begun = [_begun(spec, folder / name) for name, spec in trainings if folder / name not in drawn]
    pictures, page = _draw(figure, runs, [run for run in begun if run], out) if runs else ((), None)
    done = tuple(outcome for outcome in outcomes.values() if outcome is not None)
    return Reproduction(figure=figure, scale=scale, outcomes=done, pictures=pictures, page=page)


def selected_trainings(
    trainings: Sequence[tuple[str, Specification]], only: Sequence[str]
) -> list[tuple[str, Specification]]:
    """Those whose name is one of `only` or matches one of its globs; all without any.

    Raises:
        SpecificationError: a name or glob that matches nothing.
    """
    names = [name for name, _ in trainings]
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            several = fnmatch.filter(names, f"{pattern}*")
            meant = f' For all {len(several)} whose names begin so: "{pattern}*".' if several else ""
            raise SpecificationError(
                f'no training of this figure is called "{pattern}". Closest: {closest(pattern, names)}.{meant}'
            )
    return [
        (name, spec)
        for name, spec in trainings
        if not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)
    ]


# What is there already -------------------------------------------------------------------------------------


def _standing(name: str, spec: Specification, run: Path) -> Outcome | None:
    """How the training stands: finished, failed before it begins, or None: to be trained."""
    if not (run / "run.json").exists() or is_free(run):
        return None
    try:
        if _is_finished(spec, run):
            accuracy = open_run(run).info.get("held_out_accuracy")
            return Outcome(name=name, run=run, state="found finished", held_out_accuracy=accuracy)
        stored = _stored(run)
    except Exception as error:  # a damaged run concerns its own training only
        return Outcome(name=name, run=run, state="failed", text=f"{type(error).__name__}: {error}")
    if stored is None or stored == spec:
        return None
    text = (
        f"{run} holds another training: {specification_differences(stored, spec)}. Move it away, or give "
        "another folder: --out DIR."
    )
    return Outcome(name=name, run=run, state="failed", text=text)


def _is_finished(spec: Specification, run: Path) -> bool:
    """Whether the run holds this very training up to its end."""
    if not (run / "run.json").exists():
        return False
    opened = open_run(run)
    last = opened.info.get("training_steps", {}).get("num_steps")
    return (
        opened.state == "closed" and _stored(run) == spec and bool(opened.steps) and opened.steps[-1] == last
    )


def _begun(spec: Specification, run: Path) -> Run | None:
    """The run of this very training where it stands before its end; None where there is none to speak of."""
    try:
        return open_run(run) if (run / "run.json").exists() and _stored(run) == spec else None
    except Exception:  # a damaged run: reported with the outcomes, where it is one of them
        return None


def _stored(run: Path) -> Specification | None:
    """The specification that the run was begun with; None when it ended before it was noted."""
    content = open_run(run).info.get("training")
    if content is None:
        return None
    if not isinstance(content, dict):
        raise CheckpointError(f'the entry "training" in {run / "run.json"} describes no training.')
    return parse_specification(content, origin=f"the specification in {run}")


def _task(name: str, spec: Specification, run: Path, data_dir: Path | None, num_threads: int) -> TrainingTask:
    """A training to do; one that was begun keeps its number of threads, on which the last bits depend."""
    if (run / "run.json").exists():
        num_threads = open_run(run).info.get("environment", {}).get("threads", num_threads)
    return TrainingTask(name=name, specification=spec, run=run, data_dir=data_dir, num_threads=num_threads)


def _num_jobs(jobs: int | None, num_tasks: int) -> int:
    if jobs is not None and jobs < 1:
        raise SpecificationError(f"{jobs} jobs were asked for; give at least 1.")
    if jobs is None:
        jobs = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    return max(1, min(jobs, num_tasks))


# What comes out --------------------------------------------------------------------------------------------


def _ended(event: TrainingEvent, run: Path) -> Outcome:
    if event.result is None:
        return Outcome(name=event.name, run=run, state="failed", text=event.text)
    accuracy = event.result.held_out_accuracy
    return Outcome(
        name=event.name,
        run=run,
        state="finished",
        seconds=event.result.seconds,
        held_out_accuracy=None if accuracy != accuracy else accuracy,  # NaN: nothing was kept back
    )


def _draw(figure: str, runs: Sequence[Run], begun: Sequence[Run], out: Path) -> tuple[tuple[Path, ...], Path]:
    """The picture as PDF and PNG, and the page; the same runs give the same bytes of a picture."""
    drawn = draw_paper_figure(figure, runs, unfinished=begun)
    pictures = (out / f"{figure}.pdf", out / f"{figure}.png")
    drawn.savefig(pictures[0], metadata={"CreationDate": None})
    drawn.savefig(pictures[1])
    return pictures, write_report(list(runs), out / f"{figure}.html")
