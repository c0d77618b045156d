"""Observation: a frozen, quiet pass over a model that hands on the pre-activations of each activation call.

It knows nothing of counting; see docs/architecture.md for its contract.
"""

from reluscope.observe.listing import sites
from reluscope.observe.mode import ObservationMode
from reluscope.observe.observation import Observation, observe
from reluscope.observe.probe import Probe
from reluscope.observe.sites import Lane, Site, SiteBatch, Unobserved

__all__ = [  # noqa: RUF022 - grouped by file
    # listing.py
    "sites",
    # mode.py
    "ObservationMode",
    # observation.py
    "Observation",
    "observe",
    # probe.py
    "Probe",
    # sites.py
    "Lane",
    "Site",
    "SiteBatch",
    "Unobserved",
]
