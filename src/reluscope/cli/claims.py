"""`reluscope claims`: which claims of the paper the stored runs support."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluscope.cli.console import plain, print_json, print_line

if TYPE_CHECKING:
    from reluscope.lab.claims import ClaimResult

__all__ = ["claims"]


def claims(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with runs, at any depth.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR|FILE",
            help="Where to write: a folder for claims.md and claims.json, or a page.md, beside which page.json goes. "
            "Default: DIR.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON and nothing else.")
    ] = False,
) -> None:
    """Judge the claims of Hartmann et al. 2021 on every run below a folder."""
    page = folder / "claims.md" if output is None else _page(output)
    from reluscope.lab.claims import JudgingDisplay, claims_as_dict, claims_page, judge_folder
    from reluscope.lab.claims.table import headline

    with JudgingDisplay(quiet=quiet or as_json) as display:
        judged = judge_folder(folder, on_progress=display.show)
    results, left_out = judged.results, judged.left_out

    content = claims_as_dict(results, left_out=left_out)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(claims_page(results, left_out=left_out), encoding="utf-8")
    page.with_suffix(".json").write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(content)
        return
    print_line(f"Claims, judged on {len(judged.used)} runs below {folder}")
    for line in headline(results):
        print_line(line)
    _print_claims(results)
    if left_out:
        print_line(f"{len(left_out)} runs were not used; {page} says why.")
    print_line(
        "* changed after real runs had been looked at; the page says what. DIR in commands is the folder judged."
    )
    print_line(f"Numbers of every claim: {page}, {page.with_suffix('.json')}")


# In a pipe as wide as a person reads; in a terminal as wide as that is.
_WIDTH = 100


def _print_claims(results: Sequence[ClaimResult]) -> None:
    """One row per claim; the last column is folded to what the width leaves."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reluscope.lab.claims.table import decided_on

    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console = Console(width=_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("decided on", overflow="fold")
    for result in results:
        name = result.claim.id + ("*" if result.claim.changed else "")
        table.add_row(*(Text(cell) for cell in (name, str(result.verdict), decided_on(result))))
    console.print(table)


def _page(output: Path) -> Path:
    """The Markdown file to write, whether it was named or its folder was; a usage error for any other file."""
    if output.is_dir() or not output.suffix:
        return output / "claims.md"
    if output.suffix.lower() != ".md":
        raise typer.BadParameter(
            f'"{output}" is neither a folder nor a .md file. The .json is written beside the page.',
            param_hint="--output",
        )
    return output
