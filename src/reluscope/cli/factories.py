"""Objects of the user's own code, named on the command line as `pkg.mod:name`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from reluscope.errors import ProbeError, ReluscopeError, UnsupportedModelError, closest

if TYPE_CHECKING:
    from torch import nn

    from reluscope.observe import Probe

__all__ = ["make_model", "make_probe"]


def make_model(address: str) -> nn.Module:
    """The model at `pkg.mod:name`, the current folder included: the object, or what it returns when called.

    Raises:
        typer.BadParameter: nothing is there, or no model.
        UnsupportedModelError: the function that makes it fails.
    """
    found = _find(address, "model")
    import torch

    return _made(found, address, torch.nn.Module, "a model", "a torch.nn.Module", UnsupportedModelError)


def make_probe(address: str) -> Probe:
    """The probe at `pkg.mod:name`, like `make_model`.

    Raises:
        typer.BadParameter: nothing is there, or no probe.
        ProbeError: the function that makes it fails.
    """
    found = _find(address, "probe")
    from reluscope.observe import Probe

    return _made(found, address, Probe, "a probe", "an rs.Probe", ProbeError)


def _find(address: str, what: str) -> Any:
    """The object at an address, importing its module."""
    module_name, colon, name = address.partition(":")
    if not (colon and module_name and name):
        raise typer.BadParameter(
            f'"{address}" names no {what}. Write MODULE:FACTORY, for example mypackage.models:net.'
        )
    sys.path.insert(0, os.getcwd())  # as `python -m` does; an installed command does not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f'there is no module "{error.name}" here, asked for by "{address}".'
        ) from None
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        public = [one for one in vars(module) if not one.startswith("_")]
        raise typer.BadParameter(f'module "{module_name}" has no "{name}". Closest: {closest(name, public)}.')
    return getattr(module, name)


def _made(
    found: Any,
    address: str,
    kind: type,
    what: str,
    exactly: str,
    failure: Callable[[str], ReluscopeError],
) -> Any:
    """The object itself if it is of the kind, or what it makes."""
    if isinstance(found, kind):
        return found
    if not callable(found):
        raise typer.BadParameter(
            f'"{address}" is a {type(found).__name__}, not {what} or a function that makes one.'
        )
    try:
        made = found()
    except Exception as error:
        raise failure(
            f'"{address}", called without arguments, raised {type(error).__name__}: {error}. Name a function '
            f"that makes {what} and needs none, or {what} itself."
        ) from error
    if not isinstance(made, kind):
        raise typer.BadParameter(f'"{address}" returned a {type(made).__name__}, not {exactly}.')
    return made
