"""Rows of values as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["print_table", "short"]


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str | None = None) -> None:
    """All rows under the columns of the first, numbers on the right; in a pipe, as wide as it needs."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float) and not isinstance(row[name], bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(short(value) for value in row.values()))
    console.print(table, markup=False)


def short(value: Any) -> str:
    """A value in few characters: 4 significant digits, thousands separated, a dash for what is not defined.

    >>> short(0.123456), short(22000000), short(float("nan")), short((0.0, 6.0)), short(True)
    ('0.1235', '22,000,000', '-', '0, 6', 'yes')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(short(item) for item in value)
    return str(value)
