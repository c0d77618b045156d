"""Packing: Numba = reference = bits as torch compares them, on awkward widths, dtypes, layouts and values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reluscope.kernels import cpu, reference
from reluscope.kernels.fingerprint import hash_keys
from reluscope.kernels.pack import pack_planes
from reluscope.kernels.values import as_values
from reluscope.patterns import PatternCounter, pack_patterns

WIDTHS = (1, 15, 16, 17, 31, 63, 64, 65, 127, 129, 1000)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last", "strided", "2-D", "3-D", "5-D")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_packing_equals_reference_and_brute_force(oracle, width, dtype, layout):
    values, channel_dim = oracle.awkward(width, dtype, layout)
    viewed = as_values(values, channel_dim, (0.0,))
    words, num_nan = cpu.pack(viewed)
    reference_words, reference_nan = reference.pack(viewed)
    oracle.assert_same(words, reference_words)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, channel_dim, (0.0,))))
    assert num_nan == reference_nan == int(values.isnan().sum())


@pytest.mark.parametrize(
    "kinks", [(0.0, 6.0), (-1.0, 1.0), (-0.0,), (0.1,), (-0.1, 0.3, float("inf"), float("-inf"))]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_kinks_equal_reference_and_torch(oracle, layout, dtype, kinks):
    values, channel_dim = oracle.awkward(33, dtype, layout)
    rounded = torch.tensor(kinks, dtype=dtype)
    values[0, : len(kinks), 0, 0] = rounded  # exactly on the rounded kink: not above it
    viewed = as_values(values, channel_dim, kinks)
    words, num_nan = cpu.pack(viewed)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, channel_dim, kinks)))
    oracle.assert_same(words, reference.pack(viewed)[0])
    assert num_nan == int(values.isnan().sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_16_bit_value_against_every_kind_of_kink(oracle, dtype):
    values = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(-1, 1)
    for kink in (0.0, 1.0, -1.0, 0.1, -0.1, 6.0, 1e-8, -1e-8, 3e38, -3e38, float("inf"), float("-inf")):
        words = pack_patterns(values, kinks=(kink,))
        expected = (values > torch.tensor(kink, dtype=dtype)).numpy().astype(np.uint64)
        oracle.assert_same(words, expected)


@pytest.mark.parametrize("has_nan", [False, True])
@pytest.mark.parametrize("kink", [0.0, -0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inner", [1, 3, 15, 16, 17, 31, 33, 49, 63, 64, 65, 130, 1024, 1025, 2100])
@pytest.mark.parametrize("width", [5, 16, 20, 40, 64, 100])
def test_every_piece_of_the_planes_layout(oracle, width, inner, dtype, kink, has_nan):
    generator = torch.Generator().manual_seed(inner)
    values = torch.randn(3, width, inner, generator=generator, dtype=torch.float64).to(dtype)
    if has_nan:
        values[1, width // 2, inner // 2] = float("nan")
        values[2, width - 1, inner - 1] = -float("nan")
    words, num_nan = cpu.pack(as_values(values, 1, (kink,)))
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, 1, (kink,))))
    assert num_nan == 2 * has_nan


@pytest.mark.parametrize("width", [3, 40, 100])
def test_planes_of_a_single_position(oracle, width):
    """Such arrays are taken for rows; the kernel would pack them all the same."""
    values = torch.randn(50, width, 1, generator=torch.Generator().manual_seed(0))
    thresholds = as_values(values, 1, (0.0,)).form.thresholds[0]
    words = np.zeros((50, -(-width // 64)), np.uint64)
    bits = values.view(torch.int32).numpy().view(np.uint32)
    assert pack_planes(bits, 0, 50, thresholds, np.uint32(0x7F800000), 0, words) == 0
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, 1, (0.0,))))


@pytest.mark.parametrize("channel_dim", [0, 1, 2, 3, -1, -4])
def test_any_axis_may_hold_the_units(oracle, channel_dim):
    values = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    bits = oracle.brute_bits(values, channel_dim, (0.0,))
    oracle.assert_same(pack_patterns(values, channel_dim), oracle.words_of(bits))


def test_the_widest_layer(oracle, monkeypatch):
    values = torch.randn(5, 65_536, generator=torch.Generator().manual_seed(0))
    values[3] = values[1]
    words = pack_patterns(values)
    viewed = as_values(values, 1, (0.0,))
    oracle.assert_same(words, reference.pack(viewed)[0])
    tables = []
    for kernels in ("numba", "reference"):
        monkeypatch.setenv("RELUSCOPE_KERNELS", kernels)
        counter = PatternCounter(65_536)
        counter.update(values)
        tables.append(counter.counts())
    assert tables[0] == tables[1]
    assert sorted(tables[0].counts.tolist()) == [1, 1, 1, 2]
    assert tables[0].is_fingerprint
    assert tables[0].collision_bound == 16 / 2**129


@pytest.mark.parametrize("width", [64, 129, 1000])
def test_fingerprint_equals_reference_and_its_definition(oracle, width):
    words = np.random.default_rng(0).integers(0, 1 << 63, (50, -(-width // 64)), dtype=np.uint64)
    keys = hash_keys(7, words.shape[1])
    oracle.assert_same(cpu.fingerprint(words, keys), reference.fingerprint(words, keys))
    # The definition, in Python's unbounded integers.
    halves = [int(word) >> shift & 0xFFFFFFFF for word in words[0] for shift in (0, 32)]
    hashes = [
        (int(row[0]) + sum(int(m) * s for m, s in zip(row[1:], halves, strict=True))) % 2**64 >> 32
        for row in keys
    ]
    expected = [hashes[0] | hashes[1] << 32, hashes[2] | hashes[3] << 32]
    assert cpu.fingerprint(words, keys)[0].tolist() == expected


def test_fingerprint_keys_never_change():
    assert hash_keys(0, 2)[0].tolist() == np.random.Philox(key=0).random_raw(5).tolist()
    # Written down once: files hold fingerprints, so the keys of a seed must stay what they were.
    assert int(hash_keys(0, 2)[0, 0]) == 213000021201967259


@pytest.mark.parametrize("shape", [(0, 7), (0, 7, 4, 4), (3, 7, 0, 4)])
def test_nothing_to_pack(oracle, shape):
    oracle.assert_same(pack_patterns(torch.zeros(shape)), np.empty((0, 1), np.uint64))


def test_numpy_arrays_and_gradients_are_taken_and_left_alone():
    tensor = torch.randn(4, 6, requires_grad=True)
    before = tensor.detach().clone()
    from_tensor = pack_patterns(tensor)
    array = tensor.detach().numpy().copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(pack_patterns(array), from_tensor)
    assert torch.equal(tensor, before)
