"""Which axis holds the units: tags that travel with the tensors of one forward pass.

Convolutions and the norms of images put the units on axis 1, linear maps and layer norms on the last axis,
and operations in between carry the tag along. Tags live in a table of weak references: nothing is written to
a tensor.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional

__all__ = ["AxisTags", "UnitAxis", "default_axis"]


class UnitAxis(NamedTuple):
    """A non-negative axis and the operation it comes from."""

    axis: int
    source: str


def default_axis(num_dims: int) -> UnitAxis:
    """The axis taken without a tag: 1 for 2-D, 4-D and 5-D tensors, the last for the others."""
    return UnitAxis(1 if num_dims in (2, 4, 5) else num_dims - 1, f"default {num_dims}-D")


_IMAGE = {  # functions whose output has the units before its spatial axes, which is axis 1 of a batch
    "convolution": (
        *("conv1d", "conv2d", "conv3d", "convolution"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    ),
    "batch_norm": ("batch_norm", "native_batch_norm"),
    "group_norm": ("group_norm", "native_group_norm"),
    "instance_norm": ("instance_norm",),
}
_LAST = {  # functions whose output has the units on the last axis
    "linear": ("linear", "bilinear", "addmm", "baddbmm"),
    "layer_norm": ("layer_norm", "native_layer_norm"),
    "rms_norm": ("rms_norm",),
    "embedding": ("embedding", "embedding_bag"),
    "matmul": ("matmul", "mm", "bmm", "einsum", "tensordot", "__matmul__", "__rmatmul__"),
    "attention": ("multi_head_attention_forward", "scaled_dot_product_attention"),
    "recurrent": (
        *("rnn_relu", "rnn_tanh", "lstm", "gru"),
        *("rnn_relu_cell", "rnn_tanh_cell", "lstm_cell", "gru_cell"),
    ),
}
_MOVING = {  # functions that move, merge or split axes
    "swap": ("transpose", "transpose_", "swapaxes", "swapdims"),
    "permute": ("permute",),
    "move": ("movedim", "moveaxis"),
    "reverse": ("t", "mT", "T"),
    "reshape": (
        *("reshape", "reshape_as", "view", "view_as"),
        *("flatten", "unflatten", "squeeze", "unsqueeze", "unsqueeze_"),
    ),
    "index": ("__getitem__", "select"),
    "stack": ("stack",),
}
_NAMESPACES = (torch, torch.Tensor, functional, torch._C._nn, torch._C._VariableFunctions)  # pyright: ignore


def _functions(names: tuple[str, ...]) -> list[Any]:
    found: list[Any] = []
    for name in names:
        for namespace in _NAMESPACES:
            function = getattr(namespace, name, None)
            if function is None:
                continue
            found.append(function if callable(function) else function.__get__)
    return found


def _table(groups: Mapping[str, tuple[str, ...]]) -> dict[Any, str]:
    return {function: group for group, names in groups.items() for function in _functions(names)}


class AxisTags:
    """The tags of one forward pass: `note` every call, then `find` the unit axis of a pre-activation."""

    def __init__(self) -> None:
        self._image = _table(_IMAGE)
        self._last = _table(_LAST)
        self._moving = _table(_MOVING)
        self._tags: dict[int, tuple[weakref.ref[torch.Tensor], UnitAxis]] = {}

    def find(self, tensor: torch.Tensor) -> UnitAxis:
        """The unit axis of a tensor: its tag, or the default for its number of dimensions."""
        return self._get(tensor) or default_axis(tensor.ndim)

    def note(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Tag the output of a call that has just run."""
        result = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(result, torch.Tensor) or result.ndim < 2:
            return
        tag = self._produced(function, args, result)
        if tag is None:
            source, known = self._tagged_argument(args, kwargs)
            if known is None or source is None:
                return
            rule = _RULES[self._moving.get(function)]
            axis = rule(_Call(known, source, args, kwargs, result))
            tag = None if axis is None else known._replace(axis=axis)
        if tag is None or not 0 < tag.axis < result.ndim:
            return
        for one in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(one, torch.Tensor) and one.ndim == result.ndim:
                self._tags[id(one)] = (weakref.ref(one), tag)

    def _get(self, tensor: torch.Tensor) -> UnitAxis | None:
        entry = self._tags.get(id(tensor))
        # The id of a tensor that is gone may be used again: the reference tells.
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _produced(self, function: Any, args: tuple[Any, ...], result: torch.Tensor) -> UnitAxis | None:
        source = self._image.get(function)
        if source is not None:
            return UnitAxis(1, source)
        source = self._last.get(function)
        if source is None:
            return None
        if source == "matmul" and len(args) > 1 and _is_weight(args[0]) and not _is_weight(args[1]):
            return UnitAxis(result.ndim - 2, source)  # W @ x keeps the units on the axis before the last
        return UnitAxis(result.ndim - 1, source)

    def _tagged_argument(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor | None, UnitAxis | None]:
        for value in (*args, *kwargs.values()):
            for one in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(one, torch.Tensor) and (tag := self._get(one)) is not None:
                    return one, tag
        return None, None


