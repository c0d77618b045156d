"""Names of sites: paths of modules in the unwrapped model, and a call stack of our own.

torch's ModuleTracker does not serve: it names a shared module by its last parent and prefixes the class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

__all__ = ["Namer"]


class Namer:
    """Gives each call of one forward pass its name; the same sequence of calls gets the same names.

    A call of an activation module carries the module's path, a functional one the path of its caller and the
    operation. A name that is also a module's gets `()`; a further call under the same name gets `#1`,
    `#2`..., leaving out what some module is already called, so that names stay unique whatever the order of
    the calls.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = frozenset(paths)
        self._used: Counter[str] = Counter()

    def base(self, path: str, operation: str, *, is_module_call: bool) -> str:
        """The name before numbering."""
        if is_module_call and path:
            return path
        name = f"{path}.{operation}" if path else operation
        while name in self._paths:
            name += "()"
        return name

    def name(self, base: str) -> str:
        """The name of the next call under `base`."""
        name, number = base, self._used[base]
        if number:
            name = f"{base}#{number}"
            while name in self._paths:
                number += 1
                name = f"{base}#{number}"
        self._used[base] = number + 1
        return name
