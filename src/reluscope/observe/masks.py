"""Rectifiers spelled out: `x * (x > 0)`, `where(x > 0, x, 0)`, `x[x < 0] = 0`, `x * heaviside(x, 0)`, `x + x.abs()`.

They are not observed, since the call that would be the site has no single function; they are listed. A
comparison with 0 (a number, a tensor of one element, `zeros_like`) leaves a mark on its mask, casts pass it on, and
a call that takes both a marked mask and the tensor it was made from is reported. Masks of other tensors
(attention, padding) are not.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch

from reluscope.observe.activations import is_transformed

__all__ = ["MaskTracker"]

_ZEROS = ("zeros", "zeros_like", "new_zeros")
_STEPS = ("heaviside", "heaviside_")
_MAGNITUDES = ("abs", "absolute", "__abs__")
_SUMS = ("add", "add_", "__add__", "__radd__", "__iadd__")
_COMPARISONS = ("gt", "ge", "lt", "le", "greater", "less", "greater_equal", "less_equal")
_CASTS = (
    *("to", "float", "double", "half", "bfloat16", "type", "type_as", "int", "long"),
    *("logical_not", "bitwise_not"),
)
_USES = {
    "where": ("where",),
    "mul": ("mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"),
    "masked_fill": ("masked_fill", "masked_fill_"),
    "setitem": ("__setitem__",),
}

_Marks = dict[int, tuple[weakref.ref[torch.Tensor], weakref.ref[torch.Tensor]]]


def _named(names: tuple[str, ...]) -> set[Any]:
    found = (getattr(namespace, name, None) for name in names for namespace in (torch, torch.Tensor))
    return {function for function in found if callable(function)}


class MaskTracker:
    """Follows the masks of one forward pass."""

    def __init__(self) -> None:
        self._comparisons, self._casts = _named(_COMPARISONS), _named(_CASTS)
        self._uses = {function: use for use, names in _USES.items() for function in _named(names)}
        self._zeros, self._steps = _named(_ZEROS), _named(_STEPS)
        self._magnitudes, self._sums = _named(_MAGNITUDES), _named(_SUMS)
        self._zero_ids: dict[int, weakref.ref[torch.Tensor]] = {}
        self._absolute: _Marks = {}
        self._masks: _Marks = {}

    def note(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> str | None:
        """Look at a call that has just run; the name of the use when it was a rectifier spelled out."""
        if function in self._comparisons:
            if len(args) == 2:
                for value, bound in (args, args[::-1]):
                    if _is_rectifiable(value) and self._is_zero(bound):
                        self._mark(self._masks, result, value)
            return None
        if function in self._steps:
            if args and _is_rectifiable(args[0]):
                self._mark(self._masks, result, args[0])
            return None
        if function in self._zeros:
            if isinstance(result, torch.Tensor):
                self._zero_ids[id(result)] = weakref.ref(result)
            return None
        if function in self._magnitudes:
            if args and _is_rectifiable(args[0]):
                self._mark(self._absolute, result, args[0])
            return None
        if self._absolute and function in self._sums:
            magnitudes = [self._source(self._absolute, one) for one in args]
            return "add" if any(m is not None and m is one for m in magnitudes for one in args) else None
        if not self._masks:
            return None
        if function in self._casts:
            source = self._source(self._masks, args[0]) if args else None
            if source is not None and result is not args[0]:
                self._mark(self._masks, result, source)
            return None
        use = self._uses.get(function)
        if use is None:
            return None
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
        sources = [source for one in tensors if (source := self._source(self._masks, one)) is not None]
        return use if any(source is one for source in sources for one in tensors) else None

    def _is_zero(self, bound: Any) -> bool:
        if not isinstance(bound, torch.Tensor):
            return isinstance(bound, (int, float)) and bound == 0
        entry = self._zero_ids.get(id(bound))
        if entry is not None and entry() is bound:
            return bound._version == 0
        return bound.ndim == 0 and not is_transformed(bound) and not bool(bound)

    def _mark(self, marks: _Marks, mask: Any, source: torch.Tensor) -> None:
        if isinstance(mask, torch.Tensor):
            marks[id(mask)] = (weakref.ref(mask), weakref.ref(source))

    def _source(self, marks: _Marks, tensor: Any) -> torch.Tensor | None:
        entry = marks.get(id(tensor))
        return entry[1]() if entry is not None and entry[0]() is tensor else None


def _is_rectifiable(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 2
