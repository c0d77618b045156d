"""What an instrument is: something that consumes the batches of a pass and returns one result per site."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from reluscope.observe import Probe, SiteBatch

__all__ = ["Collector", "Instrument"]


class Collector(Protocol):
    """The state of one instrument during one measurement.

    A collector may also have a method `lane(site)`: a function that takes further batches of a site in less time than
    `consume` (`reluscope.observe.Lane`), or None. It is asked when the first batch has passed, and used where the
    measurement has no other instrument.
    """

    def consume(self, batch: SiteBatch) -> None:
        """Take in the pre-activations of one site for one batch of the probe."""
        ...

    def finish(self) -> dict[str, Any]:
        """The result of every site, by name, in the order of the forward pass. Called once."""
        ...


@runtime_checkable
class Instrument(Protocol):
    """A family of quantities taken from a measurement; configuration only, so that it can be shared."""

    @property
    def name(self) -> str:
        """The word under which the results stand in a snapshot, for example "patterns"."""
        ...

    def check(self, probe: Probe) -> None:
        """Raise a typed error when this probe cannot serve the instrument."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The configuration in plain values, for run.json."""
        ...

    def collector(self, probe: Probe) -> Collector:
        """A fresh state for one measurement."""
        ...
