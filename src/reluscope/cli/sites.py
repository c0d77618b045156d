"""`reluscope sites`: what would be observed in a model, and what would not, with the reason."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reluscope.cli.console import print_json, print_line
from reluscope.cli.factories import make_model
from reluscope.cli.tables import print_table
from reluscope.errors import MeasurementError, ReluscopeError

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
    found = _find(make_model(model), model, sizes, smooth)
    rows = found.reset_index().to_dict("records") if found.index.name else found.to_dict("records")
    if as_json:
        print_json(rows)
    elif not rows:
        print_line(f"{model}: no activation calls, observed or not")
    else:
        _print(model, rows)


def _print(address: str, rows: list[dict[str, Any]]) -> None:
    """What is observed as a table, what is not as sentences: reasons have no room in a column of a terminal."""
    observed = [row for row in rows if row["observed"]]
    calls = "1 activation call" if len(rows) == 1 else f"{len(rows):,} activation calls"
    print_line(f"{address}: {calls}, {len(observed):,} of them observed")
    if observed:
        print_table([_in_short(row) for row in observed])
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        if not row["observed"]:
            by_reason.setdefault(row["reason"], []).append(f'"{row["site"]}"')
    for reason, names in by_reason.items():
        print_line(f"not observed: {', '.join(names)}: {reason}")


def _in_short(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit on a terminal; --json has all of them."""
    return {
        "site": row["site"],
        "operation": row["operation"],
        "kinks": row["kinks"],
        "width": row["width"],
        "positions": row["num_positions"],
        "unit axis": f"{row['channel_dim']} ({row['channel_dim_source']})",
    }


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
            f'"{address}" fails on an input of shape {shape}: {type(error).__name__}: {str(error).rstrip(". ")}. '
            "Give the shape that the model takes, the batch first: --input 2,3,32,32."
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
