"""Distributions of activation patterns: exact counts that merge, and how they stream in from batches."""

from reluscope.patterns.budget import Budget
from reluscope.patterns.counter import PatternCounter, count_keys, count_patterns, pack_patterns
from reluscope.patterns.counts import JointCounts, PatternCounts
from reluscope.patterns.estimate import AnyCounts, EstimatedCounts
from reluscope.patterns.hashlist import HashList
from reluscope.patterns.sample import DEFAULT_SAMPLE_SEED, DEFAULT_SAMPLE_SIZE, PatternSample, draw_sample

__all__ = [  # noqa: RUF022 - grouped by file
    # budget.py
    "Budget",
    # counter.py
    "PatternCounter",
    "count_keys",
    "count_patterns",
    "pack_patterns",
    # counts.py
    "JointCounts",
    "PatternCounts",
    # estimate.py
    "AnyCounts",
    "EstimatedCounts",
    # hashlist.py
    "HashList",
    # sample.py
    "DEFAULT_SAMPLE_SEED",
    "DEFAULT_SAMPLE_SIZE",
    "PatternSample",
    "draw_sample",
]
