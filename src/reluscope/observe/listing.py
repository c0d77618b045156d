"""`rs.sites`: the table of every site of a model, and of everything that is not observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reluscope.observe.mode import ObservationMode
from reluscope.observe.observation import run_pass
from reluscope.observe.probe import Probe
from reluscope.observe.sites import matches

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sites"]

_COLUMNS = (
    *("module", "operation", "kinks", "num_units", "width", "num_positions"),
    *("channel_dim", "channel_dim_source"),
)


def sites(
    model: nn.Module,
    example_input: Any,
    *,
    sites: str | Sequence[str] = "*",
    batch_norm: str = "running",
    channel_dim: int | Mapping[str, int] | None = None,
    smooth: bool = False,
    autocast: torch.dtype | str | None = None,
) -> pd.DataFrame:
    """List every site of a model, and every activation, hook and module that is not observed, and why.

    Args:
        model: as for `observe`.
        example_input: a Probe, or inputs of any form that a Probe takes; one sample is enough. Only the
            first batch of a Probe is used.
        sites, channel_dim, smooth, autocast: as in `ObservationMode`.
        batch_norm: has no influence on the list; "running" also lets a single sample through.

    Returns:
        A pandas DataFrame, one row per site in the order of the forward pass, then what is not observed.
        Columns: site, module, operation, kinks, num_units, width, num_positions, channel_dim,
        channel_dim_source, observed, reason ("" when observed).
    """
    import pandas as pd

    mode = ObservationMode(
        sites=sites, batch_norm=batch_norm, channel_dim=channel_dim, smooth=smooth, autocast=autocast
    )
    probe = example_input if isinstance(example_input, Probe) else Probe(example_input)
    watcher, unobserved = run_pass(model, probe, mode, lambda batch: None, None, None, first_only=True)
    rows: list[dict[str, Any]] = []
    for site in watcher.sites:
        selected = matches(site.name, mode.globs)
        values = {name: getattr(site, name) for name in _COLUMNS}
        reason = "" if selected else "not selected by sites=..."
        rows.append({"site": site.name, **values, "observed": selected, "reason": reason})
    for one in unobserved:
        row = {"site": one.name, "module": one.module, "operation": one.operation}
        rows.append({**row, "observed": False, "reason": one.reason})
    frame = pd.DataFrame(rows, columns=["site", *_COLUMNS, "observed", "reason"])
    counts = ("num_units", "width", "num_positions", "channel_dim")
    return frame.astype({**dict.fromkeys(counts, "Int64"), "observed": bool})
