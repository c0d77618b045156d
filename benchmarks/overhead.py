"""What a measurement costs beside a bare forward pass: `reluscope bench overhead` into benchmarks/results.

    python benchmarks/overhead.py [--data-dir DATA] [any option of `reluscope bench overhead`]

Then `python -m reluscope.bench.cost_page docs/cost.md` writes the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reluscope.cli import main

RESULTS = Path(__file__).parent / "results" / "overhead.csv"

if __name__ == "__main__":
    sys.exit(main(["bench", "overhead", "-o", str(RESULTS), *sys.argv[1:]]))
