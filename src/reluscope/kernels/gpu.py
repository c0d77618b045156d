"""The Triton kernels driven: batches on a device in, finished tables on the host out.

A batch is read where it lies, in the stream that made it, and becomes rows that wait on the device (or counters, where
patterns are narrow). Once enough wait they are counted in a stream beside the forward pass. The host asks the device
for nothing until the tables are finished.
"""
# Triton is there on Linux only, and what its annotations say is true inside a kernel, not where one is called.
# pyright: reportMissingImports=false, reportIndexIssue=false
# pyright: reportArgumentType=false

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from reluscope.errors import KernelError
from reluscope.kernels import gpu_pack
from reluscope.kernels.dense import is_dense
from reluscope.kernels.fingerprint import hash_keys
from reluscope.kernels.gpu_hash import HashTable
from reluscope.kernels.gpu_streams import on_device, side_stream
from reluscope.kernels.gpu_tables import SortedTable, finish_dense, finish_rows
from reluscope.kernels.gpu_values import DeviceValues, Geometry
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import FORMATS, Form

__all__ = ["DeviceDense", "DeviceRows", "accumulator", "counting", "is_interpreted", "pack"]

# Rows that wait before they are counted: 8 MB of 8-byte rows, and a launch of which the cost is forgotten.
WAITING = 1 << 20
# Counters that a program of the dense kernel adds up by itself before it goes to memory.
MAX_BINS = 256
ROUNDS = 4
# Types of the values as unsigned integers, and as what they are compared.
TYPES = {2: (tl.uint16, tl.uint32), 4: (tl.uint32, tl.uint32), 8: (tl.uint64, tl.uint64)}
# Evaluations per program: values read at once are BLOCK * 32 where units lie side by side.
BLOCK = {"rows": 64, "planes": 256, "dense": 256}


def is_interpreted() -> bool:
    """Whether TRITON_INTERPRET was set when the kernels were loaded: then they run on the CPU, slowly."""
    return not isinstance(gpu_pack.pack_rows_kernel, triton.runtime.JITFunction)


def counting(plan: KeyPlan) -> str:
    """How rows are counted: "hash" or "sort".

    RELUSCOPE_GPU_COUNTING forces one, to measure it; "hash" is there for rows of one column only. Unset, one-column
    rows are hashed, since that touches each row once; several are sorted.

    Raises:
        KernelError: RELUSCOPE_GPU_COUNTING names no way to count.
    """
    name = os.environ.get("RELUSCOPE_GPU_COUNTING") or "hash"
    if name not in ("hash", "sort"):
        raise KernelError(
            f'RELUSCOPE_GPU_COUNTING="{name}" names no way to count; allowed are hash and sort: set one of them or '
            "unset it"
        )
    return name if plan.num_columns == 1 else "sort"


def accumulator(plan: KeyPlan, device: torch.device) -> DeviceDense | DeviceRows:
    """An empty count for the plan on a device."""
    return DeviceDense(plan, device) if is_dense(plan) else DeviceRows(plan, device)


def pack(values: DeviceValues) -> tuple[np.ndarray, int]:
    """Patterns of every evaluation on the host, uint64 (E, W), and the number of NaN among the values."""
    form, device = values.form, values.bits.device
    words = torch.empty((form.num_evaluations, form.num_words), dtype=torch.int64, device=device)
    num_nan = torch.zeros(1, dtype=torch.int64, device=device)
    if form.num_evaluations:
        block = BLOCK["planes" if values.geometry.is_planes else "rows"]
        with on_device(device):
            gpu_pack.pack_words_kernel[(triton.cdiv(form.num_evaluations, block),)](
                values.bits,
                thresholds_on(form.kinks, form.format.name, device),
                words,
                num_nan,
                form.num_evaluations,
                form.width,
                *_walk(values.geometry),
                BLOCK=block,
                **_look(values.geometry),
            )
    return words.cpu().numpy().view(np.uint64), int(num_nan)


# A model may run its forward pass in inference mode; what is counted there lives on outside of it, where tensors that
# were made inside could not be written to any more.
_OWN_MODE = torch.inference_mode(False)


