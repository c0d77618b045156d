"""The tables of docs/cost.md: each from the rows of one benchmark, as Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from reluscope.bench.alternatives import (
    BARE,
    BARE_RUNNING,
    COUNT_KEYS,
    COUNT_PATTERNS,
    FIRST_USE,
    HASHLIST,
    LATER_USE,
    MEASURE,
    OLD_HASHLIST,
    OWN_HASHLIST,
    OWN_STEPS,
    PACK,
    PACK_AND,
    READ_ONCE,
    ROWS_UNIQUE,
    SUM,
    SUM_AND_KEYS,
)
from reluscope.bench.memory import MemoryRow
from reluscope.bench.promises import fitted_exponent, judge
from reluscope.bench.rows import Row

__all__ = [
    "counting_tables",
    "first_use_table",
    "machine_table",
    "memory_table",
    "overhead_table",
    "packing_table",
    "parts_table",
    "promises_table",
    "roofline_table",
    "scaling_table",
]

MEMORY_LIMIT = 1.5  # promised: peak beyond the batch over the finished tables, without labels
_NOT_MEASURED = "Not measured yet: `{}`.\n"


def promises_table(rows: Sequence[Row], memory: Sequence[MemoryRow]) -> str:
    """A line per promise: its worst case, the limit, and how many cases keep it."""
    lines = []
    for verdict in judge(rows):
        promise, worst = verdict.promise, verdict.worst
        limit = f"{'at most' if promise.at_most else 'at least'} {promise.limit:g}"
        if worst is None:
            lines.append((promise.text, limit, "not measured", "", ""))
            continue
        kept = f"{verdict.num_kept} of {len(verdict.found)}"
        where = worst.case + (f" ({worst.against})" if worst.against else "")
        lines.append((promise.text, limit, f"{worst.value:.2f}", kept, where))
    plain = [row for row in memory if not row.labels]
    if plain:
        worst_row = max(plain, key=lambda row: row.beyond_batch_over_tables)
        kept = f"{sum(row.beyond_batch_over_tables <= MEMORY_LIMIT for row in plain)} of {len(plain)}"
        value = f"{worst_row.beyond_batch_over_tables:.2f}"
        text = "peak memory beyond a bare pass / finished tables"
        lines.append((text, f"at most {MEMORY_LIMIT:g}", value, kept, worst_row.network))
    return _table(("what", "promised", "worst case", "cases that keep it", "the worst"), lines)


def machine_table(rows: Sequence[Row], memory: Sequence[MemoryRow]) -> str:
    """Device, cores, load and versions of each benchmark."""
    lines = []
    for name, group in _by_benchmark(rows):
        loads = [row.load for row in group]
        rounds = [row.rounds for row in group if row.rounds]
        first = group[0]
        lines.append(
            (
                name,
                first.device,
                str(first.threads),
                _span(f"{low:.1f}" for low in (min(loads), max(loads))),
                _span(str(number) for number in (min(rounds, default=0), max(rounds, default=0))),
                first.versions,
            )
        )
    if memory:
        lines.append(("memory", "", "", "", "", f"torch={memory[0].torch}"))
    note = (
        "The load average is that of the minute before each case ended; the benchmark itself makes about as much as it "
        "has cores.\n\n"
    )
    return note + _table(("benchmark", "device", "cores", "load", "rounds", "versions"), lines)


def overhead_table(rows: Sequence[Row]) -> str:
    """Seconds and ratios of a measurement to both bare passes."""
    lines = []
    for case, group in _by_case(rows, "overhead"):
        bare = _one(group, BARE, BARE)
        measured, running = _one(group, MEASURE, BARE), _one(group, MEASURE, BARE_RUNNING)
        if bare and measured:
            lines.append(
                (
                    case,
                    _seconds(bare),
                    _seconds(measured),
                    _ratio(measured),
                    _ratio(running) if running else "",
                )
            )
    if not lines:
        return _NOT_MEASURED.format("reluscope bench overhead")
    note = (
        "The bare pass is as fast as this model goes in the state that is measured: channels-last, `no_grad`, batch norms "
        "on the statistics of the batch. The last column compares with a pass on running statistics, as in inference.\n\n"
    )
    head = ("model, state, inputs", "bare, s", "measurement, s", "ratio", "to inference")
    return note + _table(head, lines)


def roofline_table(rows: Sequence[Row]) -> str:
    """What reading all pre-activations once costs at the measured bandwidth, beside what a measurement adds."""
    lines = []
    for case, group in _by_case(rows, "roofline"):
        roof = _one(group, READ_ONCE, BARE)
        bare = _find(rows, "overhead", case, BARE, BARE)
        measured = _find(rows, "overhead", case, MEASURE, BARE)
        if roof and bare and measured:
            added = bare.median_s * (measured.ratio_median - 1)
            lines.append(
                (
                    case,
                    f"{roof.work / 2**20:,.0f}",
                    f"{roof.work / roof.median_s / 1e9:.1f}",
                    _seconds(roof),
                    f"{roof.ratio_median:.1%}",
                    f"{added:.3f}",
                    f"{added / roof.median_s:.1f}",
                )
            )
    if not lines:
        return _NOT_MEASURED.format("reluscope bench overhead")
    note = (
        "A measurement must read every pre-activation once. At the bandwidth that a plain parallel sum over 256 MiB reached "
        "in the same rounds, that takes the time in the fourth column; pre-activations that still lie in a cache can be "
        "read faster.\n\n"
    )
    head = (
        "model, state, inputs",
        "pre-activations, MiB",
        "bandwidth, GB/s",
        "read once, s",
        "of the bare pass",
        "a measurement adds, s",
        "times the roofline",
    )
    return note + _table(head, lines)


def parts_table(rows: Sequence[Row]) -> str:
    """What each step of a measurement adds, as a share of the bare pass."""
    names = ["observe", "observe, sum", "observe, pack", "observe, pack, count", MEASURE]
    lines = []
    for case, group in _by_case(rows, "parts"):
        found = [_one(group, name, BARE) for name in names]
        lines.append((case, *(_ratio(row) if row else "" for row in found)))
    if not lines:
        return _NOT_MEASURED.format("reluscope bench overhead --only parts")
    note = (
        "Each column does more than the one before, over the bare pass: observing alone; reading each pre-activation once "
        "(a sum); packing instead of the sum; counting too; and the data frame.\n\n"
    )
    head = ("model, state, inputs", "observing", "and a sum", "and packing", "and counting", "and rows")
    return note + _table(head, lines)


def first_use_table(rows: Sequence[Row]) -> str:
    """What compiling and loading kernels adds to the first measurement of a process."""
    names = {
        FIRST_USE: "the very first, kernels compiled",
        LATER_USE: "later processes, kernels from the cache",
    }
    lines = [(names[row.alternative], _seconds(row)) for row in rows if row.alternative in names]
    if not lines:
        return _NOT_MEASURED.format("reluscope bench overhead --only first-use")
    return _table(("the first measurement of a process takes longer by", "s"), lines)


def counting_tables(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Two sections: ready-made keys, and from activations."""
    keys = [(case, *_peer_cells(group)) for case, group in _by_case(rows, "keys")]
    head = ("keys / width", "`count_keys`, ms", "million keys/s", "the peers, fastest first: times as long")
    patterns = [(case, *_pattern_cells(group)) for case, group in _by_case(rows, "patterns")]
    pattern_head = (
        "patterns / width",
        "`count_patterns`, ms",
        "/ (sum + `count_keys`)",
        "our packing + fastest peer",
        "hash list, plain torch",
        "hash list, our packing",
        "`torch.unique(dim=0)`",
    )
    missing = _NOT_MEASURED.format("reluscope bench counting")
    note = (
        "How many times as long the others take; only the second ratio is ours over theirs: over a plain parallel sum of "
        "the activations followed by counting ready-made keys.\n\n"
    )
    return [
        ("Counting ready-made keys", _table(head, keys) if keys else missing),
        ("Counting from activations", note + _table(pattern_head, patterns) if patterns else missing),
    ]


