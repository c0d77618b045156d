"""The table of traits: complete, in order, and true of the functions it names."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from reluscope import measures
from reluscope.measures import FAMILIES, LAYER_MEASURES

COLUMNS = [
    "total",
    "total_fraction",
    "max_frequency",
    "entropy",
    "relative_entropy",
    "entropy_corrected",
    "coverage",
    "appeared",
    "vanished",
    "net_change",
    "relative_change",
    "churn_rate",
    "weighted_jaccard_to_last",
    "jaccard_to_last",
    "weighted_jaccard_to_init",
    "jaccard_to_init",
    "joint_entropy",
    "relative_joint_entropy",
    "conditional_entropy",
    "relative_conditional_entropy",
    "information",
    "relative_information",
    "information_excess",
    "hashlist_total",
    "hashlist_entropy",
    "hashlist_max_frequency",
    "occupancy",
    "nan_fraction",
]


def test_columns_and_their_order() -> None:
    assert list(LAYER_MEASURES) == COLUMNS


@pytest.mark.parametrize("name", COLUMNS)
def test_an_entry_is_complete(name: str) -> None:
    measure = LAYER_MEASURES[name]
    assert measure.name == name
    assert measure.family in FAMILIES
    assert measure.dtype == ("int64" if measure.unit == "patterns" else "float64")
    assert measure.scale in {"linear", "log", "symlog"}
    assert measure.unit in {"bits", "patterns", "1"}
    for text in (measure.title, measure.symbol, measure.direction, measure.source, measure.formula):
        assert text
        assert text == text.strip()
    assert 1 <= measure.description.count(". ") + 1 <= 5
    assert measure.description.endswith(".")
    assert "  " not in measure.description


@pytest.mark.parametrize("name", COLUMNS)
def test_the_named_function_exists(name: str) -> None:
    module, function = LAYER_MEASURES[name].function.split(".")
    found = getattr(importlib.import_module(f"reluscope.measures.{module}"), function)
    assert found is getattr(measures, function)
    assert found.__doc__


def test_titles_and_symbols_tell_measures_apart() -> None:
    assert len({measure.title for measure in LAYER_MEASURES.values()}) == len(COLUMNS)
    assert len({measure.symbol for measure in LAYER_MEASURES.values()}) == len(COLUMNS)


def test_the_summaries_fill_the_columns_of_their_families() -> None:
    def family(name: str) -> list[str]:
        return [measure.name for measure in LAYER_MEASURES.values() if measure.family == name]

    assert list(measures.summarize([1], width=1, num_units=1, num_kinks=1)) == family("counts")
    change = measures.summarize_change([1], [1])
    assert list(change)[:5] == family("changes")
    assert {f"{name}_to_{to}" for name in list(change)[5:] for to in ("last", "init")} == set(
        family("similarity")
    )
    labels = measures.summarize_labels([1], [1], width=1, num_units=1, num_kinks=1, class_evaluations=[1])
    assert [*labels, "information_excess"] == family("labels")
    assert list(measures.summarize_hashlist([1], size=2)) == family("hashlist")


def test_importing_measures_loads_nothing_heavy() -> None:
    code = (
        "import sys, reluscope.measures; print([m for m in ('torch', 'numba', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
