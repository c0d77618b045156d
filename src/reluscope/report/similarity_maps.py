"""How like any two recorded steps of a run are, at every site, thinned to what a page can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reluscope.errors import SimilarityError
from reluscope.report.view import RunView
from reluscope.runs.similarity import comparable_steps

__all__ = ["SimilarityMap", "map_data", "similarity_maps", "steps_per_map"]

# More columns cannot be told apart in a map, and all pairs of all sites have to fit into the page: about 8 bytes each.
_MAX_STEPS = 120
_MAX_PAIRS = 200_000
_UNIT = 10_000  # numbers stand in the page as ten-thousandths


@dataclass(frozen=True, kw_only=True, eq=False)
class SimilarityMap:
    """J_W between recorded steps at one site.

    Attributes:
        site: its name.
        steps: int64 (S,), those that are shown.
        num_steps: how many could be compared.
        values: float64 (S, S), symmetric; NaN where it is not defined.
        errors: float64 (S, S), standard errors; 0 where the value is exact.
    """

    site: str
    steps: npt.NDArray[np.int64]
    num_steps: int
    values: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]


def similarity_maps(view: RunView) -> list[SimilarityMap]:
    """A map for each site that has tables or samples of at least two steps; none for a view made by hand.

    Reads all samples of the run; takes about a second for 20 sites with samples of 4,096 patterns at 50 steps.
    """
    run = view.run
    if run is None:
        return []
    found = []
    limit = steps_per_map(len(view.sites))
    for site in view.sites:
        there = comparable_steps(run, site)
        if len(there) < 2:
            continue
        places = np.unique(np.linspace(0, len(there) - 1, min(limit, len(there))).round().astype(np.int64))
        try:
            matrix = run.similarity(site, steps=[there[place] for place in places])
        except SimilarityError:  # what was sampled at these steps cannot be compared
            continue
        found.append(
            SimilarityMap(
                site=site,
                steps=matrix["step"].to_numpy().astype(np.int64),
                num_steps=len(there),
                values=matrix.to_numpy().astype(np.float64),
                errors=np.where(matrix["exact"].to_numpy(), 0.0, matrix["standard_error"].to_numpy()),
            )
        )
    return found


def steps_per_map(num_sites: int) -> int:
    """How many steps each map may have, at most 120; fewer for many sites.

    >>> steps_per_map(19), steps_per_map(200)
    (120, 44)
    """
    return max(2, min(_MAX_STEPS, math.isqrt(2 * _MAX_PAIRS // max(num_sites, 1))))


def map_data(maps: Sequence[SimilarityMap]) -> list[dict[str, Any]]:
    """The maps as page.js takes them: the triangle above the diagonal, row by row, in ten-thousandths, -1 for NaN."""
    return [
        {
            "site": one.site,
            "steps": one.steps.tolist(),
            "values": _packed(one.values),
            "errors": _packed(one.errors),
        }
        for one in maps
    ]


def _packed(matrix: npt.NDArray[np.float64]) -> list[int]:
    above = matrix[np.triu_indices(len(matrix), 1)] * _UNIT
    return np.where(np.isfinite(above), above, -1.0).round().astype(np.int64).tolist()
