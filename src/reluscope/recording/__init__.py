"""Recording while a model trains: when to measure, and the recorder that does and keeps it."""

# recorder
from reluscope.recording.recorder import Recorder as Recorder

# schedule
from reluscope.recording.schedule import Schedule as Schedule
from reluscope.recording.schedule import at as at
from reluscope.recording.schedule import epochs as epochs
from reluscope.recording.schedule import every as every
from reluscope.recording.schedule import logspaced as logspaced

__all__ = [
    "Recorder",
    "Schedule",
    "at",
    "epochs",
    "every",
    "logspaced",
]
