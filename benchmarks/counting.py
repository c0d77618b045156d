"""What counting costs, beside what else one could use: `reluscope bench counting` into benchmarks/results.

    python benchmarks/counting.py [--data-dir DATA] [any option of `reluscope bench counting`]

Then `python -m reluscope.bench.cost_page docs/cost.md` writes the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reluscope.cli import main

RESULTS = Path(__file__).parent / "results" / "counting.csv"

if __name__ == "__main__":
    sys.exit(main(["bench", "counting", "-o", str(RESULTS), *sys.argv[1:]]))
