"""How kernels are compiled, which is once after an installation and should take little of its user's time.

A function that Python calls gets a wrapper that takes its arguments apart, and is kept on disk. One that only compiled
functions call needs neither, which halves what it takes to compile; it is kept as part of those that call it.
"""

from __future__ import annotations

from numba import njit

__all__ = ["inlined", "inner", "kernel"]

_without_wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

kernel = njit(nogil=True, cache=True)
inner = njit(nogil=True, **_without_wrappers)
inlined = njit(nogil=True, forceinline=True, **_without_wrappers)
