"""Names of sites: paths of modules in the unwrapped model, and a call stack of our own.

torch's ModuleTracker names a shared module by its last parent and prefixes the class, so it does not serve here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ["Inventory", "Namer", "take_inventory", "unwrap"]


def _inside(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper wraps; None when it is no wrapper."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return module.module
    # By name: importing torch._dynamo takes a second, and without it there is nothing compiled.
    if type(module).__name__ == "OptimizedModule" and type(module).__module__ == "torch._dynamo.eval_frame":
        return module._modules["_orig_mod"]
    return None


def unwrap(module: nn.Module) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and `torch.compile` wrappers, however nested."""
    inner = _inside(module)
    return module if inner is None else unwrap(inner)


@dataclass(frozen=True)
class Inventory:
    """The modules of an unwrapped model.

    `modules` are those that run their own forward, by first path; `wrappers` are wrappers below the root with what
    they wrap; `scripted` are scripted or traced modules, into which nothing can look.
    """

    root: nn.Module
    modules: dict[str, nn.Module] = field(default_factory=dict)
    wrappers: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)
    scripted: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def everything(self) -> list[nn.Module]:
        """All modules whose state must be kept, wrappers included, each once."""
        return [*self.modules.values(), *(wrapper for wrapper, _ in self.wrappers), *self.scripted.values()]


def take_inventory(root: nn.Module) -> Inventory:
    """Walk an unwrapped model in the order of `named_modules()`, with the wrappers below the root taken off."""
    inventory = Inventory(root)
    seen: set[int] = set()
    for path, module in _walk(root, "", inventory.wrappers, seen):
        if isinstance(module, torch.jit.ScriptModule):
            inventory.scripted[path] = module
        else:
            inventory.modules[path] = module
    return inventory


def _walk(
    module: nn.Module, path: str, wrappers: list[tuple[nn.Module, nn.Module]], seen: set[int]
) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    inner = _inside(module)
    if inner is not None:
        wrappers.append((module, inner))
        yield from _walk(inner, path, wrappers, seen)
        return
    yield path, module
    if isinstance(module, torch.jit.ScriptModule):
        return
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{path}.{name}" if path else name, wrappers, seen)


class Namer:
    """Gives each call of one forward pass its name; the same sequence of calls gets the same names.

    A call of an activation module carries the module's path, a functional one the path of its caller and the
    operation. A name that is also a module's gets `()`; a further call under the same name gets `#1`, `#2`...,
    leaving out what some module is already called, so that names stay unique whatever the order of the calls.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = frozenset(paths)
        self._used: Counter[str] = Counter()

    def base(self, path: str, operation: str, *, is_module_call: bool) -> str:
        """The name before numbering."""
        if is_module_call and path:
            return path
        name = f"{path}.{operation}" if path else operation
        while name in self._paths:
            name += "()"
        return name

    def name(self, base: str) -> str:
        """The name of the next call under `base`."""
        name, number = base, self._used[base]
        if number:
            name = f"{base}#{number}"
            while name in self._paths:
                number += 1
                name = f"{base}#{number}"
        self._used[base] = number + 1
        return name
