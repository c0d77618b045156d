"""The `reluscope` command: its subcommands, how errors are shown, and exit codes.

Exit codes: 0 done, 1 a failed run (missing, damaged, diverged, ...), 2 wrong usage, 130 interrupted. An error
is one line on the standard error stream; RELUSCOPE_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer

from reluscope.cli import bench, claims, demo, measure, report, reproduce, show, sites, train
from reluscope.cli.console import print_line
from reluscope.errors import (
    BenchmarkError,
    ExportError,
    InstrumentError,
    LabelsError,
    ReluscopeError,
    ReluscopeWarning,
    SpecificationError,
    UnknownSiteError,
)

__all__ = ["DEBUG_VARIABLE", "app", "main"]

DEBUG_VARIABLE = "RELUSCOPE_DEBUG"

# A value that does not fit, whether the specification shows it or only the model or the probe.
_WRONG_USAGE = (
    BenchmarkError,
    SpecificationError,
    UnknownSiteError,
    InstrumentError,
    LabelsError,
    ExportError,
)

app = typer.Typer(
    name="reluscope",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Watch the activation patterns of a neural network form while it trains."""


app.command("demo", short_help="Train two networks on embedded digits and compare them (two minutes).")(
    demo.demo
)
app.command("train", short_help="Train a network and record its activation patterns.")(train.train)
app.command("reproduce", short_help="Redo a figure of the paper: trainings, picture and page.")(
    reproduce.reproduce
)
app.command("show", short_help="Show what is in a run.")(show.show)
app.command("measure", short_help="Measure saved weights into a run, as if recorded live.")(measure.measure)
app.command("sites", short_help="List the activation calls of a model.")(sites.sites)
app.command("report", short_help="Write a page about one run or several.")(report.report)
app.command("claims", short_help="Judge the paper's claims on the runs of a folder.")(claims.claims)
app.add_typer(bench.app, name="bench", short_help="Measure what counting and measuring cost on this machine.")


@app.command()
def version() -> None:
    """Print the version."""
    import reluscope

    print_line(f"reluscope {reluscope.__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as on the command line, without the program's name; None for those the process was started
            with.

    Returns:
        The exit code: 0, 1 (failed run), 2 (wrong usage) or 130 (interrupted).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReluscopeWarning)
        warnings.showwarning = _show_warning
        try:
            app(args=None if arguments is None else list(arguments), prog_name="reluscope")
        except SystemExit as end:  # typer ends every command by one
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except ReluscopeError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            _say(f"{type(error).__name__}: {error}")
            return 2 if isinstance(error, _WRONG_USAGE) else 1
        except BrokenPipeError:  # `reluscope show RUN | head`: whoever read has enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or Python complains while it flushes at exit
            return 0
    return 0


def _say(text: str) -> None:
    """One line on the standard error stream, whatever line breaks the text has."""
    sys.stderr.write(" ".join(text.split()) + "\n")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: Any = None,
) -> None:
    """Warnings of reluscope in words; those of other libraries as Python shows them."""
    if issubclass(category, ReluscopeWarning):
        _say(f"warning: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
