"""Tasks on the OpenMP threads that torch's own operations run on, where there are such.

After an operation of torch its worker threads spin for a while, ready for the next one. A thread of our own would
fight them for their core and start 0.1 ms late, which on two cores ate all that the second one could give. Handing
tasks to the very team that spins costs neither. Only GNU's libgomp (torch on Linux) is used, and only the copy that
torch has loaded; elsewhere, and in a forked child, whose team is gone, `team_runner` has none and the pool's threads do
the work.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["run_native", "team_runner", "thread_number"]

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_is_forked = False
_parallel: Callable[..., None] | None = None
_thread_number = 0
_has_looked = False


def team_runner() -> Callable[[Callable[[], None], int], None] | None:
    """A function that calls `body()` once on each of at least `size` threads at once; None: no OpenMP here.

    The body must not raise, and must expect to be called more often than `size`: the team is never smaller than
    torch's, since libgomp ends the threads that a smaller team leaves over, and torch would have to start them anew.
    """
    global _parallel, _has_looked
    if _is_forked:
        return None
    if not _has_looked:
        _parallel = _find_parallel()
        _has_looked = True
    return None if _parallel is None else _run_team


def run_native(entry: Callable[[int], None], job: int, size: int) -> bool:
    """Call the compiled `entry(job)` once on each thread of a team as above; False: there is no team here."""
    if team_runner() is None or _parallel is None:
        return False
    _parallel(entry, job, max(size, torch.get_num_threads()), 0)
    return True


def thread_number() -> int:
    """The address of the team's `omp_get_thread_num`, an int32 (); 0: there is no team."""
    return 0 if team_runner() is None else _thread_number


def _run_team(body: Callable[[], None], size: int) -> None:
    assert _parallel is not None
    callback = _Body(lambda _: body())
    _parallel(callback, None, max(size, torch.get_num_threads()), 0)


def _find_parallel() -> Callable[..., None] | None:
    """GOMP_parallel of the libgomp that is loaded already, by its path in the process's memory map."""
    maps = Path("/proc/self/maps")
    if not sys.platform.startswith("linux") or not maps.exists():
        return None
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "/libgomp" in line}
    # Two copies are two teams; whichever is not torch's would bring the fight back.
    own = [path for path in paths if "/torch" in path] or list(paths)
    if len(own) != 1:
        return None
    global _thread_number
    try:
        library = ctypes.CDLL(own[0])
        parallel = library.GOMP_parallel
        _thread_number = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
