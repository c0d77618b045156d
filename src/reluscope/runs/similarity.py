"""How like any two recorded steps are: from kept tables and recorded values exactly, from samples estimated.

A step can be compared when the run keeps a table of the site at it (exact), or a sample (estimated, with a
standard error; exact too when the sample is the whole table). The rows of `layers` hold two more comparisons,
both exact: with the initial state and with the measurement before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd

from reluscope.errors import SimilarityError, UnknownSiteError, closest
from reluscope.measures.estimates import error_name
from reluscope.measures.similarity import (
    KINDS,
    PatternSample,
    Similarities,
    SimilarityKind,
    similarities,
    similarity_matrix,
)

if TYPE_CHECKING:
    import xarray as xr

    from reluscope.runs.reader import Run

__all__ = ["StepLike", "comparable_steps", "similarity", "similarity_to"]

StepLike: TypeAlias = int | Literal["init", "final"]

# Patterns that are compared at once: about 100 bytes each. More of them go block by block of steps.
_BLOCK_PATTERNS = 1 << 21


def similarity(
    run: Run, site: str, kind: SimilarityKind = "weighted_jaccard", steps: Sequence[StepLike] | None = None
) -> xr.DataArray:
    """Similarity of every two steps at one site; see `Run.similarity`."""
    import xarray as xr

    _check_kind(kind)
    _check_site(run, site)
    source = _Source(run)
    there = source.steps(site)
    if steps is None:
        chosen = there
    else:
        chosen = sorted({_as_step(run, one) for one in steps})
        if not chosen:
            raise SimilarityError(
                "steps is empty: name the steps to compare, or leave it out for all of them."
            )
        _check_comparable(run, site, chosen, there)
    if not chosen:
        raise _nothing_kept(run, site)
    found = _all_pairs([source.size(step, site) for step in chosen], chosen, source, site, kind)
    _put_recorded(found, run, site, kind, chosen)
    about = {"long_name": f"{kind.replace('_', ' ')} similarity", "units": "1", "site": site, "kind": kind}
    pair = ("step", "step_other")
    return xr.DataArray(
        found.value,
        dims=pair,
        coords={
            "step": np.array(chosen, dtype=np.int64),
            "step_other": np.array(chosen, dtype=np.int64),
            "standard_error": (pair, found.standard_error),
            "exact": (pair, found.exact),
        },
        name=kind,
        attrs=about,
    )


def similarity_to(run: Run, step: StepLike, kind: SimilarityKind = "weighted_jaccard") -> pd.DataFrame:
    """Similarity of every step to one, at every site; see `Run.similarity_to`."""
    _check_kind(kind)
    reference = _as_step(run, step)
    source = _Source(run)
    frames = []
    for index, site in enumerate(run.sites["name"]):
        there = source.steps(site)
        recorded = _recorded(run, site, kind)
        known = [other for pair in recorded for other in pair if reference in pair and other != reference]
        if reference not in there and not (known and reference == run.steps[0]):
            _check_comparable(run, site, [reference], there)
        compared = there if reference in there else []
        found = _one_row(source, site, reference, compared, kind)
        frame = pd.DataFrame({"step": compared, **found}).set_index("step")
        for other in known:
            frame.loc[other] = [recorded[min(reference, other), max(reference, other)], 0.0, True]
        if reference not in there:  # the initial state is like itself
            frame.loc[reference] = [1.0, 0.0, True]
        frame = frame.sort_index().reset_index()
        frames.append(frame.assign(site=site, site_index=index))
    columns = ["step", "site", "site_index", "value", "standard_error", "exact"]
    table = pd.concat(frames).reindex(columns=columns)
    return table.sort_values(by=["step", "site_index"], ignore_index=True)


def comparable_steps(run: Run, site: str) -> list[int]:
    """The steps at which the run keeps a table or a sample of a site, in order."""
    return _Source(run).steps(site)


class _Source:
    """Tables and samples of a run, as samples: a table is a whole one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        committed = set(run.steps)
        # Tables called final are those of an earlier end, if the run went on after it.
        self._kinds = {
            step: kind
            for kind, step, _ in run.kept_tables()
            if step in committed and (kind != "final" or step == run.steps[-1])
        }
        self._samples = run.stored_samples

    def steps(self, site: str) -> list[int]:
        return sorted({*self._kinds, *self._samples.steps(site)})

    def size(self, step: int, site: str) -> int:
        """How many patterns `get` gives."""
        sample = self._samples.get(step, site)
        if step not in self._kinds:
            return len(sample.counts) if sample else 0
        return sample.num_patterns if sample else len(self.get(step, site).counts)

    def get(self, step: int, site: str) -> PatternSample:
        if step in self._kinds:
            kind = self._kinds[step]
            keys, counts, meta = self._run.table(kind, site, step if kind == "all" else None)
            if "levels" in meta:  # of an estimated site
                ceilings = np.exp2(-meta["levels"].astype(np.float64))
                about = (meta["num_evaluations"], meta["num_patterns"])
                return PatternSample(keys, counts, 0.0, *about, ceilings)
            return PatternSample(keys, counts, 0.0, int(counts.sum()), len(counts))
        sample = self._samples.get(step, site)
        assert sample is not None, "only steps of `steps` are asked for"
        return sample


