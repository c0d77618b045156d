"""The examples in the docstrings of measures and report run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import reluscope.measures
import reluscope.report

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (reluscope.measures, reluscope.report)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_there_are_examples_to_run() -> None:
    attempted = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert attempted >= 25
