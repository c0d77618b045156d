"""`reluscope claims`: which claims of the paper the stored runs support."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from reluscope.cli.console import plain, print_json, print_line
from reluscope.cli.tables import print_table

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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON and nothing else.")
    ] = False,
) -> None:
    """Judge the claims of Hartmann et al. 2021 on every run below a folder."""
    page = folder / "claims.md" if output is None else _page(output)
    from reluscope.lab.claims import claims_as_dict, claims_page, judge_folder
    from reluscope.lab.claims.table import decided_on

    judged = judge_folder(folder)
    results, left_out = judged.results, judged.left_out

    content = claims_as_dict(results, left_out=left_out)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(claims_page(results, left_out=left_out), encoding="utf-8")
    page.with_suffix(".json").write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(content)
        return
    rows = [
        {"claim": result.claim.id, "verdict": str(result.verdict), "decided on": decided_on(result)}
        | ({"changed": result.claim.changed or ""} if any(one.claim.changed for one in results) else {})
        for result in results
    ]
    print_table(rows, title=f"Claims, judged on {len(judged.used)} runs below {folder}")
    print_line(", ".join(f"{count} {verdict}" for verdict, count in content["counts"].items()) + ".")
    if left_out:
        print_line(f"{len(left_out)} runs were not used; {page} says why.")
    print_line(f"Numbers of every claim: {page}, {page.with_suffix('.json')}")


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
