"""What state of the model is observed, and which sites: the configuration of a measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reluscope.errors import MeasurementError, UnitAxisError, UnknownSiteError

__all__ = ["ObservationMode"]

_BATCH_NORM = ("batch", "running")


@dataclass(frozen=True, kw_only=True)
class ObservationMode:
    """How a model is looked at; equal modes on equal weights and probes see the same bits.

    Every module runs in eval mode, under `torch.no_grad()`, with ambient autocast switched off.

    Args:
        sites: which sites are consumed: a glob or name (`"layer1.*"`), or several (`["stem.relu", "fc*"]`).
        batch_norm: `"batch"`, batch norms normalise with the statistics of the probe's batch, as in training
            and in [A] (running statistics are untouched, frozen ones are treated alike); `"running"`, as in
            evaluation.
        channel_dim: None, the unit axis is found from the operations (`Site.channel_dim_source` says how); a
            number, that axis at every site; a mapping of globs to axes, for the sites that match. Negative
            counts from the end.
        smooth: also observe smooth activations (GELU, SiLU, tanh...), at the sign of their input.
        autocast: None, or the dtype under which the pass runs, or its name, whatever is ambient.

    Raises:
        MeasurementError: an unknown `batch_norm`, or an `autocast` that torch does not know.
        UnknownSiteError: `sites` is empty or holds something that is not text.
        UnitAxisError: `channel_dim` is not a number, or holds axis 0, which is that of the samples.
    """

    sites: str | Sequence[str] = "*"
    batch_norm: str = "batch"
    channel_dim: int | Mapping[str, int] | None = None
    smooth: bool = False
    autocast: torch.dtype | str | None = None

    def __post_init__(self) -> None:
        if self.batch_norm not in _BATCH_NORM:
            raise MeasurementError(
                f"batch_norm={self.batch_norm!r} is not known. Allowed: "
                '"batch" (statistics of the probe\'s batch) and "running" (those gathered in training).'
            )
        if not isinstance(self.smooth, bool):
            raise MeasurementError(f"smooth={self.smooth!r} must be True or False.")
        if not isinstance(self.sites, str):
            named = tuple(self.sites) if isinstance(self.sites, Iterable) else ()
            if not named:
                raise UnknownSiteError(_selects_nothing(self.sites))
            object.__setattr__(self, "sites", named)
        if not self.globs or not all(isinstance(one, str) and one for one in self.globs):
            raise UnknownSiteError(_selects_nothing(self.sites))
        if isinstance(self.channel_dim, Mapping):
            object.__setattr__(self, "channel_dim", dict(self.channel_dim))
        for glob, axis in self.axes.items():
            _check_axis(glob, axis)
        object.__setattr__(self, "autocast", _autocast_dtype(self.autocast))

    @property
    def globs(self) -> tuple[str, ...]:
        """The globs of `sites`, always as a tuple."""
        return (self.sites,) if isinstance(self.sites, str) else tuple(self.sites)

    @property
    def axes(self) -> dict[str, int]:
        """`channel_dim` as a mapping of globs to axes; empty when it is None."""
        if self.channel_dim is None:
            return {}
        return dict(self.channel_dim) if isinstance(self.channel_dim, Mapping) else {"*": self.channel_dim}

    def as_dict(self) -> dict[str, Any]:
        """The mode in plain values for `run.json`; `ObservationMode(**mode.as_dict())` is the mode again."""
        channel_dim = dict(self.channel_dim) if isinstance(self.channel_dim, Mapping) else self.channel_dim
        return {
            "sites": self.sites if isinstance(self.sites, str) else list(self.sites),
            "batch_norm": self.batch_norm,
            "channel_dim": channel_dim,
            "smooth": self.smooth,
            "autocast": None if self.autocast is None else str(self.autocast).removeprefix("torch."),
        }


def _selects_nothing(sites: Any) -> str:
    return (
        f'sites={sites!r} selects nothing. Pass a name or glob, or several of them; all sites are sites="*".'
    )


def _check_axis(glob: Any, axis: Any) -> None:
    if not isinstance(glob, str) or isinstance(axis, bool) or not isinstance(axis, int):
        raise UnitAxisError(
            f"channel_dim={{{glob!r}: {axis!r}}} is no unit axis. Pass an int for every site, or a mapping "
            'of globs to ints such as {"features.*": 1, "head.*": -1}.'
        )
    if axis == 0:
        raise UnitAxisError(
            f'channel_dim={{"{glob}": 0}}: axis 0 holds the samples. Name the axis of the channels or '
            "features, 1 or higher, or negative to count from the end."
        )


def _autocast_dtype(autocast: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, autocast.removeprefix("torch."), None) if isinstance(autocast, str) else autocast
    if found is None and autocast is None:
        return None
    if not isinstance(found, torch.dtype) or found not in (torch.bfloat16, torch.float16):
        raise MeasurementError(
            f"autocast={autocast!r} is no dtype to cast to: torch switches autocast off for it. Allowed: None, "
            'torch.bfloat16 and torch.float16, or their names "bfloat16" and "float16".'
        )
    return found
