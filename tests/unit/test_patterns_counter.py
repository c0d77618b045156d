"""PatternCounter and the functions: texts of errors, bookkeeping, sizes and memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from reluscope.errors import DistributionError, KernelError, LabelsError, ReluscopeError, UnitAxisError
from reluscope.kernels import dense
from reluscope.patterns import PatternCounter, count_keys, count_patterns, pack_patterns


def test_bits_and_order_by_hand():
    values = torch.tensor([[[1.0, -1.0], [0.0, 2.0]]])  # one sample, two units, two positions
    assert pack_patterns(values, 1).tolist() == [[1], [2]]
    assert pack_patterns(values, 2).tolist() == [[1], [2]]
    assert pack_patterns(values.flip(2), 1).tolist() == [[2], [1]]
    assert pack_patterns(np.array([[7.0, 3.0, -1.0]]), kinks=(0.0, 6.0)).tolist() == [[0b000111]]


def test_bookkeeping_of_nan_and_values():
    counter = PatternCounter(3)
    counter.update(torch.tensor([[float("nan"), 1.0, float("nan")], [1.0, 1.0, 1.0]]))
    assert (counter.num_nan, counter.num_values, counter.num_evaluations) == (2, 6, 2)
    assert counter.counts().keys[:, 0].tolist() == [2, 7]
    assert counter.joint() is None
    assert repr(counter) == "PatternCounter(width=3, num_evaluations=2)"


@pytest.mark.parametrize("width", [5, 40, 100, 200])
@pytest.mark.parametrize("num_groups", [0, 4])
def test_nothing_counted(width, num_groups):
    counter = PatternCounter(width, num_groups=num_groups)
    assert counter.counts().num_patterns == 0
    counter.update(torch.zeros(0, width), groups=torch.zeros(0, dtype=torch.int64) if num_groups else None)
    assert counter.counts().num_evaluations == 0
    if num_groups:
        assert counter.joint().counts.shape == (0,)
    assert count_patterns(torch.zeros(0, width)) == counter.counts()


@pytest.mark.parametrize("width", [5, 40, 100])
def test_counts_given_out_do_not_change_when_more_is_counted(width):
    torch.manual_seed(0)
    values = (
        torch.randn(40, width, 1) + torch.zeros(1, 1, 1600)
    ).contiguous()  # few patterns, many evaluations
    counter = PatternCounter(width)
    counter.update(values)
    first = counter.counts()
    before = first.counts.copy()
    counter.update(values)
    second = counter.counts()
    np.testing.assert_array_equal(first.counts, before)
    np.testing.assert_array_equal(second.counts, 2 * before)


def test_dense_counters_widen_before_they_overflow():
    counter = PatternCounter(2)
    accumulator = counter._accumulator
    assert isinstance(accumulator, dense.DenseAccumulator)
    accumulator._counters[0, 3] = 2**32 - 2
    accumulator._num_evaluations = 2**32 - 2
    counter.update(torch.ones(5, 2))
    assert counter.counts().counts.tolist() == [2**32 + 3]


@pytest.mark.parametrize(
    ("width", "bytes_per_pattern"), [(32, 16), (64, 16), (100, 24), (128, 24), (300, 24)]
)
def test_peak_memory_of_all_distinct_patterns(width, bytes_per_pattern):
    """At most twice the finished table, plus what a batch and the threads need (under 3 MB)."""
    torch.manual_seed(0)
    batches = [torch.randn(4_096, width) for _ in range(3)] + [torch.randn(100_000, width) for _ in range(3)]
    warm = PatternCounter(width)
    for batch in batches:
        warm.update(batch)
    warm.counts()
    counter = PatternCounter(width)
    tracemalloc.start()
    try:
        for batch in batches:
            counter.update(batch)
        counts = counter.counts()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts.nbytes == counts.num_patterns * bytes_per_pattern
    assert peak <= 2.0 * counts.nbytes + 3e6
    assert counter.nbytes <= 2.0 * counts.nbytes + 1e6


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: pack_patterns([1.0]), KernelError, "cannot count a list"),
        (
            lambda: pack_patterns(torch.ones(2, 2, dtype=torch.int64)),
            KernelError,
            "dtype int64; allowed are float16",
        ),
        (lambda: pack_patterns(np.ones((2, 2), ">f4")), KernelError, "dtype >f4"),
        (lambda: pack_patterns(torch.ones(2, 2, device="meta")), KernelError, "on meta.*move it with .cpu"),
        (lambda: pack_patterns(torch.ones(2, 2).to_sparse()), KernelError, "sparse"),
        (lambda: pack_patterns(torch.ones(2)), UnitAxisError, r"shape \(2,\) have no axis of units"),
        (lambda: pack_patterns(torch.ones(2, 2), 2), UnitAxisError, r"channel_dim=2 .* allowed are -2 to 1"),
        (lambda: pack_patterns(torch.ones(2, 0)), UnitAxisError, "axis 1 .* holds no unit"),
        (lambda: pack_patterns(torch.ones(2, 2), kinks=()), KernelError, "give at least one number"),
        (lambda: pack_patterns(torch.ones(2, 2), kinks=(float("nan"),)), KernelError, "none of them NaN"),
        (
            lambda: count_keys(np.ones((2, 2), np.uint64), 64),
            KernelError,
            r"give uint64 of shape \(evaluations, 1\)",
        ),
        (lambda: count_keys(np.ones((2, 1), np.int64), 64), KernelError, "keys of dtype int64"),
        (lambda: count_keys(np.full(2, 8, np.uint64), 3), KernelError, "bits beyond width 3"),
        (lambda: count_keys(np.ones(2, np.uint64), 0), DistributionError, "width=0"),
        (lambda: PatternCounter(True), DistributionError, "width=True"),
        (lambda: PatternCounter(3, num_groups=-1), DistributionError, "num_groups=-1"),
        (lambda: PatternCounter(3, seed=1 << 64), KernelError, "seed="),
        (
            lambda: PatternCounter(3).update(torch.ones(2, 4)),
            UnitAxisError,
            "4 units with 1 kinks .* has width 3",
        ),
        (
            lambda: PatternCounter(2).update(torch.ones(2, 2), groups=torch.zeros(2)),
            LabelsError,
            "groups were given",
        ),
        (
            lambda: PatternCounter(2, num_groups=2).update(torch.ones(2, 2)),
            LabelsError,
            "no groups were given",
        ),
        (
            lambda: PatternCounter(2, num_groups=2).update(torch.ones(2, 2), groups=torch.tensor([0, 2])),
            LabelsError,
            "from 0 to 2; allowed are 0 to 1",
        ),
        (
            lambda: PatternCounter(2, num_groups=2).update(torch.ones(2, 2), groups=torch.zeros(3).long()),
            LabelsError,
            "do not fit 2 samples",
        ),
        (
            lambda: PatternCounter(2, num_groups=2).update(torch.ones(2, 2), groups=torch.zeros(2)),
            LabelsError,
            "dtype float32",
        ),
        (
            lambda: PatternCounter(2, num_groups=2).update(torch.ones(2, 2), 0, groups=torch.zeros(2).long()),
            UnitAxisError,
            "channel_dim=0 puts units there",
        ),
    ],
)
def test_wrong_usage_says_what_to_do(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, ReluscopeError)


@pytest.mark.parametrize("kernels", ["numba", "reference"])
@pytest.mark.parametrize("width", [5, 30, 62, 64, 100, 126, 140])
def test_joint_counts_alone_are_those_of_the_pairs(monkeypatch, kernels, width):
    monkeypatch.setenv("RELUSCOPE_KERNELS", kernels)
    values = torch.randn(40, width, 6, generator=torch.Generator().manual_seed(width))
    values[:, :, 3:] = 1.0  # so that patterns repeat across groups
    alone, both = PatternCounter(width, num_groups=7), PatternCounter(width, num_groups=7)
    for counter in (alone, both):
        counter.update(values, groups=torch.arange(40) % 7)
    table = alone.counts()
    found = alone.joint_counts()
    joint = both.joint()
    assert joint is not None
    assert found is not None
    np.testing.assert_array_equal(found, joint.counts)
    assert table == both.counts()
    np.testing.assert_array_equal(alone.joint().pattern, joint.pattern)  # asked for afterwards
    assert PatternCounter(width).joint_counts() is None
