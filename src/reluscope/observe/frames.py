"""Frames: the forward of every module, wrapped so that the watcher knows whose calls it sees.

From the second batch on, the modules of torch itself whose forward is known call by call (convolutions, linear
layers, batch norms, pools, ReLU) run with the watcher set aside: what they would have shown is told to it
directly. Every call that it does not see saves some ten microseconds between two kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

# They call no activation and write to no parameter, whatever they are given.
_PLAIN = frozenset(
    (
        *(
            nn.Conv1d,
            nn.Conv2d,
            nn.Conv3d,
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
            nn.Linear,
        ),
        *(nn.LayerNorm, nn.GroupNorm, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    )
)
_BATCH_NORMS = frozenset((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))


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

    quick = _known(module, forward, frame, watcher)
    chosen = call if quick is None else _aside(quick, call, watcher)
    chosen.__wrapped__ = forward  # pyright: ignore  # the signature stays readable: some models look at their own
    return chosen


def _aside(quick: Forward, call: Forward, watcher: Watcher) -> Forward:
    """`quick` with the watcher set aside where it may be, else `call`."""
    pop, push = torch._C._pop_torch_function_stack, torch._C._push_on_torch_function_stack

    def step_aside(*args: Any, **kwargs: Any) -> Any:
        if not watcher.is_repeating():
            return call(*args, **kwargs)
        pop()
        try:
            return quick(*args, **kwargs)
        finally:
            push(watcher)

    return step_aside


def _known(module: nn.Module, forward: Forward, frame: Frame, watcher: Watcher) -> Forward | None:
    """What a module of torch itself does in its forward, or None where that is not known."""
    kind = type(module)
    is_own = "forward" not in module.__dict__ and kind.forward.__module__ == kind.__module__
    if not is_own:
        return None
    if kind in _PLAIN:
        return forward
    if kind in _BATCH_NORMS:
        return _with_batch_statistics(module) if watcher.normalises_with_batch else forward
    if kind is nn.ReLU and isinstance(module, nn.ReLU):
        return _announced(module, forward, frame, watcher)
    return None


def _with_batch_statistics(norm: Any) -> Forward:
    """Without running statistics torch takes the batch's, and has nothing to update."""

    def normalise(input: torch.Tensor) -> torch.Tensor:
        norm._check_input_dim(input)
        return functional.batch_norm(input, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)

    return normalise


def _announced(module: nn.ReLU, forward: Forward, frame: Frame, watcher: Watcher) -> Forward:
    def rectify(input: torch.Tensor) -> torch.Tensor:
        result = watcher.relu(frame, input, in_place=module.inplace)
        return forward(input) if result is None else result

    return rectify
