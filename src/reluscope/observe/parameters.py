"""Parameters: never copied ahead, yet put back when a forward pass writes to them.

Some models change their weights in forward (a max-norm constraint, weight clipping). The watcher sees the
writing call before it runs, so the values can be set aside just then. Whatever gets past it is found by
version counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import _unsafe_preserve_version_counter

from reluscope.errors import MeasurementError

__all__ = ["ParameterKeeper", "writes_in_place"]

_SET_DATA = torch.Tensor.data.__set__  # pyright: ignore
_SET_GRAD = torch.Tensor.grad.__set__  # pyright: ignore


class ParameterKeeper:
    """Keeps the values, version counters and gradients of named parameters over a measurement."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._by_storage: dict[int, list[torch.nn.Parameter]] = {}
        self._before: dict[str, tuple[int | None, torch.Tensor | None, int | None]] = {}
        self._aside: dict[int, Callable[[], None]] = {}
        for name, parameter in self._parameters.items():
            if (storage := _storage(parameter)) is not None:
                self._by_storage.setdefault(storage, []).append(parameter)
            grad = parameter.grad
            self._before[name] = (_version(parameter), grad, None if grad is None else _version(grad))

    def about_to_write(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Set the parameters aside that a call is about to write to, in its first argument or in `out`."""
        targets = [args[0] if args else kwargs.get("input"), kwargs.get("out")]
        for target in targets:
            for one in target if isinstance(target, (tuple, list)) else (target,):
                if isinstance(one, torch.Tensor):
                    self._set_aside(one, moves=function == _SET_DATA)

    def _set_aside(self, target: torch.Tensor, *, moves: bool) -> None:
        storage = _storage(target)
        if storage is None:
            return
        for parameter in self._by_storage.get(storage, ()):
            if id(parameter) in self._aside:
                continue
            counter = _unsafe_preserve_version_counter(parameter)
            # `p.data = x` leaves the old memory alone; anything else is about to overwrite it.
            old = parameter.detach()
            values = None if moves and target is parameter else old.clone()

            def restore(
                parameter: Any = parameter, old: Any = old, values: Any = values, counter: Any = counter
            ):
                with torch.no_grad(), counter:
                    if values is not None:
                        old.copy_(values)
                    if parameter.data_ptr() != old.data_ptr():
                        parameter.data = old

            self._aside[id(parameter)] = restore

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Put values and gradients back at the end.

        Raises:
            MeasurementError: a parameter or gradient was written to by a call that cannot be seen, and is
                changed.
        """
        try:
            yield
        finally:
            for restore in self._aside.values():
                restore()
            changed = [name for name, one in self._parameters.items() if not self._same(name, one)]
            self._aside.clear()
        if changed:
            raise MeasurementError(
                f'the forward pass changed the parameter "{changed[0]}"'
                f"{f' and {len(changed) - 1} more' if len(changed) > 1 else ''} or its gradient in a way "
                "that cannot be undone (from a custom operator or a backward pass of its own). Training has "
                "been disturbed by this measurement. Do it only `if self.training`."
            )

    def _same(self, name: str, parameter: torch.nn.Parameter) -> bool:
        version, grad, grad_version = self._before[name]
        if parameter.grad is not grad:
            parameter.grad = grad
        return _version(parameter) == version and (grad is None or _version(grad) == grad_version)


def writes_in_place(function: Any) -> bool:
    """Whether a function writes to its first argument: its name ends in one underscore, or is a known one."""
    name = getattr(function, "__name__", "").partition(".")[0]  # an operator's is "relu_.default"
    if name in ("__set__", "__setitem__"):
        return function not in (_SET_GRAD,)
    if (
        name.startswith("__i")
        and name.endswith("__")
        and name not in ("__invert__", "__int__", "__index__", "__iter__")
    ):
        return True
    return name.endswith("_") and not name.endswith("__")


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _storage(tensor: torch.Tensor) -> int | None:
    """Identity of the memory; None for tensors without memory of their own (sparse, fake, wrappers)."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return None
