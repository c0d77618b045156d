"""Peak memory of a measurement beyond what a bare forward pass takes, beside the finished tables it returns.

Each case runs in a process of its own: kernels warm, then the peak resident set (VmHWM, reset before each; Linux
only) of a bare pass over the probe, and of `rs.measure`. The finished tables have 16 bytes per one-word pattern and
24 per two-word one.
"""

from __future__ import annotations

import csv
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from reluscope.errors import BenchmarkError, closest

__all__ = [
    "MEMORY_NETWORKS",
    "MemoryRow",
    "measure_memory",
    "read_memory_rows",
    "report",
    "write_memory_rows",
]

MEMORY_NETWORKS = ("resnet20", "convnet20", "toynet20", "distinct")
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """One network: its tables, and peak memory in MiB.

    Attributes:
        network: of MEMORY_NETWORKS; "distinct" is one 64-wide and one 100-wide layer on noise, where nearly every
            evaluation has a pattern of its own.
        images, data, labels: the probe.
        patterns: distinct ones, over all sites.
        tables_mib: the finished tables.
        bare_peak_mib, measure_peak_mib: above what the process held before.
        beyond_batch_over_tables: their difference over the tables.
        recorder_init_and_last_mib: what a recorder keeps, the tables of the first and the last measurement.
        torch: version.
    """

    network: str
    images: int
    data: str
    labels: bool
    patterns: int
    tables_mib: float
    bare_peak_mib: float
    measure_peak_mib: float
    beyond_batch_over_tables: float
    recorder_init_and_last_mib: float
    torch: str


def measure_memory(
    networks: Sequence[str] = MEMORY_NETWORKS,
    *,
    num_images: int = 2000,
    data_dir: str | Path | None = None,
    repeats: int = 3,
    on_row: Callable[[MemoryRow], None] | None = None,
) -> list[MemoryRow]:
    """Each network without and with labels; of `repeats` processes the median.

    Raises:
        BenchmarkError: an unknown network, no repeats, not on Linux, or a process failed.
    """
    for name in networks:
        if name not in MEMORY_NETWORKS:
            raise BenchmarkError(
                f'no network of this benchmark is called "{name}". Closest: {closest(name, MEMORY_NETWORKS)}.'
            )
    if repeats < 1 or num_images < 1:
        raise BenchmarkError(f"repeats={repeats}, num_images={num_images}: both must be 1 or more.")
    rows = []
    for name in networks:
        for labels in (False, True):
            found = [_in_a_process(name, num_images, data_dir, labels) for _ in range(repeats)]
            rows.append(sorted(found, key=lambda row: row.beyond_batch_over_tables)[len(found) // 2])
            if on_row:
                on_row(rows[-1])
    return rows


def write_memory_rows(path: Path, rows: Sequence[MemoryRow]) -> None:
    """Write all rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[field.name for field in fields(MemoryRow)])
        writer.writeheader()
        writer.writerows([asdict(row) for row in rows])


def read_memory_rows(path: Path) -> list[MemoryRow]:
    """The rows of a CSV that `write_memory_rows` wrote.

    Raises:
        BenchmarkError: no such file, or other columns.
    """
    convert = {"int": int, "float": float, "bool": lambda text: text == "True", "str": str}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                MemoryRow(
                    **{
                        field.name: convert[str(field.type)](values[field.name])
                        for field in fields(MemoryRow)
                    }
                )
                for values in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise BenchmarkError(f"there is no {path}. `python benchmarks/memory.py` writes it.") from None
    except (KeyError, ValueError, TypeError) as error:
        raise BenchmarkError(
            f"{path} holds no rows of this benchmark ({type(error).__name__}: {error})."
        ) from None


def _in_a_process(name: str, num_images: int, data_dir: str | Path | None, labels: bool) -> MemoryRow:
    arguments = [name, num_images, str(data_dir) if data_dir else None, labels]
    code = "from reluscope.bench.memory import report; report()"
    words = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"the memory of {name} could not be measured: {done.stderr.strip()[-500:]}")
    return MemoryRow(**json.loads(done.stdout.splitlines()[-1]))


# In the process --------------------------------------------------------------------------------------------


def report() -> None:
    """In a process of its own: measure what the first argument says in JSON, print the row as JSON."""
    sys.stdout.write(json.dumps(_measure_one(*json.loads(sys.argv[1]))) + "\n")


def _resident(field: str) -> int:
    """Bytes of VmRSS or VmHWM."""
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.exists() else []:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError(f"no {field} in {status}; peak memory is measured on Linux only.")


def _peak_of(work: Callable[[], Any]) -> tuple[int, Any]:
    """Peak bytes above the resident set before `work`, and what it returned."""
    before = _resident("VmRSS")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = min(before, _resident("VmRSS"))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    result = work()
    return _resident("VmHWM") - before, result


def _measure_one(name: str, num_images: int, data_dir: str | None, labels: bool) -> dict[str, Any]:
    import torch

    import reluscope as rs

    model, inputs, classes, data = _subject(name, num_images, data_dir)
    probe = rs.Probe(inputs, classes if labels else None)
    warm = rs.Probe(inputs[:256], classes[:256] if labels else None)

    def bare(on: rs.Probe) -> None:
        with torch.no_grad():
            for arguments, keywords, _labels in on.batches():
                model(*arguments, **keywords)

    rs.measure(model, warm)
    bare(warm)
    bare_peak, _ = _peak_of(lambda: bare(probe))
    peak, snapshot = _peak_of(lambda: rs.measure(model, probe))
    tables = sum(
        counts.num_patterns * (16 if counts.keys.shape[1] == 1 else 24)
        for counts in snapshot.patterns.values()
    )
    return {
        "network": name,
        "images": len(inputs),
        "data": data,
        "labels": labels,
        "patterns": sum(counts.num_patterns for counts in snapshot.patterns.values()),
        "tables_mib": round(tables / _MIB, 1),
        "bare_peak_mib": round(bare_peak / _MIB, 1),
        "measure_peak_mib": round(peak / _MIB, 1),
        "beyond_batch_over_tables": round((peak - bare_peak) / tables, 2),
        "recorder_init_and_last_mib": round(2 * tables / _MIB, 1),
        "torch": torch.__version__,
    }


def _subject(name: str, num_images: int, data_dir: str | None) -> tuple[Any, Any, Any, str]:
    """(model, inputs, labels, name of the data), channels-last."""
    import torch
    from torch import nn

    from reluscope.bench.subjects import bench_images, network_after

    torch.manual_seed(0)
    data = bench_images(num_images, data_dir)
    if name != "distinct":
        return network_after(name, 0, data), data.images, data.labels, data.name
    layers = nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 100, 3, padding=1, stride=2), nn.ReLU()
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    inputs = torch.randn(len(data.images), 3, 32, 32).contiguous(memory_format=torch.channels_last)
    return model, inputs, data.labels, "noise"
