"""Pre-activations as the kernels see them: raw bits, in one of two layouts, without a copy where it matters.

A comparison of floats is a comparison of integers on their bits, so one kernel per integer size serves
float16, bfloat16, float32 and float64, and 16-bit floats are never converted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from reluscope.errors import KernelError, UnitAxisError
from reluscope.kernels.rectify import can_rectify

__all__ = [
    "FORMATS",
    "FloatFormat",
    "Form",
    "Preactivations",
    "Values",
    "as_values",
    "checked_kinks",
    "form_of",
    "round_kink",
]

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
class Form:
    """How a batch of pre-activations lies in memory: all that its values do not decide, found once for equal batches.

    Bits are C-contiguous: (outer, units) in layout "rows", where inner is 1, or (outer, units, inner) in layout "planes".
    Evaluation e = outer index * inner + inner index; both layouts are sample-major.

    Attributes:
        width: bits per pattern, units x kinks.
        thresholds: uint (kinks, 4): start and length of the two ranges of bits whose values lie above each kink.
            Above k >= 0 lie the bits (k, +inf]; above k < 0 lie [+0, +inf] and the negative magnitudes [0, |k|).
            A length instead of an end lets one unsigned comparison, bits - start < length, test a range; no range
            holds a NaN.
        can_rectify: whether the kernels can compute the ReLU of the values.
        thresholds_address: where they lie.
    """

    layout: str
    num_outer: int
    num_units: int
    num_inner: int
    format: FloatFormat
    kinks: tuple[float, ...]
    num_samples: int
    unit_axis: int

    # Plain attributes, no properties: they are asked for at every batch of every site.
    width: int = field(init=False)
    num_words: int = field(init=False)
    num_evaluations: int = field(init=False)
    num_values: int = field(init=False)
    can_rectify: bool = field(init=False)
    thresholds: np.ndarray = field(init=False)
    thresholds_address: int = field(init=False)

    def __post_init__(self) -> None:
        width, thresholds = self.num_units * len(self.kinks), _thresholds(self.kinks, self.format)
        for name, value in {
            "width": width,
            "num_words": (width + 63) // 64,
            "num_evaluations": self.num_outer * self.num_inner,
            "num_values": self.num_outer * self.num_units * self.num_inner,
            "can_rectify": self.kinks == (0.0,) and can_rectify(getattr(torch, self.format.name)),
            "thresholds": thresholds,
            "thresholds_address": thresholds.ctypes.data,
        }.items():
            object.__setattr__(self, name, value)


class Values:
    """The bits of a batch of pre-activations, ready to pack.

    Attributes:
        form: how they lie in memory.
        address: where they begin.
    """

    __slots__ = ("_memory", "address", "form")

    def __init__(self, form: Form, memory: torch.Tensor | np.ndarray, address: int) -> None:
        self.form, self.address = form, address
        self._memory = memory  # whoever owns it, kept alive

    @property
    def bits(self) -> np.ndarray:
        """As an unsigned array, (evaluations, units) or (outer, units, inner)."""
        if isinstance(self._memory, np.ndarray):
            return self._memory
        return _arranged(_bits_of_tensor(self._memory)[0], self.form.unit_axis)[0]


@functools.cache
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
    if type(preactivations) is torch.Tensor and preactivations.is_cpu and not preactivations.is_neg():
        form = _form_of_tensor(
            preactivations.dtype,
            preactivations.shape,
            preactivations.stride() if preactivations.layout == torch.strided else None,
            channel_dim,
            kinks if type(kinks) is tuple else checked_kinks(kinks),
        )
        if form is not None:
            return Values(form, preactivations, preactivations.data_ptr())
    bits, fmt = _bits_of(preactivations)
    axis, kinks = _unit_axis(bits.shape, channel_dim), checked_kinks(kinks)
    arranged, layout = _arranged(bits, axis)
    form = _form(fmt, layout, bits.shape, axis, kinks)
    return Values(form, arranged, arranged.ctypes.data)


@functools.lru_cache(maxsize=4096, typed=True)
def _form_of_tensor(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    channel_dim: int,
    kinks: tuple[float, ...],
) -> Form | None:
    """The form of a CPU tensor that has one as it lies; None where it must be copied, or is none to count."""
    if dtype not in _TORCH_FORMATS or strides is None:
        return None
    axis = _unit_axis(tuple(shape), channel_dim)
    order = [*range(axis), *range(axis + 1, len(shape)), axis]
    if _is_packed([shape[one] for one in order], [strides[one] for one in order]):
        layout = "rows"
    elif _is_packed(shape, strides):
        layout = "planes"
    else:
        return None
    return _form(_TORCH_FORMATS[dtype], layout, shape, axis, checked_kinks(kinks))


def form_of(dtype: torch.dtype, shape: tuple[int, ...], channel_dim: int, kinks: tuple[float, ...]) -> Form:
    """The form of a C-contiguous tensor of such a shape, wherever it lies; arguments and errors of `as_values`."""
    if dtype not in _TORCH_FORMATS:
        raise KernelError(_dtype_text(str(dtype).removeprefix("torch.")))
    axis = _unit_axis(shape, channel_dim)
    layout = "rows" if axis == len(shape) - 1 else "planes"
    return _form(_TORCH_FORMATS[dtype], layout, shape, axis, checked_kinks(kinks))


def _is_packed(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether an array of such shape and strides, in elements, is C-contiguous."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return 0 in shape
        expected *= size
    return True


def _form(fmt: FloatFormat, layout: str, shape: tuple[int, ...], axis: int, kinks: tuple[float, ...]) -> Form:
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    is_planes = layout == "planes"
    return Form(
        layout=layout,
        num_outer=before if is_planes else before * after,
        num_units=shape[axis],
        num_inner=after if is_planes else 1,
        format=fmt,
        kinks=kinks,
        num_samples=shape[0],
        unit_axis=axis,
    )


def _arranged(bits: np.ndarray, axis: int) -> tuple[np.ndarray, str]:
    """The bits in one of the layouts, copied only if they lie in neither."""
    last = bits.ndim - 1
    moved = bits if axis == last else bits.transpose(*range(axis), *range(axis + 1, last + 1), axis)
    if bits.flags.c_contiguous and not moved.flags.c_contiguous:
        outer, inner = math.prod(bits.shape[:axis]), math.prod(bits.shape[axis + 1 :])
        return bits.reshape(outer, bits.shape[axis], inner), "planes"
    num_evaluations = math.prod(moved.shape[:-1])
    return np.ascontiguousarray(moved).reshape(num_evaluations, bits.shape[axis]), "rows"


def checked_kinks(kinks: Sequence[float]) -> tuple[float, ...]:
    """The kinks as floats, or KernelError if there is none, or one that nothing can be compared with."""
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
            f"cannot count a {tensor.layout} tensor on {tensor.device}; the kernels take strided tensors on the CPU or a "
            "GPU: move it with .cpu()"
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