def packing_table(rows: Sequence[Row]) -> str:
    """Bandwidth of packing and of a parallel sum over the same array."""
    lines = []
    for case, group in _by_case(rows, "packing"):
        summed, packed = _one(group, SUM, SUM), _one(group, PACK, SUM)
        if summed and packed:
            rates = (f"{row.work / row.median_s / 1e9:.1f}" for row in (summed, packed))
            lines.append((case, f"{packed.work / 2**20:,.0f}", *rates, f"{1 / packed.ratio_median:.0%}"))
    if not lines:
        return _NOT_MEASURED.format("reluscope bench counting --only packing")
    return _table(("layout / dtype / width", "MiB", "parallel sum, GB/s", "packing, GB/s", "share"), lines)


def scaling_table(rows: Sequence[Row]) -> str:
    """Cost per evaluation by number of evaluations, and the fitted exponent."""
    found = [row for row in rows if row.benchmark == "scaling"]
    if not found:
        return _NOT_MEASURED.format("reluscope bench overhead --only scaling")
    exponent = fitted_exponent([row.work for row in found], [row.median_s for row in found])
    lines = [(f"{row.work:,}", _seconds(row), f"{row.median_s / row.work * 1e9:.2f}") for row in found]
    note = f"{found[0].case}, memory bounded. Fitted exponent: {exponent:.3f} (1 is linear).\n\n"
    return note + _table(("evaluations", "s", "ns per evaluation"), lines)


