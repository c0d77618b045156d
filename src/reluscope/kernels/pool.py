"""Threads of our own for kernels that release the GIL.

Numba's `parallel=True` is not used: its `workqueue` layer aborts the process when two threads enter it, and
two recorders may well run in two threads. The pool is shared, made when first needed, and made anew after a
fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from reluscope.errors import KernelError

__all__ = ["num_threads", "run", "scratch", "split"]

Result = TypeVar("Result")

# Scratch arrays longer than this are not kept between calls.
MAX_KEPT_BYTES = 1 << 20

_lock = threading.Lock()
_buffers = threading.local()
_executor: ThreadPoolExecutor | None = None
_executor_size = 0


def num_threads() -> int:
    """How many threads count: RELUSCOPE_NUM_THREADS, or the cores this process may use.

    Raises:
        KernelError: the variable is set to something other than a positive integer.
    """
    text = os.environ.get("RELUSCOPE_NUM_THREADS")
    if text is None or text == "":
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise KernelError(
            f'RELUSCOPE_NUM_THREADS="{text}" is no number of threads; set a positive integer, or unset it to '
            "use every core"
        )
    return int(text)


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run tasks at once, the first in the calling thread; results in order, the first error raised.

    Tasks must not call `run` themselves: a pool whose threads wait for its own threads can stand still. Every
    task has ended when this returns or raises, so buffers lent to them may be used again.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    pool = _pool(len(tasks) - 1)
    futures = [pool.submit(task) for task in tasks[1:]]
    try:
        first = tasks[0]()
    finally:
        for future in futures:
            future.exception()  # waits
    return [first, *(future.result() for future in futures)]


def split(total: int, parts: int) -> list[tuple[int, int]]:
    """Contiguous ranges of near-equal length that cover 0..total; no empty range unless total is 0."""
    parts = max(1, min(parts, total))
    edges = [total * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def scratch(purpose: str, length: int, dtype: type) -> np.ndarray:
    """An uninitialised one-dimensional array of this thread, kept for the next call with the same purpose.

    It spares the page faults of a fresh array per batch. Whoever uses it must be done with it before the same
    thread asks for the same purpose again.
    """
    kept = _buffers.__dict__.get(purpose)
    if kept is None or kept.size < length or kept.dtype != dtype:
        kept = np.empty(length, dtype)
        if kept.nbytes <= MAX_KEPT_BYTES:
            _buffers.__dict__[purpose] = kept
    return kept[:length]


def _pool(size: int) -> ThreadPoolExecutor:
    global _executor, _executor_size
    with _lock:
        if _executor is None or _executor_size < size:
            # A smaller pool that is being left finishes what it was given; its threads end when it is
            # collected.
            _executor = ThreadPoolExecutor(size, thread_name_prefix="reluscope-kernel")
            _executor_size = size
        return _executor


def _forget_pool() -> None:
    """In a forked child the threads are gone and the lock may be held for ever: start anew."""
    global _executor, _executor_size, _lock
    _lock = threading.Lock()
    _executor, _executor_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
