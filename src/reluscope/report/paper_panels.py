"""Heat maps as in [A]: site against step, the input at the bottom, stages marked, one colour scale a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from reluscope.measures.spec import Measure
from reluscope.report.paper_layout import LABEL, SMALL, wrapped
from reluscope.report.paper_runs import Field, PaperRun, stage_ends
from reluscope.report.scales import Scale, fit_scale

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

__all__ = [
    "INK",
    "Colours",
    "color_bar",
    "fit_colours",
    "heat_map",
    "letter",
    "mark_strikes",
    "say",
    "signs",
    "site_axis",
    "step_axis",
]

INK = "#33373d"
_RULE, _NOTHING, _WASH, _STRIKE = "#9aa0a8", "#d5d7db", "#f6f7f9", "#d55e00"
# Dark lines inside light ones: to be seen on the dark and on the light end of every colour map.
_CASING, _CORE = (to_rgba("white", 0.75), 1.1), (to_rgba("#1c1f24", 0.75), 0.35)
_LOW, _CEILING = "/////", "xxxx"
# Similarities near the reference step are 1 by definition and would leave the rest of the scale one colour.
_REFERENCE_SHARE = 0.02
_MAX_COLUMNS = 600


@dataclass(frozen=True, kw_only=True, eq=False)
class Colours:
    """The scale of a row, and whether values above its end are drawn in the colour of its end."""

    scale: Scale
    is_clipped: bool = False

    @property
    def map(self) -> Colormap:
        """Its colours; grey where nothing is defined."""
        colors = LinearSegmentedColormap.from_list("reluscope", list(self.scale.colors))
        return colors.with_extremes(bad=_NOTHING)


def fit_colours(measure: Measure, fields: Sequence[Field], *, reference: int | None = None) -> Colours | None:
    """One scale for all panels of a row.

    Args:
        measure: what is drawn.
        fields: of all panels that have something to draw.
        reference: the step that similarities refer to; near it they do not stretch the scale.
    """
    values = [field.values for field in fields]
    highest = max((float(np.nanmax(value)) for value in values), default=0.0)
    if reference is not None and fields:
        away = [
            field.values[np.abs(field.steps - reference) > _REFERENCE_SHARE * int(field.steps[-1])]
            for field in fields
        ]
        found = np.concatenate([part[np.isfinite(part)] for part in away])
        if found.size and float(found.max()) < 0.9 * highest:
            values = [np.minimum(value, float(found.max())) for value in values]
    scale = fit_scale(measure, values)
    if scale is None:
        return None
    return Colours(scale=scale, is_clipped=bool(scale.position(highest) > scale.high + 1e-9))


def heat_map(
    ax: Axes, paper_run: PaperRun, field: Field, colours: Colours, *, per_epoch: bool, hatch: bool
) -> QuadMesh:
    """One panel.

    Args:
        ax: where.
        paper_run: whose stages are marked.
        field: what is drawn.
        colours: of the row.
        per_epoch: the horizontal axis in epochs instead of steps, where the run knows their length.
        hatch: hatch where the coverage is below 0.5; what is at its ceiling is crossed in any case.
    """
    is_change = colours.scale.kind == "symlog"
    field = _pooled(field, extremes=is_change)
    edges = _edges(field.steps)
    edges[0], edges[-1] = min(edges[0], paper_run.view.steps[0]), max(edges[-1], paper_run.view.steps[-1])
    edges /= paper_run.steps_per_epoch or 1 if per_epoch else 1
    rows = np.arange(field.values.shape[1] + 1) - 0.5
    mesh = ax.pcolormesh(
        edges,
        rows,
        np.ma.masked_invalid(colours.scale.position(field.values).T),
        cmap=colours.map,
        vmin=colours.scale.low,
        vmax=colours.scale.high,
        rasterized=True,  # thousands of cells: as vectors they would be slow to show, with seams between them
        antialiased=False,
    )
    at_ceiling = np.zeros_like(field.low_coverage) if field.at_ceiling is None else field.at_ceiling
    if hatch:
        _hatch(ax, edges, field.low_coverage & ~at_ceiling, _LOW)
    _hatch(ax, edges, at_ceiling, _CEILING)
    for end in stage_ends(paper_run):  # the middle of the scale of changes is white itself
        ax.axhline(end + 0.5, color=_RULE if is_change else "white", lw=0.7 if is_change else 1.0)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(rows[0], rows[-1])
    _quiet(ax)
    return mesh


def site_axis(ax: Axes, paper_run: PaperRun | None, *, named: bool) -> None:
    """The first site of each stage and the last one, as numbers; without numbers where a neighbour has them."""
    if paper_run is None:
        return
    last = len(paper_run.view.sites) - 1
    ticks = sorted({0, *(end + 1 for end in stage_ends(paper_run)), last})
    if not stage_ends(paper_run):
        ticks = sorted({0, last // 2, last})
    ax.set_yticks(ticks, [str(tick) if named else "" for tick in ticks])


def step_axis(ax: Axes, name: str, *, numbered: bool, named: bool, width: float) -> None:
    """Round numbers below a panel of `width` inches, as many as have room, or only their ticks; and a name."""
    start, stop = ax.get_xlim()
    count = max(2, min(5, round(width / 0.24)))
    ticks = [tick for tick in MaxNLocator(nbins=count).tick_values(start, stop) if start <= tick <= stop]
    ax.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    _quiet(ax)
    ax.tick_params(axis="x", labelbottom=numbered)
    if numbered:
        near = 0.02 * (stop - start)
        for tick, text in zip(
            ticks, ax.get_xticklabels(), strict=True
        ):  # at an edge: not into the next panel
            at_edge = "left" if tick - start < near else "right" if stop - tick < near else "center"
            text.set_horizontalalignment(at_edge)
    if named:
        ax.set_xlabel(name, fontsize=LABEL, color=INK, labelpad=2)


def letter(ax: Axes, name: str, left: float) -> None:
    """The letter of a row of panels, as in the paper, `left` inches from its first panel."""
    ax.annotate(
        name, (0.0, 1.0), (-72 * left, 1), xycoords="axes fraction", textcoords="offset points", fontsize=9,
        fontweight="bold", va="top", ha="left",
    )  # fmt: skip


def mark_strikes(ax: Axes, paper_run: PaperRun) -> bool:
    """A mark above the panel at every strike; whether there is one."""
    steps = [one.step for one in paper_run.run.strikes.strikes]
    if steps:
        ax.plot(
            steps,
            [1.02] * len(steps),
            "v",
            ms=3,
            color=_STRIKE,
            mew=0,
            clip_on=False,
            transform=ax.get_xaxis_transform(),
        )
    return bool(steps)


def signs(
    *, low_coverage: bool, at_ceiling: bool, undefined: bool, strikes: bool
) -> list[tuple[Artist | tuple[Artist, ...], str]]:
    """A legend of the signs that a figure uses."""
    found: list[tuple[Artist | tuple[Artist, ...], str]] = []
    if low_coverage:
        found.append(
            (
                _swatch(_LOW),
                "coverage below 0.5 (of two states compared: at either): the value is the sample's",
            )
        )
    if at_ceiling:
        found.append((_swatch(_CEILING), "at least 90 % of the most patterns possible"))
    if undefined:
        found.append((Patch(facecolor=_NOTHING, linewidth=0.0), "not defined"))
    if strikes:
        found.append((Line2D([], [], ls="", marker="v", ms=3, color=_STRIKE, mew=0), "strike"))
    return found


def color_bar(figure: Figure, mesh: QuadMesh, ax: Axes, colours: Colours, title: str, *, below: bool) -> None:
    """The scale of a row at its right, with its title; or of a column below it, without."""
    bar = figure.colorbar(
        mesh,
        cax=ax,
        orientation="horizontal" if below else "vertical",
        extend="max" if colours.is_clipped else "neither",
        extendfrac=0.06,
    )
    ticks = _apart(colours.scale, 4 if below else 6)
    bar.set_ticks([position for position, _ in ticks], labels=[_brief(label) for _, label in ticks])
    bar.ax.tick_params(labelsize=SMALL, length=2, pad=2, color=_RULE, labelcolor=INK)
    bar.outline.set_visible(False)
    if not below:
        bar.set_label(title, fontsize=LABEL, color=INK)
        bar.ax.yaxis.set_label_coords(5.4, 0.5)


def say(ax: Axes, words: str, width: float) -> None:
    """A panel of `width` inches that shows why it is empty."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor(_WASH)
    ax.text(0.5, 0.5, wrapped(words, 0.94 * width, SMALL), ha="center", va="center", fontsize=SMALL, color="#5b626c",
            transform=ax.transAxes)  # fmt: skip
    for spine in ax.spines.values():
        spine.set_color("#c3c8cf")
        spine.set_linestyle((0, (3, 3)))


