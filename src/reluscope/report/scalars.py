"""The training's own scalars, as far as a run logged them: which are drawn, and what of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reluscope.report.view import RunView

__all__ = ["SCALARS", "is_noisy", "logged", "running_mean"]

_MAX_POINTS = 1500
SCALARS = {
    "loss": ("Training loss", "The loss as the training logged it."),
    "accuracy": ("Accuracy", "The accuracy as the training logged it."),
    "lr": ("Learning rate", "The learning rate that the schedule set."),
}
"""Scalars that are drawn: column, title, and what it is."""


def is_noisy(column: str, num_points: int) -> bool:
    """Whether a running mean says more than the points: not for a schedule, nor for a few points."""
    return column != "lr" and num_points > 30


def logged(view: RunView, column: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Steps and finite values that were logged; means over blocks where there are too many to draw.

    Returns:
        Steps and values, float64 (at most about 1500,), both empty where the run has no such column.
    """
    if column not in view.scalars:
        return np.empty(0), np.empty(0)
    step = view.scalars["step"].to_numpy(dtype=np.float64)
    value = view.scalars[column].to_numpy(dtype=np.float64)
    step, value = step[np.isfinite(value)], value[np.isfinite(value)]
    block = -(-step.size // _MAX_POINTS)
    if block > 1:
        whole = step.size // block * block
        step, value = step[:whole].reshape(-1, block)[:, -1], value[:whole].reshape(-1, block).mean(1)
    return step, value


def running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over a centred window of about a thirtieth of the curve, shorter at its ends."""
    half = max(values.size // 60, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(values.size)
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, values.size)
    return (sums[last] - sums[first]) / (last - first)
