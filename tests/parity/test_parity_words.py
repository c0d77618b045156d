"""One-word rows: sorting, uniting with a table and taking in batches, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from reluscope.kernels import accumulate_words, openmp
from reluscope.kernels.accumulate_words import WAITING, WordAccumulator
from reluscope.kernels.ingest import RawKeys
from reluscope.kernels.plan import KeyPlan
from reluscope.kernels.sort import sort_keys
from reluscope.kernels.words import count_words, unite_words

KINDS = ("random", "ties", "narrow", "constant top", "zipf", "few", "one", "runs")


def make_keys(kind: str, size: int, seed: int = 0) -> np.ndarray:
    """uint64 (size,): shapes that sorting, cutting into parts or comparing could get wrong."""
    generator = np.random.default_rng(seed)
    random = generator.integers(0, 2**64 - 1, size, dtype=np.uint64, endpoint=True)
    if kind == "ties":  # 256 leading values, and differences in the last bits only
        return random & np.uint64(0xFF000000000003FF)
    if kind == "narrow":
        return random & np.uint64(0xFFFFF)
    if kind == "constant top":  # units that are always on lead the key
        return (random & np.uint64(0x3FFFFF)) | np.uint64(0xFFFF << 48)
    if kind == "zipf":
        return generator.zipf(1.3, size).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    if kind == "few":
        return generator.choice(random[:3], size)
    if kind == "one":
        return np.full(size, random[0])
    if kind == "runs":  # many in one part, few in the others
        return np.where(generator.random(size) < 0.9, random >> np.uint64(40), random)
    return random


def varying_of(keys: np.ndarray) -> int:
    return int(np.bitwise_or.reduce(keys) & ~np.bitwise_and.reduce(keys))


@njit
def sort(keys, scratch, top):
    """`sort_keys`, which only compiled functions can call."""
    sort_keys(keys, scratch, top)


@pytest.mark.parametrize("size", [1, 2, 17, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_sorting_keys_of_any_kind(kind, size):
    keys = make_keys(kind, size)
    expected = np.sort(keys)
    sort(keys, np.empty_like(keys), max(1, varying_of(keys).bit_length()))
    np.testing.assert_array_equal(keys, expected)


@pytest.mark.parametrize("size", [1, 1000, 20_000, 200_000])
@pytest.mark.parametrize("table_size", [0, 1, 300, 100_000])
@pytest.mark.parametrize("kind", KINDS)
def test_raw_keys_unite_with_a_table(kind, table_size, size):
    keys = make_keys(kind, size)
    before = np.unique(
        np.concatenate([keys[: table_size // 2], make_keys(kind, table_size // 2 + 1, seed=1)])
    )
    before = before[:table_size]
    counts = np.arange(1, len(before) + 1)
    table, found = unite_words(keys.copy(), varying_of(keys), before.reshape(-1, 1), counts)
    expected, place = np.unique(np.concatenate([keys, before]), return_inverse=True)
    expected_counts = np.bincount(place, np.concatenate([np.ones(size), counts])).astype(np.int64)
    np.testing.assert_array_equal(table[:, 0], expected)
    np.testing.assert_array_equal(found, expected_counts)
    assert table.dtype == np.uint64
    assert found.dtype == np.int64


@pytest.mark.parametrize("kind", ["random", "constant top", "runs"])
def test_raw_keys_of_32_bits_unite_with_a_table(kind):
    keys = (make_keys(kind, 50_000) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    table, counts = unite_words(
        keys.copy(), varying_of(keys), np.empty((0, 1), np.uint64), np.empty(0, np.int64)
    )
    expected, expected_counts = np.unique(keys, return_counts=True)
    np.testing.assert_array_equal(table[:, 0], expected)
    np.testing.assert_array_equal(counts, expected_counts)


@pytest.mark.parametrize("width", [20, 32, 33, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_batches_counts_as_one(kind, width):
    keys = make_keys(kind, 300_000) & np.uint64((1 << width) - 1)
    state = WordAccumulator(KeyPlan(width=width, num_groups=0, seed=0))
    for batch in np.array_split(keys, 7):
        state.add_words(np.ascontiguousarray(batch).reshape(-1, 1))
    finished = state.finish(pairs=False)
    expected, counts = np.unique(keys, return_counts=True)
    np.testing.assert_array_equal(finished.keys[:, 0], expected)
    np.testing.assert_array_equal(finished.counts, counts)


def test_repeated_keys_do_not_wait_for_ever():
    """A stream whose patterns soon repeat must not hold raw keys out of proportion to its table."""
    distinct = make_keys("random", 60_000)
    state = WordAccumulator(KeyPlan(width=64, num_groups=0, seed=0))
    generator = np.random.default_rng(0)
    held = []
    for _ in range(40):
        state.add_words(generator.choice(distinct, 100_000).reshape(-1, 1))
        held.append(state.nbytes)
    assert max(held) < 2 * (16 + 2 * WAITING) * len(distinct)
    assert state.finish(pairs=False).counts.sum() == 4_000_000


def test_without_a_team_threads_of_our_own_count_the_same(monkeypatch):
    keys = make_keys("zipf", 200_000)
    with_team = unite_words(keys.copy(), varying_of(keys), np.empty((0, 1), np.uint64), np.empty(0, np.int64))
    monkeypatch.setattr(openmp, "_is_forked", True)
    alone = unite_words(keys.copy(), varying_of(keys), np.empty((0, 1), np.uint64), np.empty(0, np.int64))
    np.testing.assert_array_equal(alone[0], with_team[0])
    np.testing.assert_array_equal(alone[1], with_team[1])


@pytest.mark.parametrize("size", [1, 1000, 40_000, 300_000])
@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_are_only_read(kind, size):
    keys = make_keys(kind, size)
    for num_bits in (64, 32, 20):
        narrow = keys >> np.uint64(64 - num_bits)
        before = narrow.copy()
        found, counts = count_words(narrow, num_bits)
        expected, expected_counts = np.unique(before, return_counts=True)
        np.testing.assert_array_equal(found[:, 0], expected)
        np.testing.assert_array_equal(counts, expected_counts)
        np.testing.assert_array_equal(narrow, before)
        assert found.dtype == np.uint64
        assert counts.dtype == np.int64


@pytest.mark.parametrize("width", [64, 32, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_all_there_are(kind, width):
    """Whether frequent ones are looked for or not, of the kinds some go each way."""
    keys = (make_keys(kind, 300_000) >> np.uint64(64 - width)).reshape(-1, 1)
    plan = KeyPlan(width=width, num_groups=0, seed=0)
    finished = WordAccumulator(plan).finish_words(keys)
    expected, expected_counts = np.unique(keys, return_counts=True)
    table, counts = finished.unwritten.table() if finished.unwritten else (finished.keys, finished.counts)
    np.testing.assert_array_equal(table[:, 0], expected)
    np.testing.assert_array_equal(counts, expected_counts)


def test_frequent_ones_are_counted_in_cache_only_where_some_repeat(monkeypatch):
    taken = []
    add_words = RawKeys.add_words

    def watched(self, words, hot):
        add_words(self, words, hot)
        taken.append((len(words), self.size))

    monkeypatch.setattr(RawKeys, "add_words", watched)
    plan = KeyPlan(width=64, num_groups=0, seed=0)
    WordAccumulator(plan).finish_words(make_keys("random", 300_000).reshape(-1, 1))
    assert taken == []
    keys = make_keys("few", 300_000).reshape(-1, 1)
    finished = WordAccumulator(plan, is_alone=True).finish_words(keys)
    assert taken == [(300_000, 0)]  # all of them were found there
    assert (finished.keys[:, 0] == np.unique(keys)).all()
    assert finished.counts.sum() == 300_000


@pytest.mark.parametrize("most", [100_000, 200_000])
def test_more_than_can_wait_are_united_in_between(monkeypatch, most):
    """As many as 32-bit counters of the sort can tell apart; here fewer."""
    united = []
    unite = accumulate_words.unite_words

    def watched(raw, *args, **options):
        united.append(len(raw))
        return unite(raw, *args, **options)

    monkeypatch.setattr(accumulate_words, "MAX_RAW", most)
    monkeypatch.setattr(accumulate_words, "unite_words", watched)
    keys = make_keys("zipf" if most == 100_000 else "random", 3_000_000).reshape(-1, 1)
    finished = WordAccumulator(KeyPlan(width=64, num_groups=0, seed=0), is_alone=True).finish_words(keys)
    expected, expected_counts = np.unique(keys, return_counts=True)
    np.testing.assert_array_equal(finished.keys[:, 0], expected)
    np.testing.assert_array_equal(finished.counts, expected_counts)
    assert len(united) > 1
    assert max(united) <= most + accumulate_words.SEGMENT


@pytest.mark.parametrize("size", [20, 300, 5000])
@pytest.mark.parametrize("differing", [3, 11, 20, 31])
def test_many_keys_that_tie_in_their_leading_bits(size, differing):
    """The highest bit is not the same in all, so that the leading 33 leave the lowest 31 to tell the others apart."""
    generator = np.random.default_rng(size)
    keys = generator.integers(0, 1 << differing, size, np.uint64)
    keys[size // 2] |= np.uint64(1 << 63)
    expected = np.sort(keys)
    sort(keys, np.empty_like(keys), 64)
    np.testing.assert_array_equal(keys, expected)


@pytest.mark.parametrize("size", [2, 20, 300, 5000])
@pytest.mark.parametrize("high", [0, 8, 40])
def test_keys_that_tie_in_their_leading_bits(size, high):
    """Groups of every size that agree in so many leading bits, some of them sorted already, some of equal keys."""
    generator = np.random.default_rng(size)
    groups = np.repeat(generator.integers(0, 1 << 20, 40_000 // size, np.uint64) << np.uint64(44), size)
    lower = generator.integers(0, 1 << (44 - high), groups.size, np.uint64)
    lower[: groups.size // 3] = 5
    keys = groups | lower
    expected, expected_counts = np.unique(keys, return_counts=True)
    found, counts = count_words(keys, 64)
    np.testing.assert_array_equal(found[:, 0], expected)
    np.testing.assert_array_equal(counts, expected_counts)
