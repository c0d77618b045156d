"""Every Triton kernel compiles for a GPU; the values it gives are checked by the interpreter, or on a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install reluscope[gpu]"
)
SCRIPT = Path(__file__).parent / "compile_gpu_kernels.py"
KERNELS = {
    "pack_words_kernel": 6,
    "pack_rows_kernel": 4,
    "count_dense_kernel": 2,
    "insert_kernel": 2,
    "compare_kernel": 2,
}


def test_every_kernel_compiles_to_machine_code(tmp_path):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TRITON_INTERPRET", "PYTHONWARNINGS")
    }
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(SCRIPT), "90"]  # Hopper
    answer = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert answer.returncode == 0, answer.stderr[-4000:]
    names = [line.split()[0] for line in answer.stdout.splitlines()]
    assert {name: names.count(name) for name in names} == KERNELS
