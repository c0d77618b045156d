"""How kernels are compiled, which is once after an installation and should take little of its user's time.

A function that Python calls gets a wrapper that takes its arguments apart, and is kept on disk. One that only compiled
functions call needs neither, which halves what it takes to compile; it is kept as part of those that call it.
"""

from __future__ import annotations

from typing import Any

from numba import njit

__all__ = ["inlined", "inner", "kernel"]

kernel = njit(nogil=True, cache=True)
# Numba's own types do not know these two options.
_without_wrappers: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner: Any = njit(nogil=True, **_without_wrappers)
inlined: Any = njit(nogil=True, forceinline=True, **_without_wrappers)
