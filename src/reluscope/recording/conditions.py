"""The conditions a run was measured under: what changes bits by rounding, put back for measuring again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reluscope.recording.environment import describe_environment

__all__ = ["conditions_of", "differing_conditions"]

_LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@contextmanager
def conditions_of(environment: Mapping[str, Any], model: nn.Module) -> Iterator[None]:
    """Move the model to the device and memory format of a run, and run the block with its threads and precision.

    Threads and matmul precision are put back afterwards; the model stays as it is then.

    Args:
        environment: what run.json holds under "environment"; what it does not say is left as it is.
        model: the model that is to be measured.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(int(environment.get("threads", threads)))
        torch.set_float32_matmul_precision(environment.get("matmul_precision", precision))
        layout = _LAYOUTS.get(environment.get("memory_format", ""))
        if layout is not None:
            model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        devices = environment.get("device") or []
        if len(devices) == 1 and _is_here(devices[0]):
            model.to(torch.device(devices[0]))
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def differing_conditions(environment: Mapping[str, Any], model: nn.Module) -> list[str]:
    """What is not as it was in a run, each in words: "torch was 2.6.0 and is 2.13.0"."""
    now = describe_environment(model)
    return [
        f"{name} was {_words(environment[name])} and is {_words(value)}"
        for name, value in now.items()
        # Another reluscope counts the same: that is what its tests are for.
        if name != "reluscope" and name in environment and environment[name] != value
    ]


def _is_here(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # AssertionError: torch without CUDA
        return False
    return True


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
