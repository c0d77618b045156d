"""Pre-activations as the kernels see them: raw bits, in one of two layouts, without a copy where it matters.

A comparison of floats is a comparison of integers on their bits, so one kernel per integer size serves
float16, bfloat16, float32 and float64, and 16-bit floats are never converted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reluscope.errors import KernelError, UnitAxisError

__all__ = ["FORMATS", "FloatFormat", "Preactivations", "Values", "as_values", "round_kink"]

Preactivations = torch.Tensor | np.ndarray


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """How one floating-point dtype lies in an unsigned integer.

    `infinity` is the bit pattern of +inf: magnitudes above it are NaN. `sign` is the sign bit.
    """

    name: str
    bits: np.dtype
    infinity: int
    sign: int


FORMATS = {
    fmt.name: fmt
    for fmt in (
        FloatFormat(name="float16", bits=np.dtype(np.uint16), infinity=0x7C00, sign=1 << 15),
        FloatFormat(name="bfloat16", bits=np.dtype(np.uint16), infinity=0x7F80, sign=1 << 15),
        FloatFormat(name="float32", bits=np.dtype(np.uint32), infinity=0x7F800000, sign=1 << 31),
        FloatFormat(name="float64", bits=np.dtype(np.uint64), infinity=0x7FF << 52, sign=1 << 63),
    )
}
_TORCH_FORMATS = {getattr(torch, name): fmt for name, fmt in FORMATS.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """The bits of a batch of pre-activations, ready to pack.

    `bits` is C-contiguous and unsigned: shape (evaluations, units) in layout "rows", (outer, units, inner) in
    layout "planes", where evaluation e = outer_index * inner + inner_index. Both are sample-major.
    """

    bits: np.ndarray
    layout: str
    format: FloatFormat
    kinks: tuple[float, ...]
    num_samples: int
    unit_axis: int

    @property
    def num_units(self) -> int:
        return self.bits.shape[1]

    @property
    def width(self) -> int:
        """Bits per pattern: units x kinks."""
        return self.num_units * len(self.kinks)

    @property
    def num_words(self) -> int:
        return (self.width + 63) // 64

    @property
    def num_evaluations(self) -> int:
        return self.bits.shape[0] * (self.bits.shape[2] if self.layout == "planes" else 1)

    def thresholds(self) -> np.ndarray:
        """uint (kinks, 4): start and length of the two ranges of bits whose values lie above each kink.

        Above k >= 0 lie the bits (k, +inf]; above k < 0 lie [+0, +inf] and the negative magnitudes [0, |k|).
        A length instead of an end lets one unsigned comparison, bits - start < length, test a range; no range
        holds a NaN.
        """
        return _thresholds(self.kinks, self.format)


@functools.cache  # asked for by every thread for every batch, and the same for all of a site
def _thresholds(kinks: tuple[float, ...], fmt: FloatFormat) -> np.ndarray:
    table = np.zeros((len(kinks), 4), fmt.bits)
    for row, kink in zip(table, kinks, strict=True):
        magnitude = round_kink(abs(kink), fmt)
        if kink >= 0 or magnitude == 0:
            row[:] = (magnitude + 1, fmt.infinity - magnitude, 0, 0)
        else:
            row[:] = (0, fmt.infinity + 1, fmt.sign, magnitude)
    table.flags.writeable = False
    return table


def round_kink(magnitude: float, fmt: FloatFormat) -> int:
    """The bits of a non-negative kink rounded to the dtype, as torch rounds a scalar it compares with."""
    with np.errstate(over="ignore"):
        if fmt.name == "bfloat16":  # by way of float32, then to nearest even
            bits = int(np.float32(magnitude).view(np.uint32))
            return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return int(np.dtype(fmt.name).type(magnitude).view(fmt.bits))


def as_values(preactivations: Preactivations, channel_dim: int, kinks: Sequence[float]) -> Values:
    """View a batch of pre-activations as bits.

    Contiguous and channels-last arrays are viewed; any other stride is copied once, since a kernel that
    follows arbitrary strides cannot load vectors and reads memory several times slower than the copy does.

    Args:
        preactivations: torch tensor on the CPU or NumPy array, float16, bfloat16, float32 or float64, at
            least two-dimensional, axis 0 the samples.
        channel_dim: the axis of the units; negative counts from the end.
        kinks: where the activation bends; none may be NaN.

    Raises:
        KernelError: another dtype, device or kind of array, or no usable kink.
        UnitAxisError: the axis does not exist or is empty.
    """
    bits, fmt = _bits_of(preactivations)
    axis, kinks = _unit_axis(bits.shape, channel_dim), _checked_kinks(kinks)
    num_samples, num_units = bits.shape[0], bits.shape[axis]
    last = bits.ndim - 1
    moved = bits if axis == last else bits.transpose(*range(axis), *range(axis + 1, last + 1), axis)
    if bits.flags.c_contiguous and not moved.flags.c_contiguous:
        outer, inner = math.prod(bits.shape[:axis]), math.prod(bits.shape[axis + 1 :])
        view, layout = bits.reshape(outer, num_units, inner), "planes"
    else:
        num_evaluations = math.prod(moved.shape[:-1])
        view, layout = np.ascontiguousarray(moved).reshape(num_evaluations, num_units), "rows"
    return Values(bits=view, layout=layout, format=fmt, kinks=kinks, num_samples=num_samples, unit_axis=axis)


def _checked_kinks(kinks: Sequence[float]) -> tuple[float, ...]:
    try:
        return _numbers(tuple(kinks))
    except (TypeError, ValueError):
        raise KernelError(
            f"kinks={kinks!r} cannot be compared with; give at least one number, none of them NaN: (0.0,)"
        ) from None


@functools.cache
def _numbers(kinks: tuple[float, ...]) -> tuple[float, ...]:
    values = tuple(float(kink) for kink in kinks)
    if not values or any(isinstance(kink, str) or math.isnan(kink) for kink in kinks):
        raise ValueError("no number")
    return values


def _bits_of(preactivations: Preactivations) -> tuple[np.ndarray, FloatFormat]:
    """The array as unsigned integers of its own memory, and its format."""
    if isinstance(preactivations, torch.Tensor):
        return _bits_of_tensor(preactivations)
    if not isinstance(preactivations, np.ndarray):
        raise KernelError(
            f"cannot count a {type(preactivations).__name__}; give a torch tensor or a NumPy array of floats"
        )
    fmt = FORMATS.get(preactivations.dtype.name)
    if fmt is None or not preactivations.dtype.isnative:
        raise KernelError(_dtype_text(str(preactivations.dtype)))
    return preactivations.view(np.ndarray).view(fmt.bits), fmt


def _bits_of_tensor(tensor: torch.Tensor) -> tuple[np.ndarray, FloatFormat]:
    fmt = _TORCH_FORMATS.get(tensor.dtype)
    if fmt is None:
        raise KernelError(_dtype_text(str(tensor.dtype).removeprefix("torch.")))
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise KernelError(
            f"cannot count a {tensor.layout} tensor on {tensor.device}; the kernels take strided tensors "
            "on the CPU: move it with .cpu()"
        )
    tensor = tensor.detach().resolve_neg()  # the sign of a negative view lies in a flag, not in memory
    if fmt.name == "bfloat16":  # NumPy has no bfloat16
        tensor = tensor.view(torch.int16)
    return tensor.numpy().view(fmt.bits), fmt


def _dtype_text(name: str) -> str:
    return (
        f"cannot pack pre-activations of dtype {name}; allowed are {', '.join(FORMATS)}: convert them first"
    )


def _unit_axis(shape: tuple[int, ...], channel_dim: int) -> int:
    if len(shape) < 2:
        raise UnitAxisError(
            f"pre-activations of shape {shape} have no axis of units; give samples and units at least"
        )
    if not isinstance(channel_dim, int | np.integer) or isinstance(channel_dim, bool):
        raise UnitAxisError(f"channel_dim={channel_dim!r} is no axis; give an int, such as 1 or -1")
    if not -len(shape) <= channel_dim < len(shape):
        raise UnitAxisError(
            f"channel_dim={channel_dim} does not exist in shape {shape}; allowed are {-len(shape)} to "
            f"{len(shape) - 1}"
        )
    axis = channel_dim % len(shape)
    if shape[axis] == 0:
        raise UnitAxisError(f"axis {axis} of shape {shape} holds no unit; choose the axis of the channels")
    return axis