def memory_table(memory: Sequence[MemoryRow]) -> str:
    """Peak memory beside the finished tables."""
    if not memory:
        return _NOT_MEASURED.format("python benchmarks/memory.py")
    lines = [
        (
            f"{row.network}, {row.images} {row.data}" + (", labels" if row.labels else ""),
            f"{row.patterns:,}",
            f"{row.tables_mib:g}",
            f"{row.bare_peak_mib:g}",
            f"{row.measure_peak_mib:g}",
            f"{row.beyond_batch_over_tables:.2f}",
        )
        for row in memory
    ]
    head = (
        "model, inputs",
        "patterns",
        "tables, MiB",
        "bare peak, MiB",
        "measurement peak, MiB",
        "beyond / tables",
    )
    return _table(head, lines)


# Parts of tables -------------------------------------------------------------------------------------------


def _peer_cells(group: Sequence[Row]) -> tuple[str, str, str]:
    ours = next(row for row in group if row.alternative == COUNT_KEYS)
    peers = [row for row in group if row is not ours]
    timed = sorted((row for row in peers if row.rounds), key=lambda row: row.ratio_median)
    missing = [f"{row.alternative} {row.note}" for row in peers if not row.rounds]
    cells = [f"{row.alternative} {row.ratio_median:.1f}" for row in timed] + missing
    return f"{ours.median_s * 1e3:.1f}", f"{ours.work / ours.median_s / 1e6:,.0f}", ", ".join(cells)


def _pattern_cells(group: Sequence[Row]) -> tuple[str, ...]:
    by_name = {row.alternative: row for row in group}
    packed = [
        r for r in group if r.alternative.startswith(PACK_AND) and r.alternative != OWN_STEPS and r.rounds
    ]
    fastest = min(packed, key=lambda row: row.ratio_median, default=None)
    least, ours = by_name.get(SUM_AND_KEYS), by_name[COUNT_PATTERNS]
    others = [
        by_name.get(HASHLIST),
        by_name.get(OWN_HASHLIST) or by_name.get(OLD_HASHLIST),
        by_name.get(ROWS_UNIQUE),
    ]
    return (
        f"{ours.median_s * 1e3:.1f}",
        f"{1 / least.ratio_median:.2f}" if least else "",
        f"{fastest.ratio_median:.1f} ({fastest.alternative.removeprefix(PACK_AND)})" if fastest else "",
        *(f"{row.ratio_median:.1f}" if row and row.rounds else "" for row in others),
    )


def _by_benchmark(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    names = dict.fromkeys(row.benchmark for row in rows)
    return [(name, [row for row in rows if row.benchmark == name]) for name in names]


def _by_case(rows: Sequence[Row], benchmark: str) -> list[tuple[str, list[Row]]]:
    chosen = [row for row in rows if row.benchmark == benchmark]
    return [(case, list(group)) for case, group in itertools.groupby(chosen, lambda row: row.case)]


def _one(group: Sequence[Row], alternative: str, baseline: str) -> Row | None:
    """The timed row of an alternative with that baseline."""
    found = [
        row for row in group if (row.alternative, row.baseline) == (alternative, baseline) and row.rounds
    ]
    return found[0] if found else None


def _find(rows: Sequence[Row], benchmark: str, case: str, alternative: str, baseline: str) -> Row | None:
    return _one(
        [row for row in rows if (row.benchmark, row.case) == (benchmark, case)], alternative, baseline
    )


def _seconds(row: Row) -> str:
    return f"{row.median_s:.3g}"


def _ratio(row: Row) -> str:
    return f"{row.ratio_median:.2f} ({row.ratio_p20:.2f} to {row.ratio_p80:.2f})"


def _span(values: Iterable[str]) -> str:
    low, high = values
    return low if low == high else f"{low} to {high}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
