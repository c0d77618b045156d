"""PatternCounts: what it accepts, says of itself and refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from reluscope.errors import DistributionError, IncompatibleCountsError, KernelError
from reluscope.patterns import PatternCounts


def make(keys, counts, width=4, **options) -> PatternCounts:
    return PatternCounts(
        np.array(keys, np.uint64).reshape(len(counts), -1), np.array(counts, np.int64), width, **options
    )


def test_what_it_says_of_itself():
    counts = make([0, 5], [3, 1])
    assert (counts.num_patterns, counts.num_evaluations, counts.width) == (2, 4, 4)
    assert (counts.is_fingerprint, counts.collision_bound, counts.seed) == (False, 0.0, None)
    assert counts.nbytes == 2 * 16
    assert repr(counts) == "PatternCounts(width=4, num_patterns=2, num_evaluations=4)"
    wide = make([[0, 1], [5, 1]], [3, 1], width=200)
    assert wide.nbytes == 2 * 24
    assert wide.is_fingerprint
    assert wide.collision_bound == 4 / 2**129
    assert repr(wide).endswith("is_fingerprint=True)")


def test_it_is_a_private_read_only_copy():
    keys, numbers = np.array([[1]], np.uint64), np.array([2])
    counts = PatternCounts(keys, numbers, 4)
    keys[0], numbers[0] = 3, 9
    assert (counts.keys.item(), counts.counts.item()) == (1, 2)
    for array in (counts.keys, counts.counts, pickle.loads(pickle.dumps(counts)).counts):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        counts.width = 5


def test_equality_is_of_content():
    assert make([0, 5], [3, 1]) == make([0, 5], [3, 1])
    assert make([0, 5], [3, 1]) != make([0, 5], [3, 2])
    assert make([0, 5], [3, 1]) != make([0, 5], [3, 1], width=5)
    assert make([0, 5], [3, 1]) != "counts"
    with pytest.raises(TypeError, match="unhashable"):
        hash(make([0], [1]))


def test_merge_and_join_by_hand():
    a, b = make([0, 5], [3, 1]), make([2, 5], [4, 6])
    merged = a.merge(b)
    assert merged.keys[:, 0].tolist() == [0, 2, 5]
    assert merged.counts.tolist() == [3, 4, 7]
    assert [part.tolist() for part in a.join(b)] == [[3, 0, 1], [0, 4, 6]]
    assert (a.counts.tolist(), b.counts.tolist()) == ([3, 1], [4, 6])


def test_counts_beyond_32_bits_merge_exactly():
    huge = make([1], [2**31 + 5])
    total = huge.merge(huge).merge(huge)
    assert total.counts.tolist() == [3 * (2**31 + 5)]
    assert total.num_evaluations == 3 * (2**31 + 5)


def test_the_last_word_is_the_most_significant():
    a = make([[5, 0]], [1], width=100).merge(make([[0, 1]], [1], width=100))
    assert a.keys.tolist() == [[5, 0], [0, 1]]


def test_empty_is_the_identity():
    for width in (1, 64, 65, 300):
        empty = PatternCounts.empty(width)
        assert (empty.num_patterns, empty.num_evaluations, empty.nbytes) == (0, 0, 0)
        assert empty.merge(empty) == empty
        assert [len(part) for part in empty.join(empty)] == [0, 0]


@pytest.mark.parametrize(
    ("keys", "counts", "width", "text"),
    [
        (np.array([[5], [0]], np.uint64), np.array([1, 1]), 4, "not distinct and sorted"),
        (np.array([[5], [5]], np.uint64), np.array([1, 1]), 4, "not distinct and sorted"),
        (np.array([[5, 1], [6, 0]], np.uint64), np.array([1, 1]), 100, "not distinct and sorted"),
        (np.array([[16]], np.uint64), np.array([1]), 4, "bits beyond width 4"),
        (np.array([[0, 1 << 36]], np.uint64), np.array([1]), 100, "bits beyond width 100"),
        (np.array([[5]], np.int64), np.array([1]), 4, r"keys of dtype int64.*give uint64 of shape \(1, 1\)"),
        (np.array([[5]], np.uint64), np.array([1]), 65, r"shape \(1, 1\).*width 65.*shape \(1, 2\)"),
        (np.array([[5]], np.uint64), np.array([1.0]), 4, "counts of dtype float64.*int64"),
        (np.array([[5]], np.uint64), np.array([0]), 4, "counts hold 0.*at least once"),
        (np.array([[5]], np.uint64), np.array([-2]), 4, "counts hold -2"),
        (np.array([[5]], np.uint64), np.array([1]), 0, "width=0 is no number of bits"),
        (np.array([[5]], np.uint64), np.array([1]), 2.0, "width=2.0"),
    ],
)
def test_what_is_no_table_is_refused(keys, counts, width, text):
    with pytest.raises(DistributionError, match=text):
        PatternCounts(keys, counts, width)


def test_what_does_not_combine_is_refused():
    with pytest.raises(IncompatibleCountsError, match="width 4 with counts of width 5"):
        make([0], [1]).merge(make([0], [1], width=5))
    with pytest.raises(IncompatibleCountsError, match="seed 1 with fingerprints keyed by seed 2"):
        PatternCounts.empty(200, seed=1).join(PatternCounts.empty(200, seed=2))
    with pytest.raises(IncompatibleCountsError, match="with a dict"):
        make([0], [1]).merge({})
    with pytest.raises(KernelError, match="seed=-1"):
        PatternCounts.empty(200, seed=-1)
    assert PatternCounts.empty(100, seed=1) == PatternCounts.empty(100, seed=2)  # no fingerprint, no seed


def test_more_evaluations_than_int64_holds():
    half = PatternCounts(np.array([[1]], np.uint64), np.array([2**62]), 4)
    assert half.num_evaluations == 2**62
    with pytest.raises(DistributionError, match="together exceed 9223372036854775807"):
        half.merge(half)
    with pytest.raises(DistributionError, match="counts sum to 9223372036854775808"):
        PatternCounts(np.array([[1], [2]], np.uint64), np.array([2**62, 2**62]), 4)
