"""The model as the subject of an observation: checked, unwrapped, its modules under the names they go by."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from reluscope.errors import UnsupportedModelError
from reluscope.observe.sites import Unobserved

__all__ = [
    "Inventory",
    "check_model",
    "list_scripted",
    "named_parameters",
    "take_inventory",
    "unwrap",
]


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

    `modules` are those that run their own forward, by first path; `wrappers` are wrappers below the root
    with what they wrap; `scripted` are scripted or traced modules, into which nothing can look.
    """

    root: nn.Module
    modules: dict[str, nn.Module] = field(default_factory=dict)
    wrappers: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)
    scripted: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def everything(self) -> list[nn.Module]:
        """All modules whose state must be kept, wrappers included, each once."""
        scripted = (module for root in self.scripted.values() for module in root.modules())
        return [*self.modules.values(), *(wrapper for wrapper, _ in self.wrappers), *scripted]

    @property
    def device(self) -> torch.device | None:
        """Where the first parameter or buffer lives; None for a model without any."""
        first = next(itertools.chain(self.root.parameters(), self.root.buffers()), None)
        return None if first is None else first.device


def take_inventory(root: nn.Module) -> Inventory:
    """Walk an unwrapped model in the order of `named_modules()`, wrappers below the root taken off."""
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


def check_model(model: object) -> nn.Module:
    """The unwrapped model; raises `UnsupportedModelError` for what cannot be observed as a whole."""
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(
            f"a {type(model).__name__} cannot be observed; pass a torch.nn.Module. A function becomes one "
            "inside the forward of a module."
        )
    root = unwrap(model)
    if isinstance(root, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"the model is a {type(root).__name__}: scripted or traced code runs outside of Python, where no "
            "activation can be seen. Pass the module it was made from, with the same weights."
        )
    for name, parameter in (*root.named_parameters(), *root.named_buffers()):
        if isinstance(parameter, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise UnsupportedModelError(
                f'"{name}" is not initialised yet: lazy modules take their shapes from a first forward pass. '
                "Run the model once before measuring."
            )
        if parameter.is_meta:
            raise UnsupportedModelError(
                f'"{name}" is on the meta device and has no values. Give the model memory and weights first '
                '(model.to_empty(device="cpu"), load_state_dict).'
            )
    if _is_sharded(root):
        raise UnsupportedModelError(
            "the model is sharded over several processes (FSDP or DTensor), and a measurement by one of them "
            "would wait for the others forever. Measure a replicated copy, or checkpoints on one process."
        )
    return root


def _is_sharded(root: nn.Module) -> bool:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return False
    # By name: importing either takes long, and without them nothing is sharded.
    kinds = {type(one).__name__ for one in (*root.modules(), *root.parameters())}
    return not kinds.isdisjoint(("FullyShardedDataParallel", "DTensor"))


def named_parameters(inventory: Inventory, hidden: Sequence[nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter once, by the path of its module; those of hidden modules by the name of their class."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    named = [
        *inventory.modules.items(),
        *inventory.scripted.items(),
        *((type(one).__name__, one) for one in hidden),
    ]
    for path, module in named:
        # A scripted module is one entry with all that is below it.
        is_scripted = isinstance(module, torch.jit.ScriptModule)
        members = module.named_parameters() if is_scripted else module._parameters.items()
        for name, parameter in members:
            if parameter is not None and id(parameter) not in found:
                found[id(parameter)] = (f"{path}.{name}" if path else name, parameter)
    names: dict[str, nn.Parameter] = {}
    for name, parameter in found.values():
        names[name if name not in names else f"{name}#{len(names)}"] = parameter
    return names


def list_scripted(inventory: Inventory) -> list[Unobserved]:
    """Scripted modules, and scripted functions that modules use, as entries of what is not observed."""
    reason = "scripted and traced code runs outside of Python; use the module or function it was made from"
    found = [(path, path) for path in inventory.scripted]
    names: dict[type, list[str]] = {}
    for path, module in inventory.modules.items():
        kind = type(module)
        if kind not in names:
            names[kind] = _scripted_functions(kind)
        own = [name for name, value in vars(module).items() if isinstance(value, torch.jit.ScriptFunction)]
        found.extend((f"{path}.{name}" if path else name, path) for name in (*names[kind], *own))
    return [Unobserved(name=name, module=path, operation="scripted", reason=reason) for name, path in found]


def _scripted_functions(kind: type) -> list[str]:
    """Names of scripted functions that the methods of a module class mention."""
    if kind.__module__.startswith("torch."):
        return []
    methods = (value for value in vars(kind).values() if isinstance(value, types.FunctionType))
    mentioned = (
        (name, method.__globals__.get(name)) for method in methods for name in method.__code__.co_names
    )
    return [name for name, value in mentioned if isinstance(value, torch.jit.ScriptFunction)]
