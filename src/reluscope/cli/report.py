"""`reluscope report`: the page of one run, or of several side by side."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from reluscope.cli.console import print_json, print_line

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, one or several.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help=".html for the page; .png, .pdf or .svg for a figure."
        ),
    ] = Path("report.html"),
    open_report: Annotated[bool, typer.Option("--open", help="Open it afterwards.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Write one self-contained page about one run, or comparing several."""
    from reluscope.report import write_report

    path = Path(write_report(runs, output))
    if as_json:
        print_json({"report": path, "runs": runs, "bytes": path.stat().st_size})
    else:
        print_line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    if open_report:
        webbrowser.open(path.resolve().as_uri())
