"""The attributes of modules: what a forward pass writes to them is put back.

Plain tensors and buffers are exchanged for clones while the pass runs, and the originals put back untouched:
their version counters do not move, so that a graph waiting for its backward pass stays valid. Views and
shared memory stay views and shared among the clones. Containers (lists, dicts, sets, deques) stay the same
objects, since others may hold them too; their contents are put back. Parameters: see `parameters.py`.
"""

from __future__ import annotations

import operator
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["find_hidden_modules", "kept_attributes"]

_DICTS = frozenset((dict, OrderedDict, defaultdict, Counter))
_CONTAINERS = frozenset((list, tuple, set, deque, *_DICTS))
_MUTABLE = _CONTAINERS - {tuple}
_ATOMS = frozenset((bool, int, float, str, type(None)))


@contextmanager
def kept_attributes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put back every attribute of these modules, in value and in order, when the context ends."""
    keeper = _Keeper(modules)
    try:
        keeper.exchange()
        yield
    finally:
        keeper.put_back()


def find_hidden_modules(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Modules that sit in plain attributes or containers of others (`self.layers = [nn.Linear(...)]`).

    `named_modules()` does not know them, but the forward pass runs them, so that they need the same care.
    """
    known = {id(module) for module in modules}
    queue: list[Any] = []
    for module in modules:
        queue.extend(value for value in module.__dict__.values() if type(value) not in _ATOMS)
    hidden: list[nn.Module] = []
    visited: set[int] = set()
    while queue:
        value = queue.pop()
        if isinstance(value, nn.Module):
            for module in value.modules():
                if id(module) not in known and not isinstance(module, torch.jit.ScriptModule):
                    known.add(id(module))
                    hidden.append(module)
                    queue.extend(module.__dict__.values())
        elif type(value) in _CONTAINERS and value and id(value) not in visited:
            visited.add(id(value))
            queue.extend(value.values() if isinstance(value, dict) else value)
    return hidden


class _Keeper:
    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        # Thousands of small dicts: plain copies, since closures would keep the garbage collector busy.
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._empty: list[Any] = []  # dicts, lists, sets and deques
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._undo: list[Callable[[], None]] = []
        self._seen: set[int] = set()
        self._clones: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._weights = {
            cdata
            for module in self._modules
            for parameter in module._parameters.values()
            if parameter is not None and (cdata := _storage_of(parameter)) is not None
        }

    def exchange(self) -> None:
        with torch.no_grad():
            for module in self._modules:
                self._dict(module.__dict__)

    def put_back(self) -> None:
        for undo in self._undo:
            undo()
        for target, items in self._lists:
            if len(target) != len(items) or not all(map(operator.is_, target, items)):
                target[:] = items
        for target, items in self._dicts:
            _put_back_dict(target, items)
        for target in self._empty:
            if target:
                target.clear()

    def _visit(self, value: Any) -> Any:
        """Prepare to put a value back; the value that stands in for it during the pass."""
        kind = type(value)
        if isinstance(value, torch.Tensor):
            return value if isinstance(value, nn.Parameter) else self._clone(value)
        if kind is tuple:
            stand_in = tuple(self._visit(one) for one in value)
            return stand_in if any(a is not b for a, b in zip(stand_in, value, strict=True)) else value
        if kind in _DICTS:
            self._dict(value)
        elif kind is list:
            self._list(value)
        elif kind in (set, deque):
            self._loose(value)
        elif kind is np.ndarray:
            return value.copy()
        elif kind is torch.Generator:
            self._stateful(value, value.get_state, value.set_state)
        elif kind is random.Random:
            self._stateful(value, value.getstate, value.setstate)
        elif kind is np.random.Generator:
            bits = value.bit_generator
            self._stateful(bits, lambda: bits.state, lambda state: setattr(bits, "state", state))
        return value

    def _once(self, value: Any) -> bool:
        if id(value) in self._seen:
            return False
        self._seen.add(id(value))
        return True

    def _dict(self, target: dict[Any, Any]) -> None:
        if not self._once(target):
            return
        items = dict(target)
        self._dicts.append((target, items))
        for key, value in items.items():
            kind = type(value)
            if kind in _ATOMS:
                continue
            if kind in _MUTABLE and not value:  # most of what a module has: hooks, buffers, children
                self._empty.append(value)
            elif (stand_in := self._visit(value)) is not value:
                target[key] = stand_in

    def _list(self, target: list[Any]) -> None:
        if not self._once(target):
            return
        self._lists.append((target, list(target)))
        for index, value in enumerate(target):
            if (stand_in := self._visit(value)) is not value:
                target[index] = stand_in

    def _loose(self, target: set[Any] | deque[Any]) -> None:
        """Sets and deques: contents by identity, tensors inside not exchanged."""
        if not self._once(target):
            return
        items = list(target)

        def undo() -> None:
            if len(target) != len(items) or any(a is not b for a, b in zip(target, items, strict=True)):
                target.clear()
                (target.update if isinstance(target, set) else target.extend)(items)

        self._undo.append(undo)

    def _stateful(self, target: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        if self._once(target):
            state = read()
            self._undo.append(lambda: write(state))

    def _clone(self, tensor: torch.Tensor) -> torch.Tensor:
        entry = self._clones.get(id(tensor))
        if entry is None:
            # The tensor is kept with its clone: an id is only good while its object lives.
            entry = self._clones[id(tensor)] = (tensor, self._make_clone(tensor))
        return entry[1]

    def _make_clone(self, tensor: torch.Tensor) -> torch.Tensor:
        cdata = _storage_of(tensor)
        if cdata is None or tensor.is_conj() or tensor.is_neg():
            return tensor.detach().clone()
        if cdata in self._weights:
            return tensor  # a view of a parameter must go on showing the parameter
        storage = tensor.untyped_storage()
        if storage.nbytes() > 2 * tensor.numel() * tensor.element_size() + 4096:
            return tensor.detach().clone()  # a small view must not copy the large memory it looks at
        if cdata not in self._storages:
            self._storages[cdata] = storage.clone()
        blank = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return blank.set_(self._storages[cdata], tensor.storage_offset(), tensor.size(), tensor.stride())


def _put_back_dict(target: dict[Any, Any], items: dict[Any, Any]) -> None:
    if len(target) == len(items) and all(map(operator.eq, target, items)):
        if not all(map(operator.is_, target.values(), items.values())):
            target.update(items)
    else:  # a key came or went: the order is part of what is put back
        target.clear()
        target.update(items)


def _storage_of(tensor: torch.Tensor) -> int | None:
    """Identity of a plain strided tensor's memory; None for all others."""
    if type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        return None
    return tensor.untyped_storage()._cdata
