"""Which implementation of the kernels runs: Numba, or the NumPy reference when RELUSCOPE_KERNELS says so."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np

from reluscope.errors import KernelError
from reluscope.kernels import cpu, reference
from reluscope.kernels.accumulate import RowAccumulator
from reluscope.kernels.accumulate_words import WordAccumulator
from reluscope.kernels.dense import DenseAccumulator, is_dense
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.reference_accumulate import ReferenceAccumulator
from reluscope.kernels.values import Values

__all__ = ["Accumulator", "accumulator", "implementation", "join_tables", "merge_tables", "pack"]

NAMES = ("numba", "reference")


class Accumulator(Protocol):
    """The state of a count that grows batch by batch."""

    @property
    def nbytes(self) -> int: ...

    def add(self, values: Values, groups: np.ndarray | None) -> int: ...

    def add_words(self, words: np.ndarray) -> None: ...

    def finish(self, *, pairs: bool, last: bool = False) -> Finished: ...


def implementation() -> str:
    """The name of the implementation in force: "numba" unless RELUSCOPE_KERNELS names another.

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


def accumulator(plan: KeyPlan) -> Accumulator:
    """An empty count for the plan."""
    if implementation() == "reference":
        return ReferenceAccumulator(plan)
    if is_dense(plan):
        return DenseAccumulator(plan)
    return WordAccumulator(plan) if plan.num_columns == 1 else RowAccumulator(plan)


def pack(values: Values) -> tuple[np.ndarray, int]:
    """Patterns uint64 (E, W) and the number of NaN."""
    return (reference if implementation() == "reference" else cpu).pack(values)


def merge_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted tables, counts added."""
    module = reference if implementation() == "reference" else cpu
    return module.merge_tables(keys, counts, other_keys, other_counts)


def join_tables(
    keys: np.ndarray, counts: np.ndarray, other_keys: np.ndarray, other_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both tables over the union of their keys, in order; 0 where a table lacks the key."""
    module = reference if implementation() == "reference" else cpu
    return module.join_tables(keys, counts, other_keys, other_counts)
