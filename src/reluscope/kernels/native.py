"""Tasks that run on several threads without Python in between: compiled once, started by one call.

A task is a function of one pointer, to an int64 array called a job. Every thread that enters takes block after block
by atomic counters in the job until none is left, so that a slow thread holds up nobody. Numbers and addresses of
arrays stand in the job's other fields. Between two blocks no thread needs the GIL: a Python callback per thread starts
the second thread 0.1 ms late, which is as long as packing a batch takes.

Blocks of what torch has just written are taken with `claim_own`: torch gives thread t of its team the t-th share of an
array, so that the end of each share still lies in the cache of the core that wrote it. Taking one's own share backwards
finds it there, and leaves the beginning for the activation that reads the array next.

Axes: J fields of a job. Limits: whoever makes the job keeps its arrays alive until `run` returns; a task must not raise.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic
from torch import get_num_threads

from reluscope.kernels import openmp, pool
from reluscope.kernels.jit import inlined

__all__ = [
    "HEADER",
    "Job",
    "NativeTask",
    "array_at",
    "atomic_add",
    "atomic_and",
    "atomic_or",
    "claim",
    "claim_own",
    "enter",
    "field_of",
    "job_of",
]

# Fields at the head of every job: next block, number of blocks, threads that entered, threads allowed, the field from
# which on the blocks left of each thread's share are counted, the address of `omp_get_thread_num` or 0.
NEXT, NUM_BLOCKS, ENTERED, ALLOWED, LEFT, THREAD_NUMBER = range(6)
HEADER = 6

_Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@intrinsic
def _pointer(typingctx, address):
    """An address as a pointer, for `carray`."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


def _make_atomic(operation: str) -> Any:
    @intrinsic
    def atomic(typingctx, address, value):
        """Combine the int64 at an address with a value, whole whoever else does; returns what it was before."""

        def generate(context, builder, signature, args):
            pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            return builder.atomic_rmw(operation, pointer, args[1], "acq_rel")

        return types.int64(types.int64, types.int64), generate

    return atomic


atomic_add, atomic_and, atomic_or = (_make_atomic(operation) for operation in ("add", "and", "or"))


@intrinsic
def _call(typingctx, address):
    """Call the C function int32 () at an address."""

    def generate(context, builder, signature, args):
        function = ir.FunctionType(ir.IntType(32), [])
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), [])

    return types.int32(types.int64), generate


@inlined
def array_at(address, shape, dtype):  # pragma: no cover - compiled
    """The C-contiguous array of a shape (a tuple) and dtype at an address."""
    return carray(_pointer(address), shape, dtype)  # pyright: ignore[reportCallIssue]


@inlined
def job_of(pointer):  # pragma: no cover - compiled
    """The job behind a task's argument. Its length is not known here: no bounds are checked."""
    return carray(pointer, (64,), np.int64)


@inlined
def field_of(job, field):  # pragma: no cover - compiled
    """The address of a field, for `atomic_add`."""
    return job.ctypes.data + 8 * field


@inlined
def enter(job):  # pragma: no cover - compiled
    """This thread's number among those at work, from 0, that of its team where there is one; -1: there are enough."""
    if job[THREAD_NUMBER] != 0:
        thread = np.int64(_call(job[THREAD_NUMBER]))  # pyright: ignore[reportCallIssue]
    else:
        thread = atomic_add(field_of(job, ENTERED), np.int64(1))
    return thread if thread < job[ALLOWED] else np.int64(-1)


@inlined
def claim(job):  # pragma: no cover - compiled
    """The next block, which now is this thread's; -1 when there is none."""
    block = atomic_add(field_of(job, NEXT), np.int64(1))
    return block if block < job[NUM_BLOCKS] else np.int64(-1)


@inlined
def claim_own(job, thread):  # pragma: no cover - compiled
    """The last block left of this thread's share, or when there is none of another's; -1 when all are taken."""
    num_threads, num_blocks = job[ALLOWED], job[NUM_BLOCKS]
    for step in range(num_threads):
        owner = (thread + step) % num_threads
        left = atomic_add(field_of(job, job[LEFT] + owner), np.int64(-1))
        if left > 0:
            return num_blocks * owner // num_threads + left - 1
    return np.int64(-1)


class Job:
    """A task and its fields, ready to run, and to run again once the caller has changed some of the fields.

    Attributes:
        fields: int64, those of the head and those of the task, in memory that stays.
    """

    __slots__ = ("_address", "_allowed", "_entry", "_left", "_shares", "fields")

    def __init__(
        self, entry: Callable[[int], None], num_blocks: int, num_threads: int, fields: list[int]
    ) -> None:
        allowed = max(1, min(num_threads, num_blocks))
        edges = [num_blocks * thread // allowed for thread in range(allowed + 1)]
        self._entry, self._allowed, self._left = entry, allowed, HEADER + len(fields)
        self._shares = array("q", [stop - start for start, stop in pairwise(edges)])
        self.fields = array("q", (0, num_blocks, 0, allowed, self._left, 0, *fields, *self._shares))
        self._address = self.fields.buffer_info()[0]

    def run(self) -> array[int]:
        """Do all blocks; returns the fields as the task left them."""
        fields, team = self.fields, None
        fields[NEXT] = fields[ENTERED] = fields[THREAD_NUMBER] = 0
        fields[self._left :] = self._shares
        if self._allowed == 1:
            self._entry(self._address)
        elif (team := openmp.team()) is None:
            pool.run_on_threads(self._entry, self._address, self._allowed)
        else:
            fields[THREAD_NUMBER] = team.thread_number
            team.parallel(self._entry, self._address, max(self._allowed, get_num_threads()), 0)
        return fields


class NativeTask:
    """A task, compiled when it is first run and kept on disk from then on."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @cached_property
    def _compiled(self):
        return cfunc(types.void(types.voidptr), cache=True)(self._function)

    @cached_property
    def _entry(self) -> Callable[[int], None]:
        return _Entry(self._compiled.address or 0)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def job(self, num_blocks: int, num_threads: int, fields: list[int]) -> Job:
        """A job of so many blocks on up to so many threads."""
        return Job(self._entry, num_blocks, num_threads, fields)

    def run(self, num_blocks: int, num_threads: int, fields: list[int]) -> array[int]:
        """Do all blocks on up to so many threads; returns the whole job as the task left it."""
        return Job(self._entry, num_blocks, num_threads, fields).run()
