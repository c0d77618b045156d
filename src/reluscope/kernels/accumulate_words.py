"""The state of a count of one-word rows that grows batch by batch: a sorted table and the raw keys not yet in it.

A raw key takes 4 bytes (8 beyond 32 bits), a row of the table 16. Sorting all keys once is the least work, so they wait
as long as that takes less memory than the table will: whenever their number has doubled, a sample by hash tells how
many of them are distinct, and once a pattern is there several times on average, all are united with the table.
"""

from __future__ import annotations

import numpy as np

from reluscope.kernels.accumulate import MAX_RAW, MIN_RAW, fill_from_some, make_all_rows, split_groups
from reluscope.kernels.hot import MAX_HITS, MIN_HIT_RATE, HotKeys
from reluscope.kernels.ingest import RawKeys
from reluscope.kernels.plan import Finished, KeyPlan, Load
from reluscope.kernels.unwritten import UnwrittenTable
from reluscope.kernels.values import Values
from reluscope.kernels.words import count_words, unite_words

__all__ = ["WordAccumulator"]

# Evaluations taken in between two looks at how many keys wait.
SEGMENT = 1 << 20
# So many bytes of raw keys are not worth a look.
SMALL = 1 << 21
SMALL_ALONE = 1 << 25
# Fewer keys are sorted sooner than frequent ones among them are found.
MIN_SIFTED = 1 << 18
# Bytes of raw keys that may wait for each row of the table they would make, 16 bytes itself.
WAITING = 12
# The next look at them pays only if they may grow by so much until then.
GROWTH = 1.25


