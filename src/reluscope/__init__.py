"""reluscope: watch the discrete structure of a network form while it trains.

    import reluscope as rs

    snapshot = rs.measure(model, rs.Probe(images, labels))     # one look
    recorder = rs.Recorder(model, probe, run="runs/mine")      # while training
    run = rs.open_run("runs/mine")                             # afterwards

Names load when they are first used: `import reluscope` imports neither torch nor any other heavy library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reluscope import errors as errors
    from reluscope import measures as measures
    from reluscope.instruments import Patterns as Patterns
    from reluscope.instruments import Snapshot as Snapshot
    from reluscope.instruments import measure as measure
    from reluscope.observe import ObservationMode as ObservationMode
    from reluscope.observe import Probe as Probe
    from reluscope.observe import Site as Site
    from reluscope.observe import sites as sites
    from reluscope.patterns import Budget as Budget
    from reluscope.patterns import EstimatedCounts as EstimatedCounts
    from reluscope.patterns import HashList as HashList
    from reluscope.patterns import PatternCounter as PatternCounter
    from reluscope.patterns import PatternCounts as PatternCounts
    from reluscope.patterns import count_keys as count_keys
    from reluscope.patterns import count_patterns as count_patterns
    from reluscope.patterns import pack_patterns as pack_patterns
    from reluscope.recording import Recorder as Recorder
    from reluscope.recording import at as at
    from reluscope.recording import epochs as epochs
    from reluscope.recording import every as every
    from reluscope.recording import logspaced as logspaced
    from reluscope.recording import replay as replay
    from reluscope.report import write_report as write_report
    from reluscope.runs import Run as Run
    from reluscope.runs import open_run as open_run

__version__ = "0.1.0"

# Where each public name lives: loaded on first use, grouped by package.
_HOMES = {
    "reluscope.instruments": ("Patterns", "Snapshot", "measure"),
    "reluscope.observe": ("ObservationMode", "Probe", "Site", "sites"),
    "reluscope.patterns": (
        "Budget",
        "EstimatedCounts",
        "HashList",
        "PatternCounter",
        "PatternCounts",
        "count_keys",
        "count_patterns",
        "pack_patterns",
    ),
    "reluscope.recording": ("Recorder", "at", "epochs", "every", "logspaced", "replay"),
    "reluscope.report": ("write_report",),
    "reluscope.runs": ("Run", "open_run"),
}
_SUBMODULES = ("errors", "measures")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Budget",
    "EstimatedCounts",
    "HashList",
    "ObservationMode",
    "PatternCounter",
    "PatternCounts",
    "Patterns",
    "Probe",
    "Recorder",
    "Run",
    "Site",
    "Snapshot",
    "__version__",
    "at",
    "count_keys",
    "count_patterns",
    "epochs",
    "errors",
    "every",
    "logspaced",
    "measure",
    "measures",
    "open_run",
    "pack_patterns",
    "replay",
    "sites",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"reluscope.{name}")
    else:
        raise AttributeError(f"module 'reluscope' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