class _DeviceCount:
    """What both kinds of count share: the device, the NaN seen, and the stream of the last batch."""

    @_OWN_MODE
    def __init__(self, plan: KeyPlan, device: torch.device) -> None:
        self._plan, self._device = plan, device
        self._nan = torch.zeros(1, dtype=torch.int64, device=device)
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    @_OWN_MODE
    def num_nan(self) -> int:
        """NaN among all values so far. Waits for the device."""
        self._follow()
        return int(self._nan)

    def _follow(self) -> None:
        """Be behind the batches before, should the user have changed streams."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._device)
        if current != self._stream:
            current.wait_stream(self._stream)
            self._stream = current

    def _groups(self, groups: np.ndarray | None) -> torch.Tensor | None:
        return None if groups is None else torch.from_numpy(groups).to(self._device, non_blocking=True)


class DeviceDense(_DeviceCount):
    """Counts patterns of at most 16 bits in place, in the kernel that reads the values."""

    @_OWN_MODE
    def __init__(self, plan: KeyPlan, device: torch.device) -> None:
        super().__init__(plan, device)
        self._counters = torch.zeros(max(1, plan.num_groups) << plan.width, dtype=torch.int64, device=device)

    @property
    def nbytes(self) -> int:
        return self._counters.nbytes

    @_OWN_MODE
    def add(self, values: DeviceValues, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns 0: `num_nan` knows of NaN."""
        form, num_counters = values.form, len(self._counters)
        if form.num_evaluations == 0:
            return 0
        self._follow()
        with on_device(self._device):
            gpu_pack.count_dense_kernel[(triton.cdiv(form.num_evaluations, BLOCK["dense"]),)](
                values.bits,
                thresholds_on(form.kinks, form.format.name, self._device),
                self._groups(groups),
                self._counters,
                self._nan,
                form.num_evaluations,
                form.width,
                form.num_evaluations // max(1, form.num_samples),
                max(1, self._plan.num_groups),
                *_walk(values.geometry),
                GROUPED=groups is not None,
                BINS=max(64, triton.next_power_of_2(num_counters)) if num_counters <= MAX_BINS else 0,
                ROUNDS=ROUNDS,
                BLOCK=BLOCK["dense"],
                **_look(values.geometry),
            )
        return 0

    @_OWN_MODE
    def add_words(self, words: np.ndarray) -> None:
        """Count patterns of the host that are packed already, uint64 (E, 1), without groups."""
        self._follow()
        places = torch.from_numpy(words[:, 0].astype(np.int64)).to(self._device)
        self._counters += torch.bincount(places, minlength=len(self._counters))

    @_OWN_MODE
    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
        self._follow()
        finished = finish_dense(self._plan, self._counters, pairs=pairs)
        if last:
            self._counters = self._counters.new_zeros(0)
        return finished


