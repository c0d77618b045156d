"""Counting beside its peers, tiny: every peer finds what a dictionary finds, wrong ones are found out."""

from __future__ import annotations

import collections
from dataclasses import replace

import numpy as np
import pytest
import torch

from reluscope.bench import CountingBenchmark, Effort, run_cases, select
from reluscope.bench import counting as counting_module
from reluscope.bench.distributions import DISTRIBUTIONS, activations_of, words_of
from reluscope.bench.hashlist import count_by_hashlist, count_by_own_hashlist
from reluscope.bench.peers import Peer, Reading, key_peers, read, read_counts
from reluscope.errors import BenchmarkError
from reluscope.patterns import count_keys, pack_patterns

TINY = CountingBenchmark(
    num_keys=1000,
    effort=Effort(rounds=2, seconds=1e-3),
    widths=(16, 100),
    networks=("convnet20",),
    steps=(0,),
)


@pytest.fixture(autouse=True)
def no_real_data(monkeypatch):
    monkeypatch.delenv("RELUSCOPE_DATA_DIR", raising=False)


def expected(words: np.ndarray) -> Reading:
    """By a dictionary."""
    counts = collections.Counter(map(tuple, words.tolist()))
    return Reading(len(counts), sum(counts.values()), sum(map(sum, counts)) % (1 << 64))


@pytest.mark.parametrize("peer", key_peers(), ids=lambda peer: peer.name)
@pytest.mark.parametrize("width", [16, 64, 128])
def test_every_peer_finds_what_a_dictionary_finds(peer, width):
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed")
    words = words_of("two-heavy", width, 500)
    assert peer.prepare(words)() == expected(words)


def test_our_own_reading_is_of_the_same_kind():
    words = words_of("zipf", 64, 500)
    assert read_counts(count_keys(words, 64)) == expected(words)
    assert read_counts(count_keys(words_of("zipf", 512, 500), 512)).key_sum is None  # fingerprints
    assert read([np.array([2**63, 2**63 + 5], np.uint64)], np.array([1, 2])) == Reading(2, 3, 5)


@pytest.mark.parametrize("width", [5, 16, 64, 100, 512])
def test_activations_have_the_patterns_they_are_made_of(width):
    words = words_of("zipf", width, 200)
    np.testing.assert_array_equal(pack_patterns(activations_of(words, width)), words)


def test_distributions_are_what_they_are_called():
    distinct, zipf, heavy = (words_of(name, 64, 10_000)[:, 0] for name in DISTRIBUTIONS)
    assert len(np.unique(distinct)) == 10_000
    assert 500 < len(np.unique(zipf)) < 5_000
    shares = np.sort(np.unique(heavy, return_counts=True)[1])[::-1] / 10_000
    assert shares[:3] == pytest.approx([0.6, 0.35, 1e-4], abs=0.02)
    with pytest.raises(BenchmarkError, match='Closest: "zipf"'):
        words_of("zip", 16, 10)


def test_the_hash_list_counts_everything_and_loses_patterns_only_by_collision():
    values = torch.randn(4000, 20)
    total = len(np.unique(pack_patterns(values)))
    for count in (count_by_hashlist, count_by_own_hashlist):
        large, small = count(values, 1 << 24), count(values, 64)
        assert large.num_evaluations == small.num_evaluations == 4000
        assert total - 5 <= large.num_patterns <= total  # 4000^2 / 2^25: half a collision
        assert small.num_patterns == 64


def test_rows_of_keys_name_every_peer_and_who_is_missing(monkeypatch):
    gone = Peer(name="nobody", package="no_such_package", prepare=lambda words: lambda: Reading(0, 0, 0))
    monkeypatch.setattr("reluscope.bench.peers._PEERS", (*key_peers(), gone))
    rows = run_cases(select(TINY.cases(), ["keys/zipf/16"]))
    by_name = {row.alternative: row for row in rows}
    assert next(iter(by_name)) == "count_keys"
    assert {peer.name for peer in key_peers()} <= set(by_name)
    assert (by_name["nobody"].rounds, by_name["nobody"].note) == (0, "not installed")
    assert all(row.rounds >= 1 and row.median_s > 0 for row in rows if row.alternative != "nobody")
    assert {row.work for row in rows} == {1000}


@pytest.mark.parametrize("case", ["patterns/zipf/100", "patterns/convnet20-step0/stage3"])
def test_rows_of_patterns_hold_all_that_promises_ask_for(case):
    names = {row.alternative for row in run_cases(select(TINY.cases(), [case]))}
    assert {
        "count_patterns",
        "parallel sum + count_keys",
        "pack_patterns + torch.unique",
        "hash list, Algorithm 1",
        "HashList",
        "torch.unique(dim=0)",
    } <= names


def test_a_peer_that_finds_something_else_ends_the_benchmark(monkeypatch):
    wrong = Peer(name="wrong", package="numpy", prepare=lambda words: lambda: Reading(1, len(words), None))
    monkeypatch.setattr("reluscope.bench.peers._PEERS", (wrong,))
    with pytest.raises(BenchmarkError, match=r"keys/zipf/16: wrong found .*They must agree"):
        run_cases(select(TINY.cases(), ["keys/zipf/16"]))


def test_packing_is_timed_beside_a_sum_over_the_same_array():
    rows = run_cases(select(TINY.cases(), ["packing/planes/float32/16", "packing/rows/bfloat16/64"]))
    assert [row.alternative for row in rows] == ["parallel sum", "pack_patterns"] * 2
    assert {row.unit for row in rows} == {"bytes"}
    assert rows[2].work == (32_000 // 64) * 64 * 2


@pytest.mark.parametrize("layout", counting_module._LAYOUTS)
def test_layouts_are_what_they_are_called(layout):
    values = counting_module._array(layout, torch.float32, 16, 16 * 256 * 3)
    if layout == "rows":
        assert values.shape == (768, 16)
    else:
        assert values.shape == (3, 16, 16, 16)
        assert values.is_contiguous() == (layout == "planes")
        assert values.is_contiguous(memory_format=torch.channels_last) == (layout == "channels-last")


def test_cases_cover_what_was_asked_for():
    names = [case.name for case in CountingBenchmark().cases()]
    assert len(names) == len(set(names))
    for question in ("keys", "patterns"):
        for width in (16, 32, 64, 128, 512):
            assert {f"{question}/{name}/{width}" for name in DISTRIBUTIONS} <= set(names)
        for network in ("resnet20", "convnet20", "toynet20"):
            assert f"{question}/{network}-step200/stage3" in names


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_keys": 10}, "1000 or more"),
        ({"widths": (0,)}, "at least 1"),
        ({"steps": (-1,)}, "at least 0"),
        ({"networks": ("resnet21",)}, 'Closest: "resnet20"'),
        ({"device": "tpu"}, "allowed are cpu and cuda"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(BenchmarkError, match=words):
        replace(TINY, **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_cuda_is_refused():
    with pytest.raises(BenchmarkError, match="no CUDA device here"):
        replace(TINY, device="cuda")
