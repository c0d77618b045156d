"""Rows of several words: sorting, uniting with a table and taking in batches, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope.kernels import accumulate
from reluscope.kernels.accumulate import RowAccumulator
from reluscope.kernels.compact import compact_rows
from reluscope.kernels.fingerprint import hash_keys
from reluscope.kernels.pages import own_pages
from reluscope.kernels.plan import KeyPlan
from reluscope.kernels.reference import fingerprint

KINDS = ("random", "low bits", "constant top", "ties", "few", "heavy", "one")


def make_rows(kind: str, size: int, columns: int, seed: int = 0) -> np.ndarray:
    """uint64 (size, columns): shapes that sorting, cutting into parts or comparing could get wrong."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 2**64 - 1, (size, columns), dtype=np.uint64, endpoint=True)
    if kind == "low bits":
        rows &= np.uint64(7)
    if kind == "constant top":
        rows[:, -1] = 5
    if kind == "ties":  # 16 leading values, and everything below
        rows[:, -1] &= np.uint64(0xF << 60)
    if kind == "few":
        rows = rows[generator.integers(0, min(3, size), size)]
    if kind == "heavy":
        rows[generator.random(size) < 0.9] = rows[0]
    if kind == "one":
        rows[:] = rows[0]
    return rows


def table_of(rows: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The sorted table, the last column the most significant."""
    found, place = np.unique(rows[:, ::-1], axis=0, return_inverse=True)
    weights = np.ones(len(rows)) if counts is None else counts
    sums = np.bincount(place.reshape(-1), weights, minlength=len(found))
    return np.ascontiguousarray(found[:, ::-1]), sums.astype(np.int64)


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_raw_rows_unite_with_a_table(kind, columns):
    for size in (1, 17, 300, 40_000):
        for table_size in (0, 1, 20_000):
            rows = make_rows(kind, size, columns)
            keys, counts = (
                table_of(
                    np.concatenate([rows[: size // 2], make_rows(kind, table_size, columns, seed=1)])[
                        :table_size
                    ]
                )
                if table_size
                else (np.empty((0, columns), np.uint64), np.empty(0, np.int64))
            )
            counts = counts + 3
            expected = table_of(
                np.concatenate([rows, keys]), np.concatenate([np.ones(size, np.int64), counts])
            )
            before = keys.copy(), counts.copy()
            found = compact_rows(rows.copy(), keys, counts, is_last_use=False)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            for one, other in zip((keys, counts), before, strict=True):
                np.testing.assert_array_equal(one, other)
            again = compact_rows(rows.copy(), keys.copy(), counts.copy(), is_last_use=True)
            for one, other in zip(again, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [50, 40_000])
def test_rows_that_are_only_read_stay(size):
    rows = make_rows("ties", size, 2)
    before = rows.copy()
    none = np.empty((0, 2), np.uint64), np.empty(0, np.int64)
    found = compact_rows(rows, *none, is_last_use=False, keeps_rows=True, stays=False)
    np.testing.assert_array_equal(rows, before)
    for one, other in zip(found, table_of(before), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("is_alone", [False, True])
@pytest.mark.parametrize("kind", ["random", "heavy", "few", "low bits"])
@pytest.mark.parametrize("width", [128, 100, 300])
def test_a_stream_of_batches_counts_as_one(width, kind, is_alone):
    words = make_rows(kind, 300_000, -(-width // 64))
    words[:, -1] &= np.uint64(2 ** (width % 64 or 64) - 1)
    plan = KeyPlan(width=width, num_groups=0, seed=3)
    state = RowAccumulator(plan, is_alone=is_alone)
    for index, batch in enumerate(np.array_split(words, 7)):
        state.add_words(np.ascontiguousarray(batch))
        if index == 3:
            state.finish(pairs=False)  # a table in between must not disturb
    finished = state.finish(pairs=False, last=True)
    expected = table_of(fingerprint(words, hash_keys(3, words.shape[1])) if width > 128 else words)
    np.testing.assert_array_equal(finished.keys, expected[0])
    np.testing.assert_array_equal(finished.counts, expected[1])


@pytest.fixture
def sorted_rows(monkeypatch) -> list[int]:
    """How many rows each compaction sorted."""
    found = []
    compact = accumulate.compact_rows

    def watched(rows, *args, **options):
        found.append(len(rows))
        return compact(rows, *args, **options)

    monkeypatch.setattr(accumulate, "compact_rows", watched)
    return found


def test_frequent_rows_are_counted_in_cache(sorted_rows):
    """Else they would all be sorted: of rows nine in ten of which are the same one only the others are."""
    rows = make_rows("heavy", 400_000, 2)
    state = RowAccumulator(KeyPlan(width=128, num_groups=0, seed=0))
    state.add_words(rows)
    finished = state.finish(pairs=False, last=True)
    assert sum(sorted_rows) < 0.2 * len(rows)
    assert finished.counts.sum() == len(rows)


@pytest.mark.parametrize(("kind", "num_sorted"), [("heavy", 60_000), ("few", 0), ("random", 400_000)])
@pytest.mark.parametrize("width", [128, 256])
def test_frequent_ones_of_all_there_are_are_counted_in_cache(width, kind, num_sorted, sorted_rows):
    state = RowAccumulator(KeyPlan(width=width, num_groups=0, seed=0), is_alone=True)
    finished = state.finish_words(make_rows(kind, 400_000, width // 64))
    looks = [accumulate.PLACES * accumulate.FEW_EACH, accumulate.PLACES * accumulate.EACH]
    assert sorted_rows[: 1 if kind == "random" else 2] == looks[: 1 if kind == "random" else 2]
    assert sum(sorted_rows) - sum(looks) <= num_sorted
    assert finished.counts.sum() == 400_000


@pytest.mark.parametrize("most", [1 << 31, 150_000])
@pytest.mark.parametrize("width", [128, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_all_there_are(kind, width, most, monkeypatch):
    monkeypatch.setattr(accumulate, "MAX_RAW", most)
    words = make_rows(kind, 200_000, width // 64)
    plan = KeyPlan(width=width, num_groups=0, seed=0)
    finished = RowAccumulator(plan, is_alone=True).finish_words(words)
    expected = table_of(fingerprint(words, hash_keys(0, 4)) if plan.is_fingerprint else words)
    np.testing.assert_array_equal(finished.keys, expected[0])
    np.testing.assert_array_equal(finished.counts, expected[1])


def test_rows_in_files_take_new_room_after_a_compaction(tmp_path, monkeypatch):
    """Pages that were given back have no room on the disk any more: writing there would end the process if it is full."""
    compacted = []
    compact = accumulate.compact_rows

    def watched(rows, *args, **options):
        compacted.append(rows.ctypes.data)
        assert len(state._raw._rows) == 0  # nothing is kept of what is about to be given back
        return compact(rows, *args, **options)

    monkeypatch.setattr(accumulate, "compact_rows", watched)
    words = make_rows("random", 400_000, 2)
    state = RowAccumulator(KeyPlan(width=128, num_groups=0, seed=0))
    with own_pages(str(tmp_path)):
        state.add_words(words)
        finished = state.finish(pairs=False, last=True)
    assert len(compacted) > 2
    expected = table_of(words)
    np.testing.assert_array_equal(finished.keys, expected[0])
    np.testing.assert_array_equal(finished.counts, expected[1])