class DeviceRows(_DeviceCount):
    """Counts wider patterns: rows wait on the device until there are enough to count at once."""

    @_OWN_MODE
    def __init__(self, plan: KeyPlan, device: torch.device, *, waiting: int | None = None) -> None:
        super().__init__(plan, device)
        self._dtype = torch.int32 if plan.row_bits <= 32 else torch.int64
        self._waiting = waiting or WAITING
        self._raw = self._room(0)
        self._room_size = self._num_raw = 0
        self._hash_keys = None
        if plan.is_fingerprint:
            self._hash_keys = hash_keys_on(plan.seed, plan.num_words, device)
        with side_stream(device).work():
            self._hash = HashTable(device) if counting(plan) == "hash" else None
            self._sorted = self._empty_table()

    @property
    def nbytes(self) -> int:
        table = self._sorted.nbytes if self._hash is None else self._hash.nbytes
        return self._raw.nbytes + table

    @_OWN_MODE
    def add(self, values: DeviceValues, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns 0: `num_nan` knows of NaN."""
        form, plan = values.form, self._plan
        if form.num_evaluations == 0:
            return 0
        self._follow()
        rows = self._next(form.num_evaluations)
        block = BLOCK["planes" if values.geometry.is_planes else "rows"]
        with on_device(self._device):
            gpu_pack.pack_rows_kernel[(triton.cdiv(form.num_evaluations, block),)](
                values.bits,
                thresholds_on(form.kinks, form.format.name, self._device),
                self._hash_keys,
                self._groups(groups),
                rows,
                rows.stride(0),
                self._nan,
                form.num_evaluations,
                form.width,
                form.num_evaluations // max(1, form.num_samples),
                *_walk(values.geometry),
                HALVES=0 if plan.is_fingerprint else -(-form.width // 32),
                GROUPED=groups is not None,
                GROUP_BITS=plan.group_bits,
                ROW_BITS=plan.row_bits,
                NUM_COLUMNS=plan.num_columns,
                BLOCK=block,
                **_look(values.geometry),
            )
        return 0

    @_OWN_MODE
    def add_words(self, words: np.ndarray) -> None:
        """Count patterns of the host that are packed already, uint64 (E, W), without groups."""
        if len(words) == 0:
            return
        self._follow()
        columns = torch.from_numpy(words.view(np.int64)).to(self._device).t()
        if self._hash_keys is not None:
            columns = _fingerprint(columns, self._hash_keys)
        if self._dtype == torch.int32:
            columns = columns - (1 << 31) if self._plan.row_bits == 32 else columns
        elif self._plan.row_bits >= 64:
            columns = columns ^ -(1 << 63)
        self._next(len(words)).copy_(columns)

    @_OWN_MODE
    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
        self._follow()
        self._count()
        with side_stream(self._device).work():
            if self._hash is None:
                rows, counts = self._sorted.table()
            else:
                keys, counts = self._hash.table()
                rows = keys[None]
            finished = finish_rows(self._plan, rows, counts, pairs=pairs)
        if last:
            self._hash, self._sorted = None, self._empty_table()
        return finished

    def _next(self, num_rows: int) -> torch.Tensor:
        """Room for so many rows, (C, num_rows), behind those that wait."""
        if self._num_raw + num_rows > self._raw.shape[1]:
            self._count()
            # Twice the room each time, so that a small count takes little memory and a long one few launches.
            self._room_size = min(2 * max(num_rows, self._room_size), self._most_waiting())
            self._raw = self._room(max(num_rows, self._room_size))
        rows = self._raw[:, self._num_raw : self._num_raw + num_rows]
        self._num_raw += num_rows
        return rows

    def _most_waiting(self) -> int:
        """A table that is sorted anew each time waits for as many rows as it has."""
        return self._waiting if self._hash is not None else max(self._waiting, self._sorted.most_rows)

    def _empty_table(self) -> SortedTable:
        return SortedTable(self._device, self._plan.num_columns, self._dtype)

    def _room(self, num_rows: int) -> torch.Tensor:
        return torch.empty((self._plan.num_columns, num_rows), dtype=self._dtype, device=self._device)

    def _count(self) -> None:
        """Count the rows that wait, in the stream beside the user's; others may be written meanwhile."""
        if self._num_raw == 0:
            return
        with side_stream(self._device).work(self._raw):
            rows = self._raw[:, : self._num_raw]
            if self._hash is None:
                self._sorted.add(rows)
            else:
                self._hash.add(rows[0])
        self._raw, self._num_raw = self._room(0), 0


@functools.cache
def thresholds_on(kinks: tuple[float, ...], format_name: str, device: torch.device) -> torch.Tensor:
    """What `gpu_pack` compares with, on the device for good: four integers per kink, infinity, and a magnitude's mask."""
    fmt = FORMATS[format_name]
    form = Form(
        layout="rows",
        num_outer=1,
        num_units=1,
        num_inner=1,
        format=fmt,
        kinks=kinks,
        num_samples=1,
        unit_axis=1,
    )
    numbers = [*form.thresholds.reshape(-1).tolist(), fmt.infinity, fmt.sign - 1]
    is_long = fmt.bits.itemsize == 8
    array = np.array(numbers, np.uint64 if is_long else np.uint32)
    return torch.from_numpy(array.view(np.int64 if is_long else np.int32)).to(device)


@functools.cache
def hash_keys_on(seed: int, num_words: int, device: torch.device) -> torch.Tensor:
    """Keys of the fingerprint on the device for good, int64 (4, 1 + 2 W)."""
    return torch.from_numpy(hash_keys(seed, num_words).view(np.int64).copy()).to(device)


def _walk(geometry: Geometry) -> tuple[int, ...]:
    """Sizes and strides as the kernels take them."""
    return (*geometry.sizes[1:], *geometry.strides, geometry.unit_stride)


@functools.lru_cache(maxsize=4096)
def _look(geometry: Geometry) -> dict[str, Any]:
    """What a kernel of this shape and these kinks is compiled for; batches of one shape share their geometry."""
    form = geometry.form
    narrow, word = TYPES[form.format.bits.itemsize]
    return {
        "NUM_AXES": geometry.num_axes,
        "NARROW": narrow,
        "WORD": word,
        "KINKS": len(form.kinks),
        "LANES": min(32, triton.next_power_of_2(form.width)),
        "PLANES": geometry.is_planes,
        "TWO_RANGES": bool(form.thresholds[:, 3].any()),
        "WIDE": form.num_evaluations >= (1 << 31) - BLOCK["planes"],
    }


def _fingerprint(columns: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Fingerprints int64 (2, E) of patterns int64 (W, E); see `kernels.fingerprint`. Sums wrap, as they should."""
    mask = (1 << 32) - 1
    hashes = [keys[number, 0].expand(columns.shape[1]) for number in range(4)]
    for word, column in enumerate(columns):
        for half, character in enumerate((column & mask, (column >> 32) & mask)):
            hashes = [
                total + keys[number, 1 + 2 * word + half] * character for number, total in enumerate(hashes)
            ]
    first, second, third, fourth = ((total >> 32) & mask for total in hashes)
    return torch.stack([first | (second << 32), third | (fourth << 32)])
