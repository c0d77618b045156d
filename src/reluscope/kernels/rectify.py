"""ReLU on the way: max(x, 0) of the values that are being packed, while they lie in cache.

Whoever packs a layer's pre-activations reads all of them, and the activation that follows reads them again and writes.
Where that is a plain ReLU both are done in one pass over memory. The results are torch's bit for bit: -0.0 and NaN stay
what they are. A rectified value has the bit and the NaN of the value itself, so that it does not matter which is packed.

Limits: float32 and float64.
"""

from __future__ import annotations

import functools

import torch

from reluscope.kernels.jit import inner

__all__ = ["can_rectify", "rectify_span"]

_SPECIAL = (
    0.0,
    -0.0,
    *(float("nan"), -float("nan"), float("inf"), -float("inf")),
    1.0,
    -1.0,
    1e-40,
    -1e-40,
    -5e-324,
)


@functools.cache
def can_rectify(dtype: torch.dtype) -> bool:
    """Whether torch's ReLU takes values below zero to 0 and leaves the bits of all others, on this machine.

    That of 16-bit floats does not: it works in float32 and comes back with other NaN. Asked once per process: one that
    begins to flush denormals later on (`torch.set_flush_denormal`) may find other ones after its ReLU than here.
    """
    if dtype not in (torch.float32, torch.float64):
        return False
    # On the CPU whatever the default device is; their number is no multiple of a vector.
    values = torch.tensor(_SPECIAL, dtype=torch.float64, device="cpu").to(dtype).repeat_interleave(5)
    expected = torch.where(values < 0, torch.zeros_like(values), values)
    return torch.equal(torch.relu(values).view(torch.uint8), expected.view(torch.uint8))


@inner
def rectify_span(values, target, first, last, infinity):  # pragma: no cover - compiled
    """Write max(values[first:last], 0) to target[first:last]; uint 1-D, the same memory or none in common."""
    # Views that begin there: an index that may be negative keeps a loop from being vectorised.
    source, out = values[first:last], target[first:last]
    one = values.dtype.type(1)
    zero, sign = one - one, one << values.dtype.type(8 * values.itemsize - 1)
    # Below zero lie the bits from that of the least magnitude, sign + 1, to that of -inf, sign + infinity.
    if target.ctypes.data == values.ctypes.data:
        for index in range(out.size):
            value = out[index]
            out[index] = zero if value - sign - one < infinity else value
    else:
        for index in range(out.size):
            value = source[index]
            out[index] = zero if value - sign - one < infinity else value
