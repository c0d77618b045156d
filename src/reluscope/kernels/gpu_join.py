"""Tables that lie on a device compared there: two numbers come back instead of two tables.

Axes: C columns of a row, P rows of a table, (C, P), ordered as signed integers, the last column most significant. The
library's finished tables lie on the host (`PatternCounts`); what brings them here is RELUSCOPE_KERNELS=triton.
"""
# Triton is there on Linux only, and what its annotations say is true inside a kernel, not where one is called.
# pyright: reportMissingImports=false, reportIndexIssue=false
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from reluscope.kernels.gpu_streams import on_device
from reluscope.kernels.gpu_tables import run_lengths, sort_rows

__all__ = ["Comparison", "DeviceTable", "compare", "compare_kernel", "join_tables", "merge_tables"]

_FLIP = -(1 << 63)
BLOCK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceTable:
    """A table on a device: `rows` int64 (C, P) in order, distinct, the highest bit of each word flipped; `counts` int64 (P,)."""

    rows: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, device: torch.device) -> DeviceTable:
        """Bring a table of the host, keys uint64 (P, C), to a device."""
        rows = torch.from_numpy(np.array(keys.T, order="C").view(np.int64)).to(device) ^ _FLIP
        return cls(rows=rows, counts=torch.from_numpy(counts.copy()).to(device))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changes and similarities of two tables follow from: rows and evaluations of each and of both."""

    num_rows: int
    other_num_rows: int
    num_common: int
    num_evaluations: int
    other_num_evaluations: int
    overlap: int

    @property
    def appeared(self) -> int:
        """Patterns of the second table that the first lacks."""
        return self.other_num_rows - self.num_common

    @property
    def vanished(self) -> int:
        """Patterns of the first table that the second lacks."""
        return self.num_rows - self.num_common

    @property
    def weighted_jaccard(self) -> float:
        """Sum of the smaller counts over sum of the larger, 0 to 1; NaN of two empty tables."""
        larger = self.num_evaluations + self.other_num_evaluations - self.overlap
        return self.overlap / larger if larger else float("nan")


@triton.jit(do_not_specialize=["num_rows", "other_num_rows", "num_steps"])
def compare_kernel(
    rows, counts, other_rows, other_counts, totals, num_rows, other_num_rows, num_steps,
    NUM_COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Look up each row in the other table by bisection; add to totals int64 (2,) the rows in both, and the smaller counts.

    `num_steps` halvings narrow the other table to nothing. Columns lie num_rows, or other_num_rows, apart.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = place < num_rows
    low = tl.load(rows + place, mask=valid, other=0)
    high = low
    if NUM_COLUMNS == 2:
        high = tl.load(rows + num_rows + place, mask=valid, other=0)
    first = place * 0  # the row is not before this one
    end = first + other_num_rows  # and before this one, if it is there
    for _ in range(num_steps):
        middle = (first + end) // 2
        is_open = valid & (first < end)
        other_low = tl.load(other_rows + middle, mask=is_open, other=0)
        is_before = other_low < low
        if NUM_COLUMNS == 2:
            other_high = tl.load(other_rows + other_num_rows + middle, mask=is_open, other=0)
            is_before = (other_high < high) | ((other_high == high) & is_before)
        first = tl.where(is_open & is_before, middle + 1, first)
        end = tl.where(is_open & (is_before == 0), middle, end)
    inside = valid & (first < other_num_rows)
    is_common = inside & (tl.load(other_rows + first, mask=inside, other=0) == low)
    if NUM_COLUMNS == 2:
        found = tl.load(other_rows + other_num_rows + first, mask=inside, other=0)
        is_common = is_common & (found == high)
    count = tl.load(counts + place, mask=is_common, other=0)
    smaller = tl.minimum(count, tl.load(other_counts + first, mask=is_common, other=0))
    tl.atomic_add(totals, tl.sum(is_common.to(tl.int64), axis=0), sem="relaxed")
    tl.atomic_add(totals + 1, tl.sum(smaller, axis=0), sem="relaxed")


def compare(table: DeviceTable, other: DeviceTable) -> Comparison:
    """Compare two tables of one device and one number of columns, 1 or 2. Waits for the device."""
    num_rows, other_num_rows = table.rows.shape[1], other.rows.shape[1]
    totals = torch.zeros(2, dtype=torch.int64, device=table.rows.device)
    if num_rows and other_num_rows:
        with on_device(table.rows.device):
            compare_kernel[(triton.cdiv(num_rows, BLOCK),)](
                table.rows.contiguous(),
                table.counts,
                other.rows.contiguous(),
                other.counts,
                totals,
                num_rows,
                other_num_rows,
                other_num_rows.bit_length(),
                NUM_COLUMNS=len(table.rows),
                BLOCK=BLOCK,
            )
    sums = torch.stack([table.counts.sum(), other.counts.sum()])
    num_common, overlap, num_evaluations, other_num_evaluations = torch.cat([totals, sums]).tolist()
    return Comparison(
        num_rows=num_rows,
        other_num_rows=other_num_rows,
        num_common=num_common,
        num_evaluations=num_evaluations,
        other_num_evaluations=other_num_evaluations,
        overlap=overlap,
    )


def merge_tables(
    keys: np.ndarray,
    counts: np.ndarray,
    other_keys: np.ndarray,
    other_counts: np.ndarray,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted tables of the host, counts added, made on a device."""
    rows, _, united = _united(keys, counts, other_keys, other_counts, device)
    return np.ascontiguousarray((rows ^ _FLIP).cpu().numpy().view(np.uint64).T), united.cpu().numpy()


def join_tables(
    keys: np.ndarray,
    counts: np.ndarray,
    other_keys: np.ndarray,
    other_counts: np.ndarray,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of two tables of the host over the union of their keys, in order; 0 where a table lacks the key."""
    _, aligned, united = _united(keys, counts, other_keys, other_counts, device)
    return aligned.cpu().numpy(), (united - aligned).cpu().numpy()


def _united(
    keys: np.ndarray,
    counts: np.ndarray,
    other_keys: np.ndarray,
    other_counts: np.ndarray,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (C, U) of the union, the first table's counts over it, and those of both together."""
    table, other = DeviceTable.of(keys, counts, device), DeviceTable.of(other_keys, other_counts, device)
    rows = torch.cat([table.rows, other.rows], dim=1)
    if rows.shape[1] == 0:
        return rows, table.counts, other.counts
    ordered, order = sort_rows(rows)
    mine = torch.cat([table.counts, torch.zeros_like(other.counts)])[order]
    distinct, united, size, _ = run_lengths(ordered, torch.cat([table.counts, other.counts])[order])
    _, aligned, _, _ = run_lengths(ordered, mine)
    num_rows = int(size)
    return distinct[:, :num_rows], aligned[:num_rows], united[:num_rows]