class WordAccumulator:
    """Counts rows of one word by sorting. Arguments as of `RowAccumulator`."""

    def __init__(self, plan: KeyPlan, *, is_alone: bool = False) -> None:
        self._plan = plan
        self._is_alone = is_alone
        self._keys = np.empty((0, 1), np.uint64)
        self._counts = np.empty(0, np.int64)
        self._is_shared = False  # whether the table was given out, so that it must not change
        self._raw = RawKeys(plan.row_bits, stays=not is_alone)
        self._is_young = True  # frequent keys have not been looked for yet
        self._look_at = (
            SMALL_ALONE if is_alone else SMALL
        )  # bytes of raw keys at which to ask again whether they may wait
        self._num_evaluations = 0
        self._hot: HotKeys | None = None
        self._num_hits = 0  # counted in the cache and not yet in the table
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
        """The table of everything counted: rows uint64 (J, 1), counts int64 (J,); the accumulator is empty then."""
        self._compact(last=True)
        self._raw.release()
        found = (self._keys.copy(), self._counts.copy()) if self._is_shared else (self._keys, self._counts)
        self._keys, self._counts, self._is_shared = self._keys[:0].copy(), self._counts[:0].copy(), False
        self._hot = None
        return found

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""
        self._can_repeat = 0
        if len(values.form.kinks) > 1:
            rows = np.empty((values.form.num_evaluations, 1), np.uint64)
            num_nan = make_all_rows(self._plan, values, groups, rows)
            self.add_words(rows)
            return num_nan
        before = self._raw.num_nan
        # A segment ends where a sample does, or a stretch of the inner axis.
        inner = values.form.num_inner
        positions = 1 if groups is None else values.form.num_evaluations // max(1, values.form.num_samples)
        step = max(inner, positions, 1)
        start = 0
        while start < values.form.num_evaluations:
            stop = min(values.form.num_evaluations, start + -(-self._segment() // step) * step)
            waiting = self._raw.size
            self._raw.add_values(values, start, stop, groups, self._plan.group_bits, self._useful())
            self._note(stop - start, self._raw.size - waiting)
            if groups is None and stop - start == values.form.num_evaluations:
                self._can_repeat = stop
            start = stop
        return self._raw.num_nan - before

    def again(self, address: int, target: int) -> int | None:
        """Count a batch that lies as the last one did, from an address on; where a target is given, write its ReLU there.

        Returns the number of NaN; None where nothing was done, and `add` must do it.
        """
        raw, hot, waiting = self._raw, self._hot, self._raw.size
        if not self._can_repeat:
            return None
        if hot is not None and not hot.is_useful:
            hot = None
        num_nan = raw.again(address, target, hot)
        if num_nan is None:
            return None
        is_early = raw.size * raw.row_bytes < self._look_at and raw.size <= MAX_RAW
        if hot is None and not self._is_young and is_early:
            self._num_evaluations += self._can_repeat  # all that `_note` would do
        else:
            self._note(self._can_repeat, raw.size - waiting)
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Count rows that are complete, uint64 (E, 1)."""
        self._can_repeat = 0
        start = 0
        while start < len(words):
            stop = min(len(words), start + self._segment())
            waiting = self._raw.size
            self._raw.add_words(words[start:stop], self._useful())
            self._note(stop - start, self._raw.size - waiting)
            start = stop

    def finish_words(self, words: np.ndarray) -> Finished:
        """As `RowAccumulator.finish_words`."""
        if len(words) > MAX_RAW:
            self.add_words(words)
            return self.finish(pairs=False, last=True)
        hot = self._hot_of_some(words) if len(words) >= MIN_SIFTED else None
        if hot is None:
            keys, counts = count_words(words.reshape(-1), self._plan.row_bits)
            return Finished(keys=keys, counts=counts)
        self._raw.add_words(words, hot)
        self._num_hits = len(words) - self._raw.size
        return self.finish(pairs=False, last=True)

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables, the joint one with its pairs if asked for; more may be added unless this is the last.

        If it is, and keys still wait, the table is not written before somebody asks for it.
        """
        # What is counted alone is asked for at once: uniting it with a table is less work than telling its spectrum first.
        is_asked_for = self._is_alone and len(self._keys) > 0
        if last and self._plan.num_groups == 0 and self._raw.size and not is_asked_for:
            unwritten = self._take_unwritten()
            return Finished(keys=self._keys, counts=self._counts, unwritten=unwritten)
        self._compact(last=True)
        self._raw.release()
        self._is_shared = True
        keys, counts = self._keys, self._counts
        if self._plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        if last:
            self._keys = self._counts = np.empty(0, np.int64)
        return split_groups(self._plan, keys, counts, pairs=pairs, is_last_use=last)

    def _take_unwritten(self) -> UnwrittenTable:
        """Everything counted, of which nothing is left here."""
        self._flush()
        varying, waiting = self._raw.varying, self._raw.take()
        self._raw.release()
        before = self._keys, self._counts
        self._keys, self._counts = np.empty((0, 1), np.uint64), np.empty(0, np.int64)
        return UnwrittenTable(waiting, varying, before=before, stays=not self._is_alone)

    def _segment(self) -> int:
        """Evaluations to take in next; few at first, since they tell which keys are frequent."""
        return MIN_RAW if self._is_young else SEGMENT

    def _useful(self) -> HotKeys | None:
        return self._hot if self._hot and self._hot.is_useful else None

    def _note(self, num_evaluations: int, num_kept: int) -> None:
        """After a segment: is the cache still worth asking, is it time for a union?"""
        self._num_evaluations += num_evaluations
        if self._hot and self._hot.is_useful:
            self._num_hits += num_evaluations - num_kept
            if num_kept > (1 - MIN_HIT_RATE) * num_evaluations:
                self._hot.is_useful = False  # until the next union chooses anew
        if self._is_young and self._raw.size >= MIN_RAW:
            self._look()
        elif self._is_time() or self._num_hits > MAX_HITS or self._raw.size > MAX_RAW:
            self._compact()
            self._choose(self._keys, self._counts)

    def _is_time(self) -> bool:
        """Whether the raw keys take too much memory for what they add to the table."""
        waiting = self._raw.nbytes
        if waiting < self._look_at:
            return False
        # As long as fewer wait than the patterns seen so far are worth, nothing can have changed.
        self._look_at = WAITING * max(len(self._keys), self._raw.estimate_distinct())
        return self._look_at < GROWTH * waiting

    def _flush(self) -> None:
        """Add what was counted in the cache to the table; the cache is not asked any more until it is filled anew."""
        if self._hot and self._num_hits:
            if self._is_shared:
                self._counts = self._counts.copy()
                self._is_shared = False
            self._hot.flush(self._counts)
            self._num_hits = 0
        if self._hot:
            self._hot.is_useful = False

    def _compact(self, *, last: bool = False) -> None:
        """Bring everything counted into the table; if it is the last time, the raw keys' memory goes back on the way."""
        self._flush()
        if self._raw.size == 0:
            return
        varying, waiting = self._raw.varying, [self._raw.take()]
        if last:
            self._raw.release()
        table = self._keys, self._counts
        self._keys, self._counts = unite_words(waiting.pop(), varying, *table, stays=not self._is_alone)
        self._is_shared = False
        self._look_at = max(SMALL, WAITING * len(self._keys))

    def _look(self) -> None:
        """Look for frequent keys among the first raw ones; only if there are some, these become the table."""
        self._is_young = False
        if len(self._keys):  # somebody has asked for the table already
            self._compact()
            self._choose(self._keys, self._counts)
            return
        unwritten = UnwrittenTable(self._raw.copy(), self._raw.varying)
        if not self._may_repeat(unwritten.num_patterns):
            return
        keys, counts = unwritten.table()
        self._choose(keys, counts)
        if self._useful():
            self._raw.take()
            self._keys, self._counts, self._is_shared = keys, counts, False

    def _choose(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Choose the frequent keys anew from a table of all that was counted, where there may be some."""
        if self._may_repeat(len(keys)):
            self._hot = self._hot or HotKeys(self._raw.row_type)
            self._hot.fill(keys, counts, self._num_evaluations)

    def _hot_of_some(self, words: np.ndarray) -> HotKeys | None:
        """As `RowAccumulator._hot_of_some`."""
        hot = HotKeys(self._raw.row_type)
        table = fill_from_some(hot, words, lambda some: count_words(some.reshape(-1), self._plan.row_bits))
        if table is None:
            return None
        (self._keys, self._counts), self._hot = table, hot
        return hot

    def _may_repeat(self, num_patterns: int) -> bool:
        """Whether so few patterns were found that the cache may pay."""
        return num_patterns < (1 - MIN_HIT_RATE) * self._num_evaluations
