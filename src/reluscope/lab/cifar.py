"""The pickled batches of CIFAR-10, read without running anything that a pickle can ask for.

Unpickling calls whatever functions the file names. Here the three names that a pickled array needs are
answered by harmless stand-ins that only note what the file says (not even NumPy's own reconstruction runs),
and every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from reluscope.errors import DataError

__all__ = ["read_cifar_batch"]


class _PickledDtype:
    """Stands in for numpy.dtype: keeps the type's code, ignores byte order and flags."""

    def __init__(self, code: Any = None, *_flags: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


class _PickledArray:
    """Stands in for numpy.ndarray and the function that reconstructs one: keeps shape, type and raw bytes."""

    def __init__(self, *_arguments: Any) -> None:
        self.shape: Any = None
        self.dtype: Any = None
        self.fortran_order: Any = False
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.dtype, self.fortran_order, self.content = state

    def to_numpy(self) -> np.ndarray:
        """The array of unsigned bytes that was pickled; ValueError for any other."""
        code = getattr(self.dtype, "code", None)
        if code not in ("u1", b"u1", "|u1", b"|u1") or not isinstance(self.content, bytes):
            raise ValueError(f"its array is of type {code!r}, expected unsigned bytes")
        if len(self.content) != math.prod(self.shape):
            raise ValueError(f"its array has {len(self.content)} values, its shape says {self.shape}")
        return np.frombuffer(self.content, np.uint8).reshape(
            self.shape, order="F" if self.fortran_order else "C"
        )


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes into old pickle protocols."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "dtype"): _PickledDtype,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("_codecs", "encode"): _encode_latin1,
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can build containers, text, numbers and the stand-ins above, and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which no CIFAR-10 batch contains; nothing was run"
            )
        return _ALLOWED[module_name, global_name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to an outside object {pid!r}")


def read_cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one file of `cifar-10-batches-py`.

    Args:
        path: data_batch_1 ... data_batch_5 or test_batch.

    Returns:
        uint8 images (n, 3, 32, 32) and int64 labels (n,) from 0 to 9.

    Raises:
        DataError: the file cannot be read, is damaged, asks to run anything, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images = entries["data"].to_numpy().reshape(-1, 3, 32, 32)
        labels = np.asarray(entries["labels"], dtype=np.int64)
        if labels.shape != (len(images),) or labels.min(initial=0) < 0 or labels.max(initial=0) > 9:
            raise ValueError(f"{len(images)} images, labels of shape {labels.shape}, expected a 0-9 each")
    except KeyError as error:
        raise DataError(f"{path} is no batch of CIFAR-10: it has no entry {error}. Fetch it again.") from None
    except Exception as error:  # a damaged pickle raises almost anything; none of it is the caller's mistake
        raise DataError(f"{path} is no batch of CIFAR-10: {error}. Fetch it again.") from None
    return images, labels
