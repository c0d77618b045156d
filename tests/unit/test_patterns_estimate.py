"""Estimates of thinned counts: without bias, with honest standard errors, and never taken for exact counts."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from reluscope import measures
from reluscope.errors import EstimateError, IncompatibleCountsError, ReluscopeError
from reluscope.instruments import compare_to_init, compare_to_last
from reluscope.measures.estimates import (
    error_name,
    moments,
    summarize_estimate,
    summarize_labels_estimate,
)
from reluscope.measures.similarity import similarities
from reluscope.patterns import Budget, EstimatedCounts, PatternCounter, PatternCounts, draw_sample

WIDTH, NUM, BATCH, SALTS = 40, 24_000, 4000, 40
SHAPE = {"width": WIDTH, "num_units": WIDTH, "num_kinks": 1}
ODD = np.uint64(0x9E3779B97F4A7C15)
# Whether the totals differ by chance of the two states alone: exactly 0 sits at a bound, so no spread is to be had.
KINDS = ("zipf", "two heavy", "real")


def keys_of(kind: str, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if kind == "distinct":
        drawn = generator.permutation(NUM).astype(np.uint64) + np.uint64(NUM * seed)
    elif kind == "zipf":
        weights = 1.0 / np.arange(1, NUM) ** 0.9
        drawn = generator.choice(NUM - 1, NUM, p=weights / weights.sum()).astype(np.uint64)
    elif kind == "two heavy":
        drawn = generator.integers(2, 6000, NUM).astype(np.uint64)
        place = generator.random(NUM)
        drawn[place < 0.3], drawn[place > 0.8] = 0, 1
    else:  # a ReLU layer on samples of three dimensions
        weights = np.random.default_rng(5).normal(size=(4, WIDTH))
        on = np.column_stack([generator.normal(size=(NUM, 3)), np.ones(NUM)]) @ weights > 0
        return (on * (np.uint64(1) << np.arange(WIDTH, dtype=np.uint64))).sum(axis=1).astype(np.uint64)
    return drawn * ODD % np.uint64(2**WIDTH)


def count(keys: np.ndarray, groups: np.ndarray | None, budget: Budget | None = None) -> PatternCounter:
    bits = ((keys[:, None] >> np.arange(WIDTH, dtype=np.uint64)) & np.uint64(1)).astype(np.float32) * 2 - 1
    counter = PatternCounter(WIDTH, num_groups=0 if groups is None else 3, budget=budget, site="a")
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        counter.update(bits[part], groups=None if groups is None else groups[part])
    counter.close()
    return counter


def states(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys before, keys after (three in ten drawn anew), and a class for each that depends on the pattern."""
    before, generator = keys_of(kind, 1), np.random.default_rng(9)
    after = np.where(generator.random(NUM) < 0.3, keys_of(kind, 2), before)
    groups = (before >> np.uint64(3)).astype(np.int64) % 2 + generator.integers(0, 2, NUM)
    return before, after, groups


def limit_for(keys: np.ndarray) -> int:
    """A budget that makes an estimate at level 1 to 3."""
    return 110_000 + 8 * len(np.unique(keys))


