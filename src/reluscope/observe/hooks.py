"""Hooks on modules: which ones compute the module itself, and names for the others."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules import module as module_internals
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from reluscope.observe.sites import Unobserved

__all__ = ["LOCAL_HOOKS", "computing_hooks", "list_silent_hooks"]

LOCAL_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_COMPUTING_TYPES = (WeightNorm, SpectralNorm, BasePruningMethod)
# Packages of torch whose hooks make weights or activations; hooks that count, trace or profile stay silent.
_COMPUTING_PACKAGES = (
    "torch.nn.utils.",
    "torch.distributed.fsdp.",
    "torch.distributed._composable.",
    "torch.distributed.tensor.",
    "torch.ao.",
)
_KINDS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_hooks": "backward hook",
    "_backward_pre_hooks": "backward pre-hook",
}


def _function(hook: Any) -> Any:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return hook


def _computes(hook: Any) -> bool:
    function = _function(hook)
    if isinstance(function, _COMPUTING_TYPES) or isinstance(
        getattr(function, "__self__", None), _COMPUTING_TYPES
    ):
        return True
    home = getattr(function, "__module__", None) or type(function).__module__
    return f"{home}.".startswith(_COMPUTING_PACKAGES)


def computing_hooks(module: nn.Module) -> set[int]:
    """Ids of the forward hooks and pre-hooks that belong to the computation of a module."""
    return {
        key
        for name in ("_forward_pre_hooks", "_forward_hooks")
        for key, hook in module.__dict__.get(name, {}).items()
        if _computes(hook)
    }


def list_silent_hooks(modules: Mapping[str, nn.Module]) -> list[Unobserved]:
    """Every hook that does not run during a measurement, global ones first."""
    found = [
        _entry("", "global " + kind, hook)
        for name, kind in _KINDS.items()
        for hook in getattr(module_internals, "_global" + name).values()
    ]
    for path, module in modules.items():
        kept = computing_hooks(module)
        found.extend(
            _entry(path, kind, hook)
            for name, kind in _KINDS.items()
            for key, hook in module.__dict__.get(name, {}).items()
            if key not in kept
        )
    return found


def _entry(path: str, kind: str, hook: Any) -> Unobserved:
    function = _function(hook)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return Unobserved(
        name=f"{path}:{name}" if path else name,
        module=path,
        operation=kind,
        reason="hooks do not run during a measurement, unless they compute the module's own weights",
    )
