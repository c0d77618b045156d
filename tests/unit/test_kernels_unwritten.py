"""Tables that are not written before somebody asks: the same keys, counts and spectrum as NumPy finds."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import reluscope as rs
from reluscope import measures
from reluscope.kernels.unwritten import TALLIED, UnwrittenTable
from reluscope.measures.distribution import spectrum
from reluscope.patterns import PatternCounter


def raw_keys(kind, size, dtype):
    generator = np.random.default_rng(3)
    if kind == "distinct":
        return generator.permutation(np.arange(size, dtype=dtype) * dtype(2654435761))
    if kind == "equal":
        return np.full(size, 77, dtype)
    if kind == "runs around the tally's end":
        lengths = [1, 2, TALLIED - 1, TALLIED, TALLIED + 1, 3 * TALLIED, 70_000]
        runs = np.repeat(np.arange(len(lengths), dtype=dtype) << dtype(26), lengths)
        return generator.permutation(runs)
    return generator.zipf(1.3, size).astype(dtype)


def varying_bits(raw):
    return int(np.bitwise_or.reduce(raw) & ~np.bitwise_and.reduce(raw))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("size", [1, 2, 1000, (1 << 15) + 1, 200_000])
@pytest.mark.parametrize("kind", ["distinct", "equal", "runs around the tally's end", "zipf"])
def test_as_numpy_finds_it(kind, size, dtype):
    raw = raw_keys(kind, size, dtype)
    keys, counts = np.unique(raw, return_counts=True)
    found = UnwrittenTable(raw.copy(), varying_bits(raw))
    assert (found.num_patterns, found.num_evaluations) == (len(keys), len(raw))
    assert found.nbytes == raw.nbytes
    expected = spectrum(counts)
    assert [part.tolist() for part in found.spectrum] == [
        expected.multiplicities.tolist(),
        expected.num_patterns.tolist(),
    ]
    written_keys, written_counts = found.table()
    assert (written_keys.dtype, written_counts.dtype) == (np.uint64, np.int64)
    np.testing.assert_array_equal(written_keys, keys.astype(np.uint64)[:, None])
    np.testing.assert_array_equal(written_counts, counts)
    assert found.nbytes == 16 * len(keys)
    assert found.table()[0] is written_keys


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("size", [1, 1000, 200_000])
@pytest.mark.parametrize("num_before", [1, 300, 60_000])
@pytest.mark.parametrize("kind", ["distinct", "equal", "runs around the tally's end", "zipf"])
def test_with_a_table_of_what_came_before(kind, num_before, size, dtype):
    """Keys that both have, that either has, at both ends; some counts around the tally's end."""
    raw = raw_keys(kind, size, dtype)
    generator = np.random.default_rng(num_before)
    others = generator.integers(0, 1 << 32, num_before, dtype=np.uint64)
    keys = np.unique(np.concatenate([others, raw[:num_before:3].astype(np.uint64)]))
    counts = generator.choice([1, 2, TALLIED - 1, TALLIED, TALLIED + 7, 1 << 40], len(keys))
    kept = keys.copy(), counts.copy()
    found = UnwrittenTable(raw.copy(), varying_bits(raw), before=(keys[:, None], counts))
    together, places = np.unique(np.concatenate([keys, raw.astype(np.uint64)]), return_inverse=True)
    totals = np.zeros(len(together), np.int64)
    np.add.at(totals, places, np.concatenate([counts, np.ones(len(raw), np.int64)]))
    assert (found.num_patterns, found.num_evaluations) == (len(together), totals.sum())
    expected = spectrum(totals)
    np.testing.assert_array_equal(found.spectrum[0], expected.multiplicities)
    np.testing.assert_array_equal(found.spectrum[1], expected.num_patterns)
    assert found.raw is None
    assert found.nbytes == raw.nbytes + 16 * len(keys)
    written_keys, written_counts = found.table()
    np.testing.assert_array_equal(written_keys[:, 0], together)
    np.testing.assert_array_equal(written_counts, totals)
    assert found.nbytes == 16 * len(together)
    np.testing.assert_array_equal(keys, kept[0])
    np.testing.assert_array_equal(counts, kept[1])


def test_two_threads_get_one_table():
    raw = raw_keys("zipf", 300_000, np.uint64)
    found = UnwrittenTable(raw.copy(), varying_bits(raw))
    with ThreadPoolExecutor(4) as threads:
        tables = list(threads.map(lambda _: found.table(), range(8)))
    assert len({id(keys) for keys, _ in tables}) == 1
    np.testing.assert_array_equal(tables[0][0][:, 0], np.unique(raw))


@pytest.fixture
def unwritten():
    counter = PatternCounter(40)
    counter.update(torch.randn(300, 40, generator=torch.Generator().manual_seed(0)).repeat(2, 1))
    counter.update(torch.ones(5, 40))
    counter.close()
    return counter, counter.counts()


def test_measures_do_not_write_the_table(unwritten):
    counter, counts = unwritten
    row = measures.summarize(counts, width=40, num_units=40, num_kinks=1)
    assert (row["total"], row["max_frequency"]) == (301, 5 / 605)
    assert (counts.num_patterns, counts.num_evaluations, counts.nbytes) == (301, 605, 16 * 301)
    assert repr(counts) == "PatternCounts(width=40, num_patterns=301, num_evaluations=605)"
    assert "counts" not in vars(counts)
    assert counter.nbytes == 8 * 605
    assert counts.counts.sum() == 605
    assert "counts" in vars(counts)
    assert measures.summarize(counts, width=40, num_units=40, num_kinks=1) == row


def test_whoever_asks_gets_a_table_like_any_other(unwritten):
    _, counts = unwritten
    for other in (pickle.loads(pickle.dumps(counts)), copy.copy(counts), copy.deepcopy(counts)):
        assert other == counts
        assert not other.keys.flags.writeable
        assert not other.counts.flags.writeable
    before, after = counts.join(counts.merge(counts))
    np.testing.assert_array_equal(2 * before, after)
    with pytest.raises(AttributeError, match="no attribute 'kounts'"):
        _ = counts.kounts


def test_a_snapshot_is_measured_without_its_tables():
    model = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.ReLU())
    snapshot = rs.measure(model, rs.Probe(torch.randn(64, 6)), batch_norm="running")
    frame = snapshot.to_dataframe()
    (counts,) = snapshot.patterns.values()
    assert "counts" not in vars(counts)
    assert frame["total"].item() == len(counts.keys)
