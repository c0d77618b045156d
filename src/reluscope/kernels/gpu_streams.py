"""What the device does beside the forward pass, and what the host knows of it without waiting.

Nothing here needs Triton; on the CPU, where the interpreter runs, everything happens at once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch

__all__ = ["Copy", "OccupancyBound", "SideStream", "on_device", "side_stream"]


class SideStream:
    """A stream beside the one in which the user's model runs, one for each device.

    Pre-activations are only read in the user's own stream, so whatever may write to them next (an in-place activation, a
    sum into a shortcut) comes after. What is counted from there on belongs to us, and waits and works in this one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def work(self, *inputs: torch.Tensor) -> Iterator[None]:
        """What is launched inside runs in this stream, after all that the current one holds.

        `inputs` are tensors allocated in another stream that are read inside: their memory is not handed out again
        before that is done.
        """
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                yield
            for tensor in inputs:
                tensor.record_stream(self._stream)


def on_device(device: torch.device) -> torch.cuda.device:
    """Triton launches on the current device; -1 leaves it as it is, where there is none."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


@functools.cache
def side_stream(device: torch.device) -> SideStream:
    """The side stream of a device, made when it is first asked for."""
    return SideStream(device)


class Copy:
    """A counter int64 (1,) on its way to the host, behind the work launched so far in the current stream."""

    def __init__(self, counter: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if not counter.is_cuda:
            self._number = counter.clone()
            return
        self._number = torch.empty(1, dtype=counter.dtype, device="cpu", pin_memory=True)
        self._number.copy_(counter, non_blocking=True)
        self._done = torch.cuda.Event()
        self._done.record()

    def value(self, *, wait: bool) -> int | None:
        """What the counter was; None if that is not known yet and the host is not to wait."""
        if self._done is not None:
            if wait:
                self._done.synchronize()
            elif not self._done.query():
                return None
        return int(self._number)


class OccupancyBound:
    """An upper bound on a counter that grows on the device, kept on the host without waiting for the device.

    The counter can have grown by no more than what was added since it was last read. It is read by copying it to pinned
    memory behind the work in the stream; the value counts once that copy has been made, whenever that is.
    """

    def __init__(self, counter: torch.Tensor, *, copy: Callable[[torch.Tensor], Copy] | None = None) -> None:
        self._counter = counter
        self._take = copy or Copy
        self._known = 0
        self._before = 0  # added since `_known` was the counter, and before the copy under way was asked for
        self._after = 0
        self._copy: Copy | None = None

    def add(self, most: int) -> None:
        """Work was launched that lets the counter grow by at most so much."""
        if self._copy is None:
            self._before += most
        else:
            self._after += most

    def ask(self) -> None:
        """Have the counter copied behind the work launched so far in the current stream; one copy at a time."""
        if self._copy is None:
            self._copy = self._take(self._counter)

    def bound(self, *, wait: bool = False) -> int:
        """The counter is at most this; with `wait`, after the copy asked for last has arrived."""
        if self._copy is not None and (value := self._copy.value(wait=wait)) is not None:
            self._known, self._before, self._after, self._copy = value, self._after, 0, None
        return self._known + self._before + self._after
