"""Runs for the tests of the report: made up, but with the shapes, gaps and columns of recorded ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reluscope.measures import LAYER_MEASURES
from reluscope.report import RunView

MakeView = Callable[..., RunView]


@pytest.fixture
def make_view() -> MakeView:
    """A run by name; keyword arguments of RunView replace what is made up."""

    def make(
        name: str = "mine", *, num_steps: int = 6, num_sites: int = 5, seed: int = 0, **changed: object
    ) -> RunView:
        rng = np.random.default_rng(seed)
        names = tuple(f"layer{index}.relu" for index in range(num_sites))
        values = {}
        for measure in LAYER_MEASURES.values():
            if measure.family == "hashlist" or measure.name == "information_excess":
                continue
            drawn = rng.random((num_steps, num_sites))
            if measure.dtype == "int64":
                drawn = np.round(10 ** (1 + 5 * drawn)) * (-1 if measure.lower is None else 1)
            if measure.family in ("changes", "similarity") and not measure.name.endswith("init"):
                drawn[:1] = np.nan  # the first measurement has none before it
            values[measure.name] = drawn
        view = RunView(
            name=name,
            info={
                "model": {"class": "ResNet", "num_parameters": 272474},
                "probe": {
                    "num_samples": 500,
                    "batch_size": 100,
                    "num_classes": 10,
                    "has_labels": True,
                    "inputs": [{"name": "input", "dtype": "float32", "shape": [500, 1, 28, 28]}],
                },
                "mode": {"batch_norm": "batch", "sites": "*", "smooth": False, "autocast": None},
                "environment": {"reluscope": "0.1.0", "torch": "2.13.0", "device": ["cpu"], "threads": 2},
            },
            steps=np.array([0, *np.cumsum(np.arange(1, num_steps))], dtype=np.int64),
            sites=names,
            values=values,
            seconds=np.full(num_steps, 0.25),
            times=tuple(f"2026-11-21T08:{minute:02d}:30.000+00:00" for minute in range(num_steps)),
            scalars=pd.DataFrame({"step": range(50), "loss": np.linspace(2.3, 0.3, 50), "lr": 0.1}),
            sites_table=pd.DataFrame({"name": names, "kinks": [[0.0]] * num_sites, "width": 16}),
        )
        return replace(view, **changed)

    return make
