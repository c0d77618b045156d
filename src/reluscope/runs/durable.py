"""The few file operations a run folder is written with, each durable when it returns.

A file is written under a temporary name, synced, renamed, and its folder is synced: at every moment the
folder holds, under the final name, either the whole old file or the whole new one. Every operation on the
disk passes through the six small functions at the end, so that the tests can crash between any two of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["TEMPORARY_SUFFIX", "make_folder", "remove_file", "remove_temporaries", "replace_file"]

# Not a suffix of any table, so that `layers/*.parquet` never matches a file that is half written.
TEMPORARY_SUFFIX = ".tmp"


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Make `path` hold all that `write` puts into the stream, durably, or, on an error, what it held before.

    Raises:
        OSError: the disk refused; the temporary file is removed as far as that works.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with _open_new(temporary) as stream:
            write(stream)
            stream.flush()
            _sync_file(stream)
        _rename(temporary, path)
    except Exception:
        # Only tidiness: a temporary file that stays is removed at the next opening for writing.
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file durably; one that is not there is no error."""
    try:
        _unlink(path)
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, its parents too, durably; one that is there already is no error."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        _mkdir(folder)
        _sync_folder(folder.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what an interrupted `replace_file` left in this folder and the ones directly below it."""
    for pattern in (f"*{TEMPORARY_SUFFIX}", f"*/*{TEMPORARY_SUFFIX}"):
        for path in sorted(folder.glob(pattern)):
            remove_file(path)


def _open_new(path: Path) -> BinaryIO:
    return open(path, "wb")


def _sync_file(stream: BinaryIO) -> None:
    os.fsync(stream.fileno())


def _rename(source: Path, target: Path) -> None:
    os.replace(source, target)


def _unlink(path: Path) -> None:
    path.unlink()


def _mkdir(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable. Windows cannot sync a folder and orders these itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
