"""The pattern instrument: the exact distribution of on/off patterns of every site, and what follows from it.

Source: [A]; formulas in DEFINITIONS section 1 and `reluscope.measures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reluscope import measures
from reluscope.errors import InstrumentError, LabelsError
from reluscope.observe import Probe, Site, SiteBatch
from reluscope.patterns import HashList, PatternCounter, PatternCounts

__all__ = ["Patterns", "PatternsResult", "compare_to_init", "compare_to_last"]

_KEEP = ("init", "final", "all")
# Fixed, so that two measurements of the same state give the same excess information.
_PERMUTATION_SEED = 0


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
        hashlist: size of the hash list of [A] (Algorithm 1) to run beside the exact counts, for comparison; None
            for none.

    Raises:
        InstrumentError: a value outside of what is described here.
    """

    keep: tuple[str, ...] = ("init",)
    labels: bool = True
    permutations: int = 0
    hashlist: int | None = None

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
        for name, value, least in (("permutations", self.permutations, 0), ("hashlist", self.hashlist, 1)):
            if value is None and name == "hashlist":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InstrumentError(f"{name}={value!r} is not a whole number of at least {least}.")
        if self.permutations and not self.labels:
            raise InstrumentError(
                f"permutations={self.permutations} permutes labels, but labels=False leaves them out; "
                "set labels=True or permutations=0."
            )

    def check(self, probe: Probe) -> None:
        """Raise LabelsError when permutations are asked for and the probe has no labels."""
        if self.permutations and probe.labels is None:
            raise LabelsError(
                f"Patterns(permutations={self.permutations}) permutes labels, but the probe has none; "
                "give rs.Probe(inputs, labels) or leave permutations at 0."
            )

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "keep": list(self.keep),
            "labels": self.labels,
            "permutations": self.permutations,
            "hashlist": self.hashlist,
        }

    def collector(self, probe: Probe) -> PatternsCollector:
        return PatternsCollector(self, probe)


@dataclass(frozen=True, kw_only=True)
class PatternsResult:
    """What the pattern instrument found at one site.

    Attributes:
        counts: the exact distribution.
        row: the measures that need no other state, by column name; NaN where a value is not defined.
        reasons: for a column that is NaN for a reason worth words, the reason.
    """

    counts: PatternCounts
    row: dict[str, float | int]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Classes:
    """The probe's labels as consecutive class indices, and how groups are formed from them."""

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
        self._sites: dict[str, Site] = {}
        self._counters: dict[str, PatternCounter] = {}
        self._hashlists: dict[str, HashList] = {}

    def consume(self, batch: SiteBatch) -> None:
        site = batch.site
        if site.name not in self._counters:
            self._open(site)
        self._counters[site.name].update(
            batch.preactivations, site.channel_dim, kinks=site.kinks, groups=self._groups(batch)
        )
        if site.name in self._hashlists:
            self._hashlists[site.name].update(batch.preactivations, site.channel_dim, kinks=site.kinks)

    def finish(self) -> dict[str, PatternsResult]:
        results = {}
        for name, site in self._sites.items():
            # Popped, so that one site's scratch is gone before the next one's table is built.
            results[name] = self._result(site, self._counters.pop(name), self._hashlists.pop(name, None))
        return results

    def _open(self, site: Site) -> None:
        self._sites[site.name] = site
        num_groups = 0
        if self._classes is not None and site.num_positions is not None:
            num_groups = self._num_samples if self._config.permutations else self._classes.num_classes
        self._counters[site.name] = PatternCounter(site.width, num_groups=num_groups)
        if self._config.hashlist is not None:
            self._hashlists[site.name] = HashList(self._config.hashlist)

    def _groups(self, batch: SiteBatch) -> np.ndarray | None:
        """The group of every entry of axis 0: its sample's class, or the sample itself under permutations."""
        if self._classes is None or batch.site.num_positions is None:
            return None
        samples = slice(batch.sample_offset, batch.sample_offset + batch.num_samples)
        if self._config.permutations:
            groups = np.arange(samples.start, samples.stop, dtype=np.int64)
        else:
            groups = self._classes.of_sample[samples]
        folded = batch.preactivations.shape[0] // batch.num_samples
        return groups if folded == 1 else np.repeat(groups, folded)

    def _result(self, site: Site, counter: PatternCounter, hashlist: HashList | None) -> PatternsResult:
        counts = counter.counts()
        row: dict[str, float | int] = {"num_evaluations": counts.num_evaluations, "exact": True}
        reasons: dict[str, str] = {}
        row.update(
            measures.summarize(
                counts, width=site.width, num_units=site.num_units, num_kinks=site.num_kinks
            )
        )
        if self._classes is not None:
            row.update(self._label_row(site, counter, counts))
            if site.num_positions is None:
                reason = "axis 0 of the site is not a multiple of the batch, so no sample can be told"
                reasons.update(dict.fromkeys(_label_columns(self._config), reason))
        if hashlist is not None:
            row.update(_hashlist_row(hashlist))
        row["nan_fraction"] = counter.num_nan / counter.num_values if counter.num_values else float("nan")
        return PatternsResult(counts=counts, row=row, reasons=reasons)

    def _label_row(
        self, site: Site, counter: PatternCounter, counts: PatternCounts
    ) -> Mapping[str, float | int]:
        raise NotImplementedError


def compare_to_last(before: PatternCounts, after: PatternCounts) -> dict[str, float | int]:
    """How a site's distribution changed since the last measurement: the columns of family "changes", and similarity."""
    found = measures.summarize_change(*before.join(after))
    found["weighted_jaccard_to_last"] = found.pop("weighted_jaccard")
    found["jaccard_to_last"] = found.pop("jaccard")
    return found


def compare_to_init(initial: PatternCounts, after: PatternCounts) -> dict[str, float | int]:
    """How like a site's distribution is to the initial one."""
    found = measures.summarize_change(*initial.join(after))
    return {"weighted_jaccard_to_init": found["weighted_jaccard"], "jaccard_to_init": found["jaccard"]}
