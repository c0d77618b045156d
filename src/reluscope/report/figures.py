"""The report's pictures for paper: heat maps, curves across the layers and the training curve, in matplotlib.

Nothing here touches pyplot or any global state of matplotlib: each function returns a Figure to show or save.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from reluscope.errors import ExportError, closest
from reluscope.measures.spec import LAYER_MEASURES, Measure
from reluscope.report import text
from reluscope.report.charts import scalar_line
from reluscope.report.scalars import SCALARS, is_noisy, logged, running_mean
from reluscope.report.scales import Scale, fit_scale
from reluscope.report.view import Runs, RunView, views_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PAPER_MEASURES", "curves", "heatmaps", "training"]

PAPER_MEASURES = (
    "total",
    "relative_change",
    "churn_rate",
    "max_frequency",
    "relative_entropy",
    "weighted_jaccard_to_init",
    "coverage",
)
"""The rows of [A], figure 1, with the churn rate and the coverage that tell how to read them."""

_SMALL, _INK, _RULE, _NOTHING = 7.0, "#33373d", "#9aa0a8", "#d5d7db"
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def heatmaps(runs: Runs, measures: Sequence[str] | None = None) -> Figure:
    """Measures (rows) of runs (columns): site against step, colour = value, one colour scale for each row.

    The columns of a heat map are the measurements, evenly spaced whatever their steps are; the first site is
    at the bottom. Grey: not defined.

    Args:
        runs: a run, its folder, or several of them.
        measures: names of columns; by default those of [A], figure 1, as far as any run has them.

    Returns:
        A matplotlib Figure, about 3.4 inches for each run and 1.9 for each measure.

    Raises:
        ExportError: a measure that does not exist, or nothing to draw at all.
    """
    views = views_of(runs)
    chosen = _chosen(views, measures)
    figure = _figure(1.1 + 3.1 * len(views), 0.5 + _row_height(views) * len(chosen))
    axes = figure.subplots(len(chosen), len(views), squeeze=False)
    for row, measure in zip(axes, chosen, strict=True):
        scale = fit_scale(measure, (view.values[measure.name] for view in views if view.has(measure.name)))
        for ax, view in zip(row, views, strict=True):
            _heatmap(ax, view, measure, scale)
        _row_furniture(figure, row, measure, scale)
    for ax, view in zip(axes[0], views, strict=True):
        ax.set_title(_plain(text.shorten(view.name, 40)), fontsize=9, fontweight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    return figure


def curves(runs: Runs, measure: str, steps: Sequence[int] | None = None) -> Figure:
    """One measure across the sites, one panel for each run and one line for each step, dark to light in time.

    Args:
        runs: a run, its folder, or several of them.
        measure: name of the column.
        steps: steps to draw; each run's last measurement at or before a step stands for it. By default the
            first, the last and three between.

    Raises:
        ExportError: a measure that does not exist or that no run has, or steps before the first measurement.
    """
    views = views_of(runs)
    (traits,) = _chosen(views, [measure])
    scale = fit_scale(traits, (view.values[measure] for view in views if view.has(measure)))
    assert scale is not None  # _chosen left only what some run has
    figure = _figure(0.9 + 3.4 * len(views), 3.0)
    axes = figure.subplots(1, len(views), squeeze=False, sharey=True)[0]
    for ax, view in zip(axes, views, strict=True):
        ax.set_title(_plain(text.shorten(view.name, 40)), fontsize=9, fontweight="bold")
        reason = text.nothing_to_draw(view, traits)
        if reason is not None:
            _say(ax, reason)
            continue
        _lines(ax, view, scale.position(view.values[measure]), _indices(view, steps))
        _site_axis(ax, view)
    margin = (scale.high - scale.low) * 0.05
    axes[0].set_ylim(scale.low - margin, scale.high + margin)
    axes[0].set_yticks([position for position, _ in scale.ticks], [label for _, label in scale.ticks])
    axes[0].set_ylabel(_titled(traits))
    return figure


def training(runs: Runs) -> Figure:
    """Loss, accuracy and learning rate against the step, as far as any run logged them.

    All runs stand in each panel. Long curves: thin as logged, thick their running mean.

    Raises:
        ExportError: no run logged any of them.
    """
    views = views_of(runs)
    found = {
        column: [logged(view, column) for view in views]
        for column in SCALARS
        if any(logged(view, column)[0].size for view in views)
    }
    if not found:
        raise ExportError(
            "a training curve was asked for, but no run logged loss, accuracy or learning rate. "
            "recorder.log(step, loss=..., accuracy=..., lr=...) records them."
        )
    figure = _figure(3.4 * len(found), 2.4)
    for ax, (column, series) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        for index, (view, (step, value)) in enumerate(zip(views, series, strict=True)):
            _logged_line(
                ax, view, step, value, line=scalar_line(index, column), noisy=is_noisy(column, value.size)
            )
        ax.set_title(SCALARS[column][0], fontsize=9)
        ax.set_xlabel("step")
        _quiet(ax)
        if len(views) > 1 and ax is figure.axes[0]:
            ax.legend(frameon=False, fontsize=_SMALL)
    return figure


def _chosen(views: Sequence[RunView], names: Sequence[str] | None) -> list[Measure]:
    """The measures to draw: those asked for must be there, of the default ones those that are."""
    unknown = [name for name in names or () if name not in LAYER_MEASURES]
    if unknown:
        raise ExportError(
            f'no measure is called "{unknown[0]}"; closest: {closest(unknown[0], LAYER_MEASURES)}. All: '
            "rs.measures.LAYER_MEASURES."
        )
    wanted = PAPER_MEASURES if names is None else names
    chosen = [LAYER_MEASURES[name] for name in wanted if any(view.has(name) for view in views)]
    missing = [name for name in names or () if LAYER_MEASURES[name] not in chosen]
    if missing or not chosen:
        asked = missing[0] if missing else "any measure"
        reason = text.not_recorded(LAYER_MEASURES[missing[0]]) if missing else "nothing has been measured yet"
        raise ExportError(f"a figure of {asked} was asked for, but no run has it: {reason}.")
    return chosen


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=200)


def _row_height(views: Sequence[RunView]) -> float:
    """Inches for one heat map: enough for the labels of the sites, within reason."""
    return min(max(1.5, 0.4 + 0.085 * max(len(view.sites) for view in views)), 3.2)


def _heatmap(ax: Axes, view: RunView, measure: Measure, scale: Scale | None) -> None:
    reason = text.nothing_to_draw(view, measure)
    if reason is not None or scale is None:
        _say(ax, reason or "Not defined.")
        return
    positions = np.ma.masked_invalid(scale.position(view.values[measure.name]).T)
    colors = LinearSegmentedColormap.from_list("reluscope", list(scale.colors)).with_extremes(bad=_NOTHING)
    ax.imshow(
        positions,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colors,
        vmin=scale.low,
        vmax=scale.high,
    )
    columns, rows = text.step_ticks(view.steps.tolist(), 6), text.shown_ticks(len(view.sites), 10)
    ax.set_xticks(columns, [f"{view.steps[index]:,}" for index in columns])
    labels = text.site_labels(view.sites)
    ax.set_yticks(rows, [_plain(labels[index]) for index in rows])
    _quiet(ax, grid=False)


def _row_furniture(figure: Figure, row: Sequence[Axes], measure: Measure, scale: Scale | None) -> None:
    """What a row of heat maps shares: the colour bar, and the names of the sites where they are equal."""
    drawn = [ax for ax in row if ax.images]
    if not drawn or scale is None:
        return
    bar = figure.colorbar(drawn[0].images[0], ax=list(row), aspect=14, pad=0.015, fraction=0.05)
    bar.set_ticks([position for position, _ in scale.ticks], labels=[label for _, label in scale.ticks])
    bar.ax.tick_params(labelsize=_SMALL, length=2, color=_RULE)
    bar.outline.set_visible(False)
    bar.set_label(_titled(measure), fontsize=8)
    labels = [[label.get_text() for label in ax.get_yticklabels()] for ax in drawn]
    for ax, own in zip(drawn[1:], labels[1:], strict=True):
        if own == labels[0]:
            ax.set_yticklabels([])


def _lines(ax: Axes, view: RunView, positions: np.ndarray, indices: Sequence[int]) -> None:
    colors = LinearSegmentedColormap.from_list("time", ["#0d0887", "#9c179e", "#ed7953", "#f0c300"])
    for order, index in enumerate(indices):
        color = colors(order / max(len(indices) - 1, 1))
        ax.plot(
            positions[index], color=color, lw=1.3, marker="o", ms=2.5, label=f"step {view.steps[index]:,}"
        )
    ax.legend(frameon=False, fontsize=_SMALL)
    _quiet(ax)


def _logged_line(
    ax: Axes, view: RunView, step: np.ndarray, value: np.ndarray, *, line: dict[str, Any], noisy: bool
) -> None:
    """One run's scalar; a long noisy one as logged in the background, its running mean in front."""
    if noisy:
        ax.plot(step, value, lw=0.5, color=line["color"], alpha=0.3)
        value = running_mean(value)
    ax.plot(
        step,
        value,
        lw=1.3,
        color=line["color"],
        ls=_DASHES[line["dash"]],
        drawstyle="steps-post" if line.get("shape") == "hv" else "default",
        label=_plain(view.name),
    )


