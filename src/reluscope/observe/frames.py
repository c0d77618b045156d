"""Frames: the forward of every module, wrapped so that the watcher knows whose calls it sees.

From the second batch on, the modules of torch itself whose forward is known call by call (convolutions, linear
layers, batch norms, pools, ReLU) run with the watcher set aside: what they would have shown is told to it
directly. Every call that it does not see saves some ten microseconds between two kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from reluscope.observe.activations import is_activation_module

if TYPE_CHECKING:
    from reluscope.observe.subject import Inventory
    from reluscope.observe.watcher import Watcher

__all__ = ["Frame", "framed_modules"]

Forward = Callable[..., Any]

# The stack of function modes that torch keeps.
_height, _mode_at = torch._C._len_torch_function_stack, torch._C._get_function_stack_at
_pop, _push = torch._C._pop_torch_function_stack, torch._C._push_on_torch_function_stack
_is_off = torch._C._is_torch_function_all_disabled

# torch's own, whatever may stand in their place later on.
_RELU, _BATCH_NORM = functional.relu, functional.batch_norm

# Of one argument; they call no activation and write to no parameter, whatever that is.
_PLAIN = frozenset(
    (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
        *(nn.LayerNorm, nn.GroupNorm, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    )
)
_BATCH_NORMS = frozenset((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
_KNOWN = _PLAIN | _BATCH_NORMS | {nn.ReLU}


@dataclass(frozen=True, slots=True)
class Frame:
    """A module whose forward is running."""

    path: str
    is_activation: bool

    @classmethod
    def of(cls, path: str, module: object) -> Frame:
        return cls(path, is_activation_module(module))


def framed_modules(inventory: Inventory, watcher: Watcher) -> Iterator[tuple[nn.Module, Forward]]:
    """Every module with the forward that it runs during a pass."""
    for path, module in inventory.modules.items():
        yield module, _framed(module, Frame.of(path, module), watcher)
    # Not the wrapper's own forward: it synchronises processes, scatters to devices or compiles.
    yield from inventory.wrappers


def _framed(module: nn.Module, frame: Frame, watcher: Watcher) -> Forward:
    forward, stack = module.forward, watcher.stack

    def call(*args: Any, **kwargs: Any) -> Any:
        stack.append(frame)
        try:
            return forward(*args, **kwargs)
        finally:
            stack.pop()

    chosen = _known(module, frame, watcher, call) or call
    chosen.__wrapped__ = forward  # pyright: ignore  # the signature stays readable: some models look at their own
    return chosen


def _known(module: nn.Module, frame: Frame, watcher: Watcher, call: Forward) -> Forward | None:
    """A forward that sets the watcher aside where it may, else `call`; None where the module's own is not known."""
    kind = type(module)
    if kind not in _KNOWN or not all(_is_torchs_own(module, name) for name in ("forward", "_conv_forward")):
        return None
    if kind in _BATCH_NORMS and watcher.normalises_with_batch:
        return _batch_norm(module, watcher, call) if functional.batch_norm is _BATCH_NORM else None
    if kind is nn.ReLU:
        return _relu(module, frame, watcher, call) if functional.relu is _RELU else None
    return _plain(module.forward, watcher, call)


def _is_torchs_own(module: nn.Module, name: str) -> bool:
    """Whether a method, if there is one, is that of the module's own file: not the instance's, nor one put in its place."""
    kind = type(module)
    method = getattr(kind, name, None)
    return name not in module.__dict__ and (method is None or _is_of(method, kind.__module__))


def _is_of(function: object, file: str) -> bool:
    """Whether a function was written in a file of torch: by its globals, since `functools.wraps` copies its `__module__`."""
    return isinstance(function, FunctionType) and function.__globals__.get("__name__") == file


# Three closures that look alike, since each further call of a function costs microseconds where nothing of it is cached.
# Whether the watcher is the one that calls come to is asked every time: a model may enter a mode of its own.


def _plain(forward: Forward, watcher: Watcher, call: Forward) -> Forward:
    def step_aside(input: torch.Tensor) -> torch.Tensor:
        if watcher.is_first or _is_off() or not (height := _height()) or _mode_at(height - 1) is not watcher:
            return call(input)
        _pop()
        try:
            return forward(input)
        finally:
            _push(watcher)

    return step_aside


def _batch_norm(norm: Any, watcher: Watcher, call: Forward) -> Forward:
    """Without running statistics torch takes the batch's, and has nothing to update."""

    def normalise(input: torch.Tensor) -> torch.Tensor:
        if watcher.is_first or _is_off() or not (height := _height()) or _mode_at(height - 1) is not watcher:
            return call(input)
        _pop()
        try:
            norm._check_input_dim(input)
            return functional.batch_norm(input, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
        finally:
            _push(watcher)

    return normalise


def _relu(module: Any, frame: Frame, watcher: Watcher, call: Forward) -> Forward:
    def rectify(input: torch.Tensor) -> torch.Tensor:
        if watcher.is_first or _is_off() or not (height := _height()) or _mode_at(height - 1) is not watcher:
            return call(input)
        _pop()
        try:
            result = watcher.relu(frame, input, in_place=module.inplace)
            return functional.relu(input, module.inplace) if result is None else result
        finally:
            _push(watcher)

    return rectify
