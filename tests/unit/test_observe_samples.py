"""Whose evaluation is whose: axis 0 lists the samples in order, or labels have no meaning there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reluscope.observe import Probe, sites

B, TOKENS, IMAGE = 4, (4, 6, 8), (4, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.fc, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.rnn = nn.GRU(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, *inputs):
        return F.relu(self.function(self, *inputs))


def windows(m, x):
    """Swin: shift, cut into windows, fold them into axis 0, attend, and come back."""
    x = torch.roll(m.norm(x), (-1, -1), dims=(1, 2))
    x = x.view(B, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 16, 8)
    qkv = torch.cat([m.fc(x)] * 3, -1).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    attention = F.softmax(q @ k.transpose(-2, -1) + torch.zeros(2, 16, 16).unsqueeze(0), dim=-1)
    attention = attention.view(B, 4, 2, 16, 16) + torch.zeros(4, 16, 16).unsqueeze(1).unsqueeze(0)
    return m.fc((attention.view(-1, 2, 16, 16) @ v).transpose(1, 2).reshape(-1, 16, 8))


def back_from_windows(m, x):
    x = windows(m, x).view(B, 2, 2, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).reshape(B, 8, 8, -1)
    return torch.roll(x, shifts=(1, 1), dims=(1, 2))


KNOWN = {  # function, shape, positions per sample
    "as it comes": (lambda m, x: m.fc(x), TOKENS, 6),
    "tokens folded": (lambda m, x: m.fc(x).reshape(-1, 8), TOKENS, 6),
    "flatten": (lambda m, x: m.fc(x).flatten(0, 1), TOKENS, 6),
    "windows": (windows, (B, 8, 8, 8), 64),
    "windows and back": (back_from_windows, (B, 8, 8, 8), 64),
    "each cut in two": (lambda m, x: x.reshape(8, 3, 8), TOKENS, 6),
    "each repeated": (lambda m, x: x.repeat_interleave(3, 0), TOKENS, 18),
    "stacked behind": (lambda m, x: torch.stack([x, x + 1], 1).reshape(-1, 6, 8), TOKENS, 12),
    "repeated along another axis": (lambda m, x: x.repeat(1, 2, 1), TOKENS, 12),
    "token put in front": (lambda m, x: torch.cat([m.token.expand(B, -1, -1), x], 1), TOKENS, 7),
    "first token": (lambda m, x: m.fc(x)[:, 0], TOKENS, 1),
    "some tokens": (lambda m, x: m.fc(x)[:, torch.tensor([1, 3])], TOKENS, 2),
    "time first and back": (lambda m, x: m.rnn(x.transpose(0, 1))[0].transpose(0, 1), TOKENS, 6),
    "attention": (lambda m, x: m.attention(*[x.transpose(0, 1)] * 3)[0].permute(1, 0, 2), TOKENS, 6),
    "views folded and apart": (
        lambda m, x: m.fc(torch.cat([x, x + 1])).view(2, B, 6, 8).mean(0), TOKENS, 6,
    ),
    "views in halves": (lambda m, x: m.fc(torch.cat([x, x + 1])).chunk(2)[1], TOKENS, 6),
    "mean over the batch off": (lambda m, x: x - x.mean(0), TOKENS, 6),
    "mean over the batch off, kept": (lambda m, x: x - x.mean(0, keepdim=True), TOKENS, 6),
    "convolution, shuffled channels": (
        lambda m, x: m.conv(x).view(B, 5, 1, 8, 8).transpose(1, 2).reshape(B, 5, 8, 8), IMAGE, 64,
    ),
    "patches": (lambda m, x: F.unfold(x, 2, stride=2).transpose(1, 2).reshape(-1, 12), IMAGE, 16),
    "patches by unfold": (
        lambda m, x: x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 4, 4),
        IMAGE, 64,
    ),
    "flipped images": (lambda m, x: m.conv(x.flip(3)), IMAGE, 64),
    "unsqueezed and back": (lambda m, x: x.unsqueeze_(0).squeeze_(0), TOKENS, 6),
    "last state": (lambda m, x: m.rnn(x.transpose(0, 1))[1][-1], TOKENS, 1),
    "gathered along another axis": (
        lambda m, x: x.gather(1, torch.zeros(4, 2, 8, dtype=torch.long)), TOKENS, 2,
    ),
    "max over tokens": (lambda m, x: x.max(1)[0], TOKENS, 1),
    "embedded": (lambda m, x: F.embedding(x.long() * 0, m.fc.weight)[:, 0], TOKENS, 8),
    "to another type and back": (lambda m, x: x.double().detach().float().clone(), TOKENS, 6),
    "scattered into zeros": (lambda m, x: torch.zeros_like(x).add_(x), TOKENS, 6),
}  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_sample_major(case):
    function, shape, positions = KNOWN[case]
    frame = sites(Net(function), Probe(torch.randn(shape), batch_size=B))
    assert frame["num_positions"][frame["observed"]].tolist() == [positions]


UNKNOWN = {
    "two views": (lambda m, x: m.fc(torch.cat([x, x + 0.1])), TOKENS),
    "two views, concat": (lambda m, x: torch.concat((x, x), dim=0), TOKENS),
    "two views, vstack": (lambda m, x: torch.vstack([x, x]), TOKENS),
    "repeated": (lambda m, x: x.repeat(2, 1, 1), TOKENS),
    "tiled": (lambda m, x: m.fc(torch.tile(x, (3, 1, 1))), TOKENS),
    "expanded": (lambda m, x: x.expand(2, *TOKENS).reshape(-1, 6, 8), TOKENS),
    "stacked in front": (lambda m, x: torch.stack([x, x + 1]).reshape(-1, 6, 8), TOKENS),
    "stacked in front, flattened": (lambda m, x: torch.stack((x, x), 0).flatten(0, 1), TOKENS),
    "time first": (lambda m, x: x.transpose(0, 1), (4, 8, 8)),
    "time first, as long as the batch": (lambda m, x: x.transpose(0, 1), (4, 4, 8)),
    "time first, folded": (lambda m, x: x.permute(1, 0, 2).reshape(-1, 8), TOKENS),
    "time first, recurrent": (lambda m, x: m.rnn(x.transpose(0, 1))[0], (4, 8, 8)),
    "time first, operator": (lambda m, x: torch.ops.aten.transpose.int(x, 0, 1), (4, 4, 8)),
    "channels folded in front": (lambda m, x: x.movedim(1, 0).reshape(-1, 8, 8), IMAGE),
    "views, then tokens behind": (lambda m, x: torch.cat([x, x]).reshape(-1, 8), TOKENS),
    "with others": (lambda m, x: torch.cat([x, torch.zeros(4, 6, 8)]), TOKENS),
    "shuffled": (lambda m, x: x[torch.tensor([2, 0, 1, 3])], TOKENS),
    "shuffled by index_select": (lambda m, x: x.index_select(0, torch.tensor([2, 0, 1, 3])), TOKENS),
    "in reverse": (lambda m, x: x.flip(0), TOKENS),
    "rolled": (lambda m, x: x.roll(1, 0), TOKENS),
    "sorted": (lambda m, x: x.sort(0)[0], TOKENS),
    "a weight of twice the length": (lambda m, x: m.fc.weight, TOKENS),
    "summed over neighbours": (
        lambda m, x: torch.zeros_like(x).scatter_add(0, torch.zeros(TOKENS, dtype=torch.long), x), TOKENS,
    ),
    "summed over neighbours, by index": (
        lambda m, x: torch.zeros(4, 6, 8).index_add(0, torch.tensor([1, 1, 0, 2]), x), TOKENS,
    ),
    "written into zeros": (
        lambda m, x: torch.zeros(8, 6, 8).index_copy_(0, torch.arange(4), x), TOKENS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_not_sample_major(case):
    function, shape = UNKNOWN[case]
    frame = sites(Net(function), Probe(torch.randn(shape), batch_size=B))
    assert frame["num_positions"].isna().all()


def test_inputs_by_name_and_nested():
    class Named(nn.Module):
        def forward(self, *, pair, scale):
            return F.relu(torch.cat([pair[0], pair[1]]) * scale)

    inputs = {"pair": (torch.randn(4, 6), torch.randn(4, 6)), "scale": torch.tensor(2.0)}
    assert sites(Named(), Probe(inputs, batch_size=B))["num_positions"].isna().all()
