"""Drawing samples: the hash is uniform in every bit, the comparison exact, the sample what was promised."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope.errors import BudgetError
from reluscope.kernels import select
from reluscope.patterns import PatternCounts, draw_sample
from reluscope.patterns.sample import salt_of

SALT = salt_of("layer1.0.relu", 0)
NUM = 1 << 16


def key_sets() -> dict[str, np.ndarray]:
    """Keys as patterns are: counted up (dense tables), with few bits set, near each other, of two words."""
    generator = np.random.default_rng(0)
    triples = [1 << a | 1 << b | 1 << c for a in range(64) for b in range(a) for c in range(b)]
    base = generator.integers(0, 2**63, NUM // 64, dtype=np.uint64)
    near = np.unique(base[:, None] ^ (np.uint64(1) << np.arange(64, dtype=np.uint64)))
    return {
        "counted": np.arange(NUM, dtype=np.uint64)[:, None],
        "high bits": (np.arange(NUM, dtype=np.uint64) << np.uint64(48))[:, None],
        "three bits": np.array(triples, dtype=np.uint64)[:, None],
        "neighbours": near[:, None],
        "two words": np.stack([np.arange(NUM) % 256, np.arange(NUM) // 256], 1).astype(np.uint64),
    }


KEYS = key_sets()


def assert_uniform(values: np.ndarray, num_bins: int) -> None:
    """Chi-square of equal bins, within 5 standard deviations: sqrt(2 (bins - 1))."""
    observed = np.bincount(values.astype(np.int64), minlength=num_bins)
    expected = len(values) / num_bins
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert abs(statistic - (num_bins - 1)) < 5 * np.sqrt(2 * (num_bins - 1)), (statistic, num_bins)


@pytest.mark.parametrize("name", list(KEYS))
def test_every_byte_of_the_hash_is_uniform(name):
    hashed = select.hash_of(KEYS[name], SALT)
    for shift in range(0, 64, 8):
        assert_uniform((hashed >> np.uint64(shift)) & np.uint64(255), 256)
    # Kolmogorov and Smirnov: the largest gap to the diagonal, in units of 1/sqrt(n); 2.2 has probability 1e-4.
    u = np.sort(hashed.astype(np.float64) / 2.0**64)
    gap = np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max()
    assert gap * np.sqrt(len(u)) < 2.2


@pytest.mark.parametrize("name", list(KEYS))
def test_hashes_of_other_salts_and_of_neighbouring_keys_are_independent(name):
    keys = KEYS[name]
    hashed = select.hash_of(keys, SALT)
    for other in (salt_of("layer1.0.relu", 1), salt_of("layer1.1.relu", 0), SALT ^ np.uint64(1)):
        both = np.stack([hashed >> np.uint64(60), select.hash_of(keys, other) >> np.uint64(60)])
        assert_uniform(both[0] * np.uint64(16) + both[1], 256)
    flipped = select.hash_of(keys ^ np.uint64(1 << 17), SALT)
    changed = np.unpackbits((hashed ^ flipped).view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert np.abs(changed - 0.5).max() < 5 * 0.5 / np.sqrt(len(keys))


def table(num: int, *, seed: int = 0, width: int = 64) -> PatternCounts:
    generator = np.random.default_rng(seed)
    keys = np.unique(generator.integers(0, 2**63, num, dtype=np.uint64))
    counts = np.maximum(1, generator.zipf(1.6, len(keys)) % 5000)
    if width > 64:
        return PatternCounts(np.stack([keys, keys >> np.uint64(28)], 1), counts, width)
    return PatternCounts(keys[:, None], counts, width)


@pytest.mark.parametrize("width", [64, 100, 200])
@pytest.mark.parametrize("size", [1, 7, 100, 2999, 10_000])
def test_numba_keeps_what_the_reference_keeps(width, size, monkeypatch):
    counts = table(3000, width=width)
    fast = draw_sample(counts, size, site="a")
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    slow = draw_sample(counts, size, site="a")
    assert np.array_equal(fast.keys, slow.keys)
    assert np.array_equal(fast.counts, slow.counts)
    assert fast.is_whole == (size >= counts.num_patterns)


@pytest.mark.parametrize("total", [3, 2**32 - 1, 2**32, 2**40 + 12345, 2**62 + 1])
def test_the_comparison_is_exact_at_its_edge(total, monkeypatch):
    """Sizes chosen so that h N and c k 2^64 differ by less than a float could tell."""
    keys = np.arange(1, 200, dtype=np.uint64)[:, None]
    hashed = select.hash_of(keys, SALT)
    edge = np.array([int(h) * total >> 64 for h in hashed])  # kept from the next integer on
    for shift, kept in ((0, False), (1, True)):
        counts = edge + shift
        usable = (counts >= 1) & (counts <= total)
        rows = select.select(keys[usable], counts[usable], 1, total, SALT)
        assert len(rows) == (usable.sum() if kept else 0)
        monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
        assert np.array_equal(rows, select.select(keys[usable], counts[usable], 1, total, SALT))
        monkeypatch.delenv("RELUSCOPE_KERNELS")


def test_a_sample_has_the_size_and_the_heavy_patterns():
    counts = table(20_000)
    tau = counts.num_evaluations / 500
    expected = np.minimum(1.0, counts.counts / tau).sum()
    assert expected <= 500
    sizes = []
    for seed in range(200):
        sample = draw_sample(counts, 500, site="a", seed=seed)
        sizes.append(len(sample.counts))
        assert set(np.flatnonzero(counts.counts >= tau)) <= set(
            np.searchsorted(counts.keys[:, 0], sample.keys[:, 0])
        )
        assert (sample.tau, sample.num_evaluations) == (tau, counts.num_evaluations)
        assert sample.num_patterns == counts.num_patterns
    assert np.mean(sizes) == pytest.approx(expected, abs=4 * np.sqrt(expected / 200))
    assert np.std(sizes) > 1.0  # other seeds, other samples


def test_each_pattern_is_kept_as_often_as_it_should_be():
    counts = table(400)
    kept = np.zeros(counts.num_patterns)
    for seed in range(2000):
        sample = draw_sample(counts, 40, site="a", seed=seed)
        kept[np.searchsorted(counts.keys[:, 0], sample.keys[:, 0])] += 1
    p = np.minimum(1.0, counts.counts * 40 / counts.num_evaluations)
    assert np.all(np.abs(kept / 2000 - p) <= 5 * np.sqrt(p * (1 - p) / 2000))


def test_samples_of_one_site_hold_the_same_patterns_and_of_another_do_not():
    counts = PatternCounts(np.arange(10_000, dtype=np.uint64)[:, None], np.ones(10_000, np.int64), 20)
    part = PatternCounts(counts.keys[:5000], counts.counts[:5000], 20)
    whole, half = draw_sample(counts, 1000, site="a"), draw_sample(part, 500, site="a")
    assert set(half.keys[:, 0]) == {key for key in whole.keys[:, 0] if key < 5000}
    other = draw_sample(counts, 1000, site="b")
    shared = np.isin(whole.keys, other.keys).sum()
    assert shared == pytest.approx(100, abs=5 * 10)


def test_a_table_of_at_most_the_size_is_kept_whole():
    counts = table(500)
    sample = draw_sample(counts, counts.num_patterns, site="a")
    assert sample.is_whole
    assert np.array_equal(sample.keys, counts.keys)
    empty = draw_sample(PatternCounts.empty(20), 5, site="a")
    assert empty.is_whole
    assert empty.num_evaluations == 0


def test_samples_that_cannot_be_are_refused():
    for size in (0, -1, 2.5, True, None):
        with pytest.raises(BudgetError, match="size="):
            draw_sample(table(10), size, site="a")  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="seed=-1"):
        draw_sample(table(10), 5, site="a", seed=-1)


def test_salts_never_change():
    """Samples of a run that goes on with another version must still be coordinated."""
    assert salt_of("layer1.0.relu", 0).tolist() == [17028761974322662065, 7196921253145840535]
    salt = np.array([3, 4], np.uint64)
    assert select.hash_of(np.array([[1], [2]], np.uint64), salt).tolist() == [
        11219142319781220296,
        113601429893991122,
    ]
    assert select.hash_of(np.array([[1, 9]], np.uint64), salt).tolist() == [17999574595974463723]
