"""Torch functions under all the names they go by: a call through `torch.ops.aten` is one of `torch`'s own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional

__all__ = ["canonical", "functions_named", "grouped", "tensors_of"]

_NAMESPACES = (torch, torch.Tensor, functional, torch._C._nn, torch._C._VariableFunctions)  # pyright: ignore
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)  # pyright: ignore


def canonical(function: Any) -> Any:
    """The function of torch that an operator stands for (`torch.ops.aten.relu.default`), or `function` itself.

    The arguments of both come in the same order, which is all that the tables of this package rely on.
    """
    return _of_operator(function) if isinstance(function, _OPERATORS) else function


@functools.cache
def _of_operator(operator: Any) -> Any:
    packet = getattr(operator, "overloadpacket", operator)
    namespace, _, name = packet._qualified_op_name.partition("::")
    if namespace != "aten":
        return operator
    found = (getattr(home, name, None) for home in (torch, torch.Tensor, torch._C._nn))  # pyright: ignore
    return next((one for one in found if one is not None), operator)


def functions_named(names: Iterable[str]) -> Iterator[Any]:
    """Every function, method or getter of a property with one of these names, as `__torch_function__` gets it."""
    for name in names:
        for namespace in _NAMESPACES:
            function = getattr(namespace, name, None)
            if function is not None:
                yield function if callable(function) else function.__get__


def grouped(groups: Mapping[str, Iterable[str]]) -> dict[Any, str]:
    """Functions to groups, from the names in each group."""
    return {function: group for group, names in groups.items() for function in functions_named(names)}


def tensors_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors among the arguments of a call, those in lists included."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found.extend(one for one in value if isinstance(one, torch.Tensor))
    return found
