"""Which runs belong in which place of a figure of [A], by the specification that each of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reluscope.errors import ExportError, SimilarityError
from reluscope.report.view import RunView, view_of

if TYPE_CHECKING:
    from reluscope.runs import Run
    from reluscope.runs.similarity import StepLike

__all__ = [
    "METHODS",
    "NETS",
    "Field",
    "PaperRun",
    "Place",
    "field_of",
    "nothing_to_place",
    "paper_runs",
    "place_runs",
    "similarity_field",
    "single_updates",
    "stage_ends",
    "usual_gaps",
]

NETS = {
    "resnet": "ResNet",
    "convnet": "ConvNet",
    "toynet": "ToyNet",
    "pyramidnet": "PyramidNet",
    "fixup_resnet": "FixUp ResNet",
}
"""Networks of [A]: their names in a specification, and in words."""

METHODS = {"milestones": "stepwise", "cyclic": "CyclicLR", "onecycle": "OneCycleLR", "constant": "constant"}
"""Training methods of [A]: the names of their schedules in a specification, and in words."""

_CEILING = 0.9  # of the largest number of patterns possible
_WIDEST_GAP = 0.1  # of a training, between changes by one update that stand for all of it

ACTIVATIONS = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "prelu": "PReLU"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a panel is meant to show: a network, its activation and how it is trained."""

    net: str
    depth: int = 20
    activation: str = "relu"
    method: str = "milestones"

    @property
    def net_name(self) -> str:
        """ "ResNet-20"."""
        return f"{NETS.get(self.net, self.net)}-{self.depth}"

    @property
    def method_name(self) -> str:
        """ "stepwise"; the activation before it where it is not ReLU."""
        method = METHODS.get(self.method, self.method)
        return method if self.activation == "relu" else f"{ACTIVATIONS.get(self.activation, '?')} {method}"

    @property
    def words(self) -> str:
        """ "ResNet-20, ReLU, stepwise": the run that is missing, for an empty panel."""
        activation = ACTIVATIONS.get(self.activation, self.activation)
        return f"{self.net_name}, {activation}, {METHODS.get(self.method, self.method)}"

    @property
    def in_early_phase(self) -> Place:
        """The same for the first steps: until the learning rate drops, stepwise is constant."""
        return replace(self, method="constant") if self.method == "milestones" else self


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperRun:
    """A run of a training of [A].

    Attributes:
        run, view: the run, and what is drawn of it.
        place: what it is a run of.
        seed: of its training.
        experiment: the figure it was made for, or None.
        num_steps: length of the training in updates, as far as that is known.
        steps_per_epoch: updates in an epoch, None where that is not known.
    """

    run: Run
    view: RunView
    place: Place
    seed: int
    experiment: str | None
    num_steps: int
    steps_per_epoch: int | None

    @property
    def is_whole(self) -> bool:
        """Whether its last measurement is the end of the training."""
        return len(self.view.steps) > 0 and int(self.view.steps[-1]) >= self.num_steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """What a heat map shows: values (S, L) at steps (S,), and where the coverage is below 0.5 (S, L).

    Of what compares two states: where it is at either. `at_ceiling` (S, L), of numbers of patterns: where there are
    at least 0.9 of the most that there can be, min(2^d, N), so that a change could hardly show.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    low_coverage: npt.NDArray[np.bool_]
    at_ceiling: npt.NDArray[np.bool_] | None = None


def paper_runs(figure: str, runs: Sequence[Run]) -> tuple[list[PaperRun], list[str]]:
    """The runs that can be in a figure, and the names of those that cannot.

    A run belongs if it was made for this figure, or for none in particular, and is a network of [A].
    """
    chosen, left_out = [], []
    for run in runs:
        paper_run = _paper_run(run)
        if paper_run is None or paper_run.experiment not in (None, figure) or not len(paper_run.view.steps):
            left_out.append(str(run.name))
        else:
            chosen.append(paper_run)
    return sorted(chosen, key=lambda one: (one.seed, one.view.name)), left_out


def place_runs(
    runs: Sequence[PaperRun], places: Sequence[Place], *, early: bool = False
) -> dict[Place, PaperRun]:
    """For each place its run: the one with the lowest seed; a place without one is left out.

    `early`: of the first steps alone, where a stepwise schedule is the same as a constant learning rate.
    """
    found: dict[Place, PaperRun] = {}
    for paper_run in runs:
        place = paper_run.place.in_early_phase if early else paper_run.place
        if place in places:
            found.setdefault(place, paper_run)
    return found


def field_of(paper_run: PaperRun, measure: str) -> Field | None:
    """A recorded measure; None where no value of it is defined."""
    view = paper_run.view
    if not view.has(measure):
        return None
    low = _low_coverage(view, view.steps)
    if measure in ("churn_rate", "relative_change"):  # against the measurement before
        low = low | np.concatenate([low[:1], low[:-1]])
    elif measure == "weighted_jaccard_to_init":
        low = low | low[:1]
    at_ceiling = None
    if measure == "total" and "total_fraction" in view.values:
        at_ceiling = view.values["total_fraction"] >= _CEILING
    return Field(steps=view.steps, values=view.values[measure], low_coverage=low, at_ceiling=at_ceiling)


def single_updates(field: Field) -> Field | None:
    """A field of changes where they are those of one update: at steps whose predecessor is measured too.

    None where such steps leave more than a tenth of the training unseen at a stretch.
    """
    kept = np.isin(field.steps - 1, field.steps)
    seen = np.concatenate([field.steps[:1], field.steps[kept], field.steps[-1:]])
    if np.diff(seen).max(initial=0) > _WIDEST_GAP * (seen[-1] - seen[0]):
        return None
    return Field(steps=field.steps[kept], values=field.values[kept], low_coverage=field.low_coverage[kept])


def usual_gaps(field: Field) -> Field:
    """A field of changes without those over much less than the usual distance between measurements.

    Some single steps are measured because claims ask for them. A change over one update among changes over half an
    epoch would be a stripe that tells of the schedule, not of the training. Where no distance is usual, as in
    measurements that get rarer all the time, everything stays.
    """
    gaps = np.diff(field.steps)
    if not gaps.size:
        return field
    usual = float(np.median(gaps))
    if np.mean((gaps >= 0.5 * usual) & (gaps <= 2.0 * usual)) < 0.5:
        return field
    kept = np.concatenate([[False], gaps >= 0.5 * usual])
    return Field(steps=field.steps[kept], values=field.values[kept], low_coverage=field.low_coverage[kept])


def similarity_field(paper_run: PaperRun, reference: StepLike) -> Field | None:
    """J_W of every step to one, from the tables and samples of the run; None where it keeps none of that step."""
    view = paper_run.view
    try:
        frame = paper_run.run.similarity_to(reference)
    except SimilarityError:  # nothing was kept to compare with
        return None
    table = frame.pivot(index="step", columns="site_index", values="value")
    table = table.reindex(columns=range(len(view.sites)))
    steps = table.index.to_numpy().astype(np.int64)
    values = table.to_numpy().astype(np.float64)
    reaches_end = len(steps) > 2 and steps[-1] == view.steps[-1]
    if not (reaches_end and np.isfinite(values).any()):  # a few early samples are no picture of the training
        return None
    named = {"init": view.steps[0], "final": view.steps[-1]}
    at_reference = _low_coverage(view, np.array([named.get(str(reference), reference)], dtype=np.int64))
    return Field(steps=steps, values=values, low_coverage=_low_coverage(view, steps) | at_reference)


def stage_ends(paper_run: PaperRun) -> list[int]:
    """The last site of each stage but the last one.

    The first convolution's activation and, in each stage, two a block: 6b + 1 sites; PyramidNet has one a
    block and one at the end, 3b + 1.
    """
    blocks = (paper_run.place.depth - 2) // 6
    if paper_run.place.net == "pyramidnet":
        ends, whole = [blocks - 1, 2 * blocks - 1], 3 * blocks + 1
    else:
        ends, whole = [2 * blocks, 4 * blocks], 6 * blocks + 1
    return ends if len(paper_run.view.sites) == whole else []


def _low_coverage(view: RunView, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where the coverage is below 0.5, at the given ones of the view's steps; nowhere, if it is not known."""
    if "coverage" not in view.values:
        return np.zeros((len(steps), len(view.sites)), dtype=bool)
    rows = np.clip(np.searchsorted(view.steps, steps), 0, len(view.steps) - 1)
    return view.values["coverage"][rows] < 0.5


