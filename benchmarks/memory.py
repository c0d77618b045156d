"""Peak memory of `rs.measure` beside the finished tables it returns.

    python benchmarks/memory.py [--data-dir DATA] [--images 2000] [--networks resnet20 ... distinct] [--output CSV]

Each network in a process of its own, without and with labels (see `reluscope.bench.memory`); Linux only. Without
`--data-dir` the images are embedded digits, and the rows say so. Writes benchmarks/results/memory.csv; then
`python -m reluscope.bench.cost_page docs/cost.md` writes the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reluscope.bench.memory import MEMORY_NETWORKS, measure_memory, write_memory_rows

RESULTS = Path(__file__).parent / "results" / "memory.csv"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--networks", nargs="+", choices=MEMORY_NETWORKS, default=list(MEMORY_NETWORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = measure_memory(
        options.networks,
        num_images=options.images,
        data_dir=options.data_dir,
        repeats=options.repeats,
        on_row=lambda row: print(row, flush=True),
    )
    write_memory_rows(options.output, rows)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
