"""Timing alternatives fairly: in turn, in alternating order, with the spread shown."""

from __future__ import annotations

import csv
import gc
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Row", "interleave", "rows_of", "write_csv"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One alternative in one case: seconds, their ratio to the baseline of the same round, and where it ran.

    p20 and p80 enclose the middle three fifths of the rounds.
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


def interleave(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1
) -> dict[str, np.ndarray]:
    """Seconds of each alternative in each round; every second round runs in reverse order.

    What slows the machine for a while then slows all alternatives alike, and a ratio within a round is fairer
    than a ratio of two medians.
    """
    for run in alternatives.values():
        for _ in range(warmup):
            run()
    seconds = {name: np.empty(rounds) for name in alternatives}
    for index in range(rounds):
        names = list(alternatives)
        for name in names if index % 2 == 0 else reversed(names):
            gc.collect()
            start = time.perf_counter()
            result = alternatives[name]()
            seconds[name][index] = time.perf_counter() - start
            del result  # its memory goes back outside of the timing
    return seconds


def rows_of(
    benchmark: str,
    case: str,
    seconds: Mapping[str, np.ndarray],
    *,
    baseline: str,
    work: int,
    unit: str,
    packages: Sequence[str] = ("torch", "numpy", "numba"),
) -> list[Row]:
    """Medians, p20 and p80 of seconds and of ratios to the baseline within each round."""
    found = []
    for name, times in seconds.items():
        ratio = times / seconds[baseline]
        p20, median, p80 = np.percentile(times, (20, 50, 80))
        ratio_p20, ratio_median, ratio_p80 = np.percentile(ratio, (20, 50, 80))
        found.append(
            Row(
                benchmark=benchmark,
                case=case,
                alternative=name,
                work=work,
                unit=unit,
                rounds=len(times),
                median_s=float(median),
                p20_s=float(p20),
                p80_s=float(p80),
                baseline=baseline,
                ratio_median=float(ratio_median),
                ratio_p20=float(ratio_p20),
                ratio_p80=float(ratio_p80),
                device=device(),
                threads=len(os.sched_getaffinity(0)),
                load=round(os.getloadavg()[0], 2),
                versions=" ".join(f"{package}={metadata.version(package)}" for package in packages),
            )
        )
    return found


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, numbers with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows([[_text(value) for value in asdict(row).values()] for row in rows])


def device() -> str:
    """The processor's name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
