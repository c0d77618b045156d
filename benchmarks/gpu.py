"""The kernels of a GPU, on one: are they right, how near the memory's speed, which way of counting is faster, what a
measurement costs.

    python benchmarks/gpu.py [--data-dir DATA] [--images 50000] [--size 4000000] [--rounds 7] [--skip-parity]

1. parity: the tests of tests/parity that the interpreter runs in CI, here on the device. Ends there if one fails.
2. packing: rows of every kind of layout, beside a plain sum over the same array.
3. counting from activations on the device: hash tables, sorting, torch.unique on ready-made keys and on rows of bits,
   CuPy and cuDF on ready-made keys if they are installed, and the paper's hash list. Every result is read on the host.
4. overhead: a measurement beside a bare forward pass, ResNet-20, ConvNet-20 and ToyNet-20 (see `reluscope bench overhead`).

Writes benchmarks/results/gpu.csv. Without a CUDA device it says so and ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from reluscope.bench.distributions import DISTRIBUTIONS, activations_of, words_of
from reluscope.bench.hashlist import count_by_hashlist
from reluscope.bench.overhead import OverheadBenchmark
from reluscope.bench.peers import installed_peers
from reluscope.bench.rows import Row, rows_of, write_rows
from reluscope.bench.timing import Effort, interleave
from reluscope.kernels.fingerprint import DEFAULT_SEED
from reluscope.kernels.plan import KeyPlan
from reluscope.patterns import count_patterns

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.csv"
PACKAGES = ("triton", "cupy-cuda12x", "cupy-cuda13x", "cudf-cu12", "cudf-cu13")
NETWORKS = ("resnet20", "convnet20", "toynet20")
WIDTHS = (12, 16, 32, 64, 128, 512)


def run_parity() -> None:
    """End the benchmark unless all kernels are right on this device."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    tests = [str(path) for path in sorted((ROOT / "tests" / "parity").glob("test_parity_gpu*.py"))]
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise SystemExit("the kernels are not right on this device: no timing is worth having")


def packing_rows(effort: Effort) -> list[Row]:
    """Bandwidth of packing, values to rows on the device, beside a sum of the same array."""
    from reluscope.kernels import gpu
    from reluscope.kernels.gpu_values import as_device_values

    found: list[Row] = []
    for width in (16, 64, 128, 512):
        for layout in ("rows", "planes"):
            shape = ((1 << 28) // width, width) if layout == "rows" else ((1 << 18) // width, width, 32, 32)
            for dtype in (torch.float32, torch.bfloat16):
                array = torch.randn(shape, device="cuda").to(dtype)
                values = as_device_values(array, 1, (0.0,))
                plan = KeyPlan(width=width, num_groups=0, seed=DEFAULT_SEED)

                def pack(values=values, plan=plan) -> None:
                    state = gpu.DeviceRows(plan, values.bits.device)
                    state.add(values, None)
                    torch.cuda.synchronize()

                def add(array=array) -> None:
                    array.sum()
                    torch.cuda.synchronize()

                seconds = interleave({"sum": add, "pack": pack}, effort)
                case = f"{layout}/{width}/{str(dtype).removeprefix('torch.')}"
                found += _rows("gpu packing", case, seconds, "sum", array.nbytes, "bytes")
    return found


def counting_rows(size: int, effort: Effort) -> list[Row]:
    """From activations on the device to a table on the host."""
    found: list[Row] = []
    for distribution in DISTRIBUTIONS:
        for width in WIDTHS:
            words = words_of(distribution, width, size)
            values = activations_of(words, width).cuda()
            bits = values > 0

            def by_rows(bits: torch.Tensor = bits) -> torch.Tensor:
                keys, counts = torch.unique(bits, dim=0, return_counts=True)
                keys.cpu()
                return counts.cpu()

            alternatives: dict[str, Callable[[], object]] = {
                "count_patterns": partial(count_by, "", values),
                "count_patterns, hash": partial(count_by, "hash", values),
                "count_patterns, sort": partial(count_by, "sort", values),
                "hash list of the paper": partial(count_by_hashlist, values, 4 * size),
                "torch.unique(dim=0) on bits": by_rows,
            }
            if width <= 64:
                peers, missing = installed_peers("cuda")
                alternatives |= {f"{peer.name} on ready-made keys": peer.prepare(words) for peer in peers}
                for peer in missing:
                    print(f"{peer.name} is not installed: left out")
            seconds = interleave(alternatives, effort)
            found += _rows(
                "gpu counting", f"{distribution}/{width}", seconds, "count_patterns", size, "evaluations"
            )
    return found


def count_by(how: str, values: torch.Tensor) -> object:
    """Count with RELUSCOPE_GPU_COUNTING as given ("": as the library chooses)."""
    before = os.environ.get("RELUSCOPE_GPU_COUNTING")
    os.environ["RELUSCOPE_GPU_COUNTING"] = how
    try:
        return count_patterns(values)
    finally:
        del os.environ["RELUSCOPE_GPU_COUNTING"]
        if before is not None:
            os.environ["RELUSCOPE_GPU_COUNTING"] = before


def overhead_rows(options: argparse.Namespace) -> list[Row]:
    """Measurement / bare forward pass, without labels and with."""
    benchmark = OverheadBenchmark(
        models=NETWORKS,
        num_images=options.images,
        pairs=options.rounds,
        steps=(0,),
        labels="both",
        data_dir=options.data_dir,
        device="cuda",
    )
    rows: list[Row] = []
    for case in benchmark.cases():
        if case.name.startswith("overhead/"):
            rows += case.run(lambda share: None)
    return rows


def _rows(benchmark: str, case: str, seconds: dict, baseline: str, work: int, unit: str) -> list[Row]:
    rows = rows_of(
        benchmark,
        case,
        seconds,
        baseline=baseline,
        work=work,
        unit=unit,
        packages=PACKAGES,
        device=torch.cuda.get_device_name(),
    )
    for row in rows:
        print(
            f"{row.benchmark} {row.case}: {row.alternative} {row.median_s * 1e3:.2f} ms, {work / row.median_s / 1e9:.2f} G "
            f"{unit}/s, {row.ratio_median:.2f} x {baseline}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="holds cifar-10-batches-py; without it other images are taken")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=4_000_000, help="evaluations that are counted")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--skip-parity", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "torch sees no CUDA device here, and these numbers mean nothing without one: run this on a machine with a GPU "
            "and a torch built for it"
        )
    if importlib.util.find_spec("triton") is None:
        raise SystemExit("the kernels need Triton: pip install reluscope[gpu]")
    os.environ.pop("TRITON_INTERPRET", None)
    if not options.skip_parity:
        run_parity()
    effort = Effort(rounds=options.rounds)
    rows = packing_rows(effort)
    write_rows(options.output, rows)
    rows += counting_rows(options.size, effort)
    write_rows(options.output, rows)  # what there is stays, should the rest fail
    rows += overhead_rows(options)
    write_rows(options.output, rows)
    print("written to", options.output)


if __name__ == "__main__":
    main()
