"""Threads of our own for kernels that release the GIL.

Numba's `parallel=True` is not used: its `workqueue` layer aborts the process when two threads enter it, and
two recorders may well run in two threads. The pool is shared, made when first needed and again after a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
from torch import get_num_threads

from reluscope.errors import KernelError
from reluscope.kernels import openmp

__all__ = ["num_threads", "run", "run_on_threads", "scratch", "split"]

Result = TypeVar("Result")

# Scratch arrays longer than this are not kept between calls.
MAX_KEPT_BYTES = 1 << 20

_lock = threading.Lock()
_buffers: dict[int, dict[str, np.ndarray]] = {}
_executor: ThreadPoolExecutor | None = None
_executor_size = 0


def num_threads() -> int:
    """How many threads count: RELUSCOPE_NUM_THREADS, or as many as torch's operations take (`torch.set_num_threads`).

    Raises:
        KernelError: the variable is set to something other than a positive integer.
    """
    text = os.environ.get("RELUSCOPE_NUM_THREADS")
    if text is None or text == "":
        return get_num_threads()
    if not text.isdecimal() or int(text) < 1:
        raise KernelError(
            f'RELUSCOPE_NUM_THREADS="{text}" is no number of threads; set a positive integer, or unset it to '
            "use as many as torch does"
        )
    return int(text)


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run tasks at once, the calling thread among the workers; results in order, the first error raised.

    Tasks must not call `run` themselves: a pool whose threads wait for its own threads can stand still. Every
    task has ended when this returns or raises, so buffers lent to them may be used again.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    results: list[Result | None] = [None] * len(tasks)
    errors: dict[int, BaseException] = {}
    queue = iter(range(len(tasks)))  # next() on it is atomic

    def work() -> None:
        for index in queue:
            try:
                results[index] = tasks[index]()
            except BaseException as error:
                errors[index] = error

    team = openmp.team()
    if team is not None:
        openmp.run_team(team, work, len(tasks))
    else:
        _run_threads(work, len(tasks))
    if errors:
        raise errors[min(errors)]
    return cast(list[Result], results)


def run_on_threads(entry: Callable[[int], None], job: int, size: int) -> None:
    """Call `entry(job)`, a compiled function that takes an address and releases the GIL, on `size` threads of our own."""
    _run_threads(partial(entry, job), size)


def _run_threads(work: Callable[[], None], size: int) -> None:
    pool = _pool(size - 1)
    futures = [pool.submit(work) for _ in range(size - 1)]
    try:
        work()
    finally:
        for future in futures:
            future.exception()  # waits


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
    # By the system's identity of the thread: to Python, a thread of OpenMP is a new one at every call, which is what
    # `threading.local` goes by. A thread that ended leaves its arrays to the next one of its identity.
    own = _buffers.setdefault(threading.get_ident(), {})
    kept = own.get(purpose)
    if kept is None or kept.size < length or kept.dtype != dtype:
        kept = np.empty(length, dtype)
        if kept.nbytes <= MAX_KEPT_BYTES:
            own[purpose] = kept
    return kept[:length]


def _pool(size: int) -> ThreadPoolExecutor:
    global _executor, _executor_size
    with _lock:
        if _executor is None or _executor_size < size:
            # A smaller pool finishes what it was given; its threads end when it is collected.
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