@functools.cache
def estimates(kind: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The truth, and for each measure float64 (salts, 2): error and standard error."""
    before, after, groups = states(kind)
    classes = np.bincount(groups, minlength=3)
    exact, exact_after = count(before, groups), count(after, groups)
    truth = measures.summarize(exact.counts(), **SHAPE)
    truth |= measures.summarize_labels(
        exact.counts(), exact.joint_counts(), **SHAPE, class_evaluations=classes
    )
    truth |= compare_to_last(exact.counts(), exact_after.counts())
    found: dict[str, list[tuple[float, float]]] = {}
    for salt in range(SALTS):
        one, other = (
            count(keys, groups, Budget(limit_for(keys), sample_seed=salt)).estimate()
            for keys in (before, after)
        )
        assert one is not None
        assert other is not None
        row = summarize_estimate(one.moments, **SHAPE, heavy_frequency=one.heavy_frequency)
        row |= summarize_labels_estimate(one.moments, **SHAPE, class_evaluations=classes)
        row |= compare_to_last(one, other)
        for name, value in truth.items():
            found.setdefault(name, []).append((row[name] - value, row[error_name(name)]))
    return truth, {name: np.array(pairs) for name, pairs in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_no_bias_and_errors_as_large_as_they_say(kind):
    _, found = estimates(kind)
    spreads, covered = [], []
    for name, pairs in found.items():
        if name == "max_frequency":
            continue
        z = pairs[:, 0] / pairs[:, 1]
        spreads.append(z.std())
        covered.append((np.abs(z) <= 2.0).mean())
        # Of 40 salts: the mean within 3.5 of its standard errors, the spread within 3 (1/sqrt(80) = 0.11 each).
        assert abs(z.mean()) * math.sqrt(SALTS) / z.std() < 3.5, name
        assert 0.6 < z.std() < 1.35, name
        assert (np.abs(z) <= 2.0).mean() >= 0.85, name
    assert 0.8 < np.mean(spreads) < 1.25
    assert 0.9 <= np.mean(covered) <= 0.995


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_frequent_pattern_is_known(kind):
    _, found = estimates(kind)
    assert (found["max_frequency"] == 0.0).all()


def test_where_all_are_distinct_the_total_is_exact():
    truth, found = estimates("distinct")
    for name in ("total", "entropy", "coverage", "joint_entropy", "information"):
        error, standard_error = found[name].T
        np.testing.assert_allclose(error, 0.0, atol=1e-9 * max(1.0, abs(truth[name])))
        # One pattern seen twice may have gone unseen: that is all that is left open.
        assert (standard_error > 0.0).all()
        assert (standard_error <= 1e-3 * max(1.0, truth[name])).all()


def test_a_pattern_that_became_frequent_late_is_missed_within_the_errors():
    """Sorted by class: first all distinct, then one heavy pattern, which most salts drop."""
    keys = keys_of("distinct", 1)
    keys[NUM * 2 // 3 :] = np.uint64(12345)
    truth = measures.summarize(count(keys, None).counts(), **SHAPE)
    missed = 0
    for salt in range(12):
        found = count(keys, None, Budget(200_000, sample_seed=salt)).estimate()
        assert found is not None
        missed += found.counts.max() < NUM // 3
        for name, (value, error) in found.estimates().items():
            if name != "max_frequency":
                assert abs(value - truth[name]) <= 3.5 * error, (name, salt)
        largest = found.estimates()["max_frequency"]
        assert found.counts.max() == NUM // 3 or largest.standard_error > 0.0
    assert missed > 0


def test_an_estimate_compares_with_an_exact_state_and_with_itself():
    before, after, _ = states("zipf")
    exact, estimate = count(before, None).counts(), count(after, None, Budget(180_000)).estimate()
    assert estimate is not None
    truth = compare_to_last(exact, count(after, None).counts())
    for one, other, sign in ((exact, estimate, 1), (estimate, exact, -1)):
        found = compare_to_last(one, other)
        for name in ("jaccard_to_last", "weighted_jaccard_to_last", "churn_rate"):
            assert abs(found[name] - truth[name]) < 3.5 * found[error_name(name)]
        assert abs(found["net_change"] - sign * truth["net_change"]) < 3.5 * found["net_change_error"]
        assert found["appeared"] - found["vanished"] == found["net_change"]
    same = compare_to_init(estimate, estimate)
    assert same["weighted_jaccard_to_init"] == same["jaccard_to_init"] == 1.0
    assert same["weighted_jaccard_to_init_error"] == 0.0
    assert compare_to_last(estimate, estimate)["appeared"] == 0


def test_samples_of_estimates_are_those_of_tables_with_a_ceiling():
    before, after, _ = states("zipf")
    tables = [count(keys, None).counts() for keys in (before, after)]
    truth = compare_to_last(*tables)
    z: dict[str, list[float]] = {"weighted_jaccard": [], "jaccard": []}
    for salt in range(30):
        thinned = [
            count(keys, None, Budget(180_000, sample_seed=salt)).estimate() for keys in (before, after)
        ]
        assert all(thinned)
        samples = [draw_sample(one, 1500, site="a", seed=salt) for one in thinned if one is not None]
        full = {tuple(key) for key in draw_sample(tables[0], 1500, site="a", seed=salt).keys.tolist()}
        assert {tuple(key) for key in samples[0].keys.tolist()} <= full
        assert not samples[0].is_whole
        for kind, found in z.items():
            one = similarities(samples[:1], samples[1:], kind)
            assert not one.exact.any()
            found.append(((one.value - truth[f"{kind}_to_last"]) / one.standard_error).item())
    for kind, found in z.items():
        assert 0.7 < np.std(found) < 1.4, kind
        assert abs(np.mean(found)) * math.sqrt(30) / np.std(found) < 3.5, kind


def test_a_sample_of_another_seed_or_site_is_refused():
    estimate = count(keys_of("zipf", 1), None, Budget(180_000)).estimate()
    assert estimate is not None
    for site, seed in (("a", 1), ("b", 0)):
        with pytest.raises(EstimateError, match="sample seed"):
            draw_sample(estimate, site=site, seed=seed)


def test_exact_functions_refuse_an_estimate():
    estimate = count(keys_of("zipf", 1), None, Budget(180_000)).estimate()
    assert isinstance(estimate, EstimatedCounts)
    assert not isinstance(estimate, PatternCounts)
    table = count(keys_of("zipf", 1), None).counts()
    for attempt in (
        lambda: measures.total(estimate),
        lambda: measures.entropy(estimate),
        lambda: measures.jaccard(estimate, estimate),
        lambda: measures.jaccard(table, estimate),
        lambda: estimate.merge(table),
        lambda: table.merge(estimate),
        lambda: table.join(estimate),
    ):
        with pytest.raises(EstimateError, match="some of the patterns") as caught:
            attempt()
        assert isinstance(caught.value, ReluscopeError | TypeError)
    other = count(keys_of("zipf", 1), None, Budget(180_000, sample_seed=5)).estimate()
    assert other is not None
    with pytest.raises(IncompatibleCountsError, match="sample seeds"):
        compare_to_last(estimate, other)


def test_moments_by_hand():
    found = moments(np.array([1, 4]), np.array([2, 0], np.uint8), num_evaluations=8, level=2)
    assert found.sums.tolist() == [1 * 4 + 4, 5.0, 4.0, 8.0, 0.0]
    assert found.covariance[0, 0] == found.covariance[1, 2] == 4 * 3
    # C is 8, as N: the total is that of Horvitz and Thompson, and all its error is that of C.
    total = found.linear(np.array([0.0, 1.0, 0.0, 0.0, 0.0]))
    assert total.value == 5.0
    assert total.standard_error == pytest.approx(math.sqrt((1 - 2) ** 2 * 0.75 / 0.0625))
