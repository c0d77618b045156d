"""A run on disk: written so that it survives anything, read as arrays and tables. No torch here."""

# reader
from reluscope.runs.reader import Run as Run
from reluscope.runs.reader import open_run as open_run

# schema
from reluscope.runs.schema import RUN_SCHEMA_VERSION as RUN_SCHEMA_VERSION

# writer
from reluscope.runs.writer import RunWriter as RunWriter

__all__ = [
    "RUN_SCHEMA_VERSION",
    "Run",
    "RunWriter",
    "open_run",
]
