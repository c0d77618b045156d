"""The hash list of the paper: counts merge where slots collide, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reluscope.errors import BudgetError, KernelError
from reluscope.kernels.fingerprint import DEFAULT_SEED, hash_keys
from reluscope.patterns import HashList, count_patterns


@pytest.mark.parametrize("width", [5, 64, 100, 300])
def test_a_large_list_counts_exactly(width):
    torch.manual_seed(0)
    values = torch.randn(200, width)[torch.randint(0, 200, (3_000,))]
    hashlist = HashList(1 << 24)
    hashlist.update(values[:1_000])
    hashlist.update(values[1_000:])
    exact = count_patterns(values)
    assert sorted(hashlist.counts.tolist()) == sorted(exact.counts.tolist())
    assert hashlist.occupancy == exact.num_patterns / (1 << 24)
    assert hashlist.num_evaluations == 3_000


def test_a_small_list_merges_what_collides():
    torch.manual_seed(0)
    hashlist = HashList(10)
    hashlist.update(torch.randn(500, 12, 2, 2))
    assert hashlist.counts.sum() == 2_000
    assert len(hashlist.counts) == 10
    assert hashlist.occupancy == 1.0
    assert repr(hashlist) == "HashList(size=10, num_evaluations=2000, occupancy=1)"


def test_slots_follow_the_definition():
    hashlist = HashList(97)
    hashlist.update(np.array([[1.0, -1.0, 1.0]]))  # the pattern 5
    first = [int(m) for m in hash_keys(DEFAULT_SEED, 1)[0]]
    slot = ((first[0] + 5 * first[1]) % 2**64 >> 32) % 97
    assert np.flatnonzero(hashlist._slots).tolist() == [slot]


def test_bit_63_weighs_like_no_other():
    """In the authors' public code the patterns {63} and {0} of one word cannot be told apart."""
    values = -np.ones((2, 64), np.float32)
    values[0, 0] = values[1, 63] = 1.0
    hashlist = HashList(1 << 20)
    hashlist.update(values)
    assert hashlist.counts.tolist() == [1, 1]


def test_wrong_usage():
    for size in (0, 2.5, (1 << 32) + 1, True):
        with pytest.raises(BudgetError, match="hash list of size"):
            HashList(size)
    hashlist = HashList(10)
    hashlist.update(np.ones((2, 3)))
    with pytest.raises(KernelError, match="one hash list counts one site"):
        hashlist.update(np.ones((2, 70)))
    assert HashList(10).occupancy == 0.0
    assert HashList(10).counts.shape == (0,)
