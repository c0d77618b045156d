"""Measures of two distributions: hand-computed values, empty states and error texts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reluscope import measures
from reluscope.errors import DistributionError, IncompatibleCountsError


class Table:
    """The least that a joinable distribution is: counts by key."""

    def __init__(self, **counts: int) -> None:
        self.by_key = counts

    def join(self, other: Table) -> tuple[np.ndarray, np.ndarray]:
        union = sorted(self.by_key.keys() | other.by_key.keys())
        return (
            np.array([self.by_key.get(key, 0) for key in union], dtype=np.int64),
            np.array([other.by_key.get(key, 0) for key in union], dtype=np.int64),
        )


BEFORE, AFTER = Table(a=5, b=1, c=2), Table(a=3, c=4, d=1, e=1)


def test_hand_computed_values() -> None:
    expected = {
        "appeared": 2,
        "vanished": 1,
        "net_change": 1,
        "relative_change": 0.25,
        "churn_rate": 0.6,
        "weighted_jaccard": 5 / 12,  # (3 + 2) / (5 + 1 + 4 + 1 + 1)
        "jaccard": 0.4,
    }
    row = measures.summarize_change(*BEFORE.join(AFTER))
    assert row == expected
    assert all(isinstance(row[name], int) for name in ("appeared", "vanished", "net_change"))


def test_objects_and_aligned_arrays_give_the_same() -> None:
    aligned = BEFORE.join(AFTER)
    assert measures.changes(BEFORE, AFTER) == measures.changes(*aligned)
    assert measures.changes(BEFORE, AFTER) == measures.Changes(
        appeared=2, vanished=1, net=1, relative=0.25, churn_rate=0.6
    )
    assert measures.jaccard(BEFORE, AFTER) == measures.jaccard(*aligned) == 0.4
    assert measures.weighted_jaccard(BEFORE, AFTER) == measures.weighted_jaccard(*aligned) == 5 / 12


def test_two_empty_states_are_not_comparable() -> None:
    for size in (0, 3):
        zeros = np.zeros(size, np.int64)
        row = measures.summarize_change(zeros, zeros)
        assert row["appeared"] == row["vanished"] == row["net_change"] == 0
        undefined = ("relative_change", "churn_rate", "weighted_jaccard", "jaccard")
        assert all(math.isnan(row[name]) for name in undefined)


def test_one_empty_state() -> None:
    row = measures.summarize_change([1, 2], [0, 0])
    assert (row["vanished"], row["net_change"], row["churn_rate"]) == (2, -2, 1.0)
    assert (row["weighted_jaccard"], row["jaccard"]) == (0.0, 0.0)
    assert math.isnan(row["relative_change"])
    assert measures.changes([0, 0], [1, 2]).relative == 1.0


def test_entries_that_are_zero_in_both_do_not_count() -> None:
    assert measures.summarize_change([2, 0, 1], [2, 0, 0]) == measures.summarize_change([2, 1], [2, 0])


def test_the_length_of_a_chunk_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.integers(0, 3, 40_001), rng.integers(0, 3, 40_001)
    row = measures.summarize_change(before, after)
    assert row["appeared"] == np.count_nonzero((before == 0) & (after > 0))
    assert row["vanished"] == np.count_nonzero((before > 0) & (after == 0))
    assert row["weighted_jaccard"] == np.minimum(before, after).sum() / np.maximum(before, after).sum()


def test_counts_past_2_to_the_53_are_exact() -> None:
    big = 2**61
    assert measures.weighted_jaccard(np.array([big, 1]), np.array([big, 1])) == 1.0
    assert measures.changes(np.array([big, 1]), np.array([0, 1])).vanished == 1


def test_what_cannot_be_compared() -> None:
    with pytest.raises(IncompatibleCountsError, match=r"found 2 and 3\. Join the two tables first"):
        measures.summarize_change([1, 2], [1, 2, 3])
    with pytest.raises(IncompatibleCountsError, match="pair of Table and list"):
        measures.jaccard(BEFORE, [1, 2])
    with pytest.raises(DistributionError, match="at least 0, found -1"):
        measures.weighted_jaccard([1, 2], [-1, 3])
    with pytest.raises(DistributionError, match="the second counts must be a one-dimensional array"):
        measures.weighted_jaccard([1, 2], np.array([0.5, 0.5]))
