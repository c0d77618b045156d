"""Tasks on the OpenMP threads that torch's own operations run on, where there are such.

After an operation of torch its worker threads spin for a while, ready for the next one. A thread of our own would
fight them for their core and start 0.1 ms late, which on two cores ate all that the second one could give. Handing
tasks to the very team that spins costs neither. Only GNU's libgomp (torch on Linux) is used, and only the copy that
torch has loaded; elsewhere, and in a forked child, whose team is gone, `team` has none and the pool's threads do
the work.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Team", "run_team", "team"]

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Team(NamedTuple):
    """The OpenMP threads of torch.

    `parallel(entry, argument, size, 0)` calls `entry(argument)` once on each of `size` threads at once; `entry` must not
    raise. The size must never be less than torch's, since libgomp ends the threads that a smaller team leaves over, and
    torch would have to start them anew. `thread_number` is the address of `omp_get_thread_num`, an int32 ().
    """

    parallel: Callable[..., None]
    thread_number: int


_is_forked = False
_team: Team | None = None
_has_looked = False


def team() -> Team | None:
    """torch's team; None: there is no OpenMP here that it could be asked of."""
    global _team, _has_looked
    if not _has_looked:
        _team = _find_team()
        _has_looked = True
    return None if _is_forked else _team


def run_team(found: Team, body: Callable[[], None], size: int) -> None:
    """Call `body()` once on each of at least `size` threads at once; the body must not raise."""
    callback = _Body(lambda _: body())
    found.parallel(callback, None, max(size, torch.get_num_threads()), 0)


def _find_team() -> Team | None:
    """That of the libgomp which is loaded already, by its path in the process's memory map."""
    maps = Path("/proc/self/maps")
    if not sys.platform.startswith("linux") or not maps.exists():
        return None
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "/libgomp" in line}
    # Two copies are two teams; whichever is not torch's would bring the fight back.
    own = [path for path in paths if "/torch" in path] or list(paths)
    if len(own) != 1:
        return None
    try:
        library = ctypes.CDLL(own[0])
        parallel = library.GOMP_parallel
        thread_number = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return Team(parallel, thread_number)


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
