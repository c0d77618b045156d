"""Arrays whose memory is taken page by page as it is written to, and given back page by page.

The heap keeps what is freed, so that a peak stays with the process: an array here has pages of its own. What has been
read for the last time can be given back while the rest is still in use, so that one table can take the place of another
without both being there at once. Where the system has no `madvise` (Windows) memory goes back with the array.

Within `own_pages(None)` every array of MIN_BYTES has pages of its own, so that a memory budget knows what is held. Within
`own_pages(folder)` these are of a file without a name in that folder: the same arrays, the same bytes, but the system can
write them out when memory is short. The file's room on the disk is taken when the array is made: a disk that filled up
later would end the process.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from reluscope.errors import SpillError

__all__ = [
    "MIN_BYTES",
    "are_own_pages_wanted",
    "own_pages",
    "paged_array",
    "release_after",
    "release_before",
    "table_array",
]

# A smaller array comes from the heap, where memory that was used before costs no page fault.
MIN_BYTES = 1 << 20
STAYING_BYTES, PASSING_BYTES = 1 << 22, (1 << 25) + 1  # of tables
_ZEROS = bytes(1 << 20)

# Of this thread: the arrays are made in the thread that drives a kernel.
# A folder; empty: memory; None: as the caller asks.
_PLACE: ContextVar[str | None] = ContextVar("where pages come from", default=None)


class _FilePages(mmap.mmap):
    """Pages of a file, which hold disk as well as memory."""


@contextmanager
def own_pages(folder: str | None) -> Iterator[None]:
    """Within it, arrays of MIN_BYTES have pages of their own, whatever is asked: of files in a folder, or of memory."""
    token = _PLACE.set(folder or "")
    try:
        yield
    finally:
        _PLACE.reset(token)


def are_own_pages_wanted() -> bool:
    """Whether memory is to be given back as soon as it can be: nothing is kept for later use then."""
    return _PLACE.get() is not None


def paged_array(shape: Sequence[int], dtype: type, *, min_bytes: int = MIN_BYTES) -> np.ndarray:
    """An array of any shape, not initialised; one of so many bytes has pages of its own.

    Raises:
        SpillError: a file for it could not be made, or the disk is full.
    """
    size, itemsize = int(np.prod(shape)), np.dtype(dtype).itemsize
    folder = _PLACE.get()
    if size * itemsize < (min_bytes if folder is None else MIN_BYTES):
        return np.empty(shape, dtype)
    if folder:
        return np.frombuffer(_pages_of_file(folder, size * itemsize), dtype).reshape(shape)
    # Shared pages, which are the default, would stay with the system when they are given back.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, size * itemsize, **private), dtype).reshape(shape)


def table_array(shape: Sequence[int], dtype: type, *, stays: bool = True) -> np.ndarray:
    """As `paged_array`, for a table.

    Small ones come and go with every measurement, and the heap has warm pages for them. So it has for up to 32 MB, beyond
    which glibc's keeps nothing; but a table that `stays` while others come and go would tear holes into it.
    """
    return paged_array(shape, dtype, min_bytes=STAYING_BYTES if stays else PASSING_BYTES)


def release_before(array: np.ndarray, row: int) -> None:
    """Give back the pages that hold only rows before this one, which must not be read any more."""
    owner = _mapping_of(array)
    if owner is not None:
        stop = _offset(array, owner) + row * array.strides[0]
        _release(owner, 0, stop // mmap.PAGESIZE * mmap.PAGESIZE)


def release_after(array: np.ndarray, row: int) -> bool:
    """Give back the pages that hold only rows from this one on, which must not be read any more.

    Returns whether the array has pages of its own: one of the heap gives nothing back.
    """
    owner = _mapping_of(array)
    if owner is None:
        return False
    start = _offset(array, owner) + row * array.strides[0]
    _release(owner, -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, len(owner))
    return True


def _pages_of_file(folder: str, num_bytes: int) -> mmap.mmap:
    """Pages of a new file without a name, whose room on the disk is taken."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:  # a file with holes would take its room when a page is written out, and fail then
                for start in range(0, num_bytes, len(_ZEROS)):
                    file.write(_ZEROS[: num_bytes - start])
                file.flush()
            return _FilePages(file.fileno(), num_bytes)
    except OSError as error:
        raise SpillError(
            error.errno or 0,
            f'spilling to "{folder}" asked for a file of {num_bytes:,} bytes: {error.strerror or error}. Free space '
            "there, name another folder, or leave spill out: past its budget a site is then estimated.",
        ) from error


def _release(owner: mmap.mmap, start: int, stop: int) -> None:
    if stop <= start or not hasattr(owner, "madvise"):
        return
    if isinstance(owner, _FilePages):
        try:
            owner.madvise(mmap.MADV_REMOVE, start, stop - start)  # the disk's room too
            return
        except (AttributeError, OSError):
            pass  # not of this system, or of this disk
    owner.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _offset(array: np.ndarray, owner: mmap.mmap) -> int:
    """Where an array begins in its pages."""
    return array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data


def _mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """The pages an array lies in; None for an array of the heap."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None
