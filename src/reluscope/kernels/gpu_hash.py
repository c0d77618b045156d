"""Counting one-word rows on a device in a table of open addressing that only atomic operations write to.

A slot is one 64-bit key and one 64-bit count. A slot's key changes once, from EMPTY to a row, by compare-and-swap, and
never again while the table lives: what a thread reads there is EMPTY or the truth, even if its cache is old, since an
old EMPTY sends it to the compare-and-swap, which answers with the truth. No thread ever waits for another, so none
can wait for ever; a program goes on until each of its rows has found its slot, which it does, because half of the
slots are always free. Counts are sums of integers: the order of the additions changes nothing. The row that looks like
EMPTY is counted beside the table.

Limits: 2^31 slots, fewer than 2^63 evaluations.
"""
# Triton is there on Linux only, and what its annotations say is true inside a kernel, not where one is called.
# pyright: reportMissingImports=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportAssignmentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from reluscope.kernels.gpu_pack import gather_equal
from reluscope.kernels.gpu_streams import OccupancyBound

__all__ = ["HashTable", "insert_kernel"]

EMPTY = -(1 << 63)  # no row of fewer than 64 bits is negative; of 64-bit rows it is one in 2^64
BLOCK = 256
# Keys whose weight a program gathers before it goes to the table: a key of share 0.3 is among four at 76 %.
ROUNDS = 4
MIN_SLOTS = 1 << 12
MAX_ROWS = 1 << 30  # per launch: a row's number has 32 bits
# Slots from which on the host would rather wait for the counter than double on a mere bound: 1 GB.
PATIENT_SLOTS = 1 << 26


@triton.jit(do_not_specialize=["num_rows", "slot_mask"])
def insert_kernel(
    rows, weights, keys, counts, spare, occupied, num_rows, slot_mask,
    HAS_WEIGHTS: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add rows to the table; `keys` has BLOCK words behind its last slot that lanes without a row write nothing to.

    `weights`: int64, rows of weight 0 are passed over; without them each row weighs 1. `spare`: count of the row EMPTY.
    `occupied`: grows by the slots that were taken.
    """
    EMPTY_KEY: tl.constexpr = -(1 << 63)
    lane = tl.arange(0, BLOCK)
    place = tl.program_id(0) * BLOCK + lane
    valid = place < num_rows
    row = tl.load(rows + place, mask=valid, other=0).to(tl.int64)
    if HAS_WEIGHTS:
        weight = tl.load(weights + place, mask=valid, other=0)
    else:
        weight = valid.to(tl.int64)
    is_spare = valid & (row == EMPTY_KEY)
    num_spare = tl.sum(tl.where(is_spare, weight, 0), axis=0)
    tl.atomic_add(spare, num_spare, mask=num_spare > 0, sem="relaxed")
    weight = tl.where(is_spare, 0, weight)
    row, weight = gather_equal(row, weight, valid, ROUNDS, BLOCK)
    active = weight > 0

    # Finalizer of SplitMix64 (Steele, Lea, Flood 2014): neighbouring patterns go to unrelated slots.
    mixed = row.to(tl.uint64, bitcast=True)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB
    mixed = mixed ^ (mixed >> 31)
    slot = (mixed & slot_mask.to(tl.uint64)).to(tl.int64)
    slot = tl.where(active, slot, slot_mask.to(tl.int64) + 1 + lane)  # a word of its own for who has no row
    taken = lane * 0
    while tl.max(active.to(tl.int32), axis=0) > 0:
        found = tl.load(keys + slot, mask=active, other=0)
        if tl.max((active & (found == EMPTY_KEY)).to(tl.int32), axis=0) > 0:
            # A compare-and-swap has no mask: who found a key, or has its slot already, changes nothing by it, because
            # keys stay; and words behind the slots hold 0.
            found = tl.atomic_cas(keys + slot, tl.full((BLOCK,), EMPTY_KEY, tl.int64), row, sem="relaxed")
        is_new = active & (found == EMPTY_KEY)
        arrived = is_new | (active & (found == row))
        tl.atomic_add(counts + slot, weight, mask=arrived, sem="relaxed")
        taken += is_new.to(tl.int32)
        active = active & (found != row) & (found != EMPTY_KEY)
        slot = tl.where(active, (slot + 1) & slot_mask, slot)
    num_taken = tl.sum(taken.to(tl.int64), axis=0)
    tl.atomic_add(occupied, num_taken, mask=num_taken > 0, sem="relaxed")


class HashTable:
    """The table of one site on one device. All its work runs in the stream that is current when it is called."""

    def __init__(self, device: torch.device, *, min_slots: int | None = None) -> None:
        self._device = device
        self._spare = torch.zeros(1, dtype=torch.int64, device=device)
        self._occupied = torch.zeros(1, dtype=torch.int64, device=device)
        self._bound = OccupancyBound(self._occupied)
        self._allocate(min_slots or MIN_SLOTS)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._counts.nbytes

    @property
    def num_slots(self) -> int:
        return self._num_slots

    def add(self, rows: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Count rows int32 or int64 (E,), each once or, given `weights` int64 (E,), so many times."""
        if len(rows) == 0:
            return
        self._reserve(len(rows))
        self._insert(rows, weights)
        self._bound.add(len(rows))
        self._bound.ask()

    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows counted, int64 (P,) in order as signed integers, and their counts int64 (P,). Waits for the device."""
        filled = torch.nonzero(self._counts[: self._num_slots]).squeeze(1)
        keys, counts = self._keys[filled], self._counts[filled]
        if int(self._spare):
            keys = torch.cat([keys, keys.new_full((1,), EMPTY)])
            counts = torch.cat([counts, self._spare])
        keys, order = torch.sort(keys)
        return keys, counts[order]

    def _reserve(self, num_rows: int) -> None:
        """Room for so many rows, should all be new, at half the slots; the host waits only for the largest tables."""
        if 2 * (self._bound.bound() + num_rows) <= self._num_slots:
            return
        if 2 * (self._bound.bound() + num_rows) > PATIENT_SLOTS:
            self._bound.bound(wait=True)
        needed = 2 * (self._bound.bound() + num_rows)
        if needed <= self._num_slots:
            return
        keys, counts, num_slots = self._keys, self._counts, self._num_slots
        self._allocate(1 << (needed - 1).bit_length())
        self._occupied.zero_()  # every row takes its slot anew; the bound on how many there are holds all the same
        self._insert(keys[:num_slots], counts[:num_slots])

    def _allocate(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._keys = torch.full((num_slots + BLOCK,), EMPTY, dtype=torch.int64, device=self._device)
        self._keys[num_slots:] = 0
        self._counts = torch.zeros(num_slots + BLOCK, dtype=torch.int64, device=self._device)

    def _insert(self, rows: torch.Tensor, weights: torch.Tensor | None) -> None:
        for start in range(0, len(rows), MAX_ROWS):
            piece = rows[start : start + MAX_ROWS]
            insert_kernel[(triton.cdiv(len(piece), BLOCK),)](
                piece,
                None if weights is None else weights[start : start + MAX_ROWS],
                self._keys,
                self._counts,
                self._spare,
                self._occupied,
                len(piece),
                self._num_slots - 1,
                HAS_WEIGHTS=weights is not None,
                ROUNDS=0 if weights is not None else ROUNDS,
                BLOCK=BLOCK,
            )
