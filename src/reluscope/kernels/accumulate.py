"""The state of a count that grows batch by batch, in Numba: a sorted table and the raw rows not yet in it.

Raw rows wait until there are a quarter of what the table has, or as many; then all are sorted and united with it, and the
old table's pages go back while the new one is written. So each row is merged a constant number of times on average, and
where all are distinct the state never takes twice the memory of the finished table. Rows of one word have an accumulator
of their own, in `accumulate_words`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from reluscope.kernels import pool, tables
from reluscope.kernels.compact import STAGES, compact_rows
from reluscope.kernels.cpu import (
    BLOCK_WORDS,
    MIN_ROWS_PER_THREAD,
    MIN_VALUES_PER_THREAD,
    fingerprint,
    fingerprint_into,
    pack_range,
    threads_for,
)
from reluscope.kernels.hot import MAX_HITS, MIN_HIT_RATE, HotKeys
from reluscope.kernels.ingest_rows import RawRows, add_groups
from reluscope.kernels.pages import are_own_pages_wanted, paged_array, release_before
from reluscope.kernels.plan import Finished, KeyPlan, Load
from reluscope.kernels.values import Values

__all__ = [
    "MAX_RAW",
    "MIN_ALONE",
    "MIN_RAW",
    "RowAccumulator",
    "fill_from_some",
    "make_all_rows",
    "make_rows",
    "split_groups",
]

# Evaluations taken in between two looks at how many keys wait.
SEGMENT = 1 << 17
# Fewer raw keys than this are not worth a compaction.
MIN_RAW = 1 << 15
MIN_RAW_ALONE = 1 << 20
# Raw rows that may wait for each row of the table, by the words of a key: beside a finished table of 16 bytes a pattern
# rows of two words, 16 bytes each, weigh more than beside one of 24.
WAITING = {1: 0.25, 2: 1.0}
# Rows and keys are indexed by 32 bits while they are sorted.
MAX_RAW = 1 << 31

# From so many rows on a look tells which are frequent. It is at many places, since neighbours are often alike; if of few
# keys hardly any repeats, at no more. Of 60,000 equally frequent patterns a 32nd does.
MIN_ALONE = 1 << 17
PLACES = 1 << 11
FEW_EACH, EACH = 2, 16
FEW_REPEAT = 1 / 32


class RowAccumulator:
    """Counts rows of several words by sorting.

    Args:
        plan: the layout of the rows.
        is_alone: whether everything comes in one call, beside whose input the rows that wait weigh little.
    """

    def __init__(self, plan: KeyPlan, *, is_alone: bool = False) -> None:
        self._plan = plan
        self._is_alone = is_alone
        self._least_raw = MIN_RAW_ALONE if is_alone else MIN_RAW
        self._keys = np.empty((0, plan.num_columns), np.uint64)
        self._counts = np.empty(0, np.int64)
        self._is_shared = False  # whether the table was given out, so that it must stay
        self._raw = RawRows(plan, stays=not is_alone)
        self._hot: HotKeys | None = None
        self._num_hits = 0  # counted in the cache and not yet in the table
        self._num_evaluations = 0
        self._can_repeat = 0  # evaluations of the last batch if it came in one segment, else 0

    @property
    def nbytes(self) -> int:
        table = self._keys.nbytes + self._counts.nbytes
        return table + self._raw.nbytes + (self._hot.nbytes if self._hot else 0)

    @property
    def load(self) -> Load:
        """What is held."""
        cache_bytes = self._hot.nbytes if self._hot else 0
        return Load(len(self._keys), self._raw.size, self._raw.row_bytes, cache_bytes)

    def take_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The table of everything counted: rows uint64 (J, C), counts int64 (J,); the accumulator is empty then."""
        self._compact()
        self._raw.release()
        found = (self._keys.copy(), self._counts.copy()) if self._is_shared else (self._keys, self._counts)
        self._keys, self._counts, self._is_shared = self._keys[:0].copy(), self._counts[:0].copy(), False
        self._hot = None
        return found

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        num_evaluations = values.form.num_evaluations
        is_first, self._can_repeat = self._num_evaluations == 0, 0
        if len(values.form.kinks) > 1:
            rows = np.empty((num_evaluations, self._plan.num_columns), np.uint64)
            num_nan = make_all_rows(self._plan, values, groups, rows)
            self._add_segments(num_evaluations, partial(self._add_rows, rows, are_rows=True))
            return num_nan
        before = self._raw.num_nan
        # Room for all that is known to come, so that no row is copied into more.
        least = min(num_evaluations, self._least_raw) if self._is_alone else 0

        def add(start: int, stop: int) -> None:
            room = max(self._most_raw, least)
            self._raw.add_values(values, start, stop, groups, self._useful(), room)

        self._add_segments(num_evaluations, add)
        if groups is None and not is_first and num_evaluations <= SEGMENT:
            self._can_repeat = num_evaluations
        return self._raw.num_nan - before

    def again(self, address: int, target: int) -> int | None:
        """As `WordAccumulator.again`."""
        waiting = self._raw.size
        if not self._can_repeat or (num_nan := self._raw.again(address, target, self._useful())) is None:
            return None
        self._note(self._can_repeat, self._raw.size - waiting)
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Count patterns that are packed already, uint64 (E, W), without groups."""
        self._can_repeat = 0
        self._add_segments(len(words), partial(self._add_rows, words, are_rows=False))

    def finish_words(self, words: np.ndarray) -> Finished:
        """`add_words` of patterns that are all there are, and `finish`.

        Some of them tell which are frequent; these are counted in the cache, all others wait and are sorted once, so that
        up to twice as much memory is taken as their rows need. Where few repeat, they are not copied to wait.
        """
        if not MIN_ALONE <= len(words) <= MAX_RAW:
            self.add_words(words)
            return self.finish(pairs=False, last=True)
        hot = self._hot_of_some(words)
        if hot is None and not self._plan.is_fingerprint:
            table = self._keys, self._counts
            keys, counts = compact_rows(words, *table, is_last_use=False, keeps_rows=True, stays=False)
            return Finished(keys=keys, counts=counts)
        self._raw.add_words(words, hot, room=0)
        self._num_hits = len(words) - self._raw.size
        return self.finish(pairs=False, last=True)

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last."""
        self._compact(last=last)
        if last:
            self._raw.release()
        self._is_shared = True
        plan, keys, counts = self._plan, self._keys, self._counts
        if plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        if last:
            self._keys = self._counts = np.empty(0, np.int64)
        return split_groups(plan, keys, counts, pairs=pairs, is_last_use=last)

    def _add_segments(self, num_evaluations: int, add: Callable[[int, int], None]) -> None:
        """Take evaluations in, so many at a time as may come between two looks at how many rows wait."""
        start = 0
        while start < num_evaluations:
            # Few at first, since they tell which keys are frequent.
            stop = min(num_evaluations, start + (SEGMENT if self._num_evaluations else MIN_RAW))
            waiting = self._raw.size
            add(start, stop)
            self._note(stop - start, self._raw.size - waiting)
            start = stop

    def _add_rows(self, rows: np.ndarray, start: int, stop: int, *, are_rows: bool) -> None:
        self._raw.add_words(rows[start:stop], self._useful(), self._most_raw, are_rows=are_rows)

    def _useful(self) -> HotKeys | None:
        return self._hot if self._hot and self._hot.is_useful else None

    def _note(self, num_evaluations: int, num_kept: int) -> None:
        """After a segment: is the cache still worth asking, is it time for a compaction?"""
        self._num_evaluations += num_evaluations
        if self._hot and self._hot.is_useful:
            self._num_hits += num_evaluations - num_kept
            if num_kept > (1 - MIN_HIT_RATE) * num_evaluations:
                self._hot.is_useful = False  # until the next compaction chooses anew
        if self._raw.size >= self._most_raw or self._num_hits > MAX_HITS:
            self._compact()
            if len(self._keys) < (1 - MIN_HIT_RATE) * self._num_evaluations:
                self._hot = self._hot or HotKeys(np.uint64, self._plan.num_columns)
                self._hot.fill(self._keys, self._counts, self._num_evaluations)

    def _hot_of_some(self, words: np.ndarray) -> HotKeys | None:
        """The frequent ones of patterns uint64 (E, W), of which nothing is counted yet, if it may pay to look for them."""

        def count(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if self._plan.is_fingerprint:
                some = fingerprint(some, self._plan.hash_keys)
            return compact_rows(some, self._keys, self._counts, is_last_use=False)

        hot = HotKeys(np.uint64, self._plan.num_columns)
        if (table := fill_from_some(hot, words, count)) is None:
            return None
        (self._keys, self._counts), self._hot = table, hot
        return hot

    @property
    def _most_raw(self) -> int:
        """Raw rows that may wait."""
        # The first few tell which keys are frequent.
        least = self._least_raw if self._num_evaluations > MIN_RAW else MIN_RAW
        return min(max(least, int(WAITING[self._plan.key_words] * len(self._keys))), MAX_RAW)

    def _flush(self) -> None:
        """Add what was counted in the cache to the table; the cache is not asked any more until it is filled anew."""
        if self._hot and self._num_hits:
            if self._is_shared:  # both: of a table that is not shared the pages are given back
                self._keys, self._counts = self._keys.copy(), self._counts.copy()
                self._is_shared = False
            self._hot.flush(self._counts)
            self._num_hits = 0
        if self._hot:
            self._hot.is_useful = False

    def _compact(self, *, last: bool = False) -> None:
        """Bring everything counted into the table; if it is the last time, the raw rows' memory goes back on the way."""
        self._flush()
        if self._raw.size == 0:
            return
        waiting = [self._raw.take()]
        # Pages of a file lose their room on the disk when they are given back: no row may be written there again.
        if last or are_own_pages_wanted():
            self._raw.release()
        how = {"is_last_use": not self._is_shared, "stays": not self._is_alone}
        self._keys, self._counts = compact_rows(waiting.pop(), self._keys, self._counts, **how)
        self._is_shared = False


def fill_from_some(
    hot: HotKeys, words: np.ndarray, count: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Fill the cache from some of patterns uint64 (E, W), E >= PLACES EACH, if it may pay to look for frequent ones.

    `count` makes a table of patterns in memory of their own. Returns that of those looked at, all counts 0: they will be
    counted with all others, in the cache or among what waits. None: hardly any repeats.
    """
    places = words[: len(words) // PLACES * PLACES].reshape(PLACES, -1, words.shape[1])
    few, some = (places[:, :each].reshape(-1, words.shape[1]) for each in (FEW_EACH, EACH))
    if len(count(few)[0]) > (1 - FEW_REPEAT) * len(few):
        return None
    keys, counts = count(some)
    hot.fill(keys, counts, len(some))
    return (keys, np.zeros_like(counts)) if hot.is_useful else None


def make_all_rows(plan: KeyPlan, values: Values, groups: np.ndarray | None, rows: np.ndarray) -> int:
    """`make_rows` of all evaluations by all threads."""
    work = values.form.num_evaluations * values.form.num_units
    ranges = pool.split(values.form.num_evaluations, threads_for(work, MIN_VALUES_PER_THREAD))
    return sum(pool.run([partial(make_rows, plan, values, groups, a, b, rows[a:b]) for a, b in ranges]))


def make_rows(
    plan: KeyPlan, values: Values, groups: np.ndarray | None, start: int, stop: int, rows: np.ndarray
) -> int:
    """Pack, hash and add groups, block by block in this thread's cache; returns the number of NaN.

    Writes evaluations start..stop to rows uint64 (stop - start, C).
    """
    if groups is None and not plan.is_fingerprint:
        return pack_range(values, start, stop, rows)
    block = max(1, BLOCK_WORDS // plan.num_words)
    scratch = pool.scratch("words", block * plan.num_words, np.uint64).reshape(block, plan.num_words)
    positions = max(1, values.form.num_evaluations // max(1, values.form.num_samples))
    num_nan = 0
    for first in range(start, stop, block):
        last = min(first + block, stop)
        words, target = scratch[: last - first], rows[first - start : last - start]
        num_nan += pack_range(values, first, last, words)
        if plan.is_fingerprint:
            hashed = target if groups is None else np.empty((last - first, 2), np.uint64)
            fingerprint_into(words, plan.hash_keys, hashed)
            words = hashed
        if groups is not None:
            add_groups(words, first, positions, groups, plan.group_bits, plan.group_column, target)
    return num_nan


def split_groups(
    plan: KeyPlan, rows: np.ndarray, row_counts: np.ndarray, *, pairs: bool, is_last_use: bool
) -> Finished:
    """Both finished tables from (pattern, group) rows uint64 (J, C), cut between patterns for the threads.

    With is_last_use the rows give their pages back while the tables grow, and must not be read any more.
    """
    how = (plan.group_bits, plan.group_column)
    num_threads = threads_for(len(rows), MIN_ROWS_PER_THREAD)
    stages = STAGES if is_last_use and num_threads > 1 else 1
    cuts = [start for start, _ in pool.split(len(rows), stages * num_threads)]
    edges = [tables.pattern_start(rows, cut, *how) for cut in cuts] + [len(rows)]
    spans = [slice(start, stop) for start, stop in pairwise(edges)]
    sizes = pool.run([partial(tables.marginal_size, rows[span], *how) for span in spans])
    places = [0, *np.cumsum(sizes).tolist()]
    keys, counts = paged_array((places[-1], plan.key_words), np.uint64), paged_array((places[-1],), np.int64)
    num_pairs = len(rows) if pairs else 0
    patterns, groups = paged_array((num_pairs,), np.int64), paged_array((num_pairs,), np.int64)
    tasks = []
    for span, (start, stop) in zip(spans, pairwise(places), strict=True):
        of_rows = (rows[span], row_counts[span], *how, start)
        tasks.append(
            partial(
                tables.marginal, *of_rows, keys[start:stop], counts[start:stop], patterns[span], groups[span]
            )
        )
    for first in range(0, len(tasks), num_threads):
        pool.run(tasks[first : first + num_threads])
        if is_last_use:
            release_before(rows, edges[min(first + num_threads, len(tasks))])
    if not pairs:
        return Finished(keys=keys, counts=counts, joint_counts=row_counts)
    return Finished(
        keys=keys, counts=counts, joint_pattern=patterns, joint_group=groups, joint_counts=row_counts
    )
