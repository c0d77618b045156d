"""`reluscope bench`: what counting and measuring cost on this machine, beside what was promised."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reluscope.cli.console import print_json, print_line
from reluscope.cli.tables import print_table

if TYPE_CHECKING:
    from reluscope.bench import Case, Row, Verdict

__all__ = ["app", "counting", "overhead"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Measure what counting and measuring cost, in turn with what else one could use.

    Exit code 0 also where a promise is missed: it is a measurement. Let nothing else run meanwhile.
    """


_DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder with CIFAR-10. Default: $RELUSCOPE_DATA_DIR; else embedded digits."
    ),
]
_Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Only cases of this name, part of a name, or glob. Repeatable; see --list."
    ),
]
_List = Annotated[bool, typer.Option("--list", help="List the cases and stop.")]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="CSV", help="Write every number here, after each case."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Tiny sizes: does it work? The numbers mean nothing.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
_Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where.")]


def counting(
    num_keys: Annotated[int, typer.Option(help="Keys to count in each case.")] = 2_000_000,
    rounds: Annotated[int, typer.Option(help="How often each alternative is timed, at most.")] = 7,
    seconds: Annotated[float, typer.Option(help="How long a slow alternative may take in a case.")] = 20.0,
    widths: Annotated[str, typer.Option(help="Widths of made-up patterns.")] = "16,32,64,128,512",
    networks: Annotated[str, typer.Option(help="Whose activations.")] = "resnet20,convnet20,toynet20",
    steps: Annotated[str, typer.Option(help="After how many updates.")] = "0,200",
    data_dir: _DataDir = None,
    device: _Device = "cpu",
    only: _Only = None,
    list_cases: _List = False,
    output: _Output = None,
    quick: _Quick = False,
    quiet: _Quiet = False,
    as_json: _Json = False,
) -> None:
    """Counting and packing beside numpy, torch, polars, DuckDB, pandas and the paper's hash list."""
    from reluscope.bench import CountingBenchmark, Effort

    benchmark = CountingBenchmark(
        num_keys=num_keys,
        effort=Effort(rounds=rounds, seconds=seconds),
        widths=_integers("--widths", widths),
        networks=_words(networks),
        steps=_integers("--steps", steps),
        data_dir=data_dir,
        device=device,
    )
    cases = (benchmark.quick() if quick else benchmark).cases()
    promised = ("keys", "patterns", "packing")
    _run(cases, only or [], list_cases, output, quick, quiet, as_json, promised)


def overhead(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="resnet20, convnet20, toynet20, resnet18, transformer. Repeatable; default: all.",
        ),
    ] = None,
    num_images: Annotated[int, typer.Option(help="Images for the networks of the paper.")] = 10_000,
    num_large: Annotated[
        int, typer.Option(help="Images of 224 x 224; the transformer gets twice as many.")
    ] = 128,
    pairs: Annotated[int, typer.Option(help="How often each alternative is timed.")] = 9,
    steps: Annotated[
        str, typer.Option(help="States of the networks of the paper, by updates done.")
    ] = "0,200",
    labels: Annotated[str, typer.Option(metavar="without|with|both", help="Measure labels too?")] = "without",
    data_dir: _DataDir = None,
    device: _Device = "cpu",
    only: _Only = None,
    list_cases: _List = False,
    output: _Output = None,
    quick: _Quick = False,
    quiet: _Quiet = False,
    as_json: _Json = False,
) -> None:
    """A measurement beside a bare forward pass; where its time goes; first use; cost against size."""
    from reluscope.bench import SUBJECTS, OverheadBenchmark

    benchmark = OverheadBenchmark(
        models=model or SUBJECTS,
        num_images=num_images,
        num_large=num_large,
        pairs=pairs,
        steps=_integers("--steps", steps),
        labels=labels,
        data_dir=data_dir,
        device=device,
    )
    cases = (benchmark.quick() if quick else benchmark).cases()
    promised = ("overhead", "first-use", "scaling")
    _run(cases, only or [], list_cases, output, quick, quiet, as_json, promised)


app.command("counting", short_help="Counting beside numpy, torch, polars, DuckDB, pandas and the hash list.")(
    counting
)
app.command("overhead", short_help="A measurement beside a bare forward pass.")(overhead)


def _run(
    cases: list[Case],
    only: list[str],
    list_cases: bool,
    output: Path | None,
    quick: bool,
    quiet: bool,
    as_json: bool,
    promised: tuple[str, ...],
) -> None:
    from reluscope.bench import BenchDisplay, judge, run_cases, select, write_rows

    chosen = select(cases, only)
    if list_cases:
        names = [case.name for case in chosen]
        print_json(names) if as_json else print_line("\n".join(names))
        return
    if output is not None and output.is_dir():
        raise typer.BadParameter(f'"{output}" is a folder; name a .csv file.', param_hint="--output")
    keep = None
    if output is not None:
        # Whatever keeps it from being written shows now, not after an hour; what a case found is kept at once.
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.open("a").close()
        except OSError as error:
            text = f'"{output}" cannot be written: {error.strerror}.'
            raise typer.BadParameter(text, param_hint="--output") from error
        keep = partial(write_rows, output)
    with BenchDisplay(quiet=quiet or as_json) as display:
        rows = run_cases(chosen, display.show, keep)
    verdicts = judge(rows, promised)
    if as_json:
        print_json(
            {"quick": quick, "promises": [_plain(v) for v in verdicts], "rows": [asdict(r) for r in rows]}
        )
        return
    _print_rows(rows)
    _print_verdicts(verdicts, quick)
    if output is not None:
        print_line(f"Every number: {output}")


def _print_rows(rows: list[Row]) -> None:
    table = [
        {
            "benchmark": row.benchmark,
            "case": row.case,
            "alternative": row.alternative,
            "median ms": row.median_s * 1e3,
            "p20": row.p20_s * 1e3,
            "p80": row.p80_s * 1e3,
            "ratio": row.ratio_median,
            "to": row.baseline,
            "rounds": row.rounds,
            "note": row.note,
        }
        for row in rows
    ]
    print_table(table)
    if rows:
        print_line(
            f"{rows[-1].device}, {rows[-1].threads} cores, load average {rows[-1].load}; {rows[-1].versions}"
        )
        print_line()


def _print_verdicts(verdicts: list[Verdict], quick: bool) -> None:
    from reluscope.bench import verdict_text

    table = [
        {
            "promise": verdict.promise.text.replace("`", ""),
            "worst case": verdict_text(verdict),
            "kept": "-" if verdict.is_kept is None else f"{verdict.num_kept} of {len(verdict.found)}",
            "in": verdict.worst.case if verdict.worst else "",
            "against": verdict.worst.against if verdict.worst else "",
        }
        for verdict in verdicts
    ]
    print_table(
        table, title="Promises, each by its worst case" + (" (--quick: means nothing)" if quick else "")
    )


def _plain(verdict: Verdict) -> dict[str, Any]:
    promise = verdict.promise
    return {
        "name": promise.name,
        "text": promise.text,
        "limit": promise.limit,
        "at_most": promise.at_most,
        "is_kept": verdict.is_kept,
        "worst": asdict(verdict.worst) if verdict.worst else None,
        "cases": [asdict(one) for one in verdict.found],
    }


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _integers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" are no whole numbers; write them with commas, like 0,200.', param_hint=option
        ) from None
