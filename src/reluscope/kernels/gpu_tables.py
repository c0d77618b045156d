"""Tables on a device, by sorting: rows into runs, runs into counts, counts by pattern.

Axes: C columns of a row, n rows, P distinct ones. Rows are (C, n), one column after the other, each ordered as signed
integers; the last column is the most significant. Sizes that only the device knows are never asked for while counting:
arrays are as long as they could have to be, and their rest repeats the last row with count 0, which changes no sum.
"""

from __future__ import annotations

import numpy as np
import torch

from reluscope.kernels.gpu_streams import OccupancyBound
from reluscope.kernels.plan import Finished, KeyPlan

__all__ = ["SortedTable", "finish_dense", "finish_rows", "run_lengths", "sort_rows"]

_FLIP = -(1 << 63)


def sort_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (C, n) in order, and where each was, int64 (n,): stable sorts from the least significant column on."""
    column, order = torch.sort(rows[0], stable=True)
    if len(rows) == 1:
        return column[None], order
    for column in rows[1:]:
        order = order[torch.sort(column[order], stable=True).indices]
    return rows[:, order], order


def run_lengths(
    rows: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distinct rows of rows (C, n) in order, without asking the device for a size; n >= 1.

    Returns:
        The distinct rows (C, n), their counts int64 (n,), or the sums of their `weights` int64 (n,), the number of them
        int64 (1,), beyond which the last row is repeated with count 0; and the run of each row, int64 (n,).
    """
    size = rows.shape[1]
    differs = (rows[:, 1:] != rows[:, :-1]).any(dim=0)
    is_last = torch.nn.functional.pad(differs, (0, 1), value=True)
    run = torch.nn.functional.pad(torch.cumsum(differs, dim=0), (1, 0))
    if weights is None:
        sums = torch.arange(1, size + 1, device=rows.device)
    else:
        sums = torch.cumsum(weights, dim=0)
    target = torch.where(is_last, run, size)  # what ends no run is written behind the end, and dropped
    ends = sums[-1:].expand(size + 1).clone().scatter_(0, target, sums)[:size]
    distinct = torch.stack(
        [column[-1:].expand(size + 1).clone().scatter_(0, target, column) for column in rows]
    )
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    return distinct[:, :size], counts, run[-1:] + 1, run


class SortedTable:
    """The table of one site on one device, united with what comes by sorting both together.

    All its work runs in the stream that is current when it is called.
    """

    def __init__(self, device: torch.device, num_columns: int, dtype: torch.dtype) -> None:
        self._rows = torch.empty((num_columns, 0), dtype=dtype, device=device)
        self._counts = torch.empty(0, dtype=torch.int64, device=device)
        self._size = torch.zeros(1, dtype=torch.int64, device=device)
        self._bound = OccupancyBound(self._size)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._counts.nbytes

    @property
    def most_rows(self) -> int:
        """At most so many rows are in the table."""
        return min(self._bound.bound(), self._rows.shape[1])

    def add(self, rows: torch.Tensor) -> None:
        """Count rows (C, n)."""
        if rows.shape[1] == 0:
            return
        known = self.most_rows
        together = torch.cat([self._rows[:, :known], rows], dim=1)
        ordered, order = sort_rows(together)
        weights = None
        if known:
            ones = self._counts.new_ones(rows.shape[1])
            weights = torch.cat([self._counts[:known], ones])[order]
        self._rows, self._counts, size, _ = run_lengths(ordered, weights)
        self._size.copy_(size)
        self._bound.add(rows.shape[1])
        self._bound.ask()

    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows counted, (C, P), and their counts int64 (P,). Waits for the device."""
        size = int(self._size)
        return self._rows[:, :size], self._counts[:size]


def finish_rows(plan: KeyPlan, rows: torch.Tensor, counts: torch.Tensor, *, pairs: bool) -> Finished:
    """The finished tables, on the host, of the distinct rows (C, P) of a plan in order and their counts."""
    columns = _unflipped(plan, rows)
    if plan.num_groups == 0:
        return Finished(keys=_to_host(columns), counts=counts.cpu().numpy())
    if plan.group_column:
        group, patterns = columns[0], columns[1:]
    else:
        bits = plan.group_bits
        group = columns[0] & ((1 << bits) - 1)
        patterns = torch.stack([_shifted(columns, word, bits) for word in range(plan.key_words)])
    return _finish_joint(patterns, group, counts, pairs=pairs)


def finish_dense(plan: KeyPlan, counters: torch.Tensor, *, pairs: bool) -> Finished:
    """The finished tables, on the host, of counters int64 (2^width * groups,): pattern * groups + group."""
    filled = torch.nonzero(counters).squeeze(1)
    counts, groups = counters[filled], max(1, plan.num_groups)
    patterns = (filled // groups)[None]
    if plan.num_groups == 0:
        return Finished(keys=_to_host(patterns), counts=counts.cpu().numpy())
    return _finish_joint(patterns, filled % groups, counts, pairs=pairs)


def _finish_joint(
    patterns: torch.Tensor, group: torch.Tensor, counts: torch.Tensor, *, pairs: bool
) -> Finished:
    """From the pattern (C, J) and the group (J,) of each pair, ordered by both."""
    joint_counts = counts.cpu().numpy()
    if len(counts) == 0:
        keys, totals, run = patterns, counts, group
    else:
        keys, totals, size, run = run_lengths(patterns, counts)
        keys, totals = keys[:, : int(size)], totals[: int(size)]
    found = Finished(keys=_to_host(keys), counts=totals.cpu().numpy(), joint_counts=joint_counts)
    if not pairs:
        return found
    return Finished(
        keys=found.keys,
        counts=found.counts,
        joint_pattern=run.cpu().numpy(),
        joint_group=group.cpu().numpy(),
        joint_counts=joint_counts,
    )


def _unflipped(plan: KeyPlan, rows: torch.Tensor) -> torch.Tensor:
    """Columns as unsigned integers, the highest bit as it was before it was flipped to sort; int64 (C, P)."""
    columns = rows.to(torch.int64)
    if plan.num_columns == 1:
        if plan.row_bits == 32:
            return columns + (1 << 31)
        return columns ^ _FLIP if plan.row_bits == 64 else columns
    columns = columns ^ _FLIP
    if plan.group_column:
        columns[0] = rows[0]  # groups are small, and never flipped
    return columns


def _shifted(columns: torch.Tensor, word: int, bits: int) -> torch.Tensor:
    """Word `word` of a number of several words that lost its lowest bits."""
    if bits == 0:
        return columns[word]
    low = (columns[word] >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts the sign in
    return low if word + 1 == len(columns) else low | (columns[word + 1] << (64 - bits))


def _to_host(columns: torch.Tensor) -> np.ndarray:
    """Columns int64 (C, P) as keys uint64 (P, C) of the host."""
    return columns.t().contiguous().cpu().numpy().view(np.uint64)
