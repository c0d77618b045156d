"""`reluscope demo`: see what reluscope does, in about two minutes and without any data of one's own."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluscope.cli.console import print_json, print_line

if TYPE_CHECKING:
    from reluscope.lab import DemoResult

__all__ = ["demo"]

WHAT_TO_LOOK_AT = """\
What to look at:
  Relative entropy   how evenly a layer uses its patterns.
"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the two runs and the report.")] = Path(
        "reluscope-demo"
    ),
    steps: Annotated[int, typer.Option(min=10, help="Updates of each training.")] = 300,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Train ResNet-20 and ConvNet-20 on 5,000 embedded digits and compare them on one page (two minutes).

    Needs no data and no network. The images come with the extra `lab`: pip install 'reluscope[lab]'.
    """
    from reluscope.lab import ProgressDisplay, run_demo

    if not as_json:
        print_line(
            "Two networks that differ only in ResNet's shortcuts learn to read 4,500 digits; the patterns of"
        )
        print_line("all their activation layers on 1,000 of these digits are counted as they go.")
    with ProgressDisplay(quiet=quiet or as_json) as display:
        result = run_demo(out, steps=steps, on_training=display.training)
    if as_json:
        print_json({"report": result.report, "trainings": {k: vars(v) for k, v in result.trainings.items()}})
    else:
        _summarize(result)
    if open_report:
        webbrowser.open(result.report.resolve().as_uri())


def _summarize(result: DemoResult) -> None:
    for title, training in result.trainings.items():
        print_line(
            f"  {title:<11}{training.held_out_accuracy:6.1%} of 500 unseen digits right, "
            f"{training.num_measurements} measurements in {training.run}"
        )
    print_line()
    print_line(WHAT_TO_LOOK_AT)
    print_line(f"Report: {result.report.resolve()}")
