"""Measures with labels, and what chance alone would give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reluscope import measures
from reluscope.errors import DistributionError, EmptyCountsError, LabelsError
from reluscope.measures import permutations

TRAITS = {"width": 4, "num_units": 4, "num_kinks": 1}


def test_patterns_that_tell_the_class() -> None:
    # patterns a, b in class 0, c, d in class 1, two evaluations each
    row = measures.summarize_labels([2] * 4, [2] * 4, class_evaluations=[4, 4], **TRAITS)
    assert row == {
        "joint_entropy": 2.0,
        "relative_joint_entropy": 2 / 3,  # min(4 + 1, log2 8)
        "conditional_entropy": 1.0,
        "relative_conditional_entropy": 0.5,  # min(4, log2 4)
        "information": 1.0,
        "relative_information": 1.0,
    }


def test_patterns_that_ignore_the_class() -> None:
    row = measures.summarize_labels([4, 4], [2] * 4, class_evaluations=[4, 4], **TRAITS)
    assert row["information"] == row["relative_information"] == 0.0
    assert row["conditional_entropy"] == 1.0


def test_distinct_patterns_hold_the_entropy_of_the_labels_whatever_they_are() -> None:
    classes = [3, 5, 0]
    row = measures.summarize_labels([1] * 8, [1] * 8, class_evaluations=classes, **TRAITS)
    assert row["information"] == pytest.approx(measures.label_entropy(classes), rel=1e-14)
    assert row["relative_information"] == pytest.approx(1.0, rel=1e-14)
    assert row["relative_conditional_entropy"] == pytest.approx(1.0, rel=1e-14)
    assert row["relative_joint_entropy"] == 1.0


def test_summary_equals_the_single_functions() -> None:
    counts, joint, classes = [5, 3, 2], [4, 1, 3, 2], [7, 3]
    row = measures.summarize_labels(
        counts, joint, width=6, num_units=3, num_kinks=2, class_evaluations=classes
    )
    kinks = {"num_units": 3, "num_kinks": 2}
    assert row["joint_entropy"] == measures.joint_entropy(joint)
    assert row["relative_joint_entropy"] == measures.relative_joint_entropy(joint, classes, **kinks)
    assert row["conditional_entropy"] == measures.conditional_entropy(joint, classes)
    assert row["relative_conditional_entropy"] == measures.relative_conditional_entropy(
        joint, classes, **kinks
    )
    assert row["information"] == measures.information(counts, joint, classes)
    assert row["relative_information"] == measures.relative_information(counts, joint, classes, **kinks)


def test_few_patterns_and_classes_bound_the_joint_entropy() -> None:
    # one bit and two classes: at most 2 bits, though log2 400 is larger
    assert measures.relative_joint_entropy([100] * 4, [200, 200], num_units=1) == 1.0


def test_several_kinks_enter_the_maxima() -> None:
    # one unit, two kinks: at most log2 3 bits, whatever the class
    joint = [9, 9, 9]
    assert measures.relative_conditional_entropy(joint, [27], num_units=1, num_kinks=2) == pytest.approx(1.0)
    assert measures.relative_conditional_entropy(joint, [27], num_units=2) == pytest.approx(math.log2(3) / 2)


def test_undefined_maxima_are_nan() -> None:
    one_class = measures.summarize_labels([2, 1], [2, 1], class_evaluations=[3], **TRAITS)
    assert one_class["information"] == 0.0
    assert math.isnan(one_class["relative_information"])
    single = measures.summarize_labels([1, 1], [1, 1], class_evaluations=[1, 1], **TRAITS)
    assert math.isnan(single["relative_conditional_entropy"])
    one = measures.summarize_labels([1], [1], class_evaluations=[1], **TRAITS)
    assert math.isnan(one["relative_joint_entropy"])
    nothing = measures.summarize_labels([], [], class_evaluations=[0, 0], **TRAITS)
    assert list(nothing) == list(one)
    assert all(math.isnan(value) for value in nothing.values())


def test_what_does_not_belong_together() -> None:
    with pytest.raises(LabelsError, match=r"patterns hold 3 evaluations, the .* pairs 4"):
        measures.summarize_labels([3], [2, 2], class_evaluations=[2, 2], **TRAITS)
    with pytest.raises(LabelsError, match="classes hold 5 evaluations"):
        measures.summarize_labels([4], [2, 2], class_evaluations=[2, 3], **TRAITS)
    with pytest.raises(DistributionError, match="at least 0, found -1"):
        measures.label_entropy([2, -1])
    with pytest.raises(EmptyCountsError, match="joint_entropy"):
        measures.joint_entropy([])
    with pytest.raises(DistributionError, match="width of 3 bits"):
        measures.summarize_labels([4], [4], width=3, num_units=4, num_kinks=1, class_evaluations=[4])


def brute_force_information(pattern, sample, counts, labels) -> float:
    """Information from a table of all (pattern, class) cells, in the textbook form."""
    table = np.zeros((pattern.max() + 1, labels.max() + 1))
    np.add.at(table, (pattern, labels[sample]), counts)
    p = table / table.sum()
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    return float((p[p > 0] * np.log2(p[p > 0] / outer[p > 0])).sum())


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """60 samples of 3 classes in 40 patterns, in no particular order; many patterns lie in one sample only."""
    rng = np.random.default_rng(5)
    pattern, sample = np.unique(
        np.stack([np.minimum(rng.zipf(1.5, 400), 40) - 1, rng.integers(0, 60, 400)]), axis=1
    )
    order = rng.permutation(pattern.size)
    counts = rng.integers(1, 9, pattern.size)
    return pattern[order], sample[order], counts[order], rng.integers(0, 3, 60)


def test_permuted_information_is_that_of_permuted_labels(pairs, monkeypatch) -> None:
    pattern, sample, counts, labels = pairs
    generator = np.random.default_rng(11)
    expected = [
        brute_force_information(pattern, sample, counts, generator.permutation(labels)) for _ in range(5)
    ]
    for cells in (permutations._BLOCK_CELLS, 7):  # one block, then blocks of two patterns
        monkeypatch.setattr(permutations, "_BLOCK_CELLS", cells)
        found = measures.permuted_information(*pairs, num_permutations=5, generator=np.random.default_rng(11))
        # differences of entropies, sums of about 400 terms
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_excess_takes_the_mean_off(pairs) -> None:
    by_chance = measures.permuted_information(*pairs, num_permutations=9, generator=np.random.default_rng(2))
    excess = measures.information_excess(*pairs, num_permutations=9, generator=np.random.default_rng(2))
    assert excess == pytest.approx(brute_force_information(*pairs) - by_chance.mean(), abs=1e-11)


def test_excess_of_distinct_patterns_is_nothing() -> None:
    samples = np.arange(50)
    excess = measures.information_excess(
        samples,
        samples,
        np.ones(50, np.int64),
        samples % 5,
        num_permutations=3,
        generator=np.random.default_rng(0),
    )
    assert excess == 0.0


def test_counts_by_class_from_counts_by_sample(pairs) -> None:
    pattern, sample, counts, labels = pairs
    expected = np.zeros((40, 3), np.int64)
    np.add.at(expected, (pattern, labels[sample]), counts)
    found = measures.joint_by_class(pattern, sample, counts, labels + 10)
    np.testing.assert_array_equal(found, expected[expected > 0])
    assert found.dtype == np.int64
    assert measures.joint_by_class(pattern[:0], sample[:0], counts[:0], labels).size == 0


def test_pairs_that_do_not_fit(pairs) -> None:
    pattern, sample, counts, labels = pairs
    generator = np.random.default_rng(0)
    with pytest.raises(LabelsError, match="there are labels for 3 samples only"):
        measures.permuted_information(
            pattern, sample, counts, labels[:3], num_permutations=1, generator=generator
        )
    with pytest.raises(LabelsError, match="0 permutations"):
        measures.permuted_information(*pairs, num_permutations=0, generator=generator)
    with pytest.raises(LabelsError, match="found shapes"):
        measures.permuted_information(
            pattern[:-1], sample, counts, labels, num_permutations=1, generator=generator
        )
    nothing = np.empty(0, np.int64)
    with pytest.raises(EmptyCountsError, match=r"no \(pattern, sample\) pair"):
        measures.permuted_information(
            nothing, nothing, nothing, labels, num_permutations=1, generator=generator
        )
