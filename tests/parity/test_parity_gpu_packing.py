"""Triton's packing = NumPy reference, by the interpreter or on a GPU: widths, dtypes, layouts, kinks, special values."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are loaded
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="Triton is not installed: pip install reluscope[gpu]",
    ),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION:UserWarning"),  # given when it compiles
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# The interpreter reads planes unit by unit, so these stay narrow.
ROWS = ("channels_last", "2-D", "3-D")
PLANES = ("contiguous", "strided", "5-D")
ROW_WIDTHS = (1, 15, 16, 17, 31, 32, 63, 64, 65, 127, 129, 1000)
PLANE_WIDTHS = (1, 7, 16, 17, 31, 33, 64, 65)
CASES = [(width, DTYPES[i % 4], ROWS[(i // 4 + i) % 3]) for i, width in enumerate(ROW_WIDTHS)]
CASES += [(width, DTYPES[i % 4], PLANES[(i // 4 + i) % 3]) for i, width in enumerate(PLANE_WIDTHS)]


@pytest.fixture(autouse=True)
def _triton(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")


def pack(values: torch.Tensor, channel_dim: int, kinks: tuple[float, ...] = (0.0,)) -> tuple[np.ndarray, int]:
    from reluscope.kernels import dispatch

    moved = values.to(DEVICE)
    return dispatch.pack(dispatch.values_at(dispatch.home_of(moved), moved, channel_dim, kinks))


@pytest.mark.parametrize(("width", "dtype", "layout"), CASES, ids=str)
def test_packing_equals_brute_force(oracle, width, dtype, layout):
    values, channel_dim = oracle.awkward(width, dtype, layout)
    words, num_nan = pack(values, channel_dim)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, channel_dim, (0.0,))))
    assert num_nan == int(values.isnan().sum())


@pytest.mark.parametrize(
    ("dtype", "layout", "kinks"),
    [
        (torch.float32, "channels_last", (0.0, 6.0)),
        (torch.bfloat16, "channels_last", (-0.1, 0.3, float("inf"), float("-inf"))),
        (torch.float64, "contiguous", (-1.0, 1.0)),
        (torch.float16, "contiguous", (0.1,)),
        (torch.float32, "channels_last", (-0.0,)),
        (torch.float32, "contiguous", (-0.5,)),
    ],
    ids=str,
)
def test_kinks_equal_brute_force(oracle, dtype, layout, kinks):
    values, channel_dim = oracle.awkward(11, dtype, layout)
    values[0, : len(kinks), 0, 0] = torch.tensor(
        kinks, dtype=dtype
    )  # exactly on the rounded kink: not above it
    words, num_nan = pack(values, channel_dim, kinks)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, channel_dim, kinks)))
    assert num_nan == int(values.isnan().sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_16_bit_value(oracle, dtype):
    values = (
        torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(256, 256)
    )
    words, num_nan = pack(values, 1, (0.0, -1.0))
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, 1, (0.0, -1.0))))
    assert num_nan == int(values.isnan().sum())


@pytest.mark.parametrize("is_rows", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_edges_of_what_is_above(oracle, dtype, is_rows):
    """Zeros, the least and the largest numbers, infinities, and the NaN next to these, of both signs."""
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    infinity = int(torch.tensor(float("inf"), dtype=dtype).view(bits))
    magnitudes = torch.tensor([0, 1, infinity - 1, infinity, infinity + 1, torch.iinfo(bits).max], dtype=bits)
    values = torch.cat([magnitudes, magnitudes | torch.iinfo(bits).min]).view(dtype).repeat(2, 1)
    for kinks in ((0.0,), (-1.0,), (0.0, -1.0)):
        words, num_nan = pack(values.t() if is_rows else values[None], 1, kinks)
        expected = oracle.brute_bits(values.t(), 1, kinks)
        oracle.assert_same(words, oracle.words_of(expected))
        assert num_nan == 8


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[:, :, ::2],
        lambda x: x[:, 1:],
        lambda x: x.transpose(0, 2),
        lambda x: x.expand(3, 8, 4, 6),
        lambda x: x[0, 0],
        lambda x: x[:1, :1, :1],
    ],
)
@pytest.mark.parametrize("channel_dim", [0, -1])
def test_strides_of_any_kind(oracle, view, channel_dim):
    values = view(torch.randn(1, 8, 4, 6, generator=torch.Generator().manual_seed(0)))
    words, _ = pack(values, channel_dim)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, channel_dim, (0.0,))))


def test_more_axes_than_a_kernel_walks_are_copied_first(oracle):
    from reluscope.kernels.gpu_values import as_device_values

    values = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))[:, :, ::2, ::2, ::2]
    values = values[:, :, :, :, None].expand(2, 3, 2, 2, 2, 2)
    assert as_device_values(values, 1, (0.0,)).bits.is_contiguous()
    words, _ = pack(values, 1)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, 1, (0.0,))))


def test_no_layout_of_networks_is_copied():
    from reluscope.kernels.gpu_values import as_device_values

    values = torch.randn(2, 8, 6, 6)
    for view in (
        values,
        values.to(memory_format=torch.channels_last),
        values[:, ::2],
        values[:, :, ::2, ::2],
    ):
        assert as_device_values(view, 1, (0.0,)).bits.data_ptr() == view.data_ptr()


def test_a_very_wide_layer_is_packed_whole(oracle):
    values = torch.randn(3, 4100, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    words, _ = pack(values, 1)
    oracle.assert_same(words, oracle.words_of(oracle.brute_bits(values, 1, (0.0,))))


@pytest.mark.parametrize("shape", [(0, 7), (0, 7, 4, 4), (3, 7, 0, 4)])
def test_nothing_to_pack(oracle, shape):
    oracle.assert_same(pack(torch.zeros(shape), 1)[0], np.empty((0, 1), np.uint64))


def test_negative_views_arrays_and_gradients(oracle):
    from reluscope.patterns import pack_patterns

    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    expected = oracle.words_of(oracle.brute_bits(values, 1, (0.0,)))
    negative = torch.complex(torch.zeros_like(values), -values).conj().imag
    assert negative.is_neg()
    oracle.assert_same(pack_patterns(negative.to(DEVICE)), expected)
    array = values.numpy().copy()
    array.flags.writeable = False
    oracle.assert_same(pack_patterns(array), expected)
    oracle.assert_same(pack_patterns(values.to(DEVICE).requires_grad_()), expected)
