"""Which implementation of the kernels runs: Triton where a batch lies on a GPU, else Numba.

RELUSCOPE_KERNELS forces one: "numba" and "reference" (NumPy) bring every batch to the host, "triton" every batch to the
GPU, or, with TRITON_INTERPRET=1, to Triton's interpreter on the CPU. Triton is imported when a batch needs it, not before.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from reluscope.errors import KernelError, ReluscopeWarning
from reluscope.kernels import compare, cpu, reference
from reluscope.kernels.accumulate import RowAccumulator
from reluscope.kernels.accumulate_words import WordAccumulator
from reluscope.kernels.compare import Sorted
from reluscope.kernels.dense import DenseAccumulator, is_dense
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.reference_accumulate import ReferenceAccumulator
from reluscope.kernels.values import Preactivations, Values, as_values

if TYPE_CHECKING:
    from reluscope.kernels.gpu import DeviceDense, DeviceRows
    from reluscope.kernels.gpu_values import DeviceValues

__all__ = [
    "Accumulator",
    "accumulator",
    "compare_sorted",
    "count_words",
    "device_accumulator",
    "home_of",
    "implementation",
    "join_tables",
    "merge_tables",
    "pack",
    "values_at",
]

NAMES = ("numba", "reference", "triton")


class Accumulator(Protocol):
    """The state of a count that grows batch by batch."""

    @property
    def nbytes(self) -> int: ...

    def add(self, values: Values, groups: np.ndarray | None) -> int: ...

    def add_words(self, words: np.ndarray) -> None: ...

    def finish(self, *, pairs: bool, last: bool = False) -> Finished: ...


def implementation() -> str:
    """The name of the implementation in force for the host's arrays: "numba" unless RELUSCOPE_KERNELS names another.

    Raises:
        KernelError: RELUSCOPE_KERNELS names none. There is no silent fallback.
    """
    name = os.environ.get("RELUSCOPE_KERNELS") or "numba"
    if name not in NAMES:
        raise KernelError(
            f'RELUSCOPE_KERNELS="{name}" names no kernels; allowed are {", ".join(NAMES)}: set one of them '
            "or unset it"
        )
    return name


def home_of(batch: Preactivations) -> torch.device | None:
    """The device whose kernels count a batch; None for those of the host.

    A tensor on a GPU is counted there. Without Triton it is counted on the host, and one warning says what to install.

    Raises:
        KernelError: RELUSCOPE_KERNELS="triton" where there is neither a GPU nor the interpreter, or no Triton.
    """
    gpu_device = torch.device(batch.device) if isinstance(batch, torch.Tensor) and batch.is_cuda else None
    if implementation() != "triton":
        if gpu_device is None or os.environ.get("RELUSCOPE_KERNELS"):
            return None
        if importlib.util.find_spec("triton") is None:
            _warn_without_triton()
            return None
        return gpu_device
    if importlib.util.find_spec("triton") is None:
        raise KernelError(
            'RELUSCOPE_KERNELS="triton" asks for the kernels of a GPU, but Triton is not installed: '
            "pip install reluscope[gpu]"
        )
    from reluscope.kernels import gpu

    if gpu_device is not None:
        return gpu_device
    if gpu.is_interpreted():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    raise KernelError(
        'RELUSCOPE_KERNELS="triton" asks for the kernels of a GPU, but torch sees none; unset it, or set '
        "TRITON_INTERPRET=1 before the process starts to run them in Triton's interpreter"
    )


def values_at(
    home: torch.device | None, batch: Preactivations, channel_dim: int, kinks: Sequence[float]
) -> Values | DeviceValues:
    """View a batch where it is counted; from elsewhere it is copied there. Errors are those of `as_values`."""
    if home is None:
        return as_values(
            batch.cpu() if isinstance(batch, torch.Tensor) and batch.is_cuda else batch, channel_dim, kinks
        )
    from reluscope.kernels.gpu_values import as_device_values

    if not isinstance(batch, torch.Tensor):
        as_values(batch, channel_dim, kinks)  # refuses what is no array of floats
        batch = torch.from_numpy(np.array(batch))
    return as_device_values(batch.to(home), channel_dim, kinks)


@functools.cache
def _warn_without_triton() -> None:
    warnings.warn(
        "pre-activations on a GPU are copied to the host to be counted, which is slower than the forward pass: Triton "
        'is not installed. pip install reluscope[gpu], or set RELUSCOPE_KERNELS="numba" if that is meant',
        ReluscopeWarning,
        stacklevel=2,
    )


def accumulator(plan: KeyPlan, *, is_alone: bool = False) -> Accumulator:
    """An empty count for the plan; `is_alone`: everything will come in one call."""
    if implementation() == "reference":
        return ReferenceAccumulator(plan)
    if is_dense(plan):
        return DenseAccumulator(plan)
    kind = WordAccumulator if plan.num_columns == 1 else RowAccumulator
    return kind(plan, is_alone=is_alone)


def device_accumulator(plan: KeyPlan, home: torch.device) -> DeviceDense | DeviceRows:
    """An empty count for the plan on a device."""
    from reluscope.kernels import gpu

    return gpu.accumulator(plan, home)


def count_words(plan: KeyPlan, words: np.ndarray, home: torch.device | None) -> Finished:
    """The finished table of complete rows uint64 (E, W), counted on the host (None) or on a device."""
    counts = accumulator(plan, is_alone=True) if home is None else device_accumulator(plan, home)
    if isinstance(counts, WordAccumulator | RowAccumulator):
        return counts.finish_words(words)
    counts.add_words(words)
    return counts.finish(pairs=False, last=True)


def pack(values: Values | DeviceValues) -> tuple[np.ndarray, int]:
    """Patterns uint64 (E, W), on the host, and the number of NaN."""
    if not isinstance(values, Values):
        from reluscope.kernels import gpu

        return gpu.pack(values)
    return (reference if implementation() == "reference" else cpu).pack(values)


def merge_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted tables, counts added."""
    name, tables = implementation(), (keys, counts, other_keys, other_counts)
    if name == "triton" and (home := home_of(keys)) is not None:
        from reluscope.kernels import gpu_join

        return gpu_join.merge_tables(*tables, home)
    return (reference if name == "reference" else cpu).merge_tables(*tables)


def compare_sorted(state: Sorted, other: Sorted) -> tuple[int, int]:
    """Patterns that two states have in common, and the sum of the lesser of their counts.

    Args:
        state, other: keys uint64 (P, C) with counts int64 (P,), or, for Numba's kernels, sorted raw keys (R,) and None.
    """
    if implementation() == "numba":
        return compare.compare_sorted(state, other)
    (keys, counts), (other_keys, other_counts) = state, other
    assert counts is not None
    assert other_counts is not None
    counts, other_counts = join_tables(keys, counts, other_keys, other_counts)
    lesser = np.minimum(counts, other_counts)
    return int(np.count_nonzero(lesser)), int(lesser.sum())


def join_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both tables over the union of their keys, in order; 0 where a table lacks the key."""
    name, tables = implementation(), (keys, counts, other_keys, other_counts)
    if name == "triton" and (home := home_of(keys)) is not None:
        from reluscope.kernels import gpu_join

        return gpu_join.join_tables(*tables, home)
    return (reference if name == "reference" else cpu).join_tables(*tables)
