"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import reluscope

MODULES = [
    module.name
    for module in pkgutil.walk_packages(reluscope.__path__, "reluscope.")
    if not module.ispkg
    and not module.name.endswith("__main__")
    # Triton is there on Linux only, and the kernels written in it have no examples.
    and (importlib.util.find_spec("triton") or not module.name.startswith("reluscope.kernels.gpu"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_there_are_examples_to_run() -> None:
    attempted = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert attempted >= 50
