"""What the parity tests share: awkward inputs, and a count by brute force."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

SPECIAL = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1.0, -0.5, 6.0, 5.96e-8, 1e-40)


def awkward(width: int, dtype: torch.dtype, layout: str, seed: int = 0) -> tuple[torch.Tensor, int]:
    """Normal values with one in eight replaced by a special one, and the axis of its units."""
    generator = torch.Generator().manual_seed(seed + width)
    shapes = {
        "contiguous": (3, width, 5, 7),
        "channels_last": (3, width, 5, 7),
        "strided": (3, 2 * width, 5, 14),
        "2-D": (37, width),
        "3-D": (3, 11, width),
        "5-D": (2, width, 3, 2, 4),
    }
    values = torch.randn(shapes[layout], generator=generator, dtype=torch.float64)
    special = torch.tensor(SPECIAL, dtype=torch.float64)
    chosen = torch.randint(0, 8 * len(SPECIAL), values.shape, generator=generator)
    values = torch.where(chosen < len(SPECIAL), special[chosen.clamp(max=len(SPECIAL) - 1)], values).to(dtype)
    if layout == "channels_last":
        values = values.to(memory_format=torch.channels_last)
    if layout == "strided":
        values = values[:, ::2, :, ::2]
    return values, 2 if layout == "3-D" else 1


def brute_bits(values: torch.Tensor, channel_dim: int, kinks: tuple[float, ...]) -> np.ndarray:
    """The bits (evaluations, width) as torch compares, so with kinks rounded as torch rounds them."""
    above = torch.stack([values > torch.tensor(kink, dtype=values.dtype) for kink in kinks], dim=-1)
    moved = above.movedim(channel_dim % values.ndim, -2)
    return moved.reshape(-1, moved.shape[-2] * moved.shape[-1]).numpy()


def words_of(bits: np.ndarray) -> np.ndarray:
    """Bits (E, width) as words uint64 (E, W), by arithmetic."""
    num_words = -(-bits.shape[1] // 64)
    words = np.zeros((len(bits), num_words), np.uint64)
    for bit in range(bits.shape[1]):
        words[:, bit // 64] += bits[:, bit].astype(np.uint64) * np.uint64(1 << (bit % 64))
    return words


def table_of(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct words and their counts, by numpy.unique over the bits, last bit most significant."""
    distinct, counts = np.unique(bits[:, ::-1], axis=0, return_counts=True)
    return words_of(np.ascontiguousarray(distinct[:, ::-1])), counts.astype(np.int64)


def assert_same_array(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal values, shape and dtype."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


@pytest.fixture(scope="session")
def oracle() -> SimpleNamespace:
    """The helpers above; a conftest cannot be imported."""
    return SimpleNamespace(
        awkward=awkward,
        brute_bits=brute_bits,
        words_of=words_of,
        table_of=table_of,
        assert_same=assert_same_array,
    )


@pytest.fixture(params=["numba", "reference"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with each implementation."""
    monkeypatch.setenv("RELUSCOPE_KERNELS", request.param)
    return request.param