def _is_weight(value: Any) -> bool:
    return isinstance(value, torch.nn.Parameter)


class _Call(NamedTuple):
    """A call that moves, merges or splits axes, with the tag of its first tagged argument."""

    tag: UnitAxis
    source: torch.Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: torch.Tensor

    @property
    def axis(self) -> int:
        return self.tag.axis


def _swapped(call: _Call) -> int | None:
    axes = [value for value in (*call.args[1:], *call.kwargs.values()) if isinstance(value, int)]
    if len(axes) != 2:
        return None
    left, right = (axis % call.source.ndim for axis in axes)
    return {left: right, right: left}.get(call.axis, call.axis)


def _permuted(call: _Call) -> int | None:
    args = call.args[1:] or tuple(call.kwargs.values())
    order = args if isinstance(args[0], int) else args[0]
    axes = [axis % call.source.ndim for axis in order]
    return axes.index(call.axis) if call.axis in axes else None


def _relocated(call: _Call) -> int | None:
    """movedim: torch itself says where the axis went, on an empty tensor of distinct sizes."""
    sizes = torch.empty(tuple(range(1, call.source.ndim + 1)), device="meta")
    moved = torch.movedim(sizes, *call.args[1:], **call.kwargs)
    return list(moved.shape).index(call.axis + 1)


def _reversed(call: _Call) -> int | None:
    """`t`, `T` and `mT`, on the two dimensions that a batch of matrices ends with."""
    last = call.source.ndim - 1
    return {last: last - 1, last - 1: last}.get(call.axis, call.axis)


def _reshaped(call: _Call) -> int | None:
    """The axis of equal size with as many elements before it: merging and splitting others leaves both."""
    before, size = math.prod(call.source.shape[: call.axis]), call.source.shape[call.axis]
    shape = call.result.shape
    found = [i for i in range(1, len(shape)) if shape[i] == size and math.prod(shape[:i]) == before]
    return found[0] if found else None


def _indexed(call: _Call) -> int | None:
    """Slices keep an axis, numbers drop one, None inserts one; by anything else the tag is lost."""
    if len(call.args) == 3:  # select(tensor, dim, index)
        dropped = call.args[1] % call.source.ndim
        return None if dropped == call.axis else call.axis - (dropped < call.axis)
    index = call.args[1] if len(call.args) > 1 else ()
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(part, (int, slice, type(None), type(Ellipsis))) for part in parts):
        return None
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    place = next(i for i, part in enumerate(parts) if part is Ellipsis)
    consumed = sum(isinstance(part, (int, slice)) for part in parts)
    parts[place : place + 1] = [slice(None)] * (call.source.ndim - consumed)
    axis_in, axis_out = 0, 0
    for part in parts:
        if part is not None and axis_in == call.axis:
            return None if isinstance(part, int) else axis_out
        axis_in += part is not None
        axis_out += not isinstance(part, int)
    return None


def _stacked(call: _Call) -> int | None:
    dim = (call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)) % call.result.ndim
    return call.axis + (dim <= call.axis)


def _kept(call: _Call) -> int | None:
    """Activations, arithmetic, pooling, padding, concatenation: the axes stay what they are."""
    return call.axis if call.result.ndim == call.source.ndim else None


_RULES: dict[str | None, Callable[[_Call], int | None]] = {
    None: _kept,
    "swap": _swapped,
    "permute": _permuted,
    "move": _relocated,
    "reverse": _reversed,
    "reshape": _reshaped,
    "index": _indexed,
    "stack": _stacked,
}
