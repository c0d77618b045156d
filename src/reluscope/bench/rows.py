"""What a benchmark found, one row per alternative and case, as CSV; and where it ran."""

from __future__ import annotations

import csv
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from reluscope.errors import BenchmarkError

__all__ = [
    "Row",
    "device_name",
    "missing_row",
    "num_cores",
    "read_rows",
    "rows_of",
    "versions_of",
    "write_rows",
]

NOT_INSTALLED = "not installed"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One alternative in one case: its seconds, their ratio to the baseline of the same round, and where it ran.

    p20 and p80 enclose the middle three fifths of the rounds.

    Attributes:
        benchmark: which question ("keys", "patterns", "packing", "overhead", ...).
        case: on what ("zipf/64").
        alternative: what was timed.
        work: how much of `unit` it went through.
        unit: "evaluations", "images", "bytes", ...
        rounds: how often it was timed; 0 for what could not be (see `note`), with NaN for all numbers.
        median_s, p20_s, p80_s: seconds.
        baseline: the alternative that ratios refer to.
        ratio_median, ratio_p20, ratio_p80: seconds over the baseline's, round by round.
        device: processor or accelerator.
        threads: cores that this process may use.
        load: load average of the last minute when the case was done; what exceeds `threads` was somebody else's.
        versions: "package=version ...".
        note: why there is no number, or what else should be known; mostly empty.
    """

    benchmark: str
    case: str
    alternative: str
    work: int
    unit: str
    rounds: int
    median_s: float
    p20_s: float
    p80_s: float
    baseline: str
    ratio_median: float
    ratio_p20: float
    ratio_p80: float
    device: str
    threads: int
    load: float
    versions: str
    note: str = ""


def rows_of(
    benchmark: str,
    case: str,
    seconds: Mapping[str, np.ndarray],
    *,
    baseline: str,
    work: int | Mapping[str, int],
    unit: str,
    packages: Sequence[str] = (),
    device: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Medians, p20 and p80 of the seconds of each alternative, and of its ratios to the baseline round by round.

    Args:
        seconds: by alternative, one entry per round; NaN where it was not timed (see `timing.interleave`).
        baseline: one of the alternatives.
        work: for all alternatives, or by alternative.
        packages: named with their versions beside torch, numpy and numba.
        device: None for the processor.
        notes: by alternative.
    """
    found = []
    for name, times in seconds.items():
        done = times[~np.isnan(times)]
        ratio = times / seconds[baseline]
        p20, median, p80 = _percentiles(times)
        ratio_p20, ratio_median, ratio_p80 = _percentiles(ratio)
        found.append(
            Row(
                benchmark=benchmark,
                case=case,
                alternative=name,
                work=work if isinstance(work, int) else work[name],
                unit=unit,
                rounds=len(done),
                median_s=median,
                p20_s=p20,
                p80_s=p80,
                baseline=baseline,
                ratio_median=ratio_median,
                ratio_p20=ratio_p20,
                ratio_p80=ratio_p80,
                device=device or device_name(),
                threads=num_cores(),
                load=_load(),
                versions=versions_of(packages),
                note=(notes or {}).get(name, ""),
            )
        )
    return found


def missing_row(like: Row, alternative: str, note: str) -> Row:
    """A row for an alternative that could not be timed in the case of `like`: it is named, with the reason."""
    nothing = dict.fromkeys(
        ("median_s", "p20_s", "p80_s", "ratio_median", "ratio_p20", "ratio_p80"), math.nan
    )
    return Row(**{**asdict(like), **nothing, "alternative": alternative, "rounds": 0, "note": note})


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as CSV, numbers with six significant digits, none for what is not a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows([[_text(value) for value in asdict(row).values()] for row in rows])


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV that `write_rows` wrote; a file from before a column existed has its default.

    Raises:
        BenchmarkError: no such file, or a column is missing or holds no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(values) for values in csv.DictReader(file)]
    except FileNotFoundError:
        raise BenchmarkError(
            f"there is no {path}. `reluscope bench counting -o FILE.csv` and `bench overhead` write such files."
        ) from None
    except (KeyError, ValueError, TypeError) as error:
        raise BenchmarkError(
            f"{path} holds no rows of a benchmark ({type(error).__name__}: {error}). Its columns must be "
            f"{', '.join(field.name for field in fields(Row))}."
        ) from None


def device_name() -> str:
    """The processor's name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def versions_of(packages: Sequence[str]) -> str:
    """Versions of torch, numpy and numba, and of those of `packages` that are installed, as one text."""
    found = []
    for package in dict.fromkeys(("torch", "numpy", "numba", *packages)):
        try:
            found.append(f"{package}={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return " ".join(found)


def _percentiles(values: np.ndarray) -> tuple[float, float, float]:
    """20th, 50th and 80th percentile of what is not NaN."""
    done = values[~np.isnan(values)]
    if not len(done):
        return math.nan, math.nan, math.nan
    p20, median, p80 = np.percentile(done, (20, 50, 80))
    return float(p20), float(median), float(p80)


def _load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else math.nan  # Windows has none


def _text(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _row(values: Mapping[str, str | None]) -> Row:
    read: dict[str, Any] = {}
    for field in fields(Row):
        text = values[field.name] if field.name != "note" else values.get("note") or ""
        if text is None:
            raise ValueError(f"a line ends before {field.name}")
        if field.type == "float":
            read[field.name] = float(text) if text else math.nan
        else:
            read[field.name] = int(text) if field.type == "int" else text
    return Row(**read)
