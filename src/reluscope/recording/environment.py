"""What run.json holds about a recording: what was observed, how, with which versions and on what machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reluscope.errors import InstrumentError, RunSchemaError, ScheduleError
from reluscope.instruments import Instrument, Patterns, Snapshot
from reluscope.observe import ObservationMode, Probe, Site
from reluscope.recording.fingerprints import describe_model
from reluscope.recording.schedule import Schedule, schedule_from
from reluscope.runs.schema import layers_columns

__all__ = ["describe_environment", "describe_recording", "describe_sites", "instruments_from", "sites_from"]


def describe_recording(
    model: nn.Module,
    probe: Probe,
    mode: ObservationMode,
    instruments: Sequence[Instrument],
    schedule: Schedule,
) -> dict[str, Any]:
    """Everything of run.json that is known before the first measurement."""
    may_estimate = any(getattr(one, "may_estimate", False) for one in instruments)
    return {
        "columns": layers_columns(with_errors=may_estimate),
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


def instruments_from(info: Mapping[str, Any], path: Path) -> list[Instrument]:
    """The instruments that a run was made with.

    Raises:
        RunSchemaError: one that this version does not know, or cannot set like that; `path` names the run.
    """
    return [_instrument(one, path) for one in info.get("instruments", [])]


def _instrument(stored: Mapping[str, Any], path: Path) -> Instrument:
    values = {name: value for name, value in stored.items() if name != "name"}
    if values.get("sample_schedule") is not None:
        values["sample_schedule"] = schedule_from(values["sample_schedule"])
    try:
        if stored.get("name") != Patterns().name:
            raise TypeError(f"there is no instrument {stored.get('name')!r}")
        return Patterns(**{"sample_size": 0, **values})  # a run without samples says nothing of them
    except (TypeError, InstrumentError, ScheduleError) as error:
        raise RunSchemaError(
            f'an instrument of the run at "{path}" cannot be made again: {error}. It was written by another '
            "version; say the instruments yourself: instruments=[rs.Patterns(...)]."
        ) from error


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
