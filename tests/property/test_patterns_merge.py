"""Algebra of counts: merging, streaming and relabelling change nothing they should not."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reluscope.patterns import PatternCounter, PatternCounts, count_keys, count_patterns, pack_patterns

WIDTHS = st.sampled_from([1, 3, 16, 17, 64, 65, 128, 200])


@st.composite
def batches(draw: st.DrawFn, count: int = 3) -> list[np.ndarray]:
    """Batches of one width whose patterns repeat within and across batches; some are empty."""
    width = draw(WIDTHS)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = generator.standard_normal((draw(st.integers(1, 20)), width)).astype(np.float32)
    sizes = [draw(st.integers(0, 40)) for _ in range(count)]
    return [pool[generator.integers(0, len(pool), size)] for size in sizes]


def bytes_of(counts: PatternCounts) -> tuple[bytes, bytes, int]:
    return counts.keys.tobytes(), counts.counts.tobytes(), counts.width


@settings(max_examples=60, deadline=None)
@given(batches())
def test_merge_is_commutative_and_associative_with_identity(parts):
    a, b, c = (count_patterns(part) for part in parts)
    whole = bytes_of(count_patterns(np.concatenate(parts)))
    assert bytes_of(a.merge(b).merge(c)) == whole
    assert bytes_of(c.merge(a.merge(b))) == whole
    assert bytes_of(b.merge(c).merge(a)) == whole
    assert bytes_of(a.merge(PatternCounts.empty(a.width))) == bytes_of(a)
    assert bytes_of(PatternCounts.empty(a.width).merge(a)) == bytes_of(a)


@settings(max_examples=60, deadline=None)
@given(batches(), st.randoms())
def test_streaming_in_any_order_gives_the_same_bytes(parts, random):
    whole = count_patterns(np.concatenate(parts))
    random.shuffle(parts)
    counter = PatternCounter(whole.width)
    for part in parts:
        counter.update(part)
        counter.counts()  # looking in between changes nothing
    assert bytes_of(counter.counts()) == bytes_of(whole)
    assert counter.num_evaluations == whole.num_evaluations == int(whole.counts.sum())
    assert counter.num_values == whole.num_evaluations * whole.width


@settings(max_examples=60, deadline=None)
@given(batches(2))
def test_join_aligns_and_merge_is_its_sum(parts):
    a, b = (count_patterns(part) for part in parts)
    count, count_other = a.join(b)
    assert count.sum() == a.num_evaluations
    assert count_other.sum() == b.num_evaluations
    assert ((count > 0) | (count_other > 0)).all()
    np.testing.assert_array_equal(count[count > 0], a.counts)
    np.testing.assert_array_equal(count_other[count_other > 0], b.counts)
    np.testing.assert_array_equal(count + count_other, a.merge(b).counts)
    swapped_other, swapped = b.join(a)
    np.testing.assert_array_equal(count, swapped)
    np.testing.assert_array_equal(count_other, swapped_other)


@settings(max_examples=40, deadline=None)
@given(batches(1), st.integers(0, 2**32 - 1))
def test_permuting_units_changes_keys_and_no_count(parts, seed):
    values = parts[0]
    permuted = np.random.default_rng(seed).permutation(values.shape[1])
    a, b = count_patterns(values), count_patterns(np.ascontiguousarray(values[:, permuted]))
    assert sorted(a.counts.tolist()) == sorted(b.counts.tolist())


@settings(max_examples=40, deadline=None)
@given(batches(1), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_joint_distribution_sums_to_both_margins(parts, num_groups, seed):
    values = parts[0]
    groups = np.random.default_rng(seed).integers(0, num_groups, len(values))
    counter = PatternCounter(values.shape[1], num_groups=num_groups)
    counter.update(values, groups=groups)
    joint, counts = counter.joint(), counter.counts()
    margin = np.bincount(joint.pattern, joint.counts, minlength=counts.num_patterns)
    np.testing.assert_array_equal(margin, counts.counts)
    of_group = np.bincount(joint.group, joint.counts, minlength=num_groups)
    np.testing.assert_array_equal(of_group, np.bincount(groups, minlength=num_groups))
    assert counts == count_patterns(values)
    order = np.lexsort((joint.group, joint.pattern))
    np.testing.assert_array_equal(order, np.arange(len(order)))


@settings(max_examples=30, deadline=None)
@given(batches(1))
def test_packing_loses_nothing(parts):
    values = parts[0]
    words = pack_patterns(values)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, : values.shape[1]], values > 0)
    assert not bits[:, values.shape[1] :].any()
    assert count_keys(words, values.shape[1]) == count_patterns(values)


@pytest.mark.parametrize("width", [7, 40, 100, 300])
def test_large_tables_merge_and_join_like_small_ones(width):
    """Large enough to be cut into parts for several threads."""
    generator = torch.Generator().manual_seed(width)
    values = torch.randn(120_000, width, generator=generator)
    values[60_000:90_000] = values[:30_000]
    whole = count_patterns(values)
    a, b = count_patterns(values[:60_000]), count_patterns(values[60_000:])
    assert bytes_of(a.merge(b)) == bytes_of(b.merge(a)) == bytes_of(whole)
    count, count_other = a.join(b)
    np.testing.assert_array_equal(count + count_other, whole.counts)
    again = pickle.loads(pickle.dumps(whole))
    assert again == whole
    assert not again.keys.flags.writeable
