"""From stored runs to studies: which folders hold runs, what of a run a claim can use, and which runs are left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reluscope.errors import ReluscopeError, RunNotFoundError
from reluscope.lab.claims.study import NET_NAMES, Similarity, Study
from reluscope.measures.estimates import error_name
from reluscope.runs import Run, open_run
from reluscope.runs.schema import INFO_NAME

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chosen_studies", "find_runs", "read_study"]

_SCALES = ("smoke", "laptop", "paper")  # in this order
_METHODS = {"milestones": "stepwise"}  # schedules whose name in a specification differs from that in [A]

_TO_INIT = "weighted_jaccard_to_init"
_MEASURES = (
    "coverage",
    "total",
    "total_fraction",
    "max_frequency",
    "relative_entropy",
    "relative_change",
    "churn_rate",
    "appeared",
    "vanished",
)


def find_runs(folder: str | os.PathLike[str]) -> tuple[list[Run], dict[str, str]]:
    """Every run below a folder, by path, and by path why a run could not be opened.

    Raises:
        RunNotFoundError: there is no such folder.
    """
    top = Path(folder).expanduser()
    if not top.is_dir():
        found = "a file" if top.exists() else "nothing"
        raise RunNotFoundError(
            f'claims were to be judged on the runs below "{top}", where {found} is. Give the folder that '
            "`reluscope reproduce ... --out DIR` wrote to."
        )
    runs, left_out = [], {}
    for info in sorted(top.rglob(INFO_NAME)):
        try:
            runs.append(open_run(info.parent))
        except ReluscopeError as error:  # one damaged run must not hide the verdicts of the others
            left_out[str(info.parent.relative_to(top))] = str(error)
    return runs, left_out


def read_study(run: Run, *, name: str | None = None) -> Study | None:
    """The study of a run; None for a run of anything but a network of [A] trained by the lab.

    Args:
        run: as opened.
        name: what to call it; None: its own name, behind that of its figure.
    """
    training = run.info.get("training")
    if not isinstance(training, Mapping) or not run.steps:
        return None
    model = training.get("model", {})
    length = run.info.get("training_steps")
    if model.get("name") not in NET_NAMES or not isinstance(length, Mapping):
        return None
    steps = np.array(run.steps, dtype=np.int64)
    method = str(training.get("schedule", {}).get("name", "constant"))
    return Study(
        name=name or "/".join(filter(None, (training.get("experiment"), run.name))),
        net=model["name"],
        blocks=max(1, (int(model.get("depth") or 20) - 2) // 6),
        activation=model.get("activation") or "relu",
        method=_METHODS.get(method, method),
        seed=int(training.get("training", {}).get("seed") or 0),
        experiment=training.get("experiment"),
        scale=training.get("scale"),
        data=str(training.get("data", {}).get("name", "unknown data")),
        num_images=int(run.info.get("probe", {}).get("num_samples", 0)),
        num_steps=int(length["num_steps"]),
        steps_per_epoch=int(length["steps_per_epoch"]),
        steps=steps,
        measures=_measures(run, steps),
        learning_rate=_learning_rate(run),
        similarity=_similarity_of(run, steps),
    )


def _measures(run: Run, steps: np.ndarray) -> dict[str, np.ndarray]:
    layers = run.layers
    return {name: _grid(layers, steps, name) for name in _MEASURES if name in layers}


def _grid(layers: pd.DataFrame, steps: np.ndarray, name: str) -> np.ndarray:
    """A column of the rows as (steps, sites)."""
    rows, sites = np.searchsorted(steps, layers["step"]), np.asarray(layers["site_index"])
    values = np.full((len(steps), int(sites.max()) + 1), np.nan)
    values[rows, sites] = layers[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _learning_rate(run: Run) -> tuple[np.ndarray, np.ndarray]:
    scalars = run.scalars
    if "lr" not in scalars:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    logged = scalars[["step", "lr"]].dropna()
    return np.asarray(logged["step"], dtype=np.int64), np.asarray(logged["lr"], dtype=np.float64)


# So many steps are compared pair by pair; of more, all that the run holds are compared at once.
_FEW_STEPS = 6


def _similarity_of(run: Run, steps: np.ndarray) -> Callable[[int, np.ndarray], Similarity]:
    """Similarity to a step as arrays, read when a claim asks and where it asks; NaN elsewhere, and where the run
    holds nothing to compare with."""
    shape = (len(steps), len(run.sites))
    known: dict[int, tuple[Similarity, set[int]]] = {}

    def similarity(to: int, at: np.ndarray) -> Similarity:
        found, read = known.get(to, (None, set()))
        missing = sorted({int(step) for step in at} - read)
        if found is None:
            recorded = _recorded(run, steps, to)
            if recorded is not None:
                missing, read = [], set(steps.tolist())
            found = recorded or Similarity(np.full(shape, np.nan), np.zeros(shape))
        if 0 < len(missing) <= _FEW_STEPS and _compare_few(run, steps, to, missing, found):
            read |= set(missing)
        elif missing:
            found, read = _compared(run, steps, shape, to), set(steps.tolist())
        known[to] = found, read
        return found

    return similarity


def _compare_few(run: Run, steps: np.ndarray, to: int, at: Sequence[int], found: Similarity) -> bool:
    """Put the similarity of these steps to one into `found`; False where one of them cannot be compared."""
    rows = np.searchsorted(steps, at)
    for index, site in enumerate(run.sites["name"]):
        try:
            table = run.similarity(site, steps=[to, *at]).sel(step=list(at), step_other=to)
        except ReluscopeError:
            return False
        found.values[rows, index] = table.values
        found.errors[rows, index] = np.nan_to_num(table["standard_error"].values)
    return True


def _recorded(run: Run, steps: np.ndarray, to: int) -> Similarity | None:
    """Similarity to the first measurement as the rows hold it; None unless it is exact at every one of them.

    Then no two samples have to be compared, which takes the time of a judgement.
    """
    layers = run.layers
    if to != steps[0] or not {_TO_INIT, "exact"} <= set(layers.columns):
        return None
    errors = error_name(_TO_INIT)
    is_estimate = errors in layers and bool(np.asarray(layers[errors].notna()).any())
    if is_estimate or not bool(np.asarray(layers["exact"].fillna(False), dtype=bool).all()):
        return None
    values = _grid(layers, steps, _TO_INIT)
    values[0] = 1.0  # the state that the others are compared with
    return None if np.isnan(values).any() else Similarity(values, np.zeros(values.shape))


def _compared(run: Run, steps: np.ndarray, shape: tuple[int, int], to: int) -> Similarity:
    values, errors = np.full(shape, np.nan), np.zeros(shape)
    try:
        found = run.similarity_to(to)
    except ReluscopeError:  # neither samples nor tables: told where the value is asked for
        return Similarity(values, errors)
    rows = np.searchsorted(steps, found["step"])
    values[rows, found["site_index"]] = found["value"]
    errors[rows, found["site_index"]] = found["standard_error"]
    return Similarity(values, np.nan_to_num(errors))


def chosen_studies(studies: Iterable[Study]) -> tuple[list[Study], dict[str, str]]:
    """One study for each training of a figure: of the largest scale, then of the most images and steps.

    Figures are never mixed from runs of two scales: of each figure only the runs of the largest scale that is
    there are used. Returns what is used, and by name why a study is left out.
    """
    studies = list(studies)
    largest: dict[str | None, int] = {}
    for study in studies:
        largest[study.experiment] = max(largest.get(study.experiment, -2), _rank(study))
    chosen: dict[tuple[Any, ...], Study] = {}
    left_out: dict[str, str] = {}
    for study in sorted(studies, key=_size, reverse=True):
        key = (study.experiment, study.net, study.blocks, study.activation, study.method, study.seed)
        if study.experiment is None:
            left_out[study.name] = "belongs to no figure"
        elif _rank(study) < largest[study.experiment]:
            scale = _SCALES[largest[study.experiment]]
            left_out[study.name] = f"{study.experiment} is judged on its {scale} runs"
        elif key in chosen:
            left_out[study.name] = f"the same training as {chosen[key].name}, which is as large or larger"
        else:
            chosen[key] = study
    return list(chosen.values()), left_out


def _rank(study: Study) -> int:
    return _SCALES.index(study.scale) if study.scale in _SCALES else -1


def _size(study: Study) -> tuple[int, ...]:
    return (study.num_images, study.num_steps, int(study.steps[-1]), len(study.steps))
