"""The idx files of MNIST and Fashion-MNIST, gzipped or not.

Layout: two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values in C order.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from reluscope.errors import DataError

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8


def read_idx(path: Path, num_dims: int) -> np.ndarray:
    """The array in an idx file of unsigned bytes.

    Args:
        path: the file; one whose name ends in .gz is decompressed.
        num_dims: dimensions the array must have: 3 for images, 1 for labels.

    Returns:
        uint8 array; read-only.

    Raises:
        DataError: the file cannot be read, is not an idx file of unsigned bytes with that many dimensions, or
            holds more or fewer values than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch the file again.") from None
    header = 4 + 4 * num_dims
    if len(content) < header or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, num_dims)):
        raise DataError(
            f"{path} is no idx file of unsigned bytes in {num_dims} dimensions: it starts with "
            f"{content[:4].hex() or 'nothing'}, expected 0000{_UNSIGNED_BYTE:02x}{num_dims:02x}."
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=num_dims, offset=4))
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} is damaged: its header announces {' x '.join(map(str, shape))} = {math.prod(shape)} "
            f"values, {len(content) - header} follow. Fetch the file again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
