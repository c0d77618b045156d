"""What compiling the kernels costs: how much longer the first measurement of a process takes than the second.

With an empty cache that is the very first use after an installation, with the cache that this leaves any later one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from reluscope.bench.alternatives import FIRST_USE, LATER_USE
from reluscope.bench.rows import Row, rows_of
from reluscope.errors import BenchmarkError

__all__ = ["first_use_rows", "report"]

_NUM_LATER = 5


def first_use_rows(tell: Callable[[float], None]) -> list[Row]:
    """Seconds that the first ResNet-20 measurement of a process takes beyond the second: cold once, then cached.

    Raises:
        BenchmarkError: the process that measures it failed.
    """
    seconds = {FIRST_USE: np.full(_NUM_LATER, np.nan), LATER_USE: np.full(_NUM_LATER, np.nan)}
    with tempfile.TemporaryDirectory(prefix="reluscope-bench-") as cache:
        seconds[FIRST_USE][0] = _extra_seconds(cache)
        tell(0.5)
        for index in range(_NUM_LATER):
            seconds[LATER_USE][index] = _extra_seconds(cache)
            tell(0.5 + 0.5 * (index + 1) / _NUM_LATER)
    return rows_of(
        "first-use", "resnet20, 128 noise images", seconds, baseline=LATER_USE, work=128, unit="samples"
    )


def _extra_seconds(cache: str) -> float:
    words = [sys.executable, "-c", "from reluscope.bench.first_use import report; report()"]
    done = subprocess.run(words, env={**os.environ, "NUMBA_CACHE_DIR": cache}, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"a measurement in a fresh process failed: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    return found["first_s"] - found["second_s"]


def report() -> None:
    """In a process of its own: print as JSON the seconds of its first and of its second measurement."""
    import torch

    import reluscope as rs
    from reluscope.lab import ResNet

    torch.manual_seed(0)
    model = ResNet(20).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    probe = rs.Probe(torch.randn(128, 3, 32, 32))
    with torch.no_grad():
        model(torch.randn(128, 3, 32, 32))  # torch's own first use
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        rs.measure(model, probe).to_dataframe()
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(json.dumps({"first_s": seconds[0], "second_s": seconds[1]}))
