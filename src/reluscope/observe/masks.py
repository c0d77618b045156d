"""Rectifiers spelled out: `x * (x > 0)`, `where(x > 0, x, 0)`, `x[x < 0] = 0`.

They are not observed, since the call that would be the site has no single function; they are listed. A
comparison with 0 leaves a mark on its mask, casts pass it on, and a call that takes both a marked mask and
the tensor it was made from is reported. Masks of other tensors (attention, padding) are not.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["MaskTracker"]

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


def _named(names: tuple[str, ...]) -> set[Any]:
    found = (getattr(namespace, name, None) for name in names for namespace in (torch, torch.Tensor))
    return {function for function in found if callable(function)}


class MaskTracker:
    """Follows the masks of one forward pass."""

    def __init__(self) -> None:
        self._comparisons, self._casts = _named(_COMPARISONS), _named(_CASTS)
        self._uses = {function: use for use, names in _USES.items() for function in _named(names)}
        self._masks: dict[int, tuple[weakref.ref[torch.Tensor], weakref.ref[torch.Tensor]]] = {}

    def note(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> str | None:
        """Look at a call that has just run; the name of the use when it was a rectifier spelled out."""
        if function in self._comparisons:
            if (
                len(args) == 2
                and _is_rectifiable(args[0])
                and not isinstance(args[1], torch.Tensor)
                and args[1] == 0
            ):
                self._mark(result, args[0])
            return None
        if not self._masks:
            return None
        if function in self._casts:
            source = self._source(args[0]) if args else None
            if source is not None and result is not args[0]:
                self._mark(result, source)
            return None
        use = self._uses.get(function)
        if use is None:
            return None
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
        sources = [source for one in tensors if (source := self._source(one)) is not None]
        return use if any(source is one for source in sources for one in tensors) else None

    def _mark(self, mask: Any, source: torch.Tensor) -> None:
        if isinstance(mask, torch.Tensor):
            self._masks[id(mask)] = (weakref.ref(mask), weakref.ref(source))

    def _source(self, tensor: Any) -> torch.Tensor | None:
        entry = self._masks.get(id(tensor))
        return entry[1]() if entry is not None and entry[0]() is tensor else None


def _is_rectifiable(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 2
