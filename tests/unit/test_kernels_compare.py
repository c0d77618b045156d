"""Two states compared in one pass, whatever form they are in, against the union of their tables."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope.kernels.compare import compare_sorted
from reluscope.measures import pairs
from reluscope.patterns import PatternCounter, PatternCounts, count_keys, draw_sample

KINDS = ("random", "few", "runs", "disjoint", "ends")


def make_keys(kind: str, size: int, seed: int, dtype: type) -> np.ndarray:
    """Raw keys, unsorted; of two seeds some are the same."""
    generator = np.random.default_rng(seed)
    most = int(np.iinfo(dtype).max)
    if kind == "few":
        return generator.integers(0, 7, size).astype(dtype)
    if kind == "runs":
        return (generator.zipf(1.4, size) % 5000).astype(dtype)
    if kind == "disjoint":
        return (2 * generator.integers(0, most // 4, size) + seed % 2).astype(dtype)
    if kind == "ends":  # 0 and the greatest key, in which differences overflow
        return generator.choice(np.array([0, 1, most - 1, most], dtype), size)
    return generator.integers(0, 4 * size, size).astype(dtype)


def table_of(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys, counts = np.unique(raw, return_counts=True)
    return keys.astype(np.uint64).reshape(-1, 1), counts


def expected_of(raw: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """From a dictionary of the one and a walk over the other."""
    counts = dict(zip(*(array.tolist() for array in np.unique(raw, return_counts=True)), strict=True))
    found = zip(*(array.tolist() for array in np.unique(other, return_counts=True)), strict=True)
    lesser = [min(counts.get(key, 0), count) for key, count in found]
    return sum(one > 0 for one in lesser), sum(lesser)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 5000), (3000, 2000), (200_000, 150_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_states_in_either_form(kind, sizes, dtype):
    raw, other = (np.sort(make_keys(kind, size, seed, dtype)) for seed, size in enumerate(sizes))
    expected = expected_of(raw, other)
    forms = [(raw, None), table_of(raw)], [(other, None), table_of(other)]
    for one in forms[0]:
        for two in forms[1]:
            assert compare_sorted(one, two) == expected
            assert compare_sorted(two, one) == expected[:1] + expected[1:]


def test_nothing_has_nothing_in_common():
    nothing = np.empty((0, 1), np.uint64), np.empty(0, np.int64)
    assert compare_sorted(nothing, nothing) == (0, 0)
    assert compare_sorted(nothing, (np.arange(5, dtype=np.uint64), None)) == (0, 0)


@pytest.mark.parametrize("size", [10, 120_000])
def test_tables_of_two_columns(size):
    generator = np.random.default_rng(0)
    pool = generator.integers(0, 2**63, (2 * size, 2), dtype=np.uint64)
    states = [count_keys(pool[generator.integers(0, 2 * size, size)], 128) for _ in range(2)]
    overlap = states[0].overlap(states[1])
    joined = np.minimum(*states[0].join(states[1]))
    assert (overlap.total_both, overlap.sum_minima) == (np.count_nonzero(joined), joined.sum())


def counts_of(seed: int) -> PatternCounts:
    """Counts whose table is not written yet."""
    values = np.random.default_rng(seed).normal(size=(50_000, 20)).astype(np.float32)
    counter = PatternCounter(20)
    counter.update(values)
    counter.close()
    return counter.counts()


def test_measures_of_a_pair_write_no_table():
    before, after = counts_of(0), counts_of(1)
    found = pairs.summarize_change(before, after)
    similarity = pairs.weighted_jaccard(before, after), pairs.jaccard(before, after)
    assert before.raw is not None
    assert after.raw is not None
    expected = pairs.summarize_change(*before.join(after))
    assert after.raw is None  # the union of the tables needs them
    assert found == expected
    assert similarity == (expected["weighted_jaccard"], expected["jaccard"])


def test_a_sample_writes_no_table():
    counts = counts_of(0)
    sample = draw_sample(counts, 500, site="relu")
    assert counts.raw is not None
    written = PatternCounts(counts.keys, counts.counts, 20)
    expected = draw_sample(written, 500, site="relu")
    np.testing.assert_array_equal(sample.keys, expected.keys)
    np.testing.assert_array_equal(sample.counts, expected.counts)
    assert (sample.tau, sample.num_evaluations) == (expected.tau, expected.num_evaluations)
