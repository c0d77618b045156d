"""The errors reluscope raises, in one tree.

Every text says what was asked, what was found, what is allowed and what to do. Where a built-in exception
fits, the class inherits from it too, so that `except KeyError` and `except ValueError` work as people expect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BenchmarkError",
    "BudgetError",
    "CheckpointError",
    "DataError",
    "DistributionError",
    "EmptyCountsError",
    "EmptyProbeError",
    "EstimateError",
    "ExportError",
    "IncompatibleCountsError",
    "InstrumentError",
    "KernelError",
    "LabelsError",
    "MeasurementError",
    "MissingExtraError",
    "NoSitesError",
    "ProbeError",
    "RecorderError",
    "ReluscopeError",
    "ReluscopeWarning",
    "RunCorruptError",
    "RunExistsError",
    "RunLockedError",
    "RunNotFoundError",
    "RunNotWritableError",
    "RunSchemaError",
    "ScheduleError",
    "SimilarityError",
    "SitesChangedError",
    "SpecificationError",
    "SpillError",
    "TrainingDivergedError",
    "TrajectoryMismatchError",
    "UnitAxisError",
    "UnknownSiteError",
    "UnsupportedModelError",
    "closest",
]


class ReluscopeError(Exception):
    """Base of every error raised on purpose by reluscope."""


class ReluscopeWarning(UserWarning):
    """Category of every warning given by reluscope."""


# The model and its sites -----------------------------------------------------------------------------------


class UnsupportedModelError(ReluscopeError, TypeError):
    """The model as a whole cannot be observed, for example because it is scripted."""


class NoSitesError(ReluscopeError, ValueError):
    """The forward pass made no call that can be observed."""


class UnknownSiteError(ReluscopeError, KeyError):
    """A name or glob matches no site."""

    def __str__(self) -> str:  # KeyError would show the repr of the text
        return str(self.args[0]) if self.args else ""


class SitesChangedError(ReluscopeError, RuntimeError):
    """The forward pass visited other sites than before."""


class UnitAxisError(ReluscopeError, ValueError):
    """The axis that holds the units does not exist or is not usable."""


class MeasurementError(ReluscopeError, RuntimeError):
    """A measurement could not be completed."""


# The probe -------------------------------------------------------------------------------------------------


class ProbeError(ReluscopeError, ValueError):
    """The inputs cannot serve as a probe."""


class EmptyProbeError(ProbeError):
    """The probe holds no sample."""


class LabelsError(ProbeError):
    """The labels do not fit the inputs."""


# Counting --------------------------------------------------------------------------------------------------


class EmptyCountsError(ReluscopeError, ValueError):
    """Nothing was counted, so the quantity is not defined."""


class DistributionError(ReluscopeError, ValueError):
    """The counts are not the counts of a distribution (negative, zero, wrong shape or dtype)."""


class IncompatibleCountsError(ReluscopeError, ValueError):
    """Two states cannot be merged or compared: other width or other fingerprint."""


class KernelError(ReluscopeError, ValueError):
    """A kernel was asked for that does not exist here, or given an array it does not take."""


class BudgetError(ReluscopeError, ValueError):
    """A size or budget that makes no sense."""


class EstimateError(ReluscopeError, TypeError):
    """An exact distribution is needed, and the counts at hand are an estimate made under a memory budget."""


class SpillError(ReluscopeError, OSError):
    """A file to spill to could not be made: no such folder, no permission, or a full disk."""

    def __str__(self) -> str:  # OSError would put its number in front
        return str(self.args[1]) if len(self.args) > 1 else super().__str__()


class InstrumentError(ReluscopeError, ValueError):
    """An instrument was configured in a way that cannot work."""


# Recording and runs ----------------------------------------------------------------------------------------


class ScheduleError(ReluscopeError, ValueError):
    """A schedule that can never be due, or a step that cannot be."""


class RecorderError(ReluscopeError, ValueError):
    """The recorder was configured, or called, in a way that cannot work."""


class RunNotFoundError(ReluscopeError, FileNotFoundError):
    """No run at that path."""


class RunExistsError(ReluscopeError, FileExistsError):
    """A run is there already and `if_exists` says not to touch it."""


class RunLockedError(ReluscopeError, RuntimeError):
    """Another process writes this run."""


class RunNotWritableError(ReluscopeError, PermissionError):
    """Nothing may be written to the run's folder: no permission, or a read-only disk."""


class RunSchemaError(ReluscopeError, ValueError):
    """The run was written with a schema this version does not read."""


class RunCorruptError(ReluscopeError, ValueError):
    """A file of the run cannot be read."""


class TrajectoryMismatchError(ReluscopeError, ValueError):
    """What is about to be recorded does not continue what the run holds."""


class SimilarityError(ReluscopeError, LookupError):
    """The run does not hold what a similarity of two steps needs."""


class ExportError(ReluscopeError, ValueError):
    """The run cannot be exported like that."""


# Lab and command line --------------------------------------------------------------------------------------


class SpecificationError(ReluscopeError, ValueError):
    """A training specification that does not validate."""


class DataError(ReluscopeError, ValueError):
    """Data that is missing, damaged or of another kind than announced."""


class CheckpointError(ReluscopeError, ValueError):
    """A checkpoint that is missing, damaged or of another training."""


class TrainingDivergedError(ReluscopeError, ArithmeticError):
    """The loss of a training of the lab is not finite any more."""


class BenchmarkError(ReluscopeError, ValueError):
    """A benchmark that cannot be run as asked, whose alternatives disagree, or whose results cannot be read."""


class MissingExtraError(ReluscopeError, ImportError):
    """An optional dependency is not installed."""


def closest(name: str, names: Iterable[str], *, limit: int = 3) -> str:
    """The names most like `name`, quoted and joined for the end of an error text; all of few, none of none."""
    found = list(names)
    best = difflib.get_close_matches(name, found, n=limit, cutoff=0.4) or found[:limit]
    return ", ".join(f'"{one}"' for one in best)