def _indices(view: RunView, steps: Sequence[int] | None) -> list[int]:
    """Each run's last measurement at or before the steps."""
    if steps is None:
        return text.step_ticks(view.steps.tolist(), 5)
    found = np.searchsorted(view.steps, np.asarray(steps), side="right") - 1
    if (found < 0).any():
        raise ExportError(
            f"curves at step {min(steps)} were asked for, but the first measurement of {view.name} is at "
            f"step {view.steps[0]}."
        )
    return sorted(set(found.tolist()))


def _site_axis(ax: Axes, view: RunView) -> None:
    shown = text.shown_ticks(len(view.sites), 20)
    labels = text.site_labels(view.sites, 14)
    named = [_plain(labels[index]) for index in shown]
    ax.set_xticks(shown, named, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_xlabel("site, from input to output")


def _say(ax: Axes, reason: str) -> None:
    """An empty state in words, where the picture would be."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor("#f6f7f9")
    ax.text(0.5, 0.5, _plain(reason), ha="center", va="center", wrap=True, fontsize=_SMALL, color="#5b626c",
            transform=ax.transAxes)  # fmt: skip
    for spine in ax.spines.values():
        spine.set_visible(False)


def _quiet(ax: Axes, *, grid: bool = True) -> None:
    ax.tick_params(labelsize=_SMALL, length=2, color=_RULE, labelcolor=_INK)
    ax.xaxis.label.set_fontsize(8)
    ax.yaxis.label.set_fontsize(8)
    for side, spine in ax.spines.items():
        spine.set_visible(grid and side in ("left", "bottom"))
        spine.set_color(_RULE)
    if grid:
        ax.grid(visible=True, color="#e4e6ea", lw=0.6)
        ax.set_axisbelow(True)


def _titled(measure: Measure) -> str:
    titled = f"{measure.title} (bits)" if measure.unit == "bits" else measure.title
    return "\n".join(textwrap.wrap(titled, 26))


def _plain(label: str) -> str:
    """Dollar signs would start a formula."""
    return label.replace("$", r"\$")
