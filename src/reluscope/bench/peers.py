"""Everything else one could count keys with, each as its own documentation would have it.

A peer gets packed patterns, and must hand over distinct keys and counts as arrays; both are read to the end
by `Reading`, so that none looks fast by being lazy.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from reluscope.patterns import PatternCounts

__all__ = ["Peer", "Reading", "installed_peers", "key_peers", "read", "read_counts"]


class Reading(NamedTuple):
    """What a finished count comes to, once every key and every count was read.

    Attributes:
        num_patterns: distinct keys.
        num_evaluations: sum of the counts.
        key_sum: sum of all words of all keys, modulo 2^64; None where the keys are no packed patterns.
    """

    num_patterns: int
    num_evaluations: int
    key_sum: int | None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Something that counts keys.

    Attributes:
        name: as in the results.
        package: what must be installed.
        prepare: from packed patterns uint64 (evaluations, words) to a function that counts them; what it does
            beforehand is not timed: keys lie ready in the form that the peer likes.
        device: "cpu" or "cuda".
    """

    name: str
    package: str
    prepare: Callable[[np.ndarray], Callable[[], Reading]]
    device: str = "cpu"

    @property
    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        return importlib.util.find_spec(self.package) is not None


def key_peers(device: str = "cpu") -> list[Peer]:
    """The peers on a processor ("cpu") or accelerator ("cuda"), installed or not."""
    return [peer for peer in _PEERS if peer.device == device]


def installed_peers(device: str = "cpu") -> tuple[list[Peer], list[Peer]]:
    """Those that are installed, and those that are not."""
    peers = key_peers(device)
    return [peer for peer in peers if peer.is_installed], [peer for peer in peers if not peer.is_installed]


def read(keys: Sequence[np.ndarray], counts: np.ndarray) -> Reading:
    """Read columns of keys and counts to the end."""
    with np.errstate(over="ignore"):
        key_sum = sum(int(column.view(np.uint64).sum()) for column in keys) % (1 << 64)
    return Reading(len(counts), int(counts.sum()), key_sum)


def read_counts(counts: PatternCounts) -> Reading:
    """Read our own tables to the end; fingerprints are read too, but are no packed patterns."""
    reading = read([counts.keys.reshape(-1)], counts.counts)
    return reading._replace(key_sum=None) if counts.is_fingerprint else reading


def _columns(words: np.ndarray) -> dict[str, np.ndarray]:
    """Each word as a contiguous array of its own, which is what tables want."""
    return {f"w{index}": np.ascontiguousarray(words[:, index]) for index in range(words.shape[1])}


def _numpy(words: np.ndarray) -> Callable[[], Reading]:
    keys, axis = (words[:, 0], None) if words.shape[1] == 1 else (words, 0)

    def count() -> Reading:
        found, counts = np.unique(keys, axis=axis, return_counts=True)
        return read([np.ascontiguousarray(found).reshape(-1)], counts)

    return count


def _torch(words: np.ndarray) -> Callable[[], Reading]:
    """torch has no unique for uint64: the same bits as int64."""
    return _torch_on(torch.from_numpy(words.view(np.int64)))


def _torch_cuda(words: np.ndarray) -> Callable[[], Reading]:
    return _torch_on(torch.from_numpy(words.view(np.int64)).cuda())


def _torch_on(signed: torch.Tensor) -> Callable[[], Reading]:
    keys, dim = (signed[:, 0].contiguous(), None) if signed.shape[1] == 1 else (signed, 0)

    def count() -> Reading:
        found, counts = torch.unique(keys, return_counts=True, dim=dim)
        return Reading(len(counts), int(counts.sum()), int(found.sum()) % (1 << 64))

    return count


def _polars(words: np.ndarray) -> Callable[[], Reading]:
    frame = importlib.import_module("polars").DataFrame(_columns(words))
    names = list(frame.columns)

    def count() -> Reading:
        found = frame.group_by(names).len()
        return read([found[name].to_numpy() for name in names], found["len"].to_numpy())

    return count


@functools.cache
def _duckdb_connection() -> Any:
    return importlib.import_module("duckdb").connect()


def _duckdb(words: np.ndarray) -> Callable[[], Reading]:
    connection, columns = _duckdb_connection(), _columns(words)
    table, names = pa.table(columns), ", ".join(columns)

    def count() -> Reading:
        connection.register("keys", table)
        query = f"select {names}, count(*) as count from keys group by {names}"
        found = connection.execute(query).fetchnumpy()
        connection.unregister("keys")
        return read([np.asarray(found[name]) for name in columns], np.asarray(found["count"]))

    return count


def _pandas(words: np.ndarray) -> Callable[[], Reading]:
    frame = pd.DataFrame(_columns(words))
    names = list(frame.columns)

    def count() -> Reading:
        if len(names) == 1:
            found = frame[names[0]].value_counts(sort=False)
            return read([found.index.to_numpy()], found.to_numpy())
        found = frame.groupby(names, sort=False).size().reset_index()
        return read([found[name].to_numpy() for name in names], found[0].to_numpy())

    return count


def _cupy(words: np.ndarray) -> Callable[[], Reading]:
    cupy = importlib.import_module("cupy")
    keys = cupy.asarray(words[:, 0] if words.shape[1] == 1 else words)
    axis = None if words.shape[1] == 1 else 0

    def count() -> Reading:
        found, counts = cupy.unique(keys, return_counts=True, axis=axis)
        return Reading(len(counts), int(counts.sum()), int(found.sum()) % (1 << 64))

    return count


def _cudf(words: np.ndarray) -> Callable[[], Reading]:
    frame = importlib.import_module("cudf").DataFrame(_columns(words))
    names = list(frame.columns)

    def count() -> Reading:
        found = frame.groupby(names, sort=False).size().reset_index(name="count")
        key_sum = sum(int(found[name].sum()) for name in names) % (1 << 64)
        return Reading(len(found), int(found["count"].sum()), key_sum)

    return count


_PEERS = (
    Peer(name="numpy.unique", package="numpy", prepare=_numpy),
    Peer(name="torch.unique", package="torch", prepare=_torch),
    Peer(name="polars group_by", package="polars", prepare=_polars),
    Peer(name="duckdb group by", package="duckdb", prepare=_duckdb),
    Peer(name="pandas value_counts", package="pandas", prepare=_pandas),
    Peer(name="torch.unique (CUDA)", package="torch", prepare=_torch_cuda, device="cuda"),
    Peer(name="cupy.unique", package="cupy", prepare=_cupy, device="cuda"),
    Peer(name="cudf groupby", package="cudf", prepare=_cudf, device="cuda"),
)