def _edges(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Borders of the cells: halfway between measurements, so that each stands for the steps around it."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2.0
    return np.concatenate([[float(steps[0])], middle, [float(steps[-1])]])


def _pooled(field: Field, *, extremes: bool) -> Field:
    """At most 600 columns, the pixels of a panel: of neighbouring measurements the mean, or the largest change.

    Drawn as they are, columns narrower than a pixel would come and go by chance, and strikes with them.
    """
    if len(field.steps) <= _MAX_COLUMNS:
        return field
    parts = np.array_split(np.arange(len(field.steps)), _MAX_COLUMNS)
    values = np.stack([_pool(field.values[part], extremes=extremes) for part in parts])
    return Field(
        steps=np.array([field.steps[part[len(part) // 2]] for part in parts[:-1]] + [field.steps[-1]]),
        values=values,
        low_coverage=np.stack([field.low_coverage[part].mean(axis=0) > 0.5 for part in parts]),
        at_ceiling=None
        if field.at_ceiling is None
        else np.stack([field.at_ceiling[part].mean(axis=0) > 0.5 for part in parts]),
    )


def _pool(values: npt.NDArray[np.float64], *, extremes: bool) -> npt.NDArray[np.float64]:
    """One row for several (n, L); NaN only where all are."""
    known = np.isfinite(values)
    if extremes:
        place = np.argmax(np.where(known, np.abs(values), -1.0), axis=0)
        return values[place, np.arange(values.shape[1])]
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _hatch(ax: Axes, edges: npt.NDArray[np.float64], marked: npt.NDArray[np.bool_], hatch: str) -> None:
    """Thin lines over what is marked (S, L): stretches of steps, site by site."""
    boxes = []
    for site in range(marked.shape[1]):
        padded = np.concatenate([[False], marked[:, site], [False]])
        borders = np.flatnonzero(padded[1:] != padded[:-1])
        for start, stop in zip(edges[borders[::2]], edges[borders[1::2]], strict=True):
            low, high = site - 0.5, site + 0.5
            boxes.append(
                Path([(start, low), (stop, low), (stop, high), (start, high), (start, low)], closed=True)
            )
    if boxes:
        whole = Path.make_compound_path(*boxes)
        for style in (_CASING, _CORE):
            ax.add_patch(_styled(PathPatch(whole, fill=False), hatch, style))


def _swatch(hatch: str) -> tuple[Patch, ...]:
    lines = (_styled(Patch(fill=False), hatch, style) for style in (_CASING, _CORE))
    return Patch(facecolor="#948e77", linewidth=0.0), *lines


def _styled(patch: Any, hatch: str, style: tuple[tuple[float, float, float, float], float]) -> Any:
    """A patch of nothing but hatching, in a colour and a width."""
    color, width = style
    patch.set(hatch=hatch, edgecolor=color, linewidth=0.0)
    if hasattr(patch, "set_hatch_linewidth"):  # matplotlib 3.10; before it, lines have the usual width
        patch.set_hatch_linewidth(width)
    return patch


def _apart(scale: Scale, limit: int) -> list[tuple[float, str]]:
    """Ticks with room between them: on a short bar every second one, but zero always."""
    ticks = list(scale.ticks)
    if len(ticks) <= limit:
        return ticks
    zero = next((place for place, (_, label) in enumerate(ticks) if label == "0"), 0)
    return [tick for place, tick in enumerate(ticks) if (place - zero) % 2 == 0]


def _brief(label: str) -> str:
    """100,000 as 100 k and 0.0001 as a power of ten: bars are short."""
    if label.endswith(",000"):
        return f"{label[:-4]} k"
    if label.startswith("1e-") or (len(label) > 4 and label.strip("0.") == "1"):
        return f"$10^{{{round(math.log10(float(label)))}}}$"
    return label


def _quiet(ax: Axes) -> None:
    ax.tick_params(labelsize=SMALL, length=2, pad=2, color=_RULE, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
