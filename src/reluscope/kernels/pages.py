"""Arrays whose memory is taken page by page as it is written to, and given back page by page.

The heap keeps what is freed, so that a peak stays with the process: an array here has pages of its own. What has been
read for the last time can be given back while the rest is still in use, so that one table can take the place of another
without both being there at once. Where the system has no `madvise` (Windows) memory goes back with the array.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np

__all__ = ["MIN_BYTES", "paged_array", "release_before"]

# A smaller array comes from the heap, where memory that was used before costs no page fault.
MIN_BYTES = 1 << 20


def paged_array(shape: Sequence[int], dtype: type, *, min_bytes: int = MIN_BYTES) -> np.ndarray:
    """An array of any shape, not initialised; one of so many bytes has pages of its own."""
    size, itemsize = int(np.prod(shape)), np.dtype(dtype).itemsize
    if size * itemsize < min_bytes:
        return np.empty(shape, dtype)
    # Shared pages, which are the default, would stay with the system when they are given back.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, size * itemsize, **private), dtype).reshape(shape)


def release_before(array: np.ndarray, row: int) -> None:
    """Give back the pages that hold only rows before this one, which must not be read any more."""
    owner = _mapping_of(array)
    if owner is None or not hasattr(owner, "madvise"):
        return
    begin = array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
    stop = (begin + row * array.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > 0:
        owner.madvise(mmap.MADV_DONTNEED, 0, stop)


def _mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """The pages an array lies in; None for an array of the heap."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None
