"""What run.json holds about a recording: what was observed, how, with which versions and on what machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from reluscope.instruments import Instrument, Snapshot
from reluscope.observe import ObservationMode, Probe, Site
from reluscope.recording.fingerprints import describe_model
from reluscope.recording.schedule import Schedule

__all__ = ["describe_environment", "describe_recording", "describe_sites", "sites_from"]


def describe_recording(
    model: nn.Module,
    probe: Probe,
    mode: ObservationMode,
    instruments: Sequence[Instrument],
    schedule: Schedule,
) -> dict[str, Any]:
    """Everything of run.json that is known before the first measurement."""
    return {
        "model": describe_model(model),
        "probe": probe.as_dict(),
        "mode": mode.as_dict(),
        "instruments": [instrument.as_dict() for instrument in instruments],
        "schedule": schedule.as_dict(),
        "environment": describe_environment(model),
        "seed": torch.initial_seed(),
    }


def describe_environment(model: nn.Module) -> dict[str, Any]:
    """What may change bits by rounding: layout, dtypes, device, threads, versions."""
    parameters = list(model.parameters())
    return {
        "reluscope": metadata.version("reluscope"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": metadata.version("numba"),
        "device": sorted({str(parameter.device) for parameter in parameters}),
        "dtypes": sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters}),
        "memory_format": _memory_format(parameters),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
    }


def describe_sites(snapshot: Snapshot) -> dict[str, Any]:
    """Everything of run.json that the first measurement shows."""
    return {
        "sites": [site.as_dict() for site in snapshot.sites],
        "unobserved": [one.as_dict() if hasattr(one, "as_dict") else str(one) for one in snapshot.unobserved],
    }


def sites_from(info: dict[str, Any]) -> list[Site] | None:
    """The sites that a run was made with, to hold the next measurement to them; None before the first one."""
    stored = info.get("sites")
    if not stored:
        return None
    return [_site(one) for one in stored]


def _site(stored: dict[str, Any]) -> Site:
    known: dict[str, Any] = {name: stored[name] for name in Site.__dataclass_fields__}
    return Site(**{**known, "kinks": tuple(known["kinks"])})


def _memory_format(parameters: Sequence[nn.Parameter]) -> str:
    """Of the convolutions: "channels_last" when all weights that can tell are laid out so."""
    # A 1 x 1 kernel is both at once, so it says nothing.
    telling = [p for p in parameters if p.ndim == 4 and not p.is_contiguous()]
    both = [
        p for p in parameters if p.ndim == 4 and p.is_contiguous() and max(p.shape[2:]) > 1 and p.shape[1] > 1
    ]
    if not telling:
        return "contiguous"
    last = all(p.is_contiguous(memory_format=torch.channels_last) for p in telling)
    return "channels_last" if last and not both else "mixed"
