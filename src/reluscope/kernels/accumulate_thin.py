"""The state of a count that can be thinned: what it holds halves, and what stays keeps its true count.

Raw rows wait and are united with a sorted table as in `accumulate`, but those of patterns that are not counted any more
are dropped as they come in. See `thin` for which these are, and why every count stays true.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from reluscope.kernels import pool, thin
from reluscope.kernels.accumulate import MAX_RAW, MIN_RAW, SEGMENT, WAITING, make_rows, split_groups
from reluscope.kernels.compact import compact_rows
from reluscope.kernels.cpu import MIN_VALUES_PER_THREAD, threads_for
from reluscope.kernels.pages import MIN_BYTES, paged_array, release_after
from reluscope.kernels.plan import Finished, KeyPlan, Load
from reluscope.kernels.values import Values

__all__ = ["MAX_LEVEL", "ThinAccumulator"]

MAX_LEVEL = 63
# Exempt patterns may have this share of the rows that a thinning leaves.
EXEMPT_SHARE = 0.25

MakeRows = Callable[[int, int, np.ndarray], int]


class ThinAccumulator:
    """Counts the patterns that the level lets through.

    Attributes:
        level: how often it was thinned; a pattern that is not exempt is counted with probability 2^-level.
        num_evaluations: taken in so far, counted or not.
        heavy_frequency: no pattern that was dropped had been more frequent than this when it was dropped.
    """

    def __init__(
        self, plan: KeyPlan, salt: np.ndarray, rows: np.ndarray, counts: np.ndarray, num_evaluations: int
    ) -> None:
        """Takes over the table of everything counted so far: rows uint64 (J, C), counts int64 (J,)."""
        self._plan, self._salt = plan, salt
        self._keys, self._counts = rows, counts
        self._layout = (plan.key_words, plan.group_bits, plan.group_column)
        self._raw = np.empty((0, plan.num_columns), np.uint64)
        self._num_raw = 0
        self._exempt = np.empty((0, plan.key_words), np.uint64)
        self._exempt_levels = np.empty(0, np.uint8)
        self._slots = np.empty(0, np.int32)
        self.level = 0
        self.num_evaluations = num_evaluations
        self.heavy_frequency = 0.0

    @property
    def load(self) -> Load:
        """What is held, in rows."""
        return Load(len(self._keys), self._num_raw, 8 * self._plan.num_columns)

    @property
    def exempt_nbytes(self) -> int:
        """Bytes of the list of exempt patterns."""
        return self._exempt.nbytes + self._exempt_levels.nbytes + self._slots.nbytes

    @property
    def nbytes(self) -> int:
        raw = self._num_raw * self._plan.num_columns * 8
        return self._keys.nbytes + self._counts.nbytes + raw + self.exempt_nbytes

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count every evaluation of a batch; `groups` int64 (samples,). Returns the number of NaN."""

        def make(start: int, stop: int, rows: np.ndarray) -> int:
            return make_rows(self._plan, values, groups, start, stop, rows)

        num_nan, total = 0, values.form.num_evaluations
        for first in range(0, total, SEGMENT):
            last = min(first + SEGMENT, total)
            num_nan += self._add_segment(make, first, last, values.form.num_units)
            if self._num_raw >= min(
                max(MIN_RAW, int(WAITING[self._plan.key_words] * len(self._keys))), MAX_RAW
            ):
                self.compact()
        self.num_evaluations += total
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Not of use here: ready-made keys are counted without a budget."""
        raise NotImplementedError

    def compact(self) -> None:
        """Bring everything counted into the table."""
        if self._num_raw == 0:
            return
        raw, self._raw, self._num_raw = self._raw[: self._num_raw], self._raw[:0].copy(), 0
        self._keys, self._counts = compact_rows(raw, self._keys, self._counts, is_last_use=True)

    def thin(self) -> None:
        """Go up one level: of the patterns that are not frequent about half are dropped."""
        self.compact()
        num_words, group_bits, group_column = self._layout
        bins = np.zeros(thin.EXACT_TOTALS + 64, np.int64)
        thin.rows_of_totals(self._keys, self._counts, group_bits, group_column, bins)
        heavy = thin.threshold(bins, int(EXEMPT_SHARE * len(self._keys) / 2))
        room = int(bins[heavy:].sum()) if heavy <= thin.EXACT_TOTALS else int(bins[thin.EXACT_TOTALS :].sum())
        exempt, levels = np.empty((room, num_words), np.uint64), np.empty(room, np.uint8)
        table, how = (self._keys, self._counts), (*self._layout, self._salt, self.level + 1, heavy)
        known = (self._slots, self._exempt, self._exempt_levels)
        num_rows, num_exempt = thin.thin_rows(*table, *how, *known, exempt, levels)
        self._keys, self._counts = (_shortened(array, num_rows) for array in table)
        self._exempt, self._exempt_levels = exempt[:num_exempt].copy(), levels[:num_exempt].copy()
        self._slots = np.empty(1 << (2 * num_exempt).bit_length() if num_exempt else 0, np.int32)
        thin.fill_slots(self._exempt, self._salt, self._slots)
        self.level += 1
        self.heavy_frequency = max(self.heavy_frequency, heavy / max(1, self.num_evaluations))

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        """The finished tables; more may be added unless this is the last."""
        self.compact()
        if last:
            keys, counts = self._keys, self._counts
            self._keys, self._counts = self._keys[:0].copy(), self._counts[:0].copy()
        else:
            keys, counts = self._keys.copy(), self._counts.copy()
        if self._plan.num_groups == 0:
            return Finished(keys=keys, counts=counts)
        return split_groups(self._plan, keys, counts, pairs=pairs, is_last_use=True)

    def group_self_information(self) -> np.ndarray | None:
        """Sum over the groups of c log2 c of every pattern, float64 (P,), in the order of the table; None without groups."""
        if self._plan.num_groups == 0:
            return None
        self.compact()
        how = (self._keys, self._counts, self._plan.group_bits, self._plan.group_column)
        found = paged_array((thin.group_self_information(*how, np.empty(0)),), np.float64)
        thin.group_self_information(*how, found)
        return found

    def levels_of(self, keys: np.ndarray) -> np.ndarray:
        """The level of every pattern of the finished table, uint8 (P,): it is there with probability 2^-level."""
        levels = paged_array((len(keys),), np.uint8)
        thin.levels_of(keys, self.level, self._exempt, self._exempt_levels, levels)
        return levels

    def _add_segment(self, make: MakeRows, first: int, last: int, work: int) -> int:
        size = last - first
        rows = self._room_for(size)
        ranges = pool.split(size, threads_for(size * work, MIN_VALUES_PER_THREAD))
        pieces = pool.run([partial(self._make_piece, make, first, rows, a, b) for a, b in ranges])
        place = 0
        for (start, _), (_, kept) in zip(ranges, pieces, strict=True):
            rows[place : place + kept] = rows[start : start + kept]
            place += kept
        self._num_raw += place
        return sum(num_nan for num_nan, _ in pieces)

    def _make_piece(
        self, make: MakeRows, first: int, rows: np.ndarray, start: int, stop: int
    ) -> tuple[int, int]:
        """Rows start..stop of a segment; returns the number of NaN and how many rows are counted, at its front."""
        piece = rows[start:stop]
        num_nan = make(first + start, first + stop, piece)
        if self.level == 0:
            return num_nan, len(piece)
        how = (*self._layout, self._salt, self.level)
        return num_nan, thin.sift_rows(piece, *how, self._slots, self._exempt)

    def _room_for(self, num_rows: int) -> np.ndarray:
        """Room for so many raw rows behind those that wait."""
        if self._num_raw + num_rows > len(self._raw):
            more = paged_array((2 * (self._num_raw + num_rows), self._plan.num_columns), np.uint64)
            more[: self._num_raw] = self._raw[: self._num_raw]
            self._raw = more
        return self._raw[self._num_raw : self._num_raw + num_rows]


def _shortened(array: np.ndarray, num_rows: int) -> np.ndarray:
    """The first rows of an array, the memory of the others given back."""
    is_small = num_rows * array.strides[0] < MIN_BYTES
    return array[:num_rows].copy() if is_small or not release_after(array, num_rows) else array[:num_rows]
