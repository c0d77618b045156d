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


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the two runs and the report.")] = Path(
        "reluscope-demo"
    ),
    steps: Annotated[
        int, typer.Option(metavar="N", min=10, help="Updates of each training, at least 10.")
    ] = 300,
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
    print_line("What to look at:")
    for text in _what_to_look_at(result):
        print_line(f"  {text}")
    print_line()
    print_line(f"Report: {result.report.resolve()}")


def _what_to_look_at(result: DemoResult) -> list[str]:
    """Three sights of the page, with the numbers of this very demonstration."""
    from reluscope.runs import open_run

    falls, keeps = [], []
    for title, training in result.trainings.items():
        data = open_run(training.run).dataset
        entropy = data.relative_entropy.mean("site").values
        falls.append(f"{title} {entropy[0]:.2f} to {entropy[-1]:.2f}")
        kept = data.weighted_jaccard_to_init.sel(step=1)[:3].mean().item()
        keeps.append(f"{title} {kept:.0%}")
    return [
        "Relative entropy, how evenly a layer uses its patterns, rises with depth and falls in the first",
        f"  steps. Mean over the layers, first to last step: {', '.join(falls)}.",
        "Similarity to initialisation drops at once. What the first three layers share with their first",
        f"  patterns after a single update: {', '.join(keeps)}.",
        "Curves across layers: move the slider from step to step and watch both happen.",
    ]
