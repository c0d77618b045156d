"""For random networks and inputs the counts equal brute force: `numpy.unique` over the bits of captured pre-activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import reluscope as rs


def captured(model: nn.Module, batches) -> dict[str, np.ndarray]:
    """Bits (evaluations, units) of every ReLU module, by name, with plain hooks and a plain forward pass."""
    found: dict[str, list[np.ndarray]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):

            def hook(_module, args, name=name):
                bits = args[0].detach() > 0
                units_last = bits.movedim(1, -1) if bits.ndim != 3 else bits
                found.setdefault(name, []).append(units_last.flatten(0, -2).numpy().copy())

            handles.append(module.register_forward_pre_hook(hook))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(parts) for name, parts in found.items()}


def assert_equals_brute_force(counts: rs.PatternCounts, bits: np.ndarray) -> None:
    patterns, number = np.unique(bits, axis=0, return_counts=True)
    assert counts.num_evaluations == len(bits)
    assert counts.num_patterns == len(patterns)
    assert counts.width == bits.shape[1]
    if counts.is_fingerprint:
        assert sorted(counts.counts.tolist()) == sorted(number.tolist())
        return
    unpacked = np.unpackbits(counts.keys.view(np.uint8), axis=1, bitorder="little")[:, : counts.width]
    expected = {row.tobytes(): n for row, n in zip(patterns.astype(np.uint8), number, strict=True)}
    assert {row.tobytes(): n for row, n in zip(unpacked, counts.counts, strict=True)} == expected


WIDTHS = (1, 3, 15, 16, 17, 33, 64, 65, 128, 129, 200)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    widths=st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=3),
    num_samples=st.integers(2, 70),
    batch_size=st.integers(1, 33),
    inplace=st.booleans(),
)
def test_multilayer_perceptrons(seed, widths, num_samples, batch_size, inplace):
    torch.manual_seed(seed)
    layers, last = [], 5
    for width in widths:
        layers += [nn.Linear(last, width), nn.ReLU(inplace=inplace)]
        last = width
    model = nn.Sequential(*layers, nn.Linear(last, 2)).eval()
    # Few distinct inputs, so that patterns repeat.
    inputs = torch.randn(9, 5)[torch.randint(0, 9, (num_samples,))]
    found = rs.measure(model, rs.Probe(inputs, batch_size=batch_size)).patterns
    expected = captured(model, inputs.split(batch_size))
    assert list(found) == list(expected)
    for name, bits in expected.items():
        assert_equals_brute_force(found[name], bits)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    channels=st.sampled_from(WIDTHS),
    side=st.integers(1, 7),
    channels_last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_convolutional_networks(seed, channels, side, channels_last, dtype):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 4, 1), nn.ReLU()
    )
    model = model.to(dtype).eval()
    inputs = torch.randn(6, 2, side, side, dtype=dtype)
    if channels_last:
        model, inputs = (
            model.to(memory_format=torch.channels_last),
            inputs.to(memory_format=torch.channels_last),
        )
    found = rs.measure(model, rs.Probe(inputs, batch_size=4)).patterns
    for name, bits in captured(model, inputs.split(4)).items():
        assert_equals_brute_force(found[name], bits)


@pytest.mark.parametrize("permutation_seed", range(3))
def test_permuting_samples_changes_nothing(permutation_seed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Flatten(), nn.Linear(720, 70), nn.ReLU())
    inputs = torch.randn(30, 1, 8, 8)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(permutation_seed))
    before = rs.measure(model, rs.Probe(inputs, batch_size=10)).patterns
    after = rs.measure(model, rs.Probe(inputs[order], batch_size=10)).patterns
    assert before["1"] == after["1"]
    # The same samples in other batches of a matrix product may differ by rounding, but not in how many there are.
    assert before["4"].num_evaluations == after["4"].num_evaluations


def test_permuting_units_changes_keys_and_no_measure():
    torch.manual_seed(0)
    first = nn.Conv2d(1, 40, 3)
    permuted = nn.Conv2d(1, 40, 3)
    order = torch.randperm(40)
    with torch.no_grad():
        permuted.weight.copy_(first.weight[order])
        permuted.bias.copy_(first.bias[order])
    probe = rs.Probe(torch.randn(16, 1, 6, 6), torch.arange(16) % 3, batch_size=8)
    before = rs.measure(nn.Sequential(first, nn.ReLU()), probe)
    after = rs.measure(nn.Sequential(permuted, nn.ReLU()), probe)
    assert before.patterns["1"] != after.patterns["1"]
    assert before.to_dataframe().equals(after.to_dataframe())
