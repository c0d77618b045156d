"""Benchmarks: what counting and measuring cost beside what else one could use, and a verdict per promise.

`CountingBenchmark().cases()`, chosen by `select`, run by `run_cases`, judged by `judge`; on the command line
`reluscope bench counting` and `reluscope bench overhead`.
"""

# cases
from reluscope.bench.cases import Case as Case
from reluscope.bench.cases import Progress as Progress
from reluscope.bench.cases import run_cases as run_cases
from reluscope.bench.cases import select as select

# counting
from reluscope.bench.counting import CountingBenchmark as CountingBenchmark

# memory
from reluscope.bench.memory import MemoryRow as MemoryRow
from reluscope.bench.memory import measure_memory as measure_memory

# overhead
from reluscope.bench.overhead import OverheadBenchmark as OverheadBenchmark

# progress
from reluscope.bench.progress import BenchDisplay as BenchDisplay

# promises
from reluscope.bench.promises import Verdict as Verdict
from reluscope.bench.promises import judge as judge
from reluscope.bench.promises import verdict_text as verdict_text

# rows
from reluscope.bench.rows import Row as Row
from reluscope.bench.rows import read_rows as read_rows
from reluscope.bench.rows import write_rows as write_rows

# subjects
from reluscope.bench.subjects import SUBJECTS as SUBJECTS

# timing
from reluscope.bench.timing import Effort as Effort

__all__ = [
    "SUBJECTS",
    "BenchDisplay",
    "Case",
    "CountingBenchmark",
    "Effort",
    "MemoryRow",
    "OverheadBenchmark",
    "Progress",
    "Row",
    "Verdict",
    "judge",
    "measure_memory",
    "read_rows",
    "run_cases",
    "select",
    "verdict_text",
    "write_rows",
]
