"""The one list of measures: whoever stores, draws or documents a measure reads its traits here.

The order of `LAYER_MEASURES` is the order of the columns in the layers table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reluscope.measures.measure import Measure
from reluscope.measures.spec_labels import LABELS
from reluscope.measures.spec_pairs import CHANGES, SIMILARITY
from reluscope.measures.spec_patterns import COUNTS, HASHLIST, QUALITY

__all__ = ["FAMILIES", "LAYER_MEASURES", "Measure"]

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "counts": "How many patterns a site uses, and how evenly",
        "changes": "What changed since the last measurement",
        "similarity": "How alike the patterns of two steps are",
        "labels": "What the patterns have to do with the classes",
        "hashlist": "What the paper's hash list would have counted",
        "quality": "Whether the numbers can be trusted",
    }
)

LAYER_MEASURES: dict[str, Measure] = {
    measure.name: measure for measure in (*COUNTS, *CHANGES, *SIMILARITY, *LABELS, *HASHLIST, *QUALITY)
}
"""Every measure by name, in the order of the columns of the layers table."""
