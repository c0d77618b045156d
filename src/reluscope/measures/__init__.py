"""What the counts mean: pure float64 NumPy functions, and the table of their traits.

Nothing here knows of models or of torch. `spec` is the one list of measures: tables, plots and docs follow
from it.
"""

from reluscope.measures.distribution import CountsLike, HasCounts, Spectrum, spectrum
from reluscope.measures.labels import (
    conditional_entropy,
    information,
    joint_by_class,
    joint_entropy,
    label_entropy,
    relative_conditional_entropy,
    relative_information,
    relative_joint_entropy,
    summarize_labels,
)
from reluscope.measures.pairs import (
    Changes,
    Joinable,
    PairLike,
    changes,
    jaccard,
    summarize_change,
    weighted_jaccard,
)
from reluscope.measures.patterns import (
    coverage,
    entropy,
    entropy_corrected,
    largest_entropy,
    largest_total,
    max_frequency,
    nan_fraction,
    occupancy,
    relative_entropy,
    summarize,
    summarize_hashlist,
    total,
    total_fraction,
)
from reluscope.measures.permutations import information_excess, permuted_information
from reluscope.measures.similarity import PatternSample, similarities, similarity_matrix
from reluscope.measures.spec import FAMILIES, LAYER_MEASURES, Measure
from reluscope.measures.strikes import Strike, StrikeRule, StrikeSearch, find_strikes

__all__ = [
    "FAMILIES",
    "LAYER_MEASURES",
    "Changes",
    "CountsLike",
    "HasCounts",
    "Joinable",
    "Measure",
    "PairLike",
    "PatternSample",
    "Spectrum",
    "Strike",
    "StrikeRule",
    "StrikeSearch",
    "changes",
    "conditional_entropy",
    "coverage",
    "entropy",
    "entropy_corrected",
    "find_strikes",
    "information",
    "information_excess",
    "jaccard",
    "joint_by_class",
    "joint_entropy",
    "label_entropy",
    "largest_entropy",
    "largest_total",
    "max_frequency",
    "nan_fraction",
    "occupancy",
    "permuted_information",
    "relative_conditional_entropy",
    "relative_entropy",
    "relative_information",
    "relative_joint_entropy",
    "similarities",
    "similarity_matrix",
    "spectrum",
    "summarize",
    "summarize_change",
    "summarize_hashlist",
    "summarize_labels",
    "total",
    "total_fraction",
    "weighted_jaccard",
]
