"""Figure 2 of [A]: relative entropy against site at five moments of the training, over seeds and depths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reluscope.report.paper_layout import HEAD, LABEL, SMALL, WIDTH
from reluscope.report.paper_panels import INK, say
from reluscope.report.paper_runs import PaperRun, Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOMENTS", "draw_entropy_curves", "moment_index"]

MOMENTS = {
    "init": "initialisation\n(step 1)",
    "8": "step 8\n(our step 9)",
    "40": "step 40\n(our step 41)",
    "half": "50 %, before the\nlearning rate drops",
    "end": "end of training",
}
"""Rows, as [A] names them. [A] measures after the update, so that its step s is our step s + 1."""

_HEIGHT = 8.4  # of the figure, in inches
_STEPS = {"init": 1, "8": 9, "40": 41}
_NETS = ("resnet", "convnet", "toynet")
_DEPTHS = LinearSegmentedColormap.from_list("depths", ["#0d0887", "#9c179e", "#ed7953", "#e0b400"])
# A measurement this far before the drop, as a share of the training, still stands for it.
_NEAR = 0.05


def moment_index(paper_run: PaperRun, moment: str) -> int | None:
    """The row of a run's measurements that shows a moment; None where it was not measured.

    Args:
        paper_run: the run.
        moment: a key of MOMENTS.
    """
    steps = paper_run.view.steps
    if moment in _STEPS:
        found = np.flatnonzero(steps == _STEPS[moment])
        return int(found[0]) if found.size else None
    if moment == "end":
        return len(steps) - 1 if paper_run.is_whole else None
    schedule = (paper_run.run.info.get("training") or {}).get("schedule") or {}
    share = (schedule.get("milestones") or (0.5,))[0]
    drop = math.ceil(share * paper_run.num_steps)  # the state at this step has not seen the lower rate yet
    before = np.flatnonzero((steps <= drop) & (steps >= drop - max(1.0, _NEAR * paper_run.num_steps)))
    return int(before[-1]) if before.size else None


def draw_entropy_curves(runs: Sequence[PaperRun], footer: str) -> Figure:
    """The whole figure: columns ResNet, ConvNet, ToyNet, rows the moments, a colour for each depth.

    Lines are means over seeds, bands one standard deviation (of the sample, n - 1). Hollow marks: the mean
    coverage is below 0.5 there, and the entropy the sample's.

    Args:
        runs: all seeds and depths.
        footer: what the trainings were.
    """
    groups = _groups(runs)
    depths = sorted({place.depth for place in groups})
    notes = (
        f"Lines: mean over seeds; bands: one standard deviation. Hollow marks: coverage below 0.5.\n{footer}"
    )
    below = (notes.count("\n") + 1) * 0.105 / _HEIGHT + 0.01
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained", dpi=300)
    figure.get_layout_engine().set(rect=(0.0, below, 1.0, 1.0 - below))  # type: ignore[union-attr]
    axes = figure.subplots(len(MOMENTS), len(_NETS), squeeze=False, sharex="col", sharey=True)
    for row, moment in zip(axes, MOMENTS, strict=True):
        for ax, net in zip(row, _NETS, strict=True):
            _panel(ax, {depth: groups.get(_place(net, depth), []) for depth in depths}, net, moment)
        _legends(row, axes[0])
        row[0].set_ylabel(f"{MOMENTS[moment]}\n\nrelative entropy", fontsize=LABEL, color=INK)
    for ax, net in zip(axes[0], _NETS, strict=True):
        ax.set_title(_place(net, 20).net_name.removesuffix("-20"), fontsize=HEAD, color=INK)
    for ax in axes[-1]:
        ax.set_xlabel("site, from input to output", fontsize=LABEL, color=INK)
    axes[0, 0].set_ylim(*_range(axes))
    figure.text(0.008, 0.005, notes, fontsize=SMALL, color="#5b626c", va="bottom")
    return figure


def _place(net: str, depth: int) -> Place:
    return Place(net=net, depth=depth)


def _groups(runs: Sequence[PaperRun]) -> dict[Place, list[PaperRun]]:
    found: dict[Place, list[PaperRun]] = {}
    for one in runs:
        found.setdefault(one.place, []).append(one)
    return {place: seeds for place, seeds in found.items() if place == _place(place.net, place.depth)}


def _panel(ax: Axes, by_depth: Mapping[int, Sequence[PaperRun]], net: str, moment: str) -> None:
    """All depths of one network at one moment; what is missing is named."""
    missing = []
    for order, (depth, runs) in enumerate(by_depth.items()):
        curves = [_curve(one, moment) for one in runs]
        known = [curve for curve in curves if curve is not None]
        if not known:
            missing.append(depth)
            continue
        color = _DEPTHS(order / max(len(by_depth) - 1, 1))
        entropy, coverage = (np.stack([curve[part] for curve in known]) for part in (0, 1))
        _line(ax, entropy, coverage, color, f"b = {(depth - 2) // 6}, {_seeds(len(known))}")
    _style(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(missing) == len(by_depth):
        say(ax, f"No run of {_place(net, 20).net_name[:-3]} measured here.", 1.8)
        return
    if missing:
        named = ", ".join(str((depth - 2) // 6) for depth in missing)
        ax.text(
            0.02,
            0.97,
            f"missing: b = {named}",
            transform=ax.transAxes,
            fontsize=SMALL,
            va="top",
            color="#b2182b",
        )


def _legends(row: Any, first: Any) -> None:
    """A legend in each panel of the first row, and below where other depths or numbers of seeds are drawn."""
    for ax, above in zip(row, first, strict=True):
        labels = ax.get_legend_handles_labels()[1]
        if labels and (ax is above or labels != above.get_legend_handles_labels()[1]):
            ax.legend(frameon=False, fontsize=SMALL, loc="lower right", labelspacing=0.25, handlelength=1.4)


def _line(
    ax: Axes, entropy: npt.NDArray[np.float64], coverage: npt.NDArray[np.float64], color: object, label: str
) -> None:
    mean, site = entropy.mean(axis=0), np.arange(entropy.shape[1])
    ax.plot(site, mean, color=color, lw=1.0, label=label)
    solid = ~(coverage.mean(axis=0) < 0.5)
    ax.plot(site[solid], mean[solid], "o", color=color, ms=2.0, mew=0)
    ax.plot(site[~solid], mean[~solid], "o", mfc="white", mec=color, ms=2.2, mew=0.6)
    if len(entropy) > 1:
        spread = entropy.std(axis=0, ddof=1)
        ax.fill_between(site, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)


def _curve(
    paper_run: PaperRun, moment: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Relative entropy and coverage of every site at a moment."""
    index, view = moment_index(paper_run, moment), paper_run.view
    if index is None or not view.has("relative_entropy"):
        return None
    unknown = np.full(len(view.sites), np.nan)
    return view.values["relative_entropy"][index], view.values.get("coverage", unknown[np.newaxis])[
        index if "coverage" in view.values else 0
    ]


def _range(axes: Any) -> tuple[float, float]:
    """From a little below the lowest curve to a little above 1, the same in all panels."""
    lowest = min(
        (
            float(np.nanmin(line.get_ydata()))
            for ax in axes.flat
            for line in ax.lines
            if len(line.get_ydata())
        ),
        default=0.0,
    )
    return max(0.0, math.floor(lowest * 10.0 - 0.5) / 10.0), 1.02


def _seeds(count: int) -> str:
    return f"{count} seed" + ("s" if count != 1 else "")


def _style(ax: Axes) -> None:
    ax.tick_params(labelsize=SMALL, length=2, color="#9aa0a8", labelcolor=INK)
    ax.grid(visible=True, color="#e4e6ea", lw=0.5)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9aa0a8")
