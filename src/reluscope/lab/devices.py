"""Where a training computes, and that it computes there in full precision and repeatably."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from reluscope.errors import SpecificationError

__all__ = ["exact_convolutions", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:1" means on this machine.

    Raises:
        SpecificationError: a CUDA device that is not there.
    """
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if num_devices else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= num_devices:
        raise SpecificationError(
            f"training.device is {name}; torch finds {num_devices or 'no'} CUDA devices here. Use "
            'training.device="auto" or "cpu", or a torch built for the GPU.'
        )
    return device


def exact_convolutions(device: torch.device) -> AbstractContextManager[object]:
    """While it is open, convolutions on a GPU multiply whole float32 numbers, in a fixed order.

    cuDNN would round them to TF32, which flips bits near the kinks, and may add in any order, so that no
    training could be repeated.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
