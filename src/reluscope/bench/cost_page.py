"""docs/cost.md, written from the CSV files of the benchmarks: what counting and measuring cost.

Run `python -m reluscope.bench.cost_page docs/cost.md` after a benchmark; a test holds the committed page to the
committed files. One section is written by hand, between two marks, and kept as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reluscope.bench.cost_tables import (
    counting_tables,
    first_use_table,
    machine_table,
    memory_table,
    overhead_table,
    packing_table,
    parts_table,
    promises_table,
    roofline_table,
    scaling_table,
)
from reluscope.bench.memory import MemoryRow, read_memory_rows
from reluscope.bench.rows import Row, read_rows
from reluscope.errors import BenchmarkError

__all__ = ["RESULTS", "cost_page", "write_cost_page"]

RESULTS = ("counting.csv", "overhead.csv", "memory.csv")
_BEGIN, _END = "<!-- by hand: begin -->", "<!-- by hand: end -->"
_NOTHING_BY_HAND = "\nNothing is written here yet.\n"

_HEAD = """\
<!-- Written by `python -m reluscope.bench.cost_page docs/cost.md` from benchmarks/results; by hand only at the end. -->

# What it costs

Every number on this page comes from the CSV files in `benchmarks/results`. On your own machine, with nothing else
running:

<!-- not run: takes an hour -->
```sh
reluscope bench counting --data-dir DATA -o counting.csv
reluscope bench overhead --data-dir DATA -o overhead.csv
```

and `python benchmarks/memory.py --data-dir DATA` for memory.

Alternatives run in one process in turn, every second round in reverse order; a ratio is taken within each round, and
its median stands here, with the 20th and 80th percentile behind it. Every result is read to the end, keys and counts,
and all must agree.
"""


def cost_page(rows: Sequence[Row], memory: Sequence[MemoryRow], *, by_hand: str = _NOTHING_BY_HAND) -> str:
    """The page as Markdown.

    Args:
        rows: of `bench counting` and `bench overhead` together; what is not among them is said to be not measured.
        memory: of `benchmarks/memory.py`.
        by_hand: what stands between the two marks.
    """
    sections = [
        ("What was promised", promises_table(rows, memory)),
        ("Where it was measured", machine_table(rows, memory)),
        ("A measurement beside a bare forward pass", overhead_table(rows)),
        ("The roofline", roofline_table(rows)),
        ("Where the time goes", parts_table(rows)),
        ("Compiling the kernels", first_use_table(rows)),
        *counting_tables(rows),
        ("Packing", packing_table(rows)),
        ("Cost against the number of evaluations", scaling_table(rows)),
        ("Memory", memory_table(memory)),
    ]
    parts = [_HEAD, *(f"## {title}\n\n{text.rstrip()}\n" for title, text in sections)]
    parts.append(f"## What was tried, and what it gained\n\n{_BEGIN}{by_hand}{_END}")
    return "\n".join(parts) + "\n"


def write_cost_page(path: Path, results: Path | None = None) -> None:
    """Write the page anew and keep what was written by hand.

    Args:
        path: the page; it need not exist.
        results: folder of the CSV files; None: `benchmarks/results` beside the page's folder.

    Raises:
        BenchmarkError: a file is missing or damaged, or the marks of the part by hand are not both there.
    """
    folder = results or path.resolve().parent.parent / "benchmarks" / "results"
    by_hand = _by_hand(path.read_text(encoding="utf-8"), path) if path.exists() else _NOTHING_BY_HAND
    rows = [row for name in RESULTS[:2] for row in read_rows(folder / name)]
    path.write_text(cost_page(rows, read_memory_rows(folder / RESULTS[2]), by_hand=by_hand), encoding="utf-8")


def _by_hand(text: str, path: Path) -> str:
    """What stands between the marks; overwriting somebody's text because a mark is gone would not do."""
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise BenchmarkError(
            f"{path} does not hold each of the marks {_BEGIN} and {_END} once, in this order; what was written by hand "
            "between them would be lost. Put them back."
        )
    return text[text.index(_BEGIN) + len(_BEGIN) : text.index(_END)]


if __name__ == "__main__":
    write_cost_page(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
