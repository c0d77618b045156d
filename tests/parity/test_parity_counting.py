"""Counting: every implementation equals brute force over the bits, in every regime, with groups and without."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from reluscope.kernels.fingerprint import DEFAULT_SEED, hash_keys
from reluscope.kernels.hot import HotKeys
from reluscope.kernels.ingest_rows import RawRows
from reluscope.kernels.plan import KeyPlan
from reluscope.kernels.reference import count_rows, fingerprint
from reluscope.patterns import PatternCounter, PatternCounts, count_keys, count_patterns, pack_patterns

WIDTHS = (1, 15, 16, 17, 31, 63, 64, 65, 127, 129, 1000)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def expected_counts(oracle, bits: np.ndarray) -> PatternCounts:
    keys, counts = oracle.table_of(bits)
    if bits.shape[1] > 128:
        keys, counts = count_rows(fingerprint(keys, hash_keys(DEFAULT_SEED, keys.shape[1])), counts)
    return PatternCounts(keys, counts, bits.shape[1])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "2-D", "3-D"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_counts_equal_brute_force(oracle, kernels, width, dtype, layout):
    values, channel_dim = oracle.awkward(width, dtype, layout)
    values[-1] = values[0]  # so that something repeats
    expected = expected_counts(oracle, oracle.brute_bits(values, channel_dim, (0.0,)))
    counts = count_patterns(values, channel_dim)
    assert counts == expected
    oracle.assert_same(counts.keys, expected.keys)
    oracle.assert_same(counts.counts, expected.counts)
    assert count_keys(pack_patterns(values, channel_dim), width) == expected


def regime_values(width: int, kind: str, num_samples: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    values = torch.randn(num_samples, width, 6, 5, generator=generator)
    if kind == "skewed":  # most units nearly always off
        chance = torch.rand(width, generator=generator) < 0.1
        values = torch.where(chance[None, :, None, None], values, -values.abs() + 0.02)
    if kind == "equal":
        values[:] = values[0, :, 0, 0][None, :, None, None]
    return values.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("num_groups", [1, 2, 10, 3000])
@pytest.mark.parametrize("kind", ["distinct", "skewed", "equal"])
@pytest.mark.parametrize("width", [3, 12, 16, 17, 52, 60, 61, 64, 65, 116, 124, 125, 128, 129, 300])
def test_joint_counts_equal_brute_force(oracle, monkeypatch, width, kind, num_groups):
    values = regime_values(width, kind)
    groups = torch.randint(0, num_groups, (len(values),), generator=torch.Generator().manual_seed(1))
    counter = PatternCounter(width, num_groups=num_groups)
    for start in range(0, len(values), 40):
        counter.update(values[start : start + 40], groups=groups[start : start + 40])
    counts, joint = counter.counts(), counter.joint()
    bits = oracle.brute_bits(values, 1, (0.0,))
    expected = expected_counts(oracle, bits)
    assert counts == expected
    words = pack_patterns(values)
    keys = fingerprint(words, hash_keys(DEFAULT_SEED, words.shape[1])) if width > 128 else words
    rows = np.column_stack([np.repeat(groups.numpy().astype(np.uint64), 30), keys])
    pairs, pair_counts = count_rows(rows)
    oracle.assert_same(counts.keys[joint.pattern], np.ascontiguousarray(pairs[:, 1:]))
    oracle.assert_same(joint.group, pairs[:, 0].astype(np.int64))
    oracle.assert_same(joint.counts, pair_counts)
    assert joint.pattern.dtype == np.int64
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    slow = PatternCounter(width, num_groups=num_groups)
    slow.update(values, groups=groups)
    assert slow.counts() == counts
    for name in ("pattern", "group", "counts"):
        oracle.assert_same(getattr(slow.joint(), name), getattr(joint, name))


@pytest.mark.parametrize("width", [20, 32, 48, 96])
def test_a_look_before_frequent_keys_are_looked_for_loses_nothing(oracle, width):
    """The first batch is too small to tell what is frequent; its table is there when the next one does."""
    generator = torch.Generator().manual_seed(width)
    first = torch.randn(10_000, width, generator=generator)
    then = torch.randn(8, width, generator=generator).repeat(6_000, 1)
    counter = PatternCounter(width)
    counter.update(first)
    assert counter.counts().num_evaluations == 10_000
    for _ in range(3):
        counter.update(then)
        counter.counts()
    bits = oracle.brute_bits(torch.cat([first, then, then, then]), 1, (0.0,))
    assert counter.counts() == expected_counts(oracle, bits)


@pytest.mark.parametrize("num_units", [16, 31, 32, 48, 64, 100])
def test_groups_of_two_kinks_with_frequent_keys(oracle, num_units):
    """The group may take a word more than the pattern has, and most rows stay in a block that was asked for frequent ones."""
    generator = torch.Generator().manual_seed(num_units)
    width, num_samples = 2 * num_units, 150_000
    values = 6 * torch.rand(num_samples, num_units, generator=generator) + 0.5
    values[::5] = values[0]
    values[1::5] = values[1]
    groups = torch.randint(0, 10, (num_samples,), generator=generator)
    groups[::5] = groups[1::5] = 3
    counter = PatternCounter(width, num_groups=10)
    for start in range(0, num_samples, 50_000):
        stop = start + 50_000
        counter.update(values[start:stop], kinks=(0.0, 6.0), groups=groups[start:stop])
    words = pack_patterns(values, kinks=(0.0, 6.0))
    expected, num_each = count_rows(np.column_stack([groups.numpy().astype(np.uint64), words]))
    joint, counts = counter.joint(), counter.counts()
    if width <= 128:
        oracle.assert_same(counts.keys[joint.pattern], np.ascontiguousarray(expected[:, 1:]))
        oracle.assert_same(joint.group, expected[:, 0].astype(np.int64))
    assert sorted(joint.counts.tolist()) == sorted(num_each.tolist())


@pytest.mark.parametrize("width", [64, 128])
def test_complete_rows_stay_in_their_scratch(monkeypatch, width):
    """Rows with a word more than the pattern has, of which most are kept."""
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "1")
    plan = KeyPlan(width=width, num_groups=10, seed=0)
    raw, hot = RawRows(plan), HotKeys(np.uint64, plan.num_columns)
    assert plan.num_columns > plan.num_words
    guard = np.uint64(0xDEAD)
    beyond = np.full(raw._scratch.size + 8192, guard)
    raw._scratch = beyond[: raw._scratch.size]
    rows = np.random.default_rng(0).integers(0, 1 << 63, (20_000, plan.num_columns), dtype=np.uint64)
    hot.fill(*count_rows(rows[:100]), 100)
    raw.add_words(rows, hot, len(rows), are_rows=True)
    assert raw.size == len(rows) - np.count_nonzero(hot._places >= 0)
    assert (beyond[raw._scratch.size :] == guard).all()


def zipf_words(num_evaluations: int, width: int, seed: int) -> np.ndarray:
    """A few frequent keys, many rare ones: what the cache of frequent keys is for."""
    generator = np.random.default_rng(seed)
    ranks = np.minimum(generator.zipf(1.2, num_evaluations), 1 << 30).astype(np.uint64)
    mixed = ranks * np.uint64(0x9E3779B97F4A7C15)
    return np.ascontiguousarray((mixed >> np.uint64(64 - width)).reshape(-1, 1))


@pytest.mark.parametrize("kind", ["zipf", "distinct", "shifting", "equal"])
@pytest.mark.parametrize("width", [16, 20, 32, 64])
def test_long_streams_equal_numpy_unique(width, kind):
    size = 400_000
    if kind == "distinct":
        words = np.random.default_rng(0).integers(0, 1 << min(width, 63), (size, 1), dtype=np.uint64)
    elif kind == "shifting":  # what was frequent no longer is
        words = np.concatenate([zipf_words(size // 4, width, 0), *[zipf_words(size // 4, width, 0) // 3] * 3])
    elif kind == "equal":
        words = np.full((size, 1), 5, np.uint64)
    else:
        words = zipf_words(size, width, 0)
    counts = count_keys(words, width)
    keys, expected = np.unique(words, return_counts=True)
    np.testing.assert_array_equal(counts.keys[:, 0], keys)
    np.testing.assert_array_equal(counts.counts, expected)


def test_a_key_unseen_so_far_is_not_taken_for_an_unused_slot():
    """Key 0 comes only after frequent keys were chosen; 0 is what an empty slot might hold."""
    words = np.full((200_000, 1), 1 << 40, np.uint64)
    words[150_000:] = 0
    assert count_keys(words, 64).counts.tolist() == [50_000, 150_000]


@pytest.mark.parametrize("varying", [(0, 30), (50, 80), (100, 128), (64, 128), (0, 64)])
def test_two_word_patterns_that_differ_in_few_places(varying):
    """Sort windows hold the highest varying bits only: ties must still be told apart and ordered."""
    generator = np.random.default_rng(1)
    values = -np.ones((60_000, 128), np.float32)
    low, high = varying
    values[:, low:high] = generator.choice([-1.0, 1.0], (len(values), high - low), p=[0.8, 0.2])
    values[::3, 1] = 1.0
    words = pack_patterns(values)
    counts = count_keys(words, 128)
    keys, expected = count_rows(words)
    np.testing.assert_array_equal(counts.keys, keys)
    np.testing.assert_array_equal(counts.counts, expected)


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, threads):
    values = torch.randn(300, 24, 16, 16, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(300) % 7
    expected = {}
    for setting in ("2", threads):
        monkeypatch.setenv("RELUSCOPE_NUM_THREADS", setting)
        for width in (12, 24):
            counter = PatternCounter(width, num_groups=7)
            counter.update(values[:, :width], groups=groups)
            found = (counter.counts(), counter.joint().counts.tobytes(), counter.joint().group.tobytes())
            assert expected.setdefault(width, found) == found


def test_two_threads_may_count_at_once():
    """Two recorders in two threads, sharing the pool: each gets exactly what it gets alone."""
    inputs = {
        width: torch.randn(200, width, 20, 20, generator=torch.Generator().manual_seed(width))
        for width in (12, 20)
    }
    inputs = {width: (values * 0 + 1) * (values[:, :, :1, :1]) for width, values in inputs.items()}  # skewed
    expected = {width: count_patterns(values) for width, values in inputs.items()}
    failures = []

    def work(width: int) -> None:
        for _ in range(8):
            counter = PatternCounter(width)
            for batch in inputs[width].split(50):
                counter.update(batch)
            if counter.counts() != expected[width]:
                failures.append(width)

    threads = [threading.Thread(target=work, args=(width,)) for width in (12, 20, 12, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
