"""Networks whose pattern counts are known by theory."""

from __future__ import annotations

import itertools
from math import comb, log2

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reluscope as rs


class Identity(nn.Module):
    """An activation applied to the inputs themselves."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def forward(self, x):
        return self.activation(x)


@pytest.mark.parametrize("width", [1, 2, 5, 10])
def test_all_sign_vectors_give_all_patterns(width):
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=width)))
    found = rs.measure(Identity(F.relu), rs.Probe(corners)).patterns["relu"]
    assert found.num_patterns == 2**width
    assert found.keys[:, 0].tolist() == list(range(2**width))
    assert rs.measures.entropy(found) == width
    assert rs.measures.relative_entropy(found, width=width) == 1.0


@pytest.mark.parametrize("breakpoints", [1, 7, 40])
def test_lines_cut_an_interval_into_one_more_piece(breakpoints):
    """d units with distinct breakpoints on a line: d + 1 patterns (Schlaefli in one dimension)."""
    layer = nn.Linear(1, breakpoints)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.copy_(-torch.arange(breakpoints) - 0.5)
    grid = torch.linspace(-1, breakpoints + 1, 4000)[:, None]
    found = rs.measure(nn.Sequential(layer, nn.ReLU()), rs.Probe(grid)).patterns["1"]
    assert found.num_patterns == breakpoints + 1


def test_lines_in_general_position_cut_the_plane():
    """m lines in general position: 1 + m + m(m-1)/2 regions (Schlaefli); one sample inside each is enough."""
    num_lines = 6
    angles = torch.arange(num_lines) * (np.pi / num_lines) + 0.1
    layer = nn.Linear(2, num_lines)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([angles.cos(), angles.sin()], 1))
        layer.bias.copy_(0.3 * torch.tensor([1.0, -0.7, 0.45, -1.2, 0.8, 0.2]))
    axis = torch.linspace(-40, 40, 1601)
    plane = torch.cartesian_prod(axis, axis)
    fine = torch.cartesian_prod(axis / 20, axis / 20)
    found = rs.measure(
        nn.Sequential(layer, nn.ReLU()), rs.Probe(torch.cat([plane, fine]), batch_size=100_000)
    )
    assert found.patterns["1"].num_patterns == 1 + num_lines + comb(num_lines, 2)


def test_two_kinks_per_unit_give_three_states():
    values = torch.tensor([[-1.0], [0.0], [3.0], [6.0], [7.0]])
    found = rs.measure(Identity(F.relu6), rs.Probe(values)).patterns["relu6"]
    assert found.width == 2
    assert found.keys[:, 0].tolist() == [0b00, 0b01, 0b11]  # below both, above 0, above 0 and 6
    assert found.counts.tolist() == [2, 2, 1]  # 0 and 6 are not above themselves


def test_the_entropy_of_a_uniform_table_is_the_logarithm_of_its_size():
    inputs = torch.eye(12) * 2 - 1
    row = rs.measure(Identity(F.relu), rs.Probe(inputs)).to_dataframe().loc["relu"]
    assert row["total"] == 12
    assert row["entropy"] == pytest.approx(log2(12), abs=1e-12)
    assert row["coverage"] == 0.0
