"""The page's charts as plotly figures, in plain dicts: layout, axes and traces, without the numbers.

The numbers of a measure stand once in the page (`data`), and page.js puts them into the heat map and, for the
step of the slider, into the curves. So a page holds each number once, and exactly.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reluscope.measures.spec import Measure
from reluscope.report.scalars import is_noisy, logged, running_mean
from reluscope.report.scales import CIVIDIS, Scale, nice_ticks
from reluscope.report.text import shown_ticks, site_labels, step_ticks
from reluscope.report.view import RunView

__all__ = ["curves", "heatmap", "line_style", "matrix", "scalar_line", "similarity", "training"]

# Okabe and Ito's colours, told apart with every kind of colour vision; dashes besides, for print.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
_DASHES = ("solid", "dash", "dot", "dashdot")
_INK, _RULE, _GRID, _NOTHING = "#33373d", "#9aa0a8", "#e4e6ea", "#d5d7db"
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", "size": 12}
# site, step, value; page.js puts them there, names escaped
_HOVER = "%{customdata[0]}<br>step %{customdata[1]}<br><b>%{customdata[2]}</b>"


def heatmap(view: RunView, scale: Scale, *, height: int, marked: Sequence[int] = ()) -> dict[str, Any]:
    """Sites (rows, the input at the bottom) over measurements (columns, evenly spaced).

    Args:
        view: the run.
        scale: of the measure.
        height: in pixels.
        marked: steps that get a triangle above their column, as far as they are shown.
    """
    labels = site_labels(view.sites)
    columns, rows = step_ticks(view.steps.tolist()), shown_ticks(len(view.sites), 26)
    trace = {
        "type": "heatmap",
        "zmin": scale.low,
        "zmax": scale.high,
        "colorscale": [[i / (len(scale.colors) - 1), color] for i, color in enumerate(scale.colors)],
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": _HOVER + "<extra></extra>",
    }
    x = {
        "title": {"text": "step", "standoff": 6},
        "tickvals": columns,
        "ticktext": [f"{view.steps[index]:,}" for index in columns],
        "range": [-0.5, len(view.steps) - 0.5],
        "showgrid": False,
    }
    y = {
        "tickvals": rows,
        "ticktext": _escaped([labels[index] for index in rows]),
        "range": [-0.5, len(view.sites) - 0.5],
        "showgrid": False,
    }
    traces = [trace, *_marks(view, marked)]
    return {"data": traces, "layout": _layout(height, x, y) | {"plot_bgcolor": _NOTHING}}


def similarity(*, height: int) -> dict[str, Any]:
    """Any two steps of one site; page.js fills in the site that is chosen, and its steps."""
    trace = {
        "type": "heatmap",
        "zmin": 0.0,
        "zmax": 1.0,
        "colorscale": [[i / (len(CIVIDIS) - 1), color] for i, color in enumerate(CIVIDIS)],
        "colorbar": {
            "thickness": 10,
            "outlinewidth": 0,
            "title": {"text": "J_W", "side": "right"},
            "tickvals": [0, 0.5, 1],
        },
        "hoverongaps": False,
        "hovertemplate": "steps %{customdata[0]} and %{customdata[1]}<br><b>%{customdata[2]}</b><extra></extra>",
    }
    x = {"title": {"text": "step", "standoff": 6}, "showgrid": False, "constrain": "domain"}
    y = x | {"scaleanchor": "x"}
    return {"data": [trace], "layout": _layout(height, x, y) | {"plot_bgcolor": _NOTHING}}


def _marks(view: RunView, marked: Sequence[int]) -> list[dict[str, Any]]:
    """Triangles on the upper edge of a heat map."""
    shown = np.flatnonzero(np.isin(view.steps, np.asarray(marked, dtype=np.int64)))
    if not shown.size:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": shown.tolist(),
            "y": [len(view.sites) - 0.5] * shown.size,
            "customdata": [f"{view.steps[index]:,}" for index in shown],
            "marker": {"symbol": "triangle-down", "size": 9, "color": "#d55e00"},
            "cliponaxis": False,
            "showlegend": False,
            "hovertemplate": "strike at step %{customdata}<extra></extra>",
        }
    ]


def curves(runs: Mapping[int, RunView], scale: Scale, *, height: int) -> dict[str, Any]:
    """A measure across the sites at one step, one line for each run; page.js fills in the step.

    Args:
        runs: the runs that have the measure, by their place in the report, which gives them their colour.
        scale: of the measure.
        height: in pixels.
    """
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": html.escape(view.name, quote=False),
            "line": line_style(index),
            "marker": {"size": 5},
            "hovertemplate": _HOVER,
        }
        for index, view in runs.items()
    ]
    margin = (scale.high - scale.low) * 0.05
    y = {
        "tickvals": [position for position, _ in scale.ticks],
        "ticktext": [text for _, text in scale.ticks],
        "range": [scale.low - margin, scale.high + margin],
        "zeroline": scale.kind == "symlog",
    }
    layout = _layout(height, _site_axis(list(runs.values())), y)
    return {"data": traces, "layout": layout | {"showlegend": len(runs) > 1}}


def training(views: Sequence[RunView], column: str, *, height: int) -> dict[str, Any] | None:
    """One scalar of the training against the step, for all runs; None when no run logged it."""
    traces: list[dict[str, Any]] = []
    steps, values = np.empty(0), np.empty(0)
    for index, view in enumerate(views):
        step, value = logged(view, column)
        if step.size:
            traces.extend(_scalar_traces(view, index, column, step, value))
            steps, values = np.concatenate([steps, step]), np.concatenate([values, value])
    if not traces:
        return None
    last = float(steps.max())
    x = {
        "title": {"text": "step", "standoff": 6},
        "tickvals": nice_ticks(0.0, last),
        "tickformat": ",",
        "range": [0.0, last or 1.0],
    }
    layout = _layout(height, x, _scalar_axis(column, values))
    return {"data": traces, "layout": layout | {"showlegend": len(views) > 1}}


def matrix(view: RunView, measure: Measure) -> list[list[float | int | None]]:
    """The numbers of a heat map, a list for each measurement: integers exact, others to 6 digits, NaN None."""
    values = view.values[measure.name]
    if measure.dtype == "int64":
        return [[int(x) if np.isfinite(x) else None for x in row] for row in values]
    return [[float(f"{x:.6g}") if np.isfinite(x) else None for x in row] for row in values]


def line_style(index: int) -> dict[str, Any]:
    """Colour, dash and width of the run at this place in the report."""
    return {"color": _COLORS[index % len(_COLORS)], "dash": _DASHES[index % len(_DASHES)], "width": 2}


def scalar_line(index: int, column: str) -> dict[str, Any]:
    """The run's line for a scalar: a learning rate holds until it is set anew."""
    return line_style(index) | ({"shape": "hv"} if column == "lr" else {})


