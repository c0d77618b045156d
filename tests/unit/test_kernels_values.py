"""Arguments of the kernels: what cannot be counted is refused with a typed error, what can be is read right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import reluscope as rs
from reluscope.errors import KernelError, UnitAxisError

X = torch.tensor([[1.0, -1.0], [-2.0, 3.0], [1.0, -1.0]])


@pytest.mark.parametrize("kinks", [0.0, ("a",), "0", (), (float("nan"),), (None,)])
def test_kinks_that_are_none(kinks):
    with pytest.raises(KernelError, match=r"kinks=.* give at least one number"):
        rs.count_patterns(X, kinks=kinks)


@pytest.mark.parametrize("axis", ["1", 1.0, None, True])
def test_axes_that_are_none(axis):
    with pytest.raises(UnitAxisError, match=r"channel_dim=.* is no axis"):
        rs.count_patterns(X, channel_dim=axis)


def test_kinks_and_axes_of_numpy():
    assert rs.count_patterns(X, np.int64(1), kinks=np.zeros(1)) == rs.count_patterns(X)


def test_a_negative_view_is_read_with_its_sign():
    negative = torch.complex(torch.zeros_like(X), X).conj().imag
    assert negative.is_neg()
    assert rs.count_patterns(negative) == rs.count_patterns(-X)
    assert rs.count_patterns(negative) != rs.count_patterns(X)
