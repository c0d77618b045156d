"""A run's measurements as one xarray.Dataset, and what is noteworthy about them in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs.schema import error_columns

if TYPE_CHECKING:
    import xarray as xr

    from reluscope.runs.reader import Run

__all__ = ["build", "warnings"]

_PER_SITE = ("site_index", "width", "num_units")
_PER_STEP = ("seconds", "time", "parameter_hash")
_NAMED = 3  # sites named in a warning before "and n others"


def build(run: Run) -> xr.Dataset:
    """The measures over (step, site).

    - Dimensions: `step` (int64) and `site` (names, in the order of the forward pass).
    - Coordinates: per site its index, width and num_units; per step seconds and time of the measurement and
      the hash of the parameters.
    - Variables: every measure that was taken, num_evaluations and exact; where a memory budget left estimates,
      the standard error of each measure, as <measure>_error. Each measure has long_name, units,
      symbol, description and source as in `measures.spec`. Missing values are NaN.
    - Attributes: run.json, nested values as JSON text.
    """
    import xarray as xr

    layers = run.layers
    steps = np.asarray(run.steps, dtype=np.int64)
    per_site = layers.drop_duplicates("site").sort_values("site_index").set_index("site")
    per_step = layers.drop_duplicates("step").set_index("step")
    names = np.asarray(per_site.index, dtype=str)
    where = (
        np.searchsorted(steps, layers["step"].to_numpy()),
        per_site.index.get_indexer(pd.Index(layers["site"])),
    )
    variables = {}
    possible = (*LAYER_MEASURES, "num_evaluations", "exact", *error_columns())
    for name in [column for column in possible if column in layers]:
        values = _dense(layers[name].to_numpy(), where, (len(steps), len(names)))
        variables[name] = (("step", "site"), values, _attributes(name))
    coordinates: dict[str, Any] = {
        "step": ("step", steps, {"long_name": "optimizer updates done"}),
        "site": names,
    }
    coordinates |= {name: ("site", per_site[name].to_numpy()) for name in _PER_SITE}
    coordinates |= {name: ("step", _plain(per_step[name].to_numpy())) for name in _PER_STEP}
    return xr.Dataset(variables, coordinates, attrs=_run_attributes(run.info))


def warnings(run: Run) -> list[str]:
    """What somebody who reads the numbers should know: state, what was not observed, `Run.health`, gaps."""
    found = []
    if run.state == "interrupted":
        found.append(
            "the process that recorded this run ended without closing it; every measurement here is whole."
        )
    if not run.steps:
        return [*found, "nothing has been measured yet."]
    unobserved = run.info.get("unobserved") or []
    if unobserved:
        names = [str(one.get("name", one)) if isinstance(one, dict) else str(one) for one in unobserved]
        seen = "1 activation was" if len(names) == 1 else f"{len(names)} activations were"
        found.append(f"{seen} seen and not observed: {_named(names)}; run.info says why.")
    found += [finding.text for finding in run.health]
    layers = run.layers
    estimated = [site for site, exact in zip(layers["site"], layers["exact"], strict=True) if exact is False]
    if estimated:
        found.append(
            f"the counts of {_named(estimated)} did not fit the memory budget and are estimates: the columns that end "
            "in _error hold their standard errors."
        )
    return found + [str(note) for note in run.info.get("notes", [])]


def _dense(values: np.ndarray, where: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """A column as (step, site): in its own type when every cell is there, else float64 with NaN."""
    if values.dtype == object:  # booleans with gaps
        values = np.asarray([np.nan if pd.isna(value) else float(value) for value in values])
    full = len(values) == shape[0] * shape[1]
    dense = np.empty(shape, dtype=values.dtype) if full else np.full(shape, np.nan)
    dense[where] = values
    return dense


def _plain(values: np.ndarray) -> np.ndarray:
    """Text as NumPy text, missing ones empty: what every file format takes."""
    if values.dtype.kind in "if":
        return values
    return np.asarray(["" if pd.isna(value) else str(value) for value in values], dtype=str)


def _attributes(name: str) -> dict[str, Any]:
    measure = LAYER_MEASURES.get(name)
    if measure is None and name in error_columns():
        of = LAYER_MEASURES[error_columns()[name]]
        return {"long_name": f"Standard error of {of.title.lower()}", "units": of.unit}
    if measure is None:
        return {}
    return {
        "long_name": measure.title,
        "units": measure.unit,
        "symbol": measure.symbol,
        "description": measure.description,
        "source": measure.source,
    }


def _run_attributes(info: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in info.items():
        if name in ("columns", "sites"):
            continue  # the variables and the site coordinates say it
        is_small = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        plain[name] = value if is_small or isinstance(value, str | float) else json.dumps(value)
    return plain


def _named(names: Any) -> str:
    different = list(dict.fromkeys(names))
    shown = ", ".join(f'"{name}"' for name in different[:_NAMED])
    return shown + (f" and {len(different) - _NAMED} others" if len(different) > _NAMED else "")
