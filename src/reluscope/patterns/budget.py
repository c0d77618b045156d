"""Budget: the memory that all the counters of one measurement may take together, and what happens beyond it.

What counts is the peak: for every counter what it holds or will hold when it is finished, whichever is more, and the
scratch of one of them at a time, since they are finished one by one. When a batch takes that past the limit, raw rows are
united with their tables first, largest gain first; if that is not enough the largest counter is thinned, again and again
until a quarter of the budget is free (`kernels.thin`). With a folder to spill to nothing is thinned: from there on large
arrays lie in files.
"""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np

from reluscope.errors import BudgetError, SpillError
from reluscope.kernels import dispatch
from reluscope.kernels.accumulate_thin import MAX_LEVEL, ThinAccumulator
from reluscope.kernels.accumulate_words import WordAccumulator
from reluscope.kernels.dense import DenseAccumulator
from reluscope.kernels.pages import own_pages
from reluscope.kernels.plan import Finished, KeyPlan, Load
from reluscope.kernels.reference_accumulate import ReferenceAccumulator
from reluscope.kernels.values import Values
from reluscope.patterns.sample import DEFAULT_SAMPLE_SEED, check_sampling, salt_of

__all__ = ["Budget", "BudgetedAccumulator", "Thinned", "as_bytes", "as_folder"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
# What stays free after a thinning, so that the next one is not due with the next batch.
_GOAL = 0.75
# A table of fewer rows is not thinned: an estimate from it would be of no use.
_MIN_ROWS = 2048


def as_bytes(budget: int | str) -> int:
    """A budget in bytes: a whole number, or a text such as "500 MB", "2GB" or "1.5 GiB" (kB = 1000, KiB = 1024 bytes).

    Raises:
        BudgetError: anything else, and what is not at least one byte.

    >>> as_bytes("2GB"), as_bytes("1.5 KiB"), as_bytes(4096)
    (2000000000, 1536, 4096)
    """
    if isinstance(budget, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", budget)
        if match is not None and match[2].lower() in _UNITS:
            return as_bytes(int(float(match[1]) * _UNITS[match[2].lower()]))
    elif isinstance(budget, int | np.integer) and not isinstance(budget, bool) and budget >= 1:
        return int(budget)
    raise BudgetError(
        f"memory_budget={budget!r} is no number of bytes of at least 1. Give a whole number or a text with a unit: "
        '"500 MB", "2GB", "1.5 GiB".'
    )


def as_folder(spill: str | os.PathLike[str]) -> str:
    """The folder to spill to, as text.

    Raises:
        SpillError: there is no such folder, or nothing may be written there.
    """
    folder = os.path.abspath(os.path.expanduser(os.fspath(spill)))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        found = "it cannot be written to" if os.path.isdir(folder) else "there is no such folder"
        raise SpillError(
            0, f'spill="{os.fspath(spill)}": {found}. Name a folder that is there, on a disk with room.'
        )
    return folder


class Footprint(NamedTuple):
    """Bytes: what a counter holds or will hold at the end, whichever is more; and at most in between."""

    kept: int
    peak: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Thinned:
    """What is known of a thinned count beside its table.

    `levels` uint8 (P,): pattern i is in the table with probability 2^-levels[i] over the salt;
    `group_self_information` float64 (P,): the sum over the groups of c log2 c, None without groups;
    `heavy_frequency`: no dropped pattern was more frequent when it was dropped.
    """

    levels: np.ndarray
    group_self_information: np.ndarray | None
    salt: np.ndarray
    level: int
    num_evaluations: int
    heavy_frequency: float

    @property
    def nbytes(self) -> int:
        groups = 0 if self.group_self_information is None else self.group_self_information.nbytes
        return self.levels.nbytes + groups


@runtime_checkable
class _HasRows(Protocol):
    """An accumulator that holds rows."""

    @property
    def load(self) -> Load: ...


@runtime_checkable
class _Thinnable(_HasRows, Protocol):
    """An accumulator whose table can go on in a ThinAccumulator."""

    def take_rows(self) -> tuple[np.ndarray, np.ndarray]: ...


class Budget:
    """Holds the counters of one measurement to a number of bytes.

    Args:
        limit: bytes, or a text such as "2GB".
        spill: a folder for files in place of memory beyond the limit; every count stays exact then.
        sample_seed: salts, with the name of the site, which patterns stay when a count is thinned; of one run
            it is one, so that what stays is the same at every step.
        pairs: whether the (pattern, group) pairs of `PatternCounter.joint` will be asked for.

    Raises:
        BudgetError: a limit or seed that is none.
        SpillError: no folder to spill to.

    Attributes:
        is_spilling: whether the limit was reached and arrays go to files.
    """

    def __init__(
        self,
        limit: int | str,
        *,
        spill: str | os.PathLike[str] | None = None,
        sample_seed: int = DEFAULT_SAMPLE_SEED,
        pairs: bool = False,
    ) -> None:
        self.limit = as_bytes(limit)
        check_sampling(1, sample_seed)
        self.spill = None if spill is None else as_folder(spill)
        self.is_spilling = False
        self._seed, self._pairs = sample_seed, pairs
        self._members: list[BudgetedAccumulator] = []
        self._kept = 0
        self._scratch = 0  # of the one that needs most; never too small, exact after `_measure`

    @property
    def nbytes(self) -> int:
        """Bytes that all counters hold now."""
        return sum(one.nbytes for one in self._members)

    @property
    def peak(self) -> int:
        """Bytes they may need at most until all are finished, if nothing more is counted."""
        self._measure()
        return self._kept + self._scratch

    def accumulator(self, plan: KeyPlan, site: str) -> BudgetedAccumulator:
        """An empty count under this budget."""
        new = BudgetedAccumulator(self, plan, salt_of(site, self._seed), site, pairs=self._pairs)
        self._members.append(new)
        self._note(new)
        return new

    def pages(self) -> AbstractContextManager[None]:
        """Within it, large arrays are taken where the budget wants them."""
        return own_pages(self.spill if self.is_spilling else None)

    def settle(self, member: BudgetedAccumulator) -> None:
        """After a batch of one of them: keep all within the limit."""
        self._note(member)
        if self._kept + self._scratch <= self.limit or self.is_spilling or self.peak <= self.limit:
            return
        if self.spill is not None:
            self.is_spilling = True
            return
        self._shrink()

    def _note(self, member: BudgetedAccumulator) -> None:
        before, now = member.noted, member.footprint()
        member.noted = now
        self._kept += now.kept - before.kept
        self._scratch = max(self._scratch, now.peak - now.kept)

    def _measure(self) -> None:
        for one in self._members:
            one.noted = one.footprint()
        self._kept = sum(one.noted.kept for one in self._members)
        self._scratch = max((one.noted.peak - one.noted.kept for one in self._members), default=0)

    def _shrink(self) -> None:
        goal = int(_GOAL * self.limit)
        for one in sorted(self._members, key=lambda one: one.slack, reverse=True):
            if self.peak <= goal or one.slack <= 0:
                break
            one.make_lean()
        while self.peak > goal:
            largest = max(self._members, key=lambda one: one.num_rows)
            if largest.num_rows < _MIN_ROWS:
                break
            largest.thin()
        if self.peak > self.limit:
            raise BudgetError(
                f"memory_budget={self.limit:,} bytes do not hold the {len(self._members)} sites of this measurement: "
                f"they need {self.peak:,} bytes with no more than {_MIN_ROWS} patterns each. Raise the budget, or select "
                "fewer sites."
            )


class BudgetedAccumulator:
    """An accumulator of `kernels.dispatch` that can be exchanged for one that can be thinned."""

    def __init__(self, budget: Budget, plan: KeyPlan, salt: np.ndarray, site: str, *, pairs: bool) -> None:
        self._budget, self._plan, self._salt, self._pairs = budget, plan, salt, pairs
        self.site = site
        self._inner: dispatch.Accumulator = dispatch.accumulator(plan)
        self._num_evaluations = 0
        self._ended: Finished | None = None
        self._thinned: Thinned | None = None
        self.noted = Footprint(0, 0)

    @property
    def nbytes(self) -> int:
        if self._ended is not None:
            return self._ended.nbytes + (0 if self._thinned is None else self._thinned.nbytes)
        return self._inner.nbytes

    @property
    def is_exact(self) -> bool:
        """Whether nothing of what was counted was dropped."""
        return self._thinned is None and not _is_thinned(self._inner)

    @property
    def num_rows(self) -> int:
        """Rows that a thinning can halve; 0 where the count cannot be thinned."""
        if self._ended is not None or not isinstance(self._inner, _HasRows):
            return 0
        is_last = isinstance(self._inner, ThinAccumulator) and self._inner.level == MAX_LEVEL
        return 0 if is_last else self._inner.load.num_rows

    @property
    def slack(self) -> int:
        """Bytes of the footprint that may be gone once all raw rows are in a table that can be thinned."""
        if self._ended is not None or not isinstance(self._inner, _HasRows):
            return 0
        rows, raw, *_ = self._inner.load
        lean = self._rows_footprint(Load(rows, 0, 0), is_lean=True).peak
        return self.footprint().peak - lean if raw or not isinstance(self._inner, ThinAccumulator) else 0

    def add(self, values: Values, groups: np.ndarray | None) -> int:
        """Count a batch, then see to the budget."""
        with self._budget.pages():
            num_nan = self._inner.add(values, groups)
            self._num_evaluations += values.form.num_evaluations
            self._budget.settle(self)
        return num_nan

    def add_words(self, words: np.ndarray) -> None:
        """Not of use here: ready-made keys are counted without a budget."""
        raise NotImplementedError

    def make_lean(self) -> None:
        """Bring all raw rows into a table that is united in place and can be thinned."""
        if isinstance(self._inner, ThinAccumulator):
            self._inner.compact()
        elif isinstance(self._inner, _Thinnable):
            rows = self._inner.take_rows()
            self._inner = ThinAccumulator(self._plan, self._salt, *rows, self._num_evaluations)

    def thin(self) -> None:
        """Halve what can be halved."""
        self.make_lean()
        assert isinstance(self._inner, ThinAccumulator), "only counts with rows are thinned"
        self._inner.thin()

    def finish(self, *, pairs: bool, last: bool = False) -> Finished:
        with self._budget.pages():
            inner = self._inner
            groups = inner.group_self_information() if _is_thinned(inner) else None
            finished = inner.finish(pairs=pairs, last=last).written()
            self._thinned = None
            if _is_thinned(inner):
                self._thinned = Thinned(
                    levels=inner.levels_of(finished.keys),
                    group_self_information=groups,
                    salt=self._salt,
                    level=inner.level,
                    num_evaluations=inner.num_evaluations,
                    heavy_frequency=inner.heavy_frequency,
                )
        if last:
            self._ended = finished
            self._inner = ReferenceAccumulator(self._plan)  # of nothing: what the other one held goes
        return finished

    def thinned(self) -> Thinned | None:
        """What is known of the last finished table where that is an estimate; None where it is exact."""
        return self._thinned

    def footprint(self) -> Footprint:
        """What this count takes; see the module."""
        if self._ended is not None:
            return Footprint(self.nbytes, self.nbytes)
        if not isinstance(self._inner, _HasRows):
            return self._dense_footprint()
        return self._rows_footprint(self._inner.load, is_lean=not isinstance(self._inner, WordAccumulator))

    def _rows_footprint(self, load: Load, *, is_lean: bool) -> Footprint:
        plan = self._plan
        raw = 8 * plan.num_columns
        row = raw + 8
        rows = load.num_rows + load.num_raw
        extra = self._inner.exempt_nbytes + rows if _is_thinned(self._inner) else 0
        held = row * load.num_rows + load.raw_bytes * load.num_raw
        if plan.num_groups == 0:
            finished = (8 * plan.key_words + 8) * rows
        else:  # as many patterns as pairs at most; the sums over groups, or the pairs, are 8 and 16 bytes
            finished = (8 * plan.key_words + 16 + (16 if self._pairs else 8 if extra else 0)) * rows
        if is_lean:
            # The partitioned rows, and what sorting a part takes, beside the raw rows; a sixteenth of the table is there twice.
            united = row * load.num_rows * 17 // 16 + (load.raw_bytes + 20 + row) * load.num_raw
        else:
            united = row * load.num_rows + 2 * load.raw_bytes * load.num_raw + row * rows
        split = row * rows + finished if plan.num_groups else 0
        kept = max(held, finished)
        extra += load.cache_bytes
        return Footprint(kept + extra, max(kept, united, split) + extra)

    def _dense_footprint(self) -> Footprint:
        """Of counters, one for every pattern and group: the same however many threads there are."""
        if not isinstance(self._inner, DenseAccumulator):
            return Footprint(self._inner.nbytes, self._inner.nbytes)
        plan = self._plan
        counters = max(1, plan.num_groups) << plan.width
        pairs = min(counters, self._num_evaluations)
        finished = 16 * min(1 << plan.width, self._num_evaluations)
        finished += (8 + (16 if self._pairs else 0)) * pairs if plan.num_groups else 0
        return Footprint(max(4 * counters, finished), 4 * counters + finished)


def _is_thinned(inner: object) -> TypeGuard[ThinAccumulator]:
    return isinstance(inner, ThinAccumulator) and inner.level > 0
