"""`import reluscope` is cheap and loads nothing heavy; every public name is found where it is said to be."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys

import pytest

import reluscope as rs

HEAVY = ("torch", "numba", "numpy", "pandas", "pyarrow", "xarray", "plotly", "matplotlib", "pydantic", "rich")
LIMIT_S = 0.3

PROBE = """
import json, sys, time
started = time.perf_counter()
{statement}
print(json.dumps({{"seconds": time.perf_counter() - started, "loaded": [m for m in {heavy!r} if m in sys.modules]}}))
"""


def import_cost(statement: str) -> dict:
    """Seconds and heavy modules loaded by `statement` in a fresh interpreter; the fastest of three runs."""
    runs = []
    for _ in range(3):
        code = PROBE.format(statement=statement, heavy=HEAVY)
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append(json.loads(answer.stdout))
    return min(runs, key=lambda one: one["seconds"])


def assert_cheap(cost: dict) -> None:
    assert cost["loaded"] == []
    assert cost["seconds"] < LIMIT_S


def test_importing_the_library_is_cheap():
    assert_cheap(import_cost("import reluscope"))


def test_the_test_above_can_fail():
    cost = import_cost("import reluscope; reluscope.measure")
    assert "torch" in cost["loaded"]
    with pytest.raises(AssertionError):
        assert_cheap(cost)


@pytest.mark.parametrize("module", ["measures", "runs", "report"])
def test_reading_a_result_needs_no_torch(module):
    cost = import_cost(f"import reluscope.{module}")
    assert not {"torch", "numba"} & set(cost["loaded"])


def test_every_public_name_resolves():
    for name in rs.__all__:
        assert getattr(rs, name) is not None, name
    assert set(rs.__all__) <= set(dir(rs))


def test_type_checkers_see_the_same_names():
    """The block under TYPE_CHECKING and the table of homes are two lists of one thing."""
    tree = ast.parse(inspect.getsource(rs))
    seen: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reluscope"):
            seen.update({alias.asname or alias.name: node.module for alias in node.names})
    assert set(seen) == set(rs.__all__) - {"__version__"}
    for name, home in seen.items():
        assert getattr(importlib.import_module(home), name) is getattr(rs, name)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'Recoder'; it has .*Recorder"):
        rs.Recoder  # noqa: B018