def _all_pairs(
    sizes: Sequence[int], steps: Sequence[int], source: _Source, site: str, kind: SimilarityKind
) -> Similarities:
    """Every pair of steps, as many at once as memory is meant for."""
    ends = np.cumsum(sizes)
    block_of = (ends - sizes) // _BLOCK_PATTERNS
    edges = [0, *(np.flatnonzero(np.diff(block_of)) + 1).tolist(), len(steps)]
    blocks = [range(first, last) for first, last in pairwise(edges)]
    if len(blocks) == 1:
        return similarity_matrix([source.get(step, site) for step in steps], kind)
    shape = (len(steps), len(steps))
    found = Similarities(
        value=np.empty(shape), standard_error=np.empty(shape), exact=np.empty(shape, dtype=bool)
    )
    for number, rows in enumerate(blocks):
        samples = [source.get(steps[row], site) for row in rows]
        _put(found, rows, rows, similarity_matrix(samples, kind))
        for columns in blocks[number + 1 :]:
            others = [source.get(steps[column], site) for column in columns]
            _put(found, rows, columns, similarities(samples, others, kind))
    return found


def _put(found: Similarities, rows: range, columns: range, part: Similarities) -> None:
    above, below = np.ix_(rows, columns), np.ix_(columns, rows)
    for name in ("value", "standard_error", "exact"):
        getattr(found, name)[above] = getattr(part, name)
        getattr(found, name)[below] = getattr(part, name).T


def _one_row(
    source: _Source, site: str, reference: int, steps: Sequence[int], kind: SimilarityKind
) -> dict[str, np.ndarray]:
    """One step against others, few tables at a time."""
    parts: list[Similarities] = []
    if steps:
        own = source.get(reference, site)
        sizes = np.cumsum([source.size(step, site) for step in steps])
        for block in np.unique(sizes // _BLOCK_PATTERNS):
            others = np.flatnonzero(sizes // _BLOCK_PATTERNS == block).tolist()
            parts.append(similarities([own], [source.get(steps[other], site) for other in others], kind))
    found = {
        name: np.concatenate([np.empty(0, dtype), *(getattr(part, name)[0] for part in parts)])
        for name, dtype in (("value", float), ("standard_error", float), ("exact", bool))
    }
    if reference in steps:  # a state is like itself, sampled or not; an empty one is like nothing
        own_place = list(steps).index(reference)
        found["value"][own_place] = 1.0 if source.get(reference, site).num_evaluations else np.nan
        found["standard_error"][own_place], found["exact"][own_place] = 0.0, True
    return found


def _recorded(run: Run, site: str, kind: SimilarityKind) -> dict[tuple[int, int], float]:
    """The similarities that were taken while recording, exactly: by (earlier step, later step)."""
    layers = run.layers
    columns = {name: layers.get(f"{kind}_to_{name}") for name in ("init", "last")}
    of_site = (layers["site"] == site) & layers["exact"].fillna(False).astype(bool)
    before = dict(zip(run.steps[1:], run.steps, strict=False))
    found = {}
    for name, column in columns.items():
        if column is None:
            continue
        # Of two states of which the earlier one is an estimate it is one too, whatever the row itself is.
        errors = layers.get(error_name(f"{kind}_to_{name}"))
        values = column[of_site] if errors is None else column[of_site & errors.isna()]
        for step, value in zip(layers["step"][values.index], values, strict=True):
            other = run.steps[0] if name == "init" else before.get(int(step))
            if other is not None and other != step and not pd.isna(value):
                found[other, int(step)] = float(value)
    return found


def _put_recorded(
    found: Similarities, run: Run, site: str, kind: SimilarityKind, steps: Sequence[int]
) -> None:
    """Exact values that the rows of the run hold, in the place of estimates."""
    place = {step: index for index, step in enumerate(steps)}
    for (earlier, later), value in _recorded(run, site, kind).items():
        if earlier in place and later in place:
            for where in ((place[earlier], place[later]), (place[later], place[earlier])):
                found.value[where], found.standard_error[where], found.exact[where] = value, 0.0, True


def _as_step(run: Run, step: StepLike) -> int:
    if not run.steps:
        raise SimilarityError(f'nothing has been measured in the run "{run.name}" yet.')
    named = {"init": run.steps[0], "final": run.steps[-1]}
    if isinstance(step, str):
        if step not in named:
            raise SimilarityError(f'step {step!r}; allowed are a recorded step, "init" and "final".')
        return named[step]
    if step not in set(run.steps):
        near = min(run.steps, key=lambda one: abs(one - step))
        raise SimilarityError(
            f'step {step} was not measured in the run "{run.name}", which has {len(run.steps)} steps from '
            f"{run.steps[0]} to {run.steps[-1]}; the closest is {near}."
        )
    return int(step)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise SimilarityError(f"kind={kind!r}; allowed are {', '.join(map(repr, KINDS))}.")


def _check_site(run: Run, site: str) -> None:
    names = list(run.sites["name"]) if len(run.sites) else []
    if site not in names:
        raise UnknownSiteError(f'no site "{site}" in the run "{run.name}"; closest: {closest(site, names)}.')


def _check_comparable(run: Run, site: str, wanted: Sequence[int], there: Sequence[int]) -> None:
    missing = [step for step in wanted if step not in set(there)]
    if not missing:
        return
    if not there:
        raise _nothing_kept(run, site)
    near = min(there, key=lambda one: abs(one - missing[0]))
    raise SimilarityError(
        f'step {missing[0]} of the run "{run.name}" has neither a sample nor a table of "{site}"; '
        f"{len(there)} steps from {there[0]} to {there[-1]} have, the closest is {near}. To sample every "
        "measurement: rs.Patterns(sample_schedule=rs.every(1))."
    )


def _nothing_kept(run: Run, site: str) -> SimilarityError:
    return SimilarityError(
        f'the run "{run.name}" keeps neither samples nor tables of "{site}", so two of its steps cannot be '
        'compared. Record with rs.Patterns(sample_size=4096) (samples) or rs.Patterns(keep=("all",)) (exact '
        "tables); the similarities to the initial and to the last measurement are in run.layers."
    )
