"""`reluscope sites`: what would be observed in a model, and what would not, with the reason."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from reluscope.cli.console import print_json, print_line
from reluscope.cli.tables import print_table
from reluscope.errors import MeasurementError, ReluscopeError, UnsupportedModelError, closest

__all__ = ["sites"]


def sites(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="Where the model is: a function without arguments, a class or a model.",
        ),
    ],
    shape: Annotated[
        str, typer.Option("--input", metavar="1,3,32,32", help="Shape of an example input, the batch first.")
    ],
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Observe smooth activations too, at their sign.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON and nothing else.")] = False,
) -> None:
    """List every activation call of a model: its name, width, unit axis, and whether it is observed.

    Example: reluscope sites --model reluscope.lab.models:ResNet --input 2,3,32,32
    """
    sizes = _parse_shape(shape)
    found = _find(_make_model(model), model, sizes, smooth)
    rows = found.reset_index().to_dict("records") if found.index.name else found.to_dict("records")
    if as_json:
        print_json(rows)
    elif not rows:
        print_line(f"{model}: no activation calls, observed or not")
    else:
        print_table(rows, title=f"{model}: {len(rows)} activation calls")


def _find(made: Any, address: str, sizes: tuple[int, ...], smooth: bool) -> Any:
    """The table of `rs.sites`; an error of the model itself becomes one line that names model and shape."""
    import torch

    import reluscope as rs

    example = torch.randn(sizes, generator=torch.Generator().manual_seed(0))
    try:
        return rs.sites(made, example, smooth=smooth)
    except ReluscopeError:
        raise
    except Exception as error:
        shape = ",".join(map(str, sizes))
        raise MeasurementError(
            f'"{address}" fails on an input of shape {shape}: {type(error).__name__}: {error} Give the shape '
            "that the model takes, the batch first: --input 2,3,32,32."
        ) from error


def _parse_shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(
            f'"{text}" is no shape. Write sizes with commas, the batch first: 2,3,32,32.'
        )
    return sizes


def _make_model(address: str) -> Any:
    """The model at `pkg.mod:name`, the current folder included: the object, or what it returns when called."""
    module_name, colon, name = address.partition(":")
    if not (colon and module_name and name):
        raise typer.BadParameter(
            f'"{address}" names no model. Write MODULE:FACTORY, for example mypackage.models:net.'
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
    found = getattr(module, name)
    import torch

    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        raise typer.BadParameter(
            f'"{address}" is a {type(found).__name__}, not a model or a function that makes one.'
        )
    try:
        made = found()
    except Exception as error:
        raise UnsupportedModelError(
            f'"{address}", called without arguments, raised {type(error).__name__}: {error}. Name a function '
            "that makes the model and needs none, or the model itself."
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise typer.BadParameter(f'"{address}" returned a {type(made).__name__}, not a torch.nn.Module.')
    return made
