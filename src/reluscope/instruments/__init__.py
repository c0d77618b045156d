"""Instruments: families of quantities taken from one frozen pass over the probe, and `measure`, one look."""

# base
from reluscope.instruments.base import Collector as Collector
from reluscope.instruments.base import Instrument as Instrument

# patterns
from reluscope.instruments.patterns import Patterns as Patterns
from reluscope.instruments.patterns import PatternsResult as PatternsResult
from reluscope.instruments.patterns import compare_to_init as compare_to_init
from reluscope.instruments.patterns import compare_to_last as compare_to_last

# snapshot
from reluscope.instruments.snapshot import Snapshot as Snapshot
from reluscope.instruments.snapshot import check_instruments as check_instruments
from reluscope.instruments.snapshot import measure as measure
from reluscope.instruments.snapshot import take_snapshot as take_snapshot

__all__ = [
    "Collector",
    "Instrument",
    "Patterns",
    "PatternsResult",
    "Snapshot",
    "check_instruments",
    "compare_to_init",
    "compare_to_last",
    "measure",
    "take_snapshot",
]