def _paper_run(run: Run) -> PaperRun | None:
    training = run.info.get("training")
    model = training.get("model") if isinstance(training, Mapping) else None
    if not isinstance(training, Mapping) or not isinstance(model, Mapping) or model.get("name") not in NETS:
        return None
    view = view_of(run, with_health=False)
    length: Mapping[str, Any] = run.info.get("training_steps") or {}
    last = int(view.steps[-1]) if len(view.steps) else 0
    per_epoch = length.get("steps_per_epoch")
    method = str((training.get("schedule") or {}).get("name", "constant"))
    if training.get("experiment") == "fig1" and method == "constant":
        method = "milestones"  # the early phase of a stepwise training ends before its rate changes
    return PaperRun(
        run=run,
        view=view,
        place=Place(
            net=str(model["name"]),
            depth=int(model.get("depth", 20)),
            activation=str(model.get("activation", "relu")),
            method=method,
        ),
        seed=int((training.get("training") or {}).get("seed", 0)),
        experiment=training.get("experiment"),
        num_steps=int(length.get("num_steps") or last),
        steps_per_epoch=int(per_epoch) if per_epoch else None,
    )


def nothing_to_place(figure: str, left_out: Sequence[str]) -> ExportError:
    """No run at all belongs in the figure."""
    given = f"{len(left_out)} runs were" if len(left_out) > 1 else "1 run was"
    found = f"{given} given, none of them made for it" if left_out else "no run was given"
    return ExportError(
        f"{figure} of the paper was asked for, but {found} (a run belongs by the specification in its run.json: a "
        f'network of the paper, experiment "{figure}" or none). `reluscope reproduce {figure}` makes them.'
    )
