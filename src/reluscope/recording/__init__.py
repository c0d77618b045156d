"""Recording while a model trains: when to measure, and the recorder that does and keeps it."""

# recorder
from reluscope.recording.recorder import Recorder as Recorder

# replaying
from reluscope.recording.replaying import ReplayProgress as ReplayProgress
from reluscope.recording.replaying import ReplayResult as ReplayResult
from reluscope.recording.replaying import replay as replay

# schedule
from reluscope.recording.schedule import Schedule as Schedule
from reluscope.recording.schedule import at as at
from reluscope.recording.schedule import epochs as epochs
from reluscope.recording.schedule import every as every
from reluscope.recording.schedule import logspaced as logspaced

__all__ = [
    "Recorder",
    "ReplayProgress",
    "ReplayResult",
    "Schedule",
    "at",
    "epochs",
    "every",
    "logspaced",
    "replay",
]
