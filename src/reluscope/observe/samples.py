"""Where the samples of the batch lie in every tensor of one forward pass.

A measure that needs labels must know whose evaluation is whose. Axis 0 tells when it lists the samples in
order, each with all that was folded in behind it (windows, tokens): sample-major. It does not tell when something
was folded in front of them (`torch.cat` of two views, `repeat`, time steps), although its length is a multiple of
the batch all the same.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from reluscope.observe.functions import grouped, tensors_of
from reluscope.observe.moves import MOVES, Call, moving_table

__all__ = ["SampleTags"]


class _Samples(NamedTuple):
    """Entry (f * num_samples + s) * b + r of the axis is of sample s: f before it, b = what is left behind it.

    A negative axis: the tensor comes from the batch, but where the samples lie is not known.
    """

    axis: int
    before: int
    shape: tuple[int, ...]


@functools.cache
def _groups() -> dict[Any, str]:
    return grouped(
        {
            "cat": ("cat", "concat", "concatenate", "vstack", "row_stack"),
            "repeat": ("repeat", "tile"),
            "interleave": ("repeat_interleave",),
            "split": ("split", "chunk", "tensor_split", "split_with_sizes"),
            "recurrent": ("lstm", "gru", "rnn_tanh", "rnn_relu"),
            "reorder": (
                *("flip", "flipud", "fliplr", "rot90", "roll", "sort", "msort", "argsort", "topk"),
                *("index_select", "take_along_dim", "gather"),
                *("scatter", "scatter_add", "scatter_reduce", "index_copy", "index_add", "index_fill"),
                *("scatter_", "scatter_add_", "scatter_reduce_", "index_copy_", "index_add_"),
            ),
        }
    )


class SampleTags:
    """Follows the samples through one batch: `begin` with the model's inputs, then `note` every call."""

    def __init__(self) -> None:
        self._tags: dict[int, tuple[weakref.ref[torch.Tensor], _Samples]] = {}
        self._num_samples = 1
        self._groups = {**moving_table(), **_groups()}

    def begin(self, inputs: list[torch.Tensor], num_samples: int) -> None:
        """Axis 0 of every input lists the samples."""
        self._num_samples = num_samples
        for tensor in inputs:
            if tensor.ndim:
                self._set(tensor, _Samples(0, 1, tuple(tensor.shape)))

    def is_from_batch(self, tensor: Any) -> bool:
        """Whether a value was computed from the inputs, as far as every call on the way was seen."""
        return isinstance(tensor, torch.Tensor) and self._get(tensor) is not None

    def is_sample_major(self, tensor: torch.Tensor) -> bool:
        """Whether axis 0 lists the samples in order. A tensor of unknown origin must have just their number."""
        tag = self._get(tensor)
        if tag is None:
            return tensor.shape[0] == self._num_samples
        return (tag.axis, tag.before) == (0, 1) and tensor.shape[0] % self._num_samples == 0

    def note(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Tag the output of a call that has just run."""
        outputs = [one for one in _listed(output) if isinstance(one, torch.Tensor) and one.ndim]
        if not outputs or not self._tags:
            return
        sources = [(one, tag) for one in tensors_of(args, kwargs) if (tag := self._get(one)) is not None]
        if not sources:
            return
        group = self._groups.get(function)
        for result in outputs:
            if group == "split" and args and sources[0][0] is args[0]:
                found = self._part(sources[0][1], result, outputs)
            elif group == "recurrent" and result is not outputs[0]:
                tag = sources[0][1]  # the last states, (layers, samples, units)
                found = None if tag.axis < 0 or result.ndim != 3 else (1, tag.before)
            else:
                found = self._found(group, function, args, kwargs, result, sources)
            axis, before = (-1, 1) if found is None else found
            shape = tuple(result.shape)
            if axis >= len(shape) or (axis >= 0 and shape[axis] % max(before * self._num_samples, 1)):
                axis = -1
            self._set(result, _Samples(axis, before, shape))

    def _found(
        self,
        group: str | None,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: torch.Tensor,
        sources: list[tuple[torch.Tensor, _Samples]],
    ) -> tuple[int, int] | None:
        """Axis of the samples in the result and what is before them on it; None when it cannot be told."""
        if group is None:
            return _aligned(sources, result)
        if group == "cat":
            return self._concatenated(args, kwargs, result, sources)
        tag = sources[0][1]
        if group == "reorder":
            return self._reordered(function, Call(tag.axis, tag.shape, args, kwargs, result), tag)
        if (
            group == "recurrent"
            or tag.axis < 0
            or (args and isinstance(args[0], torch.Tensor) and sources[0][0] is not args[0])
        ):
            return _aligned(sources, result)
        call = Call(tag.axis, tag.shape, args, kwargs, result)
        if group == "reshape":
            return self._reshaped(tag, result)
        if group == "repeat":
            axis = tag.axis + result.ndim - len(tag.shape)
            return axis, tag.before * (result.shape[axis] // max(tag.shape[tag.axis], 1))
        if group == "interleave":
            dim, repeats = call.argument(2, "dim"), call.argument(1, "repeats")
            dim = None if dim is None else dim % len(tag.shape)
            known = dim is not None and (dim != tag.axis or isinstance(repeats, int))
            return (tag.axis, tag.before) if known else None
        if group == "stack" and any(one[1][:2] != tag[:2] for one in sources):
            return None
        axis = MOVES[group](call)
        if axis is None or axis >= result.ndim or result.shape[axis] != tag.shape[tag.axis]:
            return None
        return axis, tag.before

    def _reshaped(self, tag: _Samples, result: torch.Tensor) -> tuple[int, int] | None:
        """In C order as many elements come before the samples as did, wherever the axes are cut."""
        outer = math.prod(tag.shape[: tag.axis]) * tag.before
        for axis, size in enumerate(result.shape):
            before, rest = divmod(outer, max(math.prod(result.shape[:axis]), 1))
            if rest == 0 and before and size and size % (before * self._num_samples) == 0:
                return axis, before
        return None

    def _concatenated(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: torch.Tensor,
        sources: list[tuple[torch.Tensor, _Samples]],
    ) -> tuple[int, int] | None:
        """Along the axis of the samples, whole batches come one after the other."""
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        tag = sources[0][1]
        if not isinstance(dim, int) or any(one[1].axis != tag.axis for one in sources):
            return None
        if dim % result.ndim != tag.axis:
            return (tag.axis, tag.before) if all(one[1].before == tag.before for one in sources) else None
        parts = tensors_of(args, kwargs)
        behind = {one[1].shape[tag.axis] // (one[1].before * self._num_samples) for one in sources}
        if len(parts) == 1:
            return tag.axis, tag.before
        whole = len(sources) == len(parts) and len(behind) == 1
        return (tag.axis, sum(one[1].before for one in sources)) if whole else None

    def _part(
        self, tag: _Samples, result: torch.Tensor, outputs: list[torch.Tensor]
    ) -> tuple[int, int] | None:
        """Of views one after the other, a part that holds whole batches."""
        if tag.axis < 0:
            return None
        if result.shape[tag.axis] == tag.shape[tag.axis]:
            return tag.axis, tag.before
        whole = tag.shape[tag.axis] // tag.before
        sizes = [one.shape[tag.axis] for one in outputs]
        if any(size % whole for size in sizes):
            return None
        return tag.axis, result.shape[tag.axis] // whole

    def _reordered(self, function: Any, call: Call, tag: _Samples) -> tuple[int, int] | None:
        """Flips, rolls, sorts and gathers leave the samples in order along other axes only."""
        name = getattr(function, "__name__", "")
        place = {"roll": 2, "rot90": 2}.get(name, 1)
        dims = call.argument(place, "dims", "dim", "axis")
        if name in ("sort", "argsort") and dims is None:
            dims = -1
        if name == "topk":
            dims = call.argument(2, "dim")
            dims = -1 if dims is None else dims
        if name == "take_along_dim":
            dims = call.argument(2, "dim")
        if name == "fliplr":
            dims = 1
        dims = (dims,) if isinstance(dims, int) else dims
        if tag.axis < 0 or not isinstance(dims, (tuple, list)):
            return None
        if tag.axis in {dim % len(tag.shape) for dim in dims}:
            return None
        same = call.result.ndim == len(tag.shape) and call.result.shape[tag.axis] == tag.shape[tag.axis]
        return (tag.axis, tag.before) if same else None

    def _get(self, tensor: torch.Tensor) -> _Samples | None:
        entry = self._tags.get(id(tensor))
        # The id of a tensor that is gone may be used again: the reference tells.
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _set(self, tensor: torch.Tensor, tag: _Samples) -> None:
        self._tags[id(tensor)] = (weakref.ref(tensor), tag)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _aligned(sources: list[tuple[torch.Tensor, _Samples]], result: torch.Tensor) -> tuple[int, int] | None:
    """What all that came in agrees on, axes aligned as for broadcasting; sizes must be what they were."""
    found: set[tuple[int, int]] = set()
    for _, tag in sources:
        if tag.axis < 0:
            # Of use along axis 0 only when it spans it: a statistic of the batch, say, does not.
            if len(sources) == 1 or tag.shape[:1] == tuple(result.shape[:1]):
                return None
            continue
        shift = result.ndim - len(tag.shape)
        axis = tag.axis + shift if shift >= 0 else tag.axis
        if axis < result.ndim and result.shape[axis] == tag.shape[tag.axis]:
            found.add((axis, tag.before))
    return found.pop() if len(found) == 1 else None
