"""PatternSample: a few thousand patterns that stand for a distribution, the same ones at every step."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from reluscope.errors import BudgetError, EstimateError
from reluscope.kernels import select
from reluscope.measures.similarity import PatternSample
from reluscope.patterns.counts import PatternCounts

if TYPE_CHECKING:
    from reluscope.patterns.estimate import EstimatedCounts

__all__ = ["DEFAULT_SAMPLE_SEED", "DEFAULT_SAMPLE_SIZE", "PatternSample", "draw_sample", "salt_of"]

DEFAULT_SAMPLE_SIZE = 4096
DEFAULT_SAMPLE_SEED = 0


def draw_sample(
    counts: PatternCounts | EstimatedCounts,
    size: int = DEFAULT_SAMPLE_SIZE,
    *,
    site: str,
    seed: int = DEFAULT_SAMPLE_SEED,
) -> PatternSample:
    """A coordinated Poisson sample of a finished table; the whole table where that has at most `size` patterns.

    A pattern with count c is kept when u < c/tau, tau = N/size, where u in [0, 1) is a hash of the pattern,
    the site and the seed: at most `size` patterns are expected, and every pattern with c >= tau is kept. The
    same pattern has the same u at every step, so samples of two steps of one site compare
    (`reluscope.measures.similarity`).

    Samples have no merge law: a pattern that two halves of a probe each saw once may be kept in one sample and
    not in the other. Merge tables, then draw.

    Args:
        counts: the table; of an estimate, drawn with the same site and seed as the budget's, a sample with ceilings.
        size: k, patterns expected at most.
        site: name of the site, so that the errors of different sites are independent.
        seed: another seed is another sample.

    Raises:
        BudgetError: `size` is no whole number of at least 1, or `seed` none of at least 0.
        EstimateError: the estimate was made with another site or seed.

    >>> table = PatternCounts(np.array([[0], [5]], np.uint64), np.array([3, 1]), width=4)
    >>> draw_sample(table, 8, site="relu")
    PatternSample(all 2 patterns, num_evaluations=4)
    """
    check_sampling(size, seed)
    salt = salt_of(site, seed)
    total, num_patterns, ceilings = counts.num_evaluations, counts.num_patterns, None
    if not isinstance(counts, PatternCounts):
        if not np.array_equal(counts.salt, salt):
            raise EstimateError(
                f'{counts!r} was not made for site "{site}" and sample seed {seed}: which patterns it holds depends on them.'
            )
        # One hash for both: what is in the table and passes c/tau is there with the lesser of the two probabilities.
        ceilings = counts.probabilities
    if num_patterns > size and isinstance(counts, PatternCounts) and (raw := counts.raw) is not None:
        return PatternSample(
            *select.select_raw(raw, size, total, salt), total / size, total, num_patterns, None
        )
    if len(counts.counts) <= size:
        return PatternSample(counts.keys, counts.counts, 0.0, total, num_patterns, ceilings)
    rows = select.select(counts.keys, counts.counts, size, total, salt)
    ceilings = None if ceilings is None else ceilings[rows]
    return PatternSample(counts.keys[rows], counts.counts[rows], total / size, total, num_patterns, ceilings)


def salt_of(site: str, seed: int) -> np.ndarray:
    """What keys the hash of a site's patterns, uint64 (2,): BLAKE2b of seed and name, so equal everywhere."""
    digest = hashlib.blake2b(f"{seed}:{site}".encode(), digest_size=16, person=b"reluscope sample").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def check_sampling(size: int, seed: int) -> None:
    """Raise BudgetError unless a sample of this size and seed can be drawn."""
    for name, value, least in (("size", size, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BudgetError(f"a sample of {name}={value!r}: give a whole number of at least {least}.")
