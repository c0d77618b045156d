"""Verdicts on promises from rows made by hand, and the page about cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reluscope.bench import judge, verdict_text
from reluscope.bench.cost_page import RESULTS, cost_page, write_cost_page
from reluscope.bench.memory import read_memory_rows
from reluscope.bench.promises import PROMISES, fitted_exponent
from reluscope.bench.rows import Row, missing_row, read_rows, rows_of
from reluscope.errors import BenchmarkError

ROOT = Path(__file__).resolve().parents[2]


def made_up(benchmark: str, case: str, baseline: str, **seconds: float) -> list[Row]:
    """Rows of one round; a name's underscores are spaces, a double one a plus."""
    times = {
        name.replace("__", " + ").replace("_or_", ", "): np.array([value]) for name, value in seconds.items()
    }
    return rows_of(benchmark, case, times, baseline=baseline, work=1000, unit="evaluations")


def verdict_of(name: str, rows: list[Row]):
    return next(one for one in judge(rows) if one.promise.name == name)


def test_keys_are_judged_by_the_fastest_peer_of_the_worst_case():
    rows = made_up("keys", "zipf/16", "count_keys", count_keys=1.0, fast=3.0, slow=9.0)
    rows += made_up("keys", "zipf/64", "count_keys", count_keys=1.0, fast=8.0, slow=1.5)
    rows.append(missing_row(rows[0], "nobody", "not installed"))
    verdict = verdict_of("keys", rows)
    assert [(one.case, one.value, one.against) for one in verdict.found][:2] == [
        ("zipf/16", 3.0, "fast"),
        ("zipf/64", 1.5, "slow"),
    ]
    assert (verdict.is_kept, verdict.num_kept, verdict.worst.case) == (False, 1, "zipf/64")
    assert verdict_text(verdict) == "1.50, promised at least 2.00"


def test_patterns_are_judged_four_times():
    seconds = {
        "count_patterns": 1.0,
        "parallel sum + count_keys": 0.8,
        "pack_patterns + polars": 1.5,
        "pack_patterns + count_keys": 0.5,  # our own two steps are no peer
        "hash list, Algorithm 1": 6.0,
        "torch.unique(dim=0)": 19.0,
    }
    times = {name: np.array([value]) for name, value in seconds.items()}
    rows = rows_of("patterns", "zipf/16", times, baseline="count_patterns", work=1, unit="evaluations")
    found = {one.promise.name: (one.worst.value, one.is_kept) for one in judge(rows, ["patterns"])}
    assert found == {
        "patterns-packed-peer": (1.5, True),
        "patterns-sum": (pytest.approx(1.25), True),
        "patterns-rows": (19.0, False),
        "patterns-hashlist": (6.0, True),
    }


def test_packing_is_judged_by_its_share_of_the_bandwidth():
    times = {"parallel sum": np.array([0.6]), "pack_patterns": np.array([1.0])}
    rows = rows_of("packing", "rows/float32/16", times, baseline="parallel sum", work=1, unit="bytes")
    verdict = verdict_of("packing", rows)
    assert (verdict.worst.value, verdict.is_kept) == (pytest.approx(0.6), False)


def test_overhead_is_judged_by_network_and_without_labels():
    def measured(case: str, seconds: float, baseline: str = "bare") -> list[Row]:
        times = {baseline: np.array([1.0]), "measure": np.array([seconds])}
        return rows_of("overhead", case, times, baseline=baseline, work=1, unit="samples")

    rows = [
        *measured("resnet20, step 0, 9 images", 1.08),
        *measured("resnet20, step 0, 9 images", 1.5, "bare_eval"),
        *measured("toynet20, step 0 with labels, 9 images", 1.9),
        *measured("resnet18, step 0, 9 images", 1.12),
        *measured("convnet20, step 0, 9 images, cuda", 1.2),
    ]
    found = {one.promise.name: (one.worst.value, one.is_kept) for one in judge(rows, ["overhead"])}
    assert found == {
        "overhead": (1.08, True),
        "overhead-large": (1.12, True),
        "overhead-cuda": (1.2, True),
    }
    assert verdict_text(verdict_of("overhead", rows)) == "1.08, promised at most 1.10"


