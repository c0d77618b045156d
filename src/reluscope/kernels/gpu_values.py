"""Pre-activations on a device as the Triton kernels see them: raw bits with the strides they have.

A kernel of a GPU follows strides as fast as it reads rows, so nothing is copied here but what has more than three
axes of positions that cannot be walked as one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reluscope.errors import KernelError
from reluscope.kernels.values import Form, checked_kinks, form_of

__all__ = ["DeviceValues", "Geometry", "as_device_values"]

_BITS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """How to find value (evaluation, unit) from the first one.

    Evaluation e has the coordinates (e // (n1 * n2), e // n2 % n1, e % n2) along the axes of `sizes` (n0, n1, n2) and
    `strides`, both padded with axes of length 1 in front; `num_axes` counts the others. Strides are in elements.
    `is_planes`: neighbouring evaluations lie nearer to each other than neighbouring units.
    """

    form: Form
    sizes: tuple[int, int, int]
    strides: tuple[int, int, int]
    unit_stride: int
    num_axes: int
    is_planes: bool


class DeviceValues:
    """The bits of a batch of pre-activations on a device.

    Attributes:
        form: shape, kinks and dtype, as on the host.
        geometry: where each value lies.
        bits: the pre-activations as signed integers of their size, in memory as they came.
    """

    __slots__ = ("bits", "form", "geometry")

    def __init__(self, bits: torch.Tensor, geometry: Geometry) -> None:
        self.bits, self.geometry, self.form = bits, geometry, geometry.form


def as_device_values(preactivations: torch.Tensor, channel_dim: int, kinks: Sequence[float]) -> DeviceValues:
    """View a batch on any device as bits; arguments and errors are those of `values.as_values`."""
    if preactivations.layout != torch.strided:
        raise KernelError(
            f"cannot count a {preactivations.layout} tensor on {preactivations.device}; give a strided tensor: "
            "convert it with .to_dense()"
        )
    kinks = kinks if type(kinks) is tuple else checked_kinks(kinks)
    values = (
        preactivations.detach().resolve_neg()
    )  # the sign of a negative view lies in a flag, not in memory
    geometry = _geometry(values.dtype, values.shape, values.stride(), channel_dim, kinks)
    if geometry is None:
        values = values.contiguous()
        geometry = _geometry(values.dtype, values.shape, values.stride(), channel_dim, kinks)
        assert geometry is not None
    return DeviceValues(values.view(_BITS[values.dtype]), geometry)


@functools.lru_cache(maxsize=4096, typed=True)
def _geometry(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    channel_dim: int,
    kinks: tuple[float, ...],
) -> Geometry | None:
    """None where the positions need more than three axes."""
    form = form_of(dtype, tuple(shape), channel_dim, kinks)
    axes: list[tuple[int, int]] = []  # (size, stride), merged where two are walked as one
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        if axis == form.unit_axis or size == 1:
            continue
        if axes and axes[-1][1] == size * stride:
            axes[-1] = (axes[-1][0] * size, stride)
        else:
            axes.append((size, stride))
    if len(axes) > 3:
        return None
    padded = [(1, 0)] * (3 - len(axes)) + axes
    sizes, eval_strides = zip(*padded, strict=True)
    unit_stride = strides[form.unit_axis] if form.num_units > 1 else 1
    return Geometry(
        form=form,
        sizes=sizes,
        strides=eval_strides,
        unit_stride=unit_stride,
        num_axes=max(1, len(axes)),
        is_planes=bool(axes) and (form.num_units == 1 or axes[-1][1] < unit_stride),
    )
