"""Peak memory of `rs.measure` beside the finished tables it returns.

    python benchmarks/memory.py [--data-dir DATA] [--images 2000] [--networks resnet20 ... distinct]

One subprocess per network: kernels warm, then the peak resident set (VmHWM, reset before each; Linux only) of a
bare forward pass over the probe, and of `rs.measure`. "Beyond the batch" is the difference of the two. The finished
tables have 16 bytes per one-word pattern and 24 per two-word one. `distinct` is one 64-wide and one 100-wide layer on
noise, where nearly every evaluation has a pattern of its own. A recorder keeps the tables of the first and the last
measurement: their size is reported apart. Without `--data-dir` the images are noise, and the rows say so. Writes
benchmarks/results/memory.csv.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import reluscope as rs
from reluscope.lab import ConvNet, ResNet, ToyNet, load

RESULTS = Path(__file__).parent / "results" / "memory.csv"
NETWORKS = {
    "resnet20": lambda: ResNet(20),
    "convnet20": lambda: ConvNet(20),
    "toynet20": lambda: ToyNet(20),
    "distinct": lambda: nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 100, 3, padding=1, stride=2), nn.ReLU()
    ),
}
MIB = 2**20


def resident(field: str) -> int:
    """Bytes of VmRSS or VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status; this benchmark needs Linux")


def peak_of(work) -> tuple[int, object]:
    """Peak bytes above the resident set before `work`, and what it returned."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = work()
    return resident("VmHWM") - before, result


def bare_forward(model: nn.Module, probe: rs.Probe) -> None:
    with torch.no_grad():
        for arguments, keywords, _labels in probe.batches():
            model(*arguments, **keywords)


def table_bytes(counts: rs.PatternCounts) -> int:
    return counts.num_patterns * (16 if counts.keys.shape[1] == 1 else 24)


def measure_one(name: str, images: int, data_dir: str | None, labels: bool) -> dict:
    torch.manual_seed(0)
    model = NETWORKS[name]().to(memory_format=torch.channels_last)
    if data_dir:
        data = load("cifar10", data_dir, num_images=images)
        inputs, classes = data.images, data.labels
    else:
        inputs, classes = torch.randn(images, 3, 32, 32), torch.arange(images) % 10
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    probe = rs.Probe(inputs, classes if labels else None)
    warm = rs.Probe(inputs[:256], classes[:256] if labels else None)
    rs.measure(model, warm)
    bare_forward(model.eval(), warm)
    bare, _ = peak_of(lambda: bare_forward(model, probe))
    peak, snapshot = peak_of(lambda: rs.measure(model, probe))
    finished = sum(map(table_bytes, snapshot.patterns.values()))
    return {
        "network": name,
        "images": images,
        "data": "cifar10" if data_dir else "noise",
        "labels": labels,
        "patterns": sum(counts.num_patterns for counts in snapshot.patterns.values()),
        "tables_mib": round(finished / MIB, 1),
        "bare_peak_mib": round(bare / MIB, 1),
        "measure_peak_mib": round(peak / MIB, 1),
        "beyond_batch_over_tables": round((peak - bare) / finished, 2),
        "recorder_init_and_last_mib": round(2 * finished / MIB, 1),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--one", nargs=2, help=argparse.SUPPRESS
    )  # a network and "labels" or "plain": the subprocess
    options = parser.parse_args()
    if options.one:
        print(
            json.dumps(
                measure_one(options.one[0], options.images, options.data_dir, options.one[1] == "labels")
            )
        )
        return
    rows = []
    for name in options.networks:
        for labels in ("plain", "labels"):
            words = [sys.executable, __file__, "--images", str(options.images), "--one", name, labels]
            words += ["--data-dir", options.data_dir] if options.data_dir else []
            found = [
                json.loads(
                    subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                )
                for _ in range(options.repeats)
            ]
            rows.append(sorted(found, key=lambda row: row["beyond_batch_over_tables"])[len(found) // 2])
            print(rows[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