def _scalar_traces(
    view: RunView, index: int, column: str, step: np.ndarray, value: np.ndarray
) -> list[dict[str, Any]]:
    """One run's scalar; a long noisy one as logged in the background, its running mean in front."""
    name, noisy = html.escape(view.name, quote=False), is_noisy(column, step.size)
    x, line = _rounded(step), scalar_line(index, column)
    front = {
        "type": "scatter",
        "mode": "lines" if step.size > 30 else "lines+markers",
        "x": x,
        "y": _rounded(running_mean(value) if noisy else value),
        "name": name,
        "line": line,
        "hovertemplate": f"step %{{x:,}}<br><b>%{{y:.4~g}}</b><extra>{_literal(name)}</extra>",
    }
    background = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": _rounded(value),
        "line": line | {"width": 1, "dash": "solid"},
        "opacity": 0.3,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    return [background, front] if noisy else [front]


def _scalar_axis(column: str, values: np.ndarray) -> dict[str, Any]:
    """Logarithmic where a loss or learning rate spans decades; from 0 otherwise."""
    if column == "accuracy":
        return {"rangemode": "tozero", "tickvals": nice_ticks(0.0, max(float(values.max()), 0.1))}
    if values.min() > 0 and values.max() / values.min() > 50:
        decades = np.log10(values.max() / values.min())
        return {"type": "log", "dtick": 1 if decades > 1.5 else "D2"}
    return {"rangemode": "tozero"}


def _site_axis(views: Sequence[RunView]) -> dict[str, Any]:
    """Names of the sites where all runs have the same ones, else their numbers."""
    longest = max((view.sites for view in views), key=len)
    same = all(view.sites == longest[: len(view.sites)] for view in views)
    shown = shown_ticks(len(longest), 20)
    named = site_labels(longest, 14) if same else [str(index) for index in range(len(longest))]
    return {
        "title": {"text": "site, from input to output", "standoff": 6},
        "tickvals": shown,
        "ticktext": _escaped([named[index] for index in shown]),
        "tickangle": -60 if same else 0,
        "range": [-0.5, len(longest) - 0.5],
    }


def _layout(height: int, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    axis = {
        "automargin": True,
        "gridcolor": _GRID,
        "linecolor": _RULE,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "zerolinecolor": _RULE,
    }
    font = {**_FONT, "color": _INK}
    return {
        "height": height,
        "margin": {"l": 8, "r": 22, "t": 8, "b": 8},
        "font": font,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": _RULE, "font": font, "align": "left"},
        "modebar": {"bgcolor": "rgba(255,255,255,0.7)", "color": _RULE, "activecolor": _INK},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "xaxis": axis | x,
        "yaxis": axis | y,
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _escaped(names: Sequence[str]) -> list[str]:
    """Names as plotly takes them: it reads a subset of HTML in every label."""
    return [html.escape(name, quote=False) for name in names]


def _literal(name: str) -> str:
    """A name inside of a hover template, where %{...} would be filled in."""
    return name.replace("%{", "%&#123;")
