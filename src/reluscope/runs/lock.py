"""One writer per run folder: a lock that the operating system drops with the process, however that ends.

The lock file holds a line about its holder while the run is being written and is emptied when the writer
closes. So: locked = recording; a holder's line without a lock = interrupted; empty = closed. Nothing else
says so.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reluscope.errors import ReluscopeWarning, RunLockedError, RunNotWritableError

__all__ = ["LOCK_NAME", "RunLock", "must_be_writable", "run_state"]

LOCK_NAME = "run.lock"

# A reader that asks for the state holds the lock for an instant; a writer tries again for this long.
_PATIENCE_S = 0.5
_WINDOWS_OFFSET = 1 << 30  # Windows locks bytes mandatorily: lock one that nobody reads

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

# A forked child (a DataLoader worker) inherits the descriptor and with it the lock, which would outlive a
# killed parent: every child closes its copy.
_held: weakref.WeakSet[RunLock] = weakref.WeakSet()
_watching_forks = False


class RunLock:
    """The exclusive right to write a run folder, from construction until `release`.

    Raises:
        RunLockedError: another writer holds it, in this process or any other.
        RunNotWritableError: the folder, or the lock file in it, may not be written.
        OSError: the disk refused.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        path = folder / LOCK_NAME
        with must_be_writable(folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            _lock_patiently(descriptor, folder)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(holder).encode())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _forget_in_children(self)

    def release(self, *, closed: bool = True) -> None:
        """Give the lock back; `closed=False` leaves the run marked as interrupted. Once is enough."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if closed:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
            _held.discard(self)

    def forget(self) -> None:
        """Close this process's copy of the descriptor and nothing else: for a forked child."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def run_state(folder: Path) -> str:
    """What the lock says of a run: "recording", "interrupted" or "closed". Needs only the right to read."""
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return "closed"
    except OSError:
        return "recording" if os.name == "nt" else "interrupted"
    try:
        if not _try_lock(descriptor, exclusive=False):
            return "recording"
        return "interrupted" if os.fstat(descriptor).st_size else "closed"
    except OSError:  # no locks on this file system, so nobody can tell
        return "interrupted" if os.fstat(descriptor).st_size else "closed"
    finally:
        os.close(descriptor)


@contextmanager
def must_be_writable(folder: Path) -> Iterator[None]:
    """Say in words when the operations inside fail because nothing may be written to the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        raise RunNotWritableError(
            error.errno,
            f"a run cannot be written there ({error.strerror}). Reading it works: rs.open_run; to record, "
            "choose a folder that you may write to",
            str(folder),
        ) from error


def _lock_patiently(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while not _try_lock(descriptor, exclusive=True):
            if time.monotonic() > deadline:
                raise RunLockedError(
                    f'the run at "{folder}" is being written by {_holder(descriptor)}; a run has one writer. '
                    'Wait for it to end, record somewhere else, or use if_exists="new".'
                )
            time.sleep(0.02)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(
            f'the file system of "{folder}" has no locks ({error.strerror}); nothing stops a second process '
            "from writing the same run, so make sure that there is none.",
            ReluscopeWarning,
            stacklevel=2,
        )


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = json.loads(os.read(descriptor, 4096))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget_in_children(lock: RunLock) -> None:
    global _watching_forks
    _held.add(lock)
    if not _watching_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)
        _watching_forks = True


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


if os.name == "nt":
    import msvcrt

    def _try_lock(descriptor: int, *, exclusive: bool) -> bool:
        os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int, *, exclusive: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
