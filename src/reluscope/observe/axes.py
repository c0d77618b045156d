"""Which axis holds the units: tags that travel with the tensors of one forward pass.

Convolutions and the norms of images put the units on axis 1, linear maps and layer norms on the last axis, and
operations in between carry the tag along. Tags live in a table of weak references: nothing is written to a tensor.
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
        *(
            "conv1d",
            "conv2d",
            "conv3d",
            "conv_transpose1d",
            "conv_transpose2d",
            "conv_transpose3d",
            "convolution",
        ),
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
        "rnn_relu",
        "rnn_tanh",
        "lstm",
        "gru",
        "rnn_relu_cell",
        "rnn_tanh_cell",
        "lstm_cell",
        "gru_cell",
    ),
}
_MOVING = {  # functions that move, merge or split axes
    "swap": ("transpose", "transpose_", "swapaxes", "swapdims"),
    "permute": ("permute",),
    "move": ("movedim", "moveaxis"),
    "reverse": ("t", "mT", "T"),
    "reshape": (
        "reshape",
        "view",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "unsqueeze_",
        "reshape_as",
        "view_as",
    ),
    "index": ("__getitem__", "select"),
    "stack": ("stack",),
}


def _functions(names: tuple[str, ...]) -> list[Any]:
    found: list[Any] = []
    for name in names:
        for namespace in (torch, torch.Tensor, functional, torch._C._nn, torch._C._VariableFunctions):
            function = getattr(namespace, name, None)
            if function is None:
                continue
            found.append(function if callable(function) else function.__get__)
    return found


def _table(groups: Mapping[str, tuple[str, ...]]) -> dict[Any, str]:
    return {function: group for group, names in groups.items() for function in _functions(names)}


class AxisTags:
    """The tags of one forward pass: `note` every call, then ask `find` for the unit axis of a pre-activation."""

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
            moved = self._moving.get(function)
            tag = (
                _RULES[moved](known, source, args, kwargs, result) if moved else _kept(known, source, result)
            )
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


def _kept(tag: UnitAxis, source: torch.Tensor, result: torch.Tensor) -> UnitAxis | None:
    """Activations, arithmetic, pooling, padding, concatenation: the axes stay what they are."""
    return tag if result.ndim == source.ndim else None


_Rule = Callable[[UnitAxis, torch.Tensor, tuple[Any, ...], Mapping[str, Any], torch.Tensor], UnitAxis | None]


def _swapped(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    axes = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, int)]
    if len(axes) != 2:
        return None
    left, right = (axis % source.ndim for axis in axes)
    return tag._replace(axis={left: right, right: left}.get(tag.axis, tag.axis))


def _permuted(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    order = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:] or kwargs.get("dims", ())
    axes = [axis % source.ndim for axis in order]
    return tag._replace(axis=axes.index(tag.axis)) if tag.axis in axes else None


def _relocated(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    """movedim: torch itself says where the axis went, on an empty tensor of distinct sizes."""
    sizes = torch.empty(tuple(range(1, source.ndim + 1)), device="meta")
    moved = torch.movedim(sizes, *args[1:], **kwargs)
    return tag._replace(axis=list(moved.shape).index(tag.axis + 1))


def _reversed(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    last = {source.ndim - 1: source.ndim - 2, source.ndim - 2: source.ndim - 1}
    return tag._replace(axis=last.get(tag.axis, tag.axis))


def _reshaped(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    """The axis of equal size with as many elements before it: merging and splitting other axes leaves both."""
    before, size = math.prod(source.shape[: tag.axis]), source.shape[tag.axis]
    found = [
        axis
        for axis in range(1, result.ndim)
        if result.shape[axis] == size and math.prod(result.shape[:axis]) == before
    ]
    return tag._replace(axis=found[0]) if found else None


def _indexed(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    """Slices keep an axis, numbers drop one, None inserts one; anything else loses the tag unless the shape tells."""
    if len(args) == 3:  # select(tensor, dim, index)
        dropped = args[1] % source.ndim
        return None if dropped == tag.axis else tag._replace(axis=tag.axis - (dropped < tag.axis))
    index = args[1] if len(args) > 1 else ()
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(part, (int, slice, type(None), type(Ellipsis))) for part in parts):
        return _kept(tag, source, result)
    consumed = sum(isinstance(part, (int, slice)) for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    parts[place : place + 1] = [slice(None)] * (source.ndim - consumed)
    axis_in, axis_out = 0, 0
    for part in parts:
        if part is not None and axis_in == tag.axis:
            return None if isinstance(part, int) else tag._replace(axis=axis_out)
        axis_in += part is not None
        axis_out += not isinstance(part, int)
    return None


def _stacked(
    tag: UnitAxis,
    source: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: torch.Tensor,
) -> UnitAxis | None:
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.ndim
    return tag._replace(axis=tag.axis + (dim <= tag.axis))


_RULES: dict[str, _Rule] = {
    "swap": _swapped,
    "permute": _permuted,
    "move": _relocated,
    "reverse": _reversed,
    "reshape": _reshaped,
    "index": _indexed,
    "stack": _stacked,
}
