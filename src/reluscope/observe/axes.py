"""Which axis holds the units: tags that travel with the tensors of one forward pass.

Convolutions and the norms of images put the units on axis 1, linear maps and layer norms on the last axis,
and operations in between carry the tag along. Where one loses it, the default for the number of dimensions
applies and the source says so. Tags live in a table of weak references: nothing is written to
a tensor.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from reluscope.observe.functions import grouped, tensors_of
from reluscope.observe.moves import MOVES, Call, kept, moving_table
from reluscope.observe.samples import SampleTags

__all__ = ["AxisTags", "UnitAxis", "default_axis"]

_LOST = -1  # there was a tag, and nobody knows where its axis went


class UnitAxis(NamedTuple):
    """An axis, counted from 0, and the operation it comes from."""

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


@functools.cache
def _tables() -> tuple[dict[Any, str], dict[Any, str]]:
    """Functions to sources, for the units before the spatial axes and on the last axis; built once."""
    image = grouped(_IMAGE)
    image[functional.unfold] = "unfold"  # Tensor.unfold is another function
    return image, grouped(_LAST)


class AxisTags:
    """The tags of one forward pass: `note` every call, then `find` the unit axis of a pre-activation.

    `samples` tells what comes from the batch, and so which factor of a product is the weight.
    """

    def __init__(self, samples: SampleTags) -> None:
        self._samples = samples
        self._image, self._last = _tables()
        self._moving = moving_table()
        self._tags: dict[int, tuple[weakref.ref[torch.Tensor], UnitAxis, tuple[int, ...]]] = {}
        self._weights: dict[int, weakref.ref[torch.Tensor]] = {}

    def find(self, tensor: torch.Tensor) -> UnitAxis:
        """The unit axis of a tensor: its tag, or the default for its number of dimensions."""
        tag = self._get(tensor)
        if tag is None or tag[0].axis >= 0:
            return default_axis(tensor.ndim) if tag is None else tag[0]
        axis, source = default_axis(tensor.ndim)
        return UnitAxis(axis, f"{source}, that of {tag[0].source} was lost")

    def note(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Tag the output of a call that has just run."""
        result = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(result, torch.Tensor) or result.ndim < 2:
            return
        inputs = tensors_of(args, kwargs)
        if any(map(self._is_weight, inputs)) and not any(map(self._samples.is_from_batch, inputs)):
            self._weights[id(result)] = weakref.ref(result)
        tag = self._produced(function, args, result)
        if tag is None:
            tag = self._carried(function, args, kwargs, inputs, result)
        if tag is None:
            return
        if not 0 < tag.axis < result.ndim:
            tag = tag._replace(axis=_LOST)
        for one in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(one, torch.Tensor) and one.ndim == result.ndim:
                self._tags[id(one)] = (weakref.ref(one), tag, tuple(one.shape))

    def _get(self, tensor: torch.Tensor) -> tuple[UnitAxis, tuple[int, ...]] | None:
        entry = self._tags.get(id(tensor))
        # The id of a tensor that is gone may be used again: the reference tells.
        return entry[1:] if entry is not None and entry[0]() is tensor else None

    def _produced(self, function: Any, args: tuple[Any, ...], result: torch.Tensor) -> UnitAxis | None:
        source = self._image.get(function)
        if source is not None:
            return UnitAxis(1, source)
        source = self._last.get(function)
        if source is None:
            return None
        if function is torch.einsum:
            place = self._contracted(args)
            return None if place is None else UnitAxis(place % result.ndim, source)
        if source == "matmul" and len(args) > 1 and self._weighs(args[0], args[1]):
            return UnitAxis(result.ndim - 2, source)  # W @ x keeps the units on the axis before the last
        return UnitAxis(result.ndim - 1, source)

    def _carried(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        inputs: list[torch.Tensor],
        result: torch.Tensor,
    ) -> UnitAxis | None:
        """The tag of the first tagged argument, taken where the call moves it; a known one before a lost one."""
        tagged = [(one.ndim, *tag) for one in inputs if (tag := self._get(one)) is not None]
        if not tagged:
            return None
        group = self._moving.get(function)
        if group is None:  # by broadcasting, the argument of most dimensions lends its axes
            tagged.sort(key=lambda one: (one[1].axis < 0, one[0] != result.ndim))
        _, tag, shape = tagged[0]
        if tag.axis < 0:
            return tag
        axis = (kept if group is None else MOVES[group])(Call(tag.axis, shape, args, kwargs, result))
        return tag._replace(axis=_LOST if axis is None else axis)

    def _contracted(self, args: tuple[Any, ...]) -> int | None:
        """einsum: the one axis of the output that comes from a weight alone, from the end; None without one."""
        operands = [one for one in args[1:] if isinstance(one, torch.Tensor)]
        if not args or not isinstance(args[0], str) or len(operands) != len(args) - 1:
            return None
        left, arrow, output = args[0].replace(" ", "").replace("...", ".").partition("->")
        terms = left.split(",")
        if not arrow or len(terms) != len(operands) or "." in output[1:]:
            return None  # an ellipsis elsewhere than in front stands for an unknown number of axes
        others = {
            c for term, one in zip(terms, operands, strict=True) for c in term if not self._is_factor(one)
        }
        found = [place for place, letter in enumerate(output) if letter not in others and letter != "."]
        return found[0] - len(output) if len(found) == 1 else None

    def _is_factor(self, value: torch.Tensor) -> bool:
        return self._is_weight(value) or not self._samples.is_from_batch(value)

    def _weighs(self, left: Any, right: Any) -> bool:
        """Whether `left @ right` is a weight times data."""
        if not self._is_weight(left) or self._is_weight(right):
            return False
        return isinstance(left, torch.nn.Parameter) or self._samples.is_from_batch(right)

    def _is_weight(self, value: Any) -> bool:
        """A parameter, or what was computed from parameters without the batch: masked, normalised..."""
        if isinstance(value, torch.nn.Parameter):
            return True
        entry = self._weights.get(id(value))
        return entry is not None and entry() is value
