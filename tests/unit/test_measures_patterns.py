"""Measures of one distribution: hand-computed values, extremes and error texts."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from reluscope import measures
from reluscope.errors import DistributionError, EmptyCountsError
from reluscope.measures import distribution

SINGLE_FUNCTIONS = [
    measures.max_frequency,
    measures.entropy,
    measures.entropy_corrected,
    measures.coverage,
]


def test_hand_computed_values() -> None:
    row = measures.summarize([4, 2, 1, 1], width=16, num_units=16, num_kinks=1)
    assert row == {
        "total": 4,
        "total_fraction": 0.5,  # 4 of min(2^16, 8)
        "max_frequency": 0.5,
        "entropy": 1.75,  # 1/2 1 + 1/4 2 + 2 (1/8 3)
        "relative_entropy": 1.75 / 3,
        "entropy_corrected": 1.75 + 3 / (16 * math.log(2)),
        "coverage": 0.75,
    }
    assert isinstance(row["total"], int)


def test_summarize_equals_the_single_functions() -> None:
    counts = SimpleNamespace(counts=np.array([9, 3, 1, 1, 1, 70_000, 70_000]), width=6)
    row = measures.summarize(counts, width=6, num_units=3, num_kinks=2)
    assert row["total"] == measures.total(counts)
    assert row["total_fraction"] == measures.total_fraction(counts, num_kinks=2)
    assert row["max_frequency"] == measures.max_frequency(counts)
    assert row["entropy"] == measures.entropy(counts)
    assert row["relative_entropy"] == measures.relative_entropy(counts, num_kinks=2)
    assert row["entropy_corrected"] == measures.entropy_corrected(counts)
    assert row["coverage"] == measures.coverage(counts)


@pytest.mark.parametrize("num_patterns", [1, 2, 3, 7, 1000, 65_537])
def test_uniform_distributions_reach_the_bounds_exactly(num_patterns: int) -> None:
    row = measures.summarize(np.ones(num_patterns, np.int64), width=64, num_units=64, num_kinks=1)
    assert row["entropy"] == math.log2(num_patterns)
    assert row["total_fraction"] == 1.0
    assert row["coverage"] == 0.0
    if num_patterns == 1:
        assert math.isnan(row["relative_entropy"])  # N = 1: the largest entropy is 0
    else:
        assert row["relative_entropy"] == 1.0


def test_one_pattern_has_no_entropy() -> None:
    row = measures.summarize([12_345], width=3, num_units=3, num_kinks=1)
    assert row["entropy"] == 0.0
    assert row["entropy_corrected"] == 0.0
    assert row["max_frequency"] == 1.0
    assert row["coverage"] == 1.0


def test_several_kinks_have_fewer_patterns_than_bits() -> None:
    # one unit with kinks at 0 and 6 shows 00, 01 and 11, never 10
    row = measures.summarize([2, 2, 2], width=2, num_units=1, num_kinks=2)
    assert row["total_fraction"] == 1.0
    assert row["relative_entropy"] == 1.0


@pytest.mark.parametrize("width", [65_536, 10**7])
def test_wide_sites_do_not_overflow(width: int) -> None:
    row = measures.summarize([1, 1], width=width, num_units=width, num_kinks=1)
    assert row["total_fraction"] == 1.0
    assert measures.largest_total(2**62, num_units=62) == 2**62
    assert measures.largest_total(2**62 + 1, num_units=62) == 2**62


def test_counts_past_2_to_the_53_are_exact() -> None:
    big = 2**60
    row = measures.summarize(np.array([big, 1, 1]), width=64, num_units=64, num_kinks=1)
    assert row["max_frequency"] == big / (big + 2)
    # N itself is not a float64; the entropy is that of two singletons and of a pattern of frequency near 1.
    expected = 2 * math.log2(big + 2) / (big + 2) + 2 / (big * math.log(2))
    assert row["entropy"] == pytest.approx(expected, rel=1e-15, abs=0)
    assert distribution.spectrum(np.array([big, 1, 1])).num_evaluations == big + 2


def test_spectrum_agrees_with_unique_across_its_two_regimes() -> None:
    rng = np.random.default_rng(1)
    limit = distribution._DENSE_LIMIT
    counts = np.concatenate([rng.zipf(1.3, 300_000) % (4 * limit) + 1, [limit - 1, limit, limit + 1]])
    found = measures.spectrum(counts)
    multiplicities, num_patterns = np.unique(counts, return_counts=True)
    np.testing.assert_array_equal(found.multiplicities, multiplicities)
    np.testing.assert_array_equal(found.num_patterns, num_patterns)
    assert found.multiplicities.dtype == found.num_patterns.dtype == np.int64
    assert found.total == counts.size
    assert found.num_evaluations == counts.sum()
    assert found.largest == counts.max()
    assert found.num_singletons == np.count_nonzero(counts == 1)


def test_nothing_counted() -> None:
    empty = np.empty(0, np.int64)
    row = measures.summarize(empty, width=4, num_units=4, num_kinks=1)
    assert row.pop("total") == 0
    assert len(row) == 6
    assert all(math.isnan(value) for value in row.values())
    assert measures.total([]) == 0


@pytest.mark.parametrize("function", SINGLE_FUNCTIONS)
def test_single_functions_refuse_nothing(function) -> None:
    with pytest.raises(
        EmptyCountsError, match=rf"{function.__name__} was asked for, but nothing was counted"
    ):
        function([])
    for relative in (measures.relative_entropy, measures.total_fraction):
        with pytest.raises(EmptyCountsError, match=relative.__name__):
            relative([], width=3)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([1, 0, 2], "found 1 of 3 entries equal to 0"),
        ([3, -2], "found -2"),
        ([0.5, 0.5], "found float64 of shape"),
        ([[1, 2]], r"shape \(1, 2\)"),
        ([True, False], "found bool"),
    ],
)
def test_what_is_no_distribution(counts, text: str) -> None:
    with pytest.raises(DistributionError, match=text):
        measures.entropy(np.array(counts))
    with pytest.raises(DistributionError, match=text):
        measures.summarize(np.array(counts), width=2, num_units=2, num_kinks=1)


def test_the_width_must_fit_the_units() -> None:
    with pytest.raises(DistributionError, match="width of 5 bits was given with 2 units of 2 kinks"):
        measures.summarize([1], width=5, num_units=2, num_kinks=2)
    with pytest.raises(DistributionError, match="width of 5 bits"):
        measures.relative_entropy([1, 1], width=5, num_kinks=2)
    with pytest.raises(DistributionError, match="Pass width="):
        measures.relative_entropy([1, 1])


def test_hash_list_and_quality() -> None:
    row = measures.summarize_hashlist([2, 2], size=8)
    assert row == {
        "hashlist_total": 2,
        "hashlist_entropy": 1.0,
        "hashlist_max_frequency": 0.5,
        "occupancy": 0.25,
    }
    empty = measures.summarize_hashlist([], size=8)
    assert empty["occupancy"] == 0.0
    assert math.isnan(empty["hashlist_entropy"])
    assert math.isnan(empty["hashlist_max_frequency"])
    with pytest.raises(DistributionError, match="9 slots out of 8"):
        measures.occupancy(9, 8)
    with pytest.raises(DistributionError, match="5 NaN among 4"):
        measures.nan_fraction(5, 4)
    with pytest.raises(EmptyCountsError, match="no pre-activation"):
        measures.nan_fraction(0, 0)
    assert measures.nan_fraction(1, 4) == 0.25
