"""PatternCounter and the functions: texts of errors, bookkeeping, sizes and memory."""

from __future__ import annotations

import subprocess
import sys

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


_PEAK = """
import sys
from pathlib import Path
import numpy as np
from reluscope.patterns import PatternCounter

def field(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))

width, num_groups = int(sys.argv[1]), int(sys.argv[2])
batch = np.random.default_rng(0).normal(size=(1 << 14, width)).astype(np.float32)
groups = np.arange(len(batch)) % num_groups if num_groups else None

def count(num_batches):
    counter = PatternCounter(width, num_groups=num_groups)
    for _ in range(num_batches):
        np.multiply(batch, np.random.default_rng(_).choice([-1.0, 1.0], size=width), out=batch)
        counter.update(batch, groups=groups)
    held = counter.nbytes
    counter.close()
    return held, counter.counts(), counter.joint_counts()

count(4)  # kernels
before = field("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
held, counts, joint = count(64)
print(field("VmHWM") - before, held, counts.nbytes, counts.num_patterns)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("width", "num_groups", "bytes_per_pattern"),
    [(40, 0, 16), (64, 10, 16), (100, 0, 24), (200, 0, 24), (100, 10, 24)],
)
def test_the_peak_is_at_most_twice_the_tables_where_all_patterns_differ(width, num_groups, bytes_per_pattern):
    words = [sys.executable, "-c", _PEAK, str(width), str(num_groups)]
    for _ in range(2):  # a kernel that the first compiles takes memory too
        found = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    peak, held, size, num_patterns = map(int, found.split())
    assert num_patterns > 1_000_000
    assert size == num_patterns * bytes_per_pattern
    assert peak <= 2.0 * size + 3e6
    assert held <= 2.0 * size


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


@pytest.mark.parametrize("width", [3, 20, 64, 100, 200])
@pytest.mark.parametrize("pairs", [False, True])
def test_a_closed_counter_has_the_same_tables_and_takes_no_more(width, pairs):
    """Closing gives the state's memory to the tables; it must not change them."""
    values = np.random.default_rng(0).normal(size=(50_000, width)).astype(np.float32)
    values[::2] = values[0]
    groups = np.arange(len(values)) % 7
    open_one, closed = (PatternCounter(width, num_groups=7) for _ in range(2))
    for counter in (open_one, closed):
        for start in range(0, len(values), 10_000):
            counter.update(values[start : start + 10_000], groups=groups[start : start + 10_000])
    closed.close(pairs=pairs)
    closed.close()
    assert closed.counts() == open_one.counts()
    assert np.array_equal(closed.joint_counts(), open_one.joint_counts())
    with pytest.raises(DistributionError, match="this counter was closed"):
        closed.update(values, groups=groups)
    if pairs:
        ours, theirs = closed.joint(), open_one.joint()
        assert np.array_equal(ours.pattern, theirs.pattern)
        assert np.array_equal(ours.group, theirs.group)
    else:
        with pytest.raises(DistributionError, match=r"call close\(pairs=True\)"):
            closed.joint()
