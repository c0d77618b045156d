"""`PatternCounter.repeat`: the short way for further batches counts what `update` counts, and its ReLU is torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reluscope.kernels import ingest
from reluscope.kernels.rectify import can_rectify
from reluscope.patterns import Budget, PatternCounter

WIDTHS = (1, 3, 8, 16, 17, 32, 33, 64, 65, 128, 130, 200)
LAYOUTS = ("contiguous", "channels_last", "2-D", "3-D", "5-D")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal down to the sign of zero and the bits of NaN."""
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_counts_as_update_and_rectifies_as_torch(width, dtype, layout, in_place, oracle):
    plain, short = PatternCounter(width), PatternCounter(width)
    num_repeated = 0
    for seed in range(8):
        values, channel_dim = oracle.awkward(width, dtype, layout, seed)
        plain.update(values, channel_dim)
        if seed < 2:
            short.update(values, channel_dim)
            continue
        batch = values.clone(memory_format=torch.preserve_format)
        target = batch if in_place else torch.full_like(batch, 7.0)
        is_written = short.repeat(batch, target)
        if is_written is None:  # where waiting keys need more room
            short.update(batch, channel_dim)
            continue
        num_repeated += 1
        assert is_written is (dtype in (torch.float32, torch.float64))
        if is_written:
            assert same_bits(target, torch.relu(values))
        if not (in_place and is_written):
            assert same_bits(batch, values)
    assert num_repeated > 2
    assert short.counts() == plain.counts()
    assert (short.num_nan, short.num_evaluations, short.num_values) == (
        plain.num_nan,
        plain.num_evaluations,
        plain.num_values,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_kind_of_number(dtype):
    """A value for each of its leading 16 bits, and the least beyond it: all exponents, signs, NaN quiet and signalling."""
    shift = 8 * dtype.itemsize - 16
    leading = torch.arange(-(1 << 15), 1 << 15).to(torch.int64)
    bits = torch.cat([leading << shift, (leading << shift) + 1])
    values = bits.to({4: torch.int32, 8: torch.int64}[dtype.itemsize]).view(dtype).reshape(-1, 16)
    counter, plain = PatternCounter(16), PatternCounter(16)
    counter.update(values)
    target = torch.zeros_like(values)
    assert counter.repeat(values, target) is True
    assert same_bits(target, torch.relu(values))
    for _ in range(2):
        plain.update(values)
    assert counter.counts() == plain.counts()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("inner", [1, 5, 8, 15, 16, 20, 64, 1030])
@pytest.mark.parametrize("width", [3, 32, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_planes_without_nan_are_rectified_as_torch(dtype, width, inner, in_place):
    generator = torch.Generator().manual_seed(inner)
    values = torch.randn(3, width, inner, generator=generator, dtype=torch.float64).to(dtype)
    values[1, :, 0], values[2, 0, :] = -0.0, float("-inf")
    plain, short = PatternCounter(width), PatternCounter(width)
    for _ in range(3):
        plain.update(values)
    for _ in range(2):
        short.update(values)
    batch = values.clone()
    target = batch if in_place else torch.full_like(batch, 7.0)
    assert short.repeat(batch, target) is True
    assert same_bits(target, torch.relu(values))
    assert short.counts() == plain.counts()
    assert short.num_nan == 0


@pytest.mark.parametrize("kind", ["distinct", "two heavy"])
@pytest.mark.parametrize("width", [12, 16, 20, 32, 48, 64, 96, 256])
def test_many_batches_by_all_threads(width, kind, monkeypatch):
    """Enough for caches of frequent keys, compactions, growing memory and several threads."""
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "3")
    plain, short = PatternCounter(width), PatternCounter(width)
    generator = torch.Generator().manual_seed(width)
    num_repeated = 0
    for index in range(24):
        values = torch.randn(64, width, 16, 17, generator=generator)  # the last block of a batch is not full
        if kind == "two heavy":
            values[:, 1:] = -1.0
            values[index % 64, :, index % 16] = torch.randn(width, 17, generator=generator)
        values = values.contiguous(memory_format=torch.channels_last)
        plain.update(values)
        target = torch.empty_like(values)
        if (found := short.repeat(values, target)) is None:
            short.update(values)
        else:
            num_repeated += 1
            assert found
            assert torch.equal(target, torch.relu(values))
    assert num_repeated > 12
    assert short.counts() == plain.counts()


def test_without_a_target_it_only_counts():
    values = torch.randn(50, 20)
    before = values.clone()
    counter = PatternCounter(20)
    for _ in range(2):
        counter.update(values)
    assert counter.repeat(values) is False
    assert torch.equal(values, before)
    assert counter.num_evaluations == 150


def test_another_kink_is_counted_but_not_rectified():
    values, target = torch.randn(50, 20), torch.full((50, 20), 7.0)
    counter, plain = PatternCounter(20), PatternCounter(20)
    for _ in range(2):
        counter.update(values, kinks=(0.5,))
    assert counter.repeat(values, target) is False
    assert bool((target == 7.0).all())
    for _ in range(3):
        plain.update(values, kinks=(0.5,))
    assert counter.counts() == plain.counts()


@pytest.mark.parametrize(
    "other",
    [
        torch.randn(7, 16, 4, 4),
        torch.randn(8, 16, 4, 4).contiguous(memory_format=torch.channels_last),
        torch.randn(8, 16, 4, 4, dtype=torch.float64),
        torch.randn(8, 16, 4, 8)[..., ::2],
        torch.randn(8, 16, 4, 4).as_subclass(torch.nn.Parameter),
        torch._neg_view(torch.randn(8, 16, 4, 4)),
    ],
    ids=["fewer", "layout", "dtype", "strided", "subclass", "negative view"],
)
def test_what_lies_otherwise_is_not_counted(other):
    counter = PatternCounter(16)
    counter.update(torch.randn(8, 16, 4, 4))
    target = torch.full_like(other.detach(), 7.0)
    assert counter.repeat(other, target) is None
    assert counter.num_evaluations == 8 * 16
    assert bool((target == 7.0).all())


@pytest.mark.parametrize("width", [8, 24, 80])
def test_there_is_no_short_way_at_first_with_groups_kinks_a_budget_or_at_the_end(width):
    values = torch.randn(40, width)
    assert PatternCounter(width).repeat(values) is None
    grouped = PatternCounter(width, num_groups=2)
    grouped.update(values, groups=torch.arange(40) % 2)
    assert grouped.repeat(values) is None
    several = PatternCounter(2 * width)
    several.update(values, kinks=(0.0, 1.0))
    assert several.repeat(values) is None
    budgeted = PatternCounter(width, budget=Budget("1GB"))
    budgeted.update(values)
    assert not budgeted.can_repeat
    assert budgeted.repeat(values) is None
    closed = PatternCounter(width)
    closed.update(values)
    closed.update(values)
    closed.close()
    assert closed.repeat(values) is None
    assert closed.counts().num_evaluations == 80


def test_the_reference_has_no_short_way(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    counter = PatternCounter(16)
    counter.update(torch.randn(10, 16))
    assert counter.repeat(torch.randn(10, 16)) is None
    assert counter.num_evaluations == 10


@pytest.mark.parametrize("width", [16, 40, 100])
def test_a_look_in_between_and_an_update_in_between(width):
    values = [torch.randn(300, width) for _ in range(9)]
    plain, short = PatternCounter(width), PatternCounter(width)
    for index, batch in enumerate(values):
        plain.update(batch)
        if index in (0, 4) or short.repeat(batch, torch.empty_like(batch)) is None:
            short.update(batch)
        if index % 3 == 2:
            assert short.counts() == plain.counts()


def test_batches_of_many_segments_take_the_long_way(monkeypatch):
    """A job of `update` covers one segment, so that it must not be run again for a whole batch."""
    monkeypatch.setattr("reluscope.kernels.accumulate_words.SEGMENT", 4 * ingest.BLOCK)
    values = torch.randn(20 * ingest.BLOCK, 24)
    counter, plain = PatternCounter(24), PatternCounter(24)
    for _ in range(3):
        counter.update(values)
        plain.update(values)
        assert counter.repeat(values) is None
    assert counter.counts() == plain.counts()
    assert counter.num_evaluations == np.prod((3, 20, ingest.BLOCK))


@pytest.mark.parametrize("width", [4, 24, 100])
def test_an_empty_batch_is_not_the_one_before_it(width):
    """As an expert sees it to whom no sample was sent: twice, so that the second lies as the first did."""
    counter = PatternCounter(width)
    for _ in range(2):
        counter.update(torch.randn(5, width))
    for _ in range(3):
        if counter.repeat(torch.empty(0, width)) is None:
            counter.update(torch.empty(0, width))
    assert counter.num_evaluations == counter.counts().num_evaluations == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_torch_gives_is_asked_on_the_cpu(dtype):
    can_rectify.cache_clear()
    with torch.device("meta"):
        assert can_rectify(dtype)
