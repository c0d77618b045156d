"""What alternatives are called in results, where several modules must agree on it."""

from __future__ import annotations

__all__ = [
    "BARE",
    "BARE_RUNNING",
    "COUNT_KEYS",
    "COUNT_PATTERNS",
    "FIRST_USE",
    "HASHLIST",
    "LATER_USE",
    "MEASURE",
    "OLD_HASHLIST",
    "OWN_HASHLIST",
    "OWN_STEPS",
    "PACK",
    "PACK_AND",
    "READ_ONCE",
    "ROWS_UNIQUE",
    "SUM",
    "SUM_AND_KEYS",
]

COUNT_KEYS = "count_keys"
COUNT_PATTERNS = "count_patterns"
PACK = "pack_patterns"
PACK_AND = "pack_patterns + "  # and the name of a peer
OWN_STEPS = "pack_patterns + count_keys"  # no peer; in files of earlier versions
SUM = "parallel sum"
SUM_AND_KEYS = "parallel sum + count_keys"
HASHLIST = "hash list, Algorithm 1"  # in plain torch
OWN_HASHLIST = "HashList"  # on our packing
OLD_HASHLIST = "hash list of the paper"  # that on our packing, in files of earlier versions
ROWS_UNIQUE = "torch.unique(dim=0)"

BARE = "bare"
BARE_RUNNING = "bare_eval"  # a bare pass on running statistics
MEASURE = "measure"
READ_ONCE = "read once"  # all pre-activations at the bandwidth of a parallel sum: the roofline

FIRST_USE = "first use, kernels compiled"
LATER_USE = "later use, kernels from the cache"