def test_the_exponent_of_a_straight_line_is_one():
    assert fitted_exponent([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1.0)
    assert fitted_exponent([10, 1000], [1.0, 1e4]) == pytest.approx(2.0)
    assert np.isnan(fitted_exponent([10], [1.0]))
    rows = []
    for size in (100, 10_000):
        times = {"PatternCounter": np.array([size**1.5])}
        rows += rows_of("scaling", "zipf/32", times, baseline="PatternCounter", work=size, unit="evaluations")
    verdict = verdict_of("scaling", rows)
    assert (verdict.worst.value, verdict.is_kept) == (pytest.approx(1.5), False)


def test_nothing_measured_is_no_verdict():
    for verdict in judge([]):
        assert verdict.is_kept is None
        assert verdict_text(verdict).startswith("not measured, promised at ")
    assert len(judge([])) == len(PROMISES)
    assert {one.promise.benchmark for one in judge([], ["packing"])} == {"packing"}


# The page --------------------------------------------------------------------------------------------------


def test_the_committed_page_is_that_of_the_committed_files(tmp_path):
    committed = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    page = tmp_path / "cost.md"
    page.write_text(committed, encoding="utf-8")
    write_cost_page(page, ROOT / "benchmarks" / "results")
    assert page.read_text(encoding="utf-8") == committed, (
        "run: python -m reluscope.bench.cost_page docs/cost.md"
    )


def test_what_was_written_by_hand_is_kept(tmp_path):
    page, results = tmp_path / "cost.md", ROOT / "benchmarks" / "results"
    write_cost_page(page, results)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("Nothing is written here yet.", "Ten things were tried."), encoding="utf-8")
    write_cost_page(page, results)
    assert "\nTen things were tried.\n" in page.read_text(encoding="utf-8")
    page.write_text(text.replace("<!-- by hand: end -->", ""), encoding="utf-8")
    with pytest.raises(BenchmarkError, match="would be lost"):
        write_cost_page(page, results)
    with pytest.raises(BenchmarkError, match="there is no"):
        write_cost_page(tmp_path / "other.md", tmp_path)


def test_every_table_shows_its_numbers():
    times = {"bare": np.array([2.0]), "measure": np.array([2.5])}
    case = "toynet20, step 0, 9 images"
    rows = rows_of("overhead", case, times, baseline="bare", work=9, unit="samples")
    roof = {"bare": np.array([2.0]), "read once": np.array([0.1])}
    rows += rows_of("roofline", case, roof, baseline="bare", work=2**30, unit="bytes")[1:]
    rows += rows_of(
        "parts",
        case,
        {"bare": np.array([1.0]), "observe": np.array([1.03])},
        baseline="bare",
        work=9,
        unit="x",
    )
    uses = {
        "first use, kernels compiled": np.array([8.25]),
        "later use, kernels from the cache": np.array([0.25]),
    }
    rows += rows_of(
        "first-use", "x", uses, baseline="later use, kernels from the cache", work=1, unit="samples"
    )
    times = {"parallel sum": np.array([0.5]), "pack_patterns": np.array([1.0])}
    rows += rows_of("packing", "rows/float32/16", times, baseline="parallel sum", work=10**9, unit="bytes")
    for size in (1000, 10_000):
        times = {"PatternCounter": np.array([size * 3e-9])}
        rows += rows_of("scaling", "zipf/32", times, baseline="PatternCounter", work=size, unit="evaluations")
    rows += made_up("keys", "zipf/16", "count_keys", count_keys=0.001, fast=0.003)
    rows.append(missing_row(rows[-1], "cudf groupby", "not installed"))
    page = cost_page(rows, [])
    for line in (
        "| toynet20, step 0, 9 images | 2 | 2.5 | 1.25 (1.25 to 1.25) |  |",
        "| toynet20, step 0, 9 images | 1,024 | 10.7 | 0.1 | 5.0% | 0.500 | 5.0 |",
        "| toynet20, step 0, 9 images | 1.03 (1.03 to 1.03) |  |  |  |  |",
        "| the very first, kernels compiled | 8.25 |",
        "| rows/float32/16 | 954 | 2.0 | 1.0 | 50% |",
        "| 10,000 | 3e-05 | 3.00 |",
        "| zipf/16 | 1.0 | 1 | fast 3.0, cudf groupby not installed |",
    ):
        assert line in page
    assert "Fitted exponent: 1.000" in page
    assert "Not measured yet: `python benchmarks/memory.py`" in page


def test_the_committed_files_can_be_read():
    results = ROOT / "benchmarks" / "results"
    for name in RESULTS[:2]:
        assert read_rows(results / name)
    assert read_memory_rows(results / RESULTS[2])
