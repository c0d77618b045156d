"""The pattern instrument: the distribution of on/off patterns of every site, and what follows from it.

Source: [A]; formulas in DEFINITIONS section 1 and `reluscope.measures`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reluscope import measures
from reluscope.errors import InstrumentError, LabelsError, MeasurementError
from reluscope.instruments.estimated import compare_to_init, compare_to_last, estimated_row
from reluscope.observe import Lane, Probe, Site, SiteBatch
from reluscope.patterns import (
    DEFAULT_SAMPLE_SEED,
    DEFAULT_SAMPLE_SIZE,
    AnyCounts,
    Budget,
    HashList,
    PatternCounter,
    PatternCounts,
)
from reluscope.patterns.budget import as_bytes, as_folder

__all__ = ["Patterns", "PatternsResult", "StepsLike", "compare_to_init", "compare_to_last"]

_KEEP = ("init", "final", "all")
_LEAST = {"permutations": 0, "hashlist": 1, "sample_size": 0, "sample_seed": 0, "disk_budget": 1}
# Fixed, so that two measurements of the same state give the same excess information.
_PERMUTATION_SEED = 0
_LABEL_COLUMNS = tuple(
    name
    for name, one in measures.LAYER_MEASURES.items()
    if one.family == "labels" and name != "information_excess"
)
_NO_SAMPLES = (
    "no evaluation's sample can be told: axis 0 of the site is not a multiple of the batch, or does not list the "
    "samples in order (views, copies or time steps were stacked in front of them, or they were shuffled)"
)


@runtime_checkable
class StepsLike(Protocol):
    """A set of steps, as the schedules of a recorder are."""

    def due(self, step: int) -> bool:
        """Whether the step belongs to it."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Itself in plain values, for run.json."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """Counts, exactly, which patterns every site uses on the probe.

    Args:
        keep: exact tables that the run keeps on disk: "init" (the first measurement), "final" (the last one,
            written at close), "all" (every measurement). Without "init", similarity to the initial state is
            still recorded as long as the recording process lives, but not after a resume.
        labels: with a probe that has labels, also count (pattern, class) pairs and record joint and
            conditional entropy and the information the patterns hold about the labels.
        permutations: number of permutations of the samples' labels whose mean information is taken off
            (`information_excess`); 0 leaves that column out. Needs labels; counts (pattern, sample) pairs, so
            memory grows up to one entry per evaluation.
        hashlist: size of the hash list of [A] (Algorithm 1) to run beside the exact counts; None for none.
        sample_size: patterns per site, at most in expectation, that a measurement leaves in the run, so that
            any two steps can be compared afterwards with a standard error (`Run.similarity`); 0 or None for
            none. A site with no more patterns leaves its whole table. Up to 16 bytes a pattern, 24 beyond 64
            bits.
        sample_schedule: at which of the measured steps, for example `rs.every(1)` for all of them. None: the
            first 128 measurements, then 24 in every tenfold of steps. The first and a forced measurement
            are sampled always, and the last one when the recorder is closed.
        sample_seed: another seed is another sample; one run has one.
        disk_budget: bytes that the tables of keep="all" may take on the disk. Where the next ones might
            exceed it there is a warning, and from there on none are kept. None: no limit.
        memory_budget: bytes, or a text such as "2GB", that the counting of all sites together may take in memory,
            its peak included; the largest sites go on as estimates with standard errors where it does not
            do (`exact` is False in their rows). None: no limit. See docs/memory.md for what it leaves out.
        spill: with a memory_budget, a folder for files in place of memory beyond it; all stays exact.

    Raises:
        InstrumentError: a value outside of what is described here.
        BudgetError: a memory_budget that is no number of bytes.
        SpillError: no folder to spill to.
    """

    keep: tuple[str, ...] = ("init",)
    labels: bool = True
    permutations: int = 0
    hashlist: int | None = None
    sample_size: int | None = DEFAULT_SAMPLE_SIZE
    sample_schedule: StepsLike | None = None
    sample_seed: int = DEFAULT_SAMPLE_SEED
    disk_budget: int | None = None
    memory_budget: int | str | None = None
    spill: str | os.PathLike[str] | None = None

    name: str = field(default="patterns", init=False)

    def __post_init__(self) -> None:
        keep = (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)
        unknown = [kind for kind in keep if kind not in _KEEP]
        if unknown:
            raise InstrumentError(
                f"keep={self.keep!r} asks for {unknown[0]!r}; allowed are {', '.join(map(repr, _KEEP))}, "
                "or an empty tuple to keep no tables."
            )
        object.__setattr__(self, "keep", keep)
        object.__setattr__(self, "sample_size", 0 if self.sample_size is None else self.sample_size)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in ("hashlist", "disk_budget"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InstrumentError(f"{name}={value!r} is not a whole number of at least {least}.")
            object.__setattr__(self, name, int(value))
        if self.sample_schedule is not None and not isinstance(self.sample_schedule, StepsLike):
            raise InstrumentError(
                f"sample_schedule={self.sample_schedule!r} is no schedule; allowed are rs.every(10), "
                "rs.at(0, 100), ..., or None."
            )
        if self.disk_budget is not None and "all" not in keep:
            raise InstrumentError(
                f'disk_budget={self.disk_budget} limits the tables of keep="all", but keep={self.keep!r} keeps '
                'none of them; add "all" to it or leave the budget out.'
            )
        self._check_memory()
        if not isinstance(self.labels, bool):
            raise InstrumentError(
                f"labels={self.labels!r} must be True or False; labels belong to the probe."
            )
        if self.permutations and not self.labels:
            raise InstrumentError(
                f"permutations={self.permutations} permutes labels, but labels=False leaves them out; "
                "set labels=True or permutations=0."
            )

    def _check_memory(self) -> None:
        if self.memory_budget is not None:
            object.__setattr__(self, "memory_budget", as_bytes(self.memory_budget))
        if self.spill is not None:
            if self.memory_budget is None:
                raise InstrumentError(
                    f"spill={os.fspath(self.spill)!r} says where to go beyond a memory budget, but there is none; give "
                    'one, such as memory_budget="2GB".'
                )
            as_folder(self.spill)

    @property
    def may_estimate(self) -> bool:
        """Whether a site's counts can become an estimate."""
        return self.memory_budget is not None and self.spill is None

    def check(self, probe: Probe) -> None:
        """Raise LabelsError when permutations are asked for and the probe has no labels."""
        if self.permutations and probe.labels is None:
            raise LabelsError(
                f"Patterns(permutations={self.permutations}) permutes labels, but the probe has none; "
                "give rs.Probe(inputs, labels) or leave permutations at 0."
            )

    def as_dict(self) -> dict[str, Any]:
        about = {
            "name": self.name,
            "keep": list(self.keep),
            "labels": self.labels,
            "permutations": self.permutations,
            "hashlist": self.hashlist,
        }
        # Left out where there are none, so that a run of before there were samples can be continued.
        if self.sample_size:
            schedule = self.sample_schedule
            about["sample_size"], about["sample_seed"] = self.sample_size, self.sample_seed
            about["sample_schedule"] = None if schedule is None else schedule.as_dict()
        if self.disk_budget is not None:
            about["disk_budget"] = self.disk_budget
        # Files in place of memory change nothing of what is measured.
        if self.may_estimate:
            about["memory_budget"] = self.memory_budget
        return about

    def collector(self, probe: Probe) -> PatternsCollector:
        return PatternsCollector(self, probe)


@dataclass(frozen=True, kw_only=True)
class PatternsResult:
    """What the pattern instrument found at one site.

    Attributes:
        counts: the exact distribution; EstimatedCounts where the memory budget left an estimate.
        row: the measures that need no other state, by column name; NaN where a value is not defined.
        reasons: for a column that is NaN for a reason worth words, the reason.
    """

    counts: AnyCounts
    row: dict[str, float | int]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class _SiteState:
    site: Site
    counter: PatternCounter
    hashlist: HashList | None
    class_evaluations: np.ndarray | None  # int64 (num_classes,); None: no labels, or no sample can be told


@dataclass(frozen=True, kw_only=True)
class _Classes:
    """The probe's labels as consecutive class indices."""

    of_sample: np.ndarray  # int64 (samples,), 0 .. num_classes - 1
    num_classes: int

    @classmethod
    def of(cls, probe: Probe) -> _Classes | None:
        if probe.labels is None:
            return None
        values, index = np.unique(probe.labels.numpy(), return_inverse=True)
        return cls(of_sample=index.astype(np.int64), num_classes=len(values))


class PatternsCollector:
    """Streams the batches of one measurement into one counter per site."""

    def __init__(self, config: Patterns, probe: Probe) -> None:
        self._config = config
        self._classes = _Classes.of(probe) if config.labels else None
        self._num_samples = probe.num_samples
        self._states: dict[str, _SiteState] = {}
        self._budget: Budget | None = None
        if config.memory_budget is not None:
            self._budget = Budget(
                config.memory_budget,
                spill=config.spill,
                sample_seed=config.sample_seed,
                pairs=config.permutations > 0,
            )

    def consume(self, batch: SiteBatch) -> None:
        site = batch.site
        state = self._states.get(site.name) or self._open(site)
        # Counted where it lies: on a GPU, or on the host, to which what lies on another device is copied.
        values = batch.preactivations if batch.preactivations.is_cuda else batch.preactivations.cpu()
        groups = None
        if state.class_evaluations is not None and self._classes is not None:
            groups = self._groups(batch, self._classes, state.class_evaluations)
        state.counter.update(values, site.channel_dim, kinks=site.kinks, groups=groups)
        if state.hashlist is not None:
            state.hashlist.update(values.cpu(), site.channel_dim, kinks=site.kinks)

    def lane(self, site: Site) -> Lane | None:
        """The counter's own short way, where batches need no more than to be counted."""
        state = self._states[site.name]
        is_plain = state.class_evaluations is None and state.hashlist is None
        return state.counter.repeat if is_plain and state.counter.can_repeat else None

    def finish(self) -> dict[str, PatternsResult]:
        # Popped one by one, so that one site's scratch is gone before the next one's table is built.
        return {name: self._result(self._states.pop(name)) for name in list(self._states)}

    def _open(self, site: Site) -> _SiteState:
        num_groups, class_evaluations = 0, None
        if self._classes is not None and site.num_positions is not None:
            num_groups = self._num_samples if self._config.permutations else self._classes.num_classes
            class_evaluations = np.zeros(self._classes.num_classes, dtype=np.int64)
        size = self._config.hashlist
        state = _SiteState(
            site=site,
            counter=PatternCounter(site.width, num_groups=num_groups, budget=self._budget, site=site.name),
            hashlist=None if size is None else HashList(size),
            class_evaluations=class_evaluations,
        )
        self._states[site.name] = state
        return state

    def _groups(self, batch: SiteBatch, classes: _Classes, class_evaluations: np.ndarray) -> np.ndarray:
        """The group of every entry of axis 0: its sample's class, or the sample itself under permutations."""
        values = batch.preactivations
        samples = np.arange(batch.sample_offset, batch.sample_offset + batch.num_samples, dtype=np.int64)
        per_sample = values.numel() // (batch.site.num_units * batch.num_samples)
        class_evaluations += per_sample * np.bincount(
            classes.of_sample[samples], minlength=classes.num_classes
        )
        groups = samples if self._config.permutations else classes.of_sample[samples]
        folded = values.shape[0] // batch.num_samples
        return groups if folded == 1 else np.repeat(groups, folded)

    def _result(self, state: _SiteState) -> PatternsResult:
        site, counter = state.site, state.counter
        counter.close(pairs=self._config.permutations > 0)
        if counter.is_exact:
            exact = counter.counts()
            counts: AnyCounts = exact
            row, reasons = self._exact_row(state, exact)
        else:
            estimate = counter.estimate()
            assert estimate is not None, "what is not exact is an estimate"
            counts, has_permutations = estimate, self._config.permutations > 0
            row, reasons = estimated_row(
                site, estimate, state.class_evaluations, has_permutations=has_permutations
            )
        if self._classes is not None and state.class_evaluations is None:
            row.update(dict.fromkeys(_LABEL_COLUMNS, float("nan")))
            reasons.update(dict.fromkeys(_LABEL_COLUMNS, _NO_SAMPLES))
        if state.hashlist is not None:
            row.update(measures.summarize_hashlist(state.hashlist.counts, size=state.hashlist.size))
        row["nan_fraction"] = counter.num_nan / counter.num_values if counter.num_values else float("nan")
        return PatternsResult(counts=counts, row=row, reasons=reasons)

    def _exact_row(
        self, state: _SiteState, counts: PatternCounts
    ) -> tuple[dict[str, float | int], dict[str, str]]:
        site = state.site
        row: dict[str, float | int] = {"num_evaluations": counts.num_evaluations, "exact": True}
        row.update(
            measures.summarize(counts, width=site.width, num_units=site.num_units, num_kinks=site.num_kinks)
        )
        if self._classes is not None and state.class_evaluations is not None:
            row.update(self._label_row(state, counts, state.class_evaluations, self._classes))
        return row, {}

    def _label_row(
        self, state: _SiteState, counts: PatternCounts, class_evaluations: np.ndarray, classes: _Classes
    ) -> dict[str, float]:
        site = state.site
        # Only permutations need to know which pattern and sample a pair is of.
        joint = state.counter.joint() if self._config.permutations else None
        if joint is None:
            pair_counts = state.counter.joint_counts()
        else:
            pair_counts = measures.joint_by_class(joint.pattern, joint.group, joint.counts, classes.of_sample)
        if pair_counts is None:
            raise MeasurementError(
                f'the joint counts of site "{site.name}" are missing; this is a bug of reluscope.'
            )
        row = measures.summarize_labels(
            counts,
            pair_counts,
            width=site.width,
            num_units=site.num_units,
            num_kinks=site.num_kinks,
            class_evaluations=class_evaluations,
        )
        if joint is not None:
            row["information_excess"] = float("nan")
            if counts.num_evaluations:
                row["information_excess"] = measures.information_excess(
                    joint.pattern,
                    joint.group,
                    joint.counts,
                    classes.of_sample,
                    num_permutations=self._config.permutations,
                    generator=np.random.default_rng(_PERMUTATION_SEED),
                )
        return row
