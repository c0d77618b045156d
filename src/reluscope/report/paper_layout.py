"""Where the panels of a figure of [A] stand: in inches of the printed page, so that text has its final size.

A figure is as wide as a page of a journal; nothing in it is scaled down afterwards. Positions are fixed rather than
fitted, so that panels, labels and colour bars line up whatever they say.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HEAD", "LABEL", "SMALL", "WIDTH", "Form", "Sheet", "lay_out", "wrapped"]

WIDTH = 7.2
"""Of every figure, in inches: two columns of a journal."""

HEAD, LABEL, SMALL = 7.5, 7.0, 6.0  # points, of heads, names of axes, and numbers and notes

_CHARACTER = 0.53  # width of a letter as a share of its size, in DejaVu Sans
_LINE = 1.25  # of text to the next, as a share of its size
_GAP, _ROW_GAP = (
    0.16,
    0.09,
)  # between columns: room for numbers of sites; between rows: for the marks of strikes
_TOP, _BOTTOM = 0.05, 0.04
_AXIS = 0.33  # numbers of the horizontal axis and its name
_BAR, _BAR_OFF, _BAR_NUMBERS = (
    0.08,
    0.08,
    0.17,
)  # thickness of a colour bar, its distance, and what stands at it
_LEGEND = 0.2
_NOTES = "#5b626c"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a figure consists of.

    Attributes:
        groups: grids of panels, one under the other.
        down, across: panels of each grid.
        height: of a panel, in inches.
        head_lines: of text above each column of a grid.
        note_lines: of text below everything.
        bars_below: colour bars below the columns instead of at the right of the rows.
    """

    groups: int = 1
    down: int
    across: int
    height: float
    head_lines: int
    note_lines: int
    bars_below: bool = False

    @property
    def left(self) -> float:
        """Where the panels begin, in inches."""
        return 0.56 if self.bars_below else 0.44

    @property
    def panel_width(self) -> float:
        """In inches."""
        right = 0.1 if self.bars_below else 0.86
        return (WIDTH - self.left - right - (self.across - 1) * _GAP) / self.across

    @property
    def head(self) -> float:
        """Height of the heads above a grid, in inches."""
        return self.head_lines * HEAD * _LINE / 72 + 0.05

    @property
    def grid(self) -> float:
        """Height of the panels of a grid, in inches."""
        return self.down * self.height + (self.down - 1) * _ROW_GAP

    @property
    def total_height(self) -> float:
        """Of the figure, in inches."""
        bars = _BAR_OFF + _BAR + _BAR_NUMBERS if self.bars_below else 0.0
        groups = self.groups * (self.head + self.grid + _AXIS)
        return _TOP + groups + bars + _LEGEND + self.note_lines * SMALL * _LINE / 72 + _BOTTOM


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A figure with its axes, still empty.

    Attributes:
        form: what it was made from.
        figure: the whole.
        panels: axes as (group, down, across).
        bars: axes of the colour bars, as (group, down); below the columns as (group, across).
    """

    form: Form
    figure: Figure
    panels: Any
    bars: Any

    def notes(self, text: str, legend: Sequence[tuple[Any, str]]) -> None:
        """What stands below everything: a legend of signs (an artist, or several on one another), and the text."""
        height, left = self.form.total_height, 0.06
        self.figure.text(left / WIDTH, _BOTTOM / height, text, fontsize=SMALL, color=_NOTES, va="bottom",
                         linespacing=_LINE)  # fmt: skip
        above = _BOTTOM + self.form.note_lines * SMALL * _LINE / 72 + 0.04
        handles, labels = [handle for handle, _ in legend], [label for _, label in legend]
        self.figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(left / WIDTH, above / height), ncols=len(legend),
            fontsize=SMALL, labelcolor=_NOTES, frameon=False, borderpad=0.0, borderaxespad=0.0,
            handlelength=2.6, handleheight=1.2, handletextpad=0.6, columnspacing=1.8,
        )  # fmt: skip


def lay_out(form: Form) -> Sheet:
    """The figure, with axes for all panels (group by group, row by row) and then for the colour bars."""
    figure = Figure(figsize=(WIDTH, form.total_height), dpi=300)
    width, height = form.panel_width, form.height
    panels = np.empty((form.groups, form.down, form.across), dtype=object)
    bars = np.empty((form.groups, form.across if form.bars_below else form.down), dtype=object)
    for group, row, column in np.ndindex(panels.shape):
        left, top = form.left + column * (width + _GAP), _top(form, group, row)
        panels[group, row, column] = _axes(figure, left, top, width, height)
    for group, index in np.ndindex(bars.shape):
        if form.bars_below:
            top = _top(form, group, form.down - 1) + height + _AXIS + _BAR_OFF
            left = form.left + index * (width + _GAP)
            bars[group, index] = _axes(figure, left, top, width, _BAR, "<colorbar>")
        else:
            left = form.left + form.across * (width + _GAP) - _GAP + _BAR_OFF
            bars[group, index] = _axes(figure, left, _top(form, group, index), _BAR, height, "<colorbar>")
    return Sheet(form=form, figure=figure, panels=panels, bars=bars)


def wrapped(text: str, width: float, size: float) -> str:
    """The text in lines of at most `width` inches at `size` points, about; breaks that it has stay."""
    limit = max(8, math.floor(width * 72 / (size * _CHARACTER)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, limit) or [""])


def _top(form: Form, group: int, row: int) -> float:
    """The upper edge of a row of panels, in inches from the top."""
    before = group * (form.head + form.grid + _AXIS)
    return _TOP + before + form.head + row * (form.height + _ROW_GAP)


def _axes(figure: Figure, left: float, top: float, width: float, height: float, label: str = "") -> Any:
    whole = figure.get_figheight()
    place = (left / WIDTH, 1.0 - (top + height) / whole, width / WIDTH, height / whole)
    return figure.add_axes(place, label=label)
