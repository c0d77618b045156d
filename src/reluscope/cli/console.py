"""How commands write results: text and JSON to standard output, which a program may read."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

__all__ = ["plain", "print_json", "print_line"]


def print_line(text: str = "") -> None:
    """One line of a result."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    """A result as JSON and nothing else; what is not finite becomes null, which every JSON reader takes."""
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NumPy, paths and tuples resolved; NaN and infinities as None.

    >>> plain({"a": float("nan"), 3: (1, 2.5)})
    {'a': None, '3': [1, 2.5]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    # NumPy arrays and scalars, without importing NumPy for the commands that have none
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    return None if str(value) in ("<NA>", "NaT") else str(value)  # what pandas has for nothing
