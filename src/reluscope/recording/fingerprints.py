"""What tells one training from another: the shape of the model, the values of its parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reluscope.errors import ProbeError, TrajectoryMismatchError, UnsupportedModelError
from reluscope.observe import Probe
from reluscope.observe.subject import unwrap

__all__ = ["check_continues", "check_same_probe", "describe_model", "parameter_hash"]

# What must be equal for a run to be continued: the parts of run.json, and how to speak of them.
_DEMANDED = {"model": "the model", "probe": "the probe", "mode": "the mode", "instruments": "the instruments"}
_NAMED_DIFFERENCES = 6


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Class, number of parameters and, by name, dtype and shape of each: equal for equal architectures.

    Wrappers (DDP, DataParallel, torch.compile) are taken off, so that a run goes on with or without them.

    Raises:
        UnsupportedModelError: not a module, or one with parameters that have no shape yet.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(
            f"the model is a {type(model).__name__}; rs.Recorder observes a torch.nn.Module."
        )
    inner = unwrap(model)
    parameters = {}
    for name, parameter in _named_parameters(inner):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UnsupportedModelError(
                f'the parameter "{name}" of a lazy module has no shape yet; run the model once before it is '
                "recorded."
            )
        parameters[name] = f"{str(parameter.dtype).removeprefix('torch.')}{list(parameter.shape)}"
    return {
        "class": type(inner).__qualname__,
        "num_parameters": sum(parameter.numel() for _, parameter in _named_parameters(inner)),
        "parameters": parameters,
    }


def parameter_hash(model: nn.Module) -> str:
    """32 hex digits (blake2b) over the bytes of all parameters, in the order of their names in the model.

    Equal for equal values in any memory layout and on any device, with or without wrappers. Buffers, the
    running statistics of batch norms among them, are not part of it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in _named_parameters(unwrap(model)):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}|".encode())
        flat = parameter.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_continues(stored: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    """Compare what a run was made with and what is to go on with it.

    Raises:
        TrajectoryMismatchError: model, probe, mode or instruments differ; names each difference with both
            values.
    """
    differences = [
        difference
        for part, words in _DEMANDED.items()
        for difference in _differences(words, stored.get(part), given[part])
    ]
    if differences:
        raise TrajectoryMismatchError(
            f'the run at "{path}" cannot be continued with this, because a run holds one training seen in '
            f"one way: {_listed(differences)}. Use what it was made with, or record to another folder "
            '(if_exists="new").'
        )


def check_same_probe(stored: Mapping[str, Any], probe: Probe, path: Path) -> None:
    """Compare a run's probe with one that is to be looked at in the same way.

    Raises:
        ProbeError: they differ; names each difference with both values.
    """
    differences = _differences("the probe", stored.get("probe"), probe.as_dict())
    if differences:
        raise ProbeError(
            f'the run at "{path}" was measured on another probe, so that nothing could be compared with it: '
            f"{_listed(differences)}. Make the probe of the same inputs, labels and batch size, in the same order."
        )


def _differences(words: str, stored: Any, given: Any) -> list[str]:
    """Each value that is not the same, in words; `words` says what the values are of."""
    before, now = _flat(stored), _flat(json.loads(json.dumps(given)))
    return [
        f"{words}: {name or 'all of it'} was {_shown(before, name)} and is {_shown(now, name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name, _MISSING) != now.get(name, _MISSING)
    ]


def _listed(differences: list[str]) -> str:
    more = len(differences) - _NAMED_DIFFERENCES
    return "; ".join(differences[:_NAMED_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


_MISSING = object()


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one dict with dotted names, so that a difference has a name."""
    if isinstance(value, Mapping) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        parts = enumerate(value)
    else:
        return {prefix: value}
    flat = {}
    for name, one in parts:
        flat.update(_flat(one, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else "not there"


def _named_parameters(inner: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in inner.named_parameters():
        yield name.replace("_orig_mod.", ""), parameter
