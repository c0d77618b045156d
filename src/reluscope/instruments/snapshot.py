"""One measurement: a frozen pass over the probe, read by every instrument at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from reluscope.errors import InstrumentError, ProbeError, ReluscopeWarning
from reluscope.instruments.base import Collector, Instrument
from reluscope.instruments.patterns import Patterns
from reluscope.observe import Lane, Observation, ObservationMode, Probe, Site, SiteBatch, observe
from reluscope.patterns import AnyCounts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Snapshot", "check_instruments", "measure", "take_snapshot"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one measurement found.

    Attributes:
        sites: the observed sites, in the order of the forward pass.
        unobserved: activations that were seen and not observed, each with the reason.
        results: by instrument name, then by site name.
        seconds: wall time of the whole measurement.
    """

    sites: tuple[Site, ...]
    unobserved: tuple[Any, ...]
    results: Mapping[str, Mapping[str, Any]]
    seconds: float

    def __repr__(self) -> str:
        names = [site.name for site in self.sites]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        return (
            f"Snapshot({len(names)} sites: {shown}; {len(self.unobserved)} calls not observed; "
            f"{', '.join(self.results)}; {self.seconds:.3f} s)"
        )

    @property
    def patterns(self) -> dict[str, AnyCounts]:
        """The exact distribution of every site, in the order of the forward pass.

        Where a memory budget left an estimate it is an `EstimatedCounts`, which exact functions refuse.

        Raises:
            InstrumentError: the measurement was taken without the pattern instrument.
        """
        if "patterns" not in self.results:
            raise InstrumentError(
                "this snapshot holds no patterns: it was taken with the instruments "
                f"{', '.join(self.results) or 'none'}. Add rs.Patterns() to them."
            )
        return {name: result.counts for name, result in self.results["patterns"].items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row per site: what it is, and every measure that was taken; NaN where a value is not defined."""
        rows = []
        for index, site in enumerate(self.sites):
            row: dict[str, Any] = {"site": site.name, "site_index": index}
            row["num_units"], row["width"] = site.num_units, site.width
            for result in self.results.values():
                if site.name in result:
                    row.update(result[site.name].row)
            rows.append(row)
        return rows

    def to_dataframe(self) -> pd.DataFrame:
        """One row per site, indexed by its name, one column per measure."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("site")

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers should know, in words."""
        rows = self.rows()
        texts = []
        if found := [row["site"] for row in rows if row.get("nan_fraction", 0.0) > 0.0]:
            texts.append(
                f"NaN among the pre-activations of {len(found)} of {len(self.sites)} sites ({_named(found)}); "
                "NaN counts as not above the kink, and nan_fraction says how much of it there is."
            )
        if found := [row["site"] for row in rows if row.get("exact") is False]:
            texts.append(
                f"Estimates in place of exact counts at {len(found)} of {len(self.sites)} sites ({_named(found)}), which "
                "did not fit memory_budget: their standard errors stand in the columns that end in _error. Raise the "
                "budget, or give spill a folder, to count exactly."
            )
        return texts


def _named(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:3]) + (" and others" if len(names) > 3 else "")


def check_instruments(instruments: Sequence[Instrument] | None, probe: Probe) -> tuple[Instrument, ...]:
    """The instruments to use: `[Patterns()]` for None; raises InstrumentError or what their own check raises."""
    if isinstance(instruments, Instrument) or not isinstance(instruments, Iterable | None):
        raise InstrumentError(f"instruments={instruments!r} is no list; write instruments=[rs.Patterns()].")
    chosen = (Patterns(),) if instruments is None else tuple(instruments)
    if not isinstance(probe, Probe):
        raise ProbeError(
            f"the probe is a {type(probe).__name__}; wrap the inputs: rs.Probe(inputs, labels=None, batch_size=128)."
        )
    if not chosen:
        raise InstrumentError("no instruments: pass None for [rs.Patterns()], or a list with at least one.")
    for one in chosen:
        if isinstance(one, type) or not isinstance(one, Instrument):
            raise InstrumentError(
                f"{one!r} is not an instrument; allowed are instances, for example rs.Patterns()."
            )
        one.check(probe)
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        raise InstrumentError(f"instruments {', '.join(names)}: each kind can be used once in a measurement.")
    return chosen


def take_snapshot(
    model: torch.nn.Module,
    probe: Probe,
    instruments: Sequence[Instrument],
    mode: ObservationMode,
    *,
    expected: Sequence[Site] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Measure once, without warnings or defaults: what `measure` and the recorder share.

    Args:
        expected: the sites of an earlier measurement; others raise SitesChangedError.
        on_batch: called after every batch of the probe with its index, from 0, and the number of batches.
    """
    started = time.perf_counter()
    collectors: dict[str, Collector] = {one.name: one.collector(probe) for one in instruments}
    consumers = tuple(collector.consume for collector in collectors.values())

    def consume(batch: SiteBatch) -> None:
        for one in consumers:
            one(batch)

    seen: Observation = observe(
        model,
        probe,
        mode,
        consumers[0] if len(consumers) == 1 else consume,
        lane=_lane_of(next(iter(collectors.values()))) if len(consumers) == 1 else None,
        expected=expected,
        on_batch=on_batch,
    )
    results = {name: collector.finish() for name, collector in collectors.items()}
    return Snapshot(
        sites=tuple(seen.sites),
        unobserved=tuple(seen.unobserved),
        results=results,
        seconds=time.perf_counter() - started,
    )


def _lane_of(collector: Collector) -> Callable[[Site], Lane | None] | None:
    """Its `lane`, unless a class derived from that which has it consumes batches in a way of its own."""
    for kind in type(collector).__mro__:
        if "lane" in vars(kind):
            return collector.lane  # pyright: ignore[reportAttributeAccessIssue]
        if "consume" in vars(kind):
            return None
    return None


def measure(
    model: torch.nn.Module,
    probe: Probe,
    *,
    instruments: Sequence[Instrument] | None = None,
    sites: str | Sequence[str] = "*",
    batch_norm: str = "batch",
    channel_dim: int | Mapping[str, int] | None = None,
    smooth: bool = False,
    autocast: torch.dtype | None = None,
) -> Snapshot:
    """Look once at the state of a model; nothing of it changes.

    Args:
        model: any `nn.Module`; wrappers (DDP, DataParallel, torch.compile) are taken off.
        probe: the fixed inputs, `rs.Probe(inputs, labels)`.
        instruments: what to take; None for `[rs.Patterns()]`.
        sites: a name, a glob, or a list of them, of the sites to observe.
        batch_norm: "batch" uses the statistics of each probe batch (the papers' choice), "running" those
            gathered in training.
        channel_dim: the unit axis, for all sites or by glob: `{"features.*": 1}`; None finds it.
        smooth: also observe smooth activations (GELU, SiLU, ...), at their sign.
        autocast: dtype to run the pass in; None for the model's own. Ambient autocast is ignored.

    Returns:
        The Snapshot: `patterns[site]` is the exact distribution, `to_dataframe()` has one row per site.

    Raises:
        NoSitesError: the forward pass made no call that can be observed.
        UnknownSiteError: `sites` matches none.
        ProbeError, LabelsError, InstrumentError: the arguments cannot work together.
    """
    mode = ObservationMode(
        sites=sites, batch_norm=batch_norm, channel_dim=channel_dim, smooth=smooth, autocast=autocast
    )
    snapshot = take_snapshot(model, probe, check_instruments(instruments, probe), mode)
    for text in snapshot.warnings:
        warnings.warn(text, ReluscopeWarning, stacklevel=2)
    return snapshot
