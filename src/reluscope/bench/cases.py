"""The cases of a benchmark: named, chosen by pattern, run one after the other with progress."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reluscope.bench.rows import Row
from reluscope.errors import BenchmarkError, closest

__all__ = ["Case", "Progress", "run_cases", "select"]


@dataclass(frozen=True)
class Progress:
    """How far a benchmark is.

    Attributes:
        case: the one at work.
        index: its number, from 0.
        num_cases: all.
        share: of this case, 0 to 1.
    """

    case: str
    index: int
    num_cases: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: its name, "keys/zipf/64", and what measures it, given a function to tell the share done."""

    name: str
    run: Callable[[Callable[[float], None]], list[Row]]


def select(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Those whose name matches one of the patterns: a glob ("keys/*/64"), or a part of the name; all for none.

    Raises:
        BenchmarkError: a pattern that matches nothing.
    """
    names = [case.name for case in cases]
    for pattern in only:
        if not any(_matches(name, pattern) for name in names):
            raise BenchmarkError(
                f'none of the {len(names)} cases matches "{pattern}". Closest: {closest(pattern, names)}. List them all '
                "with --list."
            )
    return [case for case in cases if not only or any(_matches(case.name, pattern) for pattern in only)]


def run_cases(
    cases: Sequence[Case],
    on_progress: Callable[[Progress], None] | None = None,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
) -> list[Row]:
    """The rows of all cases, in their order; `on_rows` gets all rows so far whenever a case has ended."""
    rows: list[Row] = []
    for index, case in enumerate(cases):

        def tell(share: float, index: int = index, name: str = case.name) -> None:
            if on_progress:
                on_progress(Progress(name, index, len(cases), share))

        tell(0.0)
        rows += case.run(tell)
        if on_rows:
            on_rows(rows)
        tell(1.0)
    return rows


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatch.fnmatchcase(name, pattern)
