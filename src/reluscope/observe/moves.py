"""Where one axis of a tensor goes in a call that moves, merges, splits or reduces axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from reluscope.observe.functions import grouped

__all__ = ["MOVES", "Call", "kept", "moving_table"]


class Call(NamedTuple):
    """A call that has run: the followed axis, and the shape that its tensor had before, the first argument.

    The shape is not read from the argument, which an in-place call (`unsqueeze_`) has changed by then.
    """

    axis: int
    shape: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: torch.Tensor

    def argument(self, index: int, *names: str) -> Any:
        """An argument by place or by one of its names; None where it is not given."""
        if len(self.args) > index:
            return self.args[index]
        return next((self.kwargs[name] for name in names if name in self.kwargs), None)


@functools.cache
def moving_table() -> dict[Any, str]:
    """Functions to the group whose rule in `MOVES` says where an axis goes; built once."""
    table = grouped(
        {
            "swap": ("transpose", "transpose_", "swapaxes", "swapdims"),
            "permute": ("permute",),
            "move": ("movedim", "moveaxis"),
            "reverse": ("t", "mT", "T"),
            "reshape": (
                *("reshape", "reshape_as", "view", "view_as", "_unsafe_view"),
                *("flatten", "unflatten", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_"),
            ),
            "index": ("__getitem__",),
            "select": ("select", "unbind"),
            "stack": ("stack",),
            "expand": ("expand", "expand_as", "broadcast_to"),
            "reduce": (
                *("mean", "sum", "nansum", "nanmean", "amax", "amin", "logsumexp", "prod", "std", "var"),
                *("max", "min", "median", "all", "any", "argmax", "argmin"),
            ),
        }
    )
    table[torch.Tensor.unfold] = "append"
    table[torch.nn.functional.embedding] = table[torch.embedding] = "append"
    table[torch.nn.functional.one_hot] = table[torch.view_as_real] = "append"
    return table


def _swapped(call: Call) -> int | None:
    axes = [value for value in (*call.args[1:], *call.kwargs.values()) if isinstance(value, int)]
    if len(axes) != 2:
        return None
    left, right = (axis % len(call.shape) for axis in axes)
    return {left: right, right: left}.get(call.axis, call.axis)


def _permuted(call: Call) -> int | None:
    args = call.args[1:] or tuple(call.kwargs.values())
    order = args if isinstance(args[0], int) else args[0]
    axes = [axis % len(call.shape) for axis in order]
    return axes.index(call.axis) if call.axis in axes else None


def _relocated(call: Call) -> int | None:
    """movedim: torch itself says where the axis went, on an empty tensor of distinct sizes."""
    sizes = torch.empty(tuple(range(1, len(call.shape) + 1)), device="meta")
    moved = torch.movedim(sizes, *call.args[1:], **call.kwargs)
    return list(moved.shape).index(call.axis + 1)


def _reversed(call: Call) -> int | None:
    """`t`, `T` and `mT`, on the two dimensions that a batch of matrices ends with."""
    last = len(call.shape) - 1
    return {last: last - 1, last - 1: last}.get(call.axis, call.axis)


def _reshaped(call: Call) -> int | None:
    """The axis of equal size with as many elements before it: merging and splitting others leaves both."""
    before, size = math.prod(call.shape[: call.axis]), call.shape[call.axis]
    shape = call.result.shape
    found = [i for i in range(len(shape)) if shape[i] == size and math.prod(shape[:i]) == before]
    if call.axis > 0:
        found = [i for i in found if i > 0]
    return found[0] if found else None


def _selected(call: Call) -> int | None:
    """One place of an axis: `select`, and each output of `unbind`."""
    dropped = (call.argument(1, "dim") or 0) % len(call.shape)
    return None if dropped == call.axis else call.axis - (dropped < call.axis)


def _indexed(call: Call) -> int | None:
    """Slices keep an axis, numbers drop one, None inserts one, an index tensor takes the place of one."""
    index = call.argument(1)
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    places = [part for part in parts if isinstance(part, (torch.Tensor, list))]
    numbers = any(isinstance(part, int) for part in parts)
    if not all(
        isinstance(part, (int, slice, type(None), type(Ellipsis), torch.Tensor, list)) for part in parts
    ):
        return None
    if len(places) > 1 or (places and numbers) or any(isinstance(part, bool) for part in parts):
        return None  # several index tensors move their axis to the front, or not
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    place = next(i for i, part in enumerate(parts) if part is Ellipsis)
    consumed = sum(_sizes(part)[0] for part in parts if part is not Ellipsis)
    parts[place : place + 1] = [slice(None)] * (len(call.shape) - consumed)
    axis_in, axis_out = 0, 0
    for part in parts:
        taken, made = _sizes(part)
        if axis_in <= call.axis < axis_in + taken:
            return axis_out if isinstance(part, slice) else None
        axis_in, axis_out = axis_in + taken, axis_out + made
    return None


def _sizes(part: Any) -> tuple[int, int]:
    """Axes that an index takes in and axes it gives out."""
    if isinstance(part, torch.Tensor):
        is_mask = part.dtype in (torch.bool, torch.uint8)
        return (part.ndim, 1) if is_mask else (1, part.ndim)
    return (int(part is not None), int(not isinstance(part, int)))


def _stacked(call: Call) -> int | None:
    dim = (call.argument(1, "dim") or 0) % call.result.ndim
    return call.axis + (dim <= call.axis)


def _expanded(call: Call) -> int | None:
    """New axes come in front."""
    return call.axis + call.result.ndim - len(call.shape)


def _reduced(call: Call) -> int | None:
    dims = call.argument(1, "dim", "axis")
    dims = (dims,) if isinstance(dims, int) and not isinstance(dims, bool) else dims
    if isinstance(dims, torch.Tensor):  # max(x, y) of two tensors reduces nothing
        return kept(call)
    if not isinstance(dims, (tuple, list)) or not dims:
        return None
    reduced = {dim % len(call.shape) for dim in dims}
    if call.axis in reduced:
        return None
    return (
        call.axis if call.result.ndim == len(call.shape) else call.axis - sum(d < call.axis for d in reduced)
    )


def _appended(call: Call) -> int | None:
    """The call puts a new axis last."""
    return call.axis


def kept(call: Call) -> int | None:
    """Activations, arithmetic, pooling, padding, concatenation: the axes stay what they are."""
    return call.axis if call.result.ndim == len(call.shape) else None


MOVES: dict[str, Callable[[Call], int | None]] = {
    "swap": _swapped,
    "permute": _permuted,
    "move": _relocated,
    "reverse": _reversed,
    "reshape": _reshaped,
    "index": _indexed,
    "select": _selected,
    "stack": _stacked,
    "expand": _expanded,
    "reduce": _reduced,
    "append": _appended,
}
