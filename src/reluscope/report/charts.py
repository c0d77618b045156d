"""The page's charts as plotly figures: layout, axes and traces, without the numbers.

The numbers of a measure stand once in the page (`data`), and page.js puts them into the heat map and, for the
step of the slider, into the curves. So a page holds each number once, and exactly.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from reluscope.measures.spec import Measure
from reluscope.report.scales import Scale, nice_ticks
from reluscope.report.text import shown_ticks, site_labels, step_ticks
from reluscope.report.view import RunView

__all__ = ["SCALARS", "curves", "heatmap", "line_style", "logged", "matrix", "running_mean", "training"]

# Okabe and Ito's colours, told apart with every kind of colour vision; dashes besides, for print.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
_DASHES = ("solid", "dash", "dot", "dashdot")
_INK, _RULE, _GRID, _NOTHING = "#33373d", "#9aa0a8", "#e4e6ea", "#d5d7db"
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", "size": 12}
# site, step, value; page.js puts them there, names escaped
_HOVER = "%{customdata[0]}<br>step %{customdata[1]}<br><b>%{customdata[2]}</b>"
_MAX_POINTS = 1500
SCALARS = {
    "loss": ("Training loss", "The loss as the training logged it."),
    "accuracy": ("Accuracy", "The accuracy as the training logged it."),
    "lr": ("Learning rate", "The learning rate that the schedule set."),
}
"""Scalars that are drawn: column, title, and what it is."""


def heatmap(view: RunView, scale: Scale, *, height: int) -> dict[str, Any]:
    """Sites (rows, the input at the bottom) over measurements (columns, evenly spaced)."""
    steps = [f"{step:,}" for step in view.steps]
    labels = site_labels(view.sites)
    columns, rows = step_ticks(view.steps.tolist()), shown_ticks(len(view.sites), 26)
    figure = go.Figure(
        go.Heatmap(
            zmin=scale.low,
            zmax=scale.high,
            colorscale=[[i / (len(scale.colors) - 1), color] for i, color in enumerate(scale.colors)],
            showscale=False,
            hoverongaps=False,
            hovertemplate=_HOVER + "<extra></extra>",
        )
    )
    figure.update_layout(_layout(height), plot_bgcolor=_NOTHING)
    figure.update_xaxes(
        title={"text": "step", "standoff": 6},
        tickvals=columns,
        ticktext=[steps[index] for index in columns],
        range=[-0.5, len(steps) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=rows,
        ticktext=_escaped([labels[index] for index in rows]),
        range=[-0.5, len(view.sites) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure.to_plotly_json()


def curves(runs: Mapping[int, RunView], scale: Scale, *, height: int) -> dict[str, Any]:
    """A measure across the sites at one step, one line for each run; page.js fills in the step.

    Args:
        runs: the runs that have the measure, by their place in the report, which gives them their colour.
        scale: of the measure.
        height: in pixels.
    """
    views, figure = list(runs.values()), go.Figure()
    for index, view in runs.items():
        figure.add_scatter(
            mode="lines+markers",
            name=html.escape(view.name, quote=False),
            line=line_style(index),
            marker={"size": 5},
            hovertemplate=_HOVER,
        )
    longest = max(views, key=lambda view: len(view.sites))
    same = all(view.sites == longest.sites[: len(view.sites)] for view in views)
    shown = shown_ticks(len(longest.sites), 20)
    named = site_labels(longest.sites, 14) if same else [str(index) for index in range(len(longest.sites))]
    margin = (scale.high - scale.low) * 0.05
    figure.update_layout(_layout(height), showlegend=len(views) > 1)
    figure.update_xaxes(
        title={"text": "site, from input to output", "standoff": 6},
        tickvals=shown,
        ticktext=_escaped([named[index] for index in shown]),
        tickangle=-60 if same else 0,
        range=[-0.5, len(longest.sites) - 0.5],
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=[position for position, _ in scale.ticks],
        ticktext=[text for _, text in scale.ticks],
        range=[scale.low - margin, scale.high + margin],
        zeroline=scale.kind == "symlog",
        zerolinecolor=_RULE,
    )
    return figure.to_plotly_json()


def training(views: Sequence[RunView], column: str, *, height: int) -> dict[str, Any] | None:
    """One scalar of the training against the step, for all runs; None when no run logged it."""
    figure = go.Figure()
    steps, values = np.empty(0), np.empty(0)
    for index, view in enumerate(views):
        step, value = logged(view, column)
        if not step.size:
            continue
        name, noisy = html.escape(view.name, quote=False), column != "lr" and step.size > 30
        hover = f"step %{{x:,}}<br><b>%{{y:.4~g}}</b><extra>{_literal(name)}</extra>"
        line = line_style(index)
        if noisy:  # every logged value in the background, its running mean in front
            figure.add_scatter(
                x=_rounded(step), y=_rounded(value), mode="lines", line={**line, "width": 1, "dash": "solid"},
                opacity=0.3, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        mean = running_mean(value) if noisy else value
        mode = "lines" if step.size > 30 else "lines+markers"
        figure.add_scatter(
            x=_rounded(step), y=_rounded(mean), mode=mode, name=name, line=line, hovertemplate=hover
        )
        steps, values = np.concatenate([steps, step]), np.concatenate([values, value])
    if not steps.size:
        return None
    figure.update_layout(_layout(height), showlegend=len(views) > 1)
    figure.update_xaxes(
        title={"text": "step", "standoff": 6},
        tickvals=nice_ticks(0.0, float(steps.max())),
        tickformat=",",
        range=[0.0, float(steps.max()) or 1.0],
    )
    figure.update_yaxes(rangemode="tozero")
    if column != "accuracy" and values.min() > 0 and values.max() / values.min() > 50:
        low, high = np.log10(values.min()), np.log10(values.max())
        figure.update_yaxes(type="log", dtick=1 if high - low > 1.5 else "D2")
    elif column == "accuracy":
        figure.update_yaxes(tickvals=nice_ticks(float(min(values.min(), 0.9)), float(values.max())))
    return figure.to_plotly_json()


def matrix(view: RunView, measure: Measure) -> list[list[float | int | None]]:
    """The numbers of a heat map, one list for each measurement; integers exact, others to 6 digits, None for
    NaN."""
    values = view.values[measure.name]
    if measure.dtype == "int64":
        return [[int(x) if np.isfinite(x) else None for x in row] for row in values]
    return [[float(f"{x:.6g}") if np.isfinite(x) else None for x in row] for row in values]


def _layout(height: int) -> dict[str, Any]:
    axis = {"automargin": True, "gridcolor": _GRID, "linecolor": _RULE, "ticks": "outside", "ticklen": 4}
    font = {**_FONT, "color": _INK}
    return {
        "template": None,
        "height": height,
        "margin": {"l": 8, "r": 22, "t": 8, "b": 8},
        "font": font,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": _RULE, "font": font, "align": "left"},
        "modebar": {"bgcolor": "rgba(255,255,255,0.7)", "color": _RULE, "activecolor": _INK},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "xaxis": axis,
        "yaxis": axis,
    }


def line_style(index: int) -> dict[str, Any]:
    """Colour, dash and width of the run at this place in the report."""
    return {"color": _COLORS[index % len(_COLORS)], "dash": _DASHES[index % len(_DASHES)], "width": 2}


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


def _rounded(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _escaped(names: Sequence[str]) -> list[str]:
    """Names as plotly takes them: it reads a subset of HTML in every label."""
    return [html.escape(name, quote=False) for name in names]


def _literal(name: str) -> str:
    """A name inside of a hover template, where %{...} would be filled in."""
    return name.replace("%{", "%&#123;")
