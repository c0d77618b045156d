"""Figures 1 to 4 of [A] from runs of one's own, laid out as there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from reluscope.errors import ExportError, closest
from reluscope.measures.spec import LAYER_MEASURES, Measure
from reluscope.report.paper_curves import draw_entropy_curves
from reluscope.report.paper_layout import HEAD, LABEL, SMALL, WIDTH, Form, Sheet, lay_out, wrapped
from reluscope.report.paper_panels import (
    INK,
    color_bar,
    fit_colours,
    heat_map,
    letter,
    mark_strikes,
    say,
    signs,
    site_axis,
    step_axis,
)
from reluscope.report.paper_runs import (
    Field,
    PaperRun,
    Place,
    field_of,
    nothing_to_place,
    paper_runs,
    place_runs,
    similarity_field,
    single_updates,
    usual_gaps,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from reluscope.runs import Run

__all__ = ["FIGURES", "draw_paper_figure"]

FIGURES = ("fig1", "fig2", "fig3", "fig4")
"""What can be drawn."""

_NETS = tuple(Place(net=net) for net in ("resnet", "convnet", "toynet"))
_METHODS = (("relu", "milestones"), ("prelu", "milestones"), ("relu", "cyclic"), ("relu", "onecycle"))
_ALL_METHODS = tuple(
    place
    for net, beside in (("convnet", "pyramidnet"), ("resnet", "fixup_resnet"))
    for place in (
        *(Place(net=net, activation=activation, method=method) for activation, method in _METHODS),
        Place(net=beside),
    )
)
_DATA = {
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "mnist-sample": "MNIST sample",
    "fashion-mnist": "Fashion-MNIST",
}
_CHANGES = ("relative_change", "churn_rate")
# All but the most frequent pattern, which a sample shows well, and the occupancy of the list, which is what it is.
_LOW_COVERAGE_MATTERS = (
    *("total", "relative_change", "churn_rate", "relative_entropy"),
    *("weighted_jaccard_to_init", "similarity_to_final"),
)
_ACROSS = {"fig1": 3, "fig3": 5, "fig4": 6}
_HEIGHTS = {"fig1": 1.0, "fig3": 0.92, "fig4": 1.2}  # of a panel, in inches


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One measure in all panels: its letter in [A], and its column or the similarity it is."""

    letter: str
    name: str

    @property
    def measure(self) -> Measure:
        return LAYER_MEASURES["weighted_jaccard_to_init" if self.name == "similarity_to_final" else self.name]

    def title_of(self, reference: int | str | None) -> str:
        """What stands at its colour bar, in two lines at most; `reference`: what similarities refer to."""
        if reference == "final":
            return "$J_W$ to the\nfinal state"
        if reference is not None:
            return f"$J_W$ to step {reference}\n(initialisation)"
        return wrapped(self.measure.title, 0.95, HEAD)

    @property
    def why_empty(self) -> str:
        """Why a run has nothing of it."""
        if self.name == "similarity_to_final":
            return "The run keeps neither samples nor tables to compare its steps with the final state."
        if self.name == "occupancy":
            return "The run was recorded without the hash list."
        return f"The run has no value of {self.measure.title.lower()}."


_FIVE = (
    _Row(letter="A", name="total"),
    _Row(letter="B", name="relative_change"),
    _Row(letter="", name="churn_rate"),
    _Row(letter="C", name="max_frequency"),
    _Row(letter="D", name="relative_entropy"),
    _Row(letter="E", name="weighted_jaccard_to_init"),
)
_THREE = (
    _Row(letter="A", name="relative_entropy"),
    _Row(letter="B", name="similarity_to_final"),
    _Row(letter="C", name="occupancy"),
)


def draw_paper_figure(figure: str, runs: Sequence[Run], *, unfinished: Sequence[Run] = ()) -> Figure:
    """One of the figures of [A], from the runs of one's own trainings.

    Runs find their place by the specification in their run.json ("training"): network, activation, schedule,
    seed. A place without a run stays as an empty panel that says what is missing. The first site is at the
    bottom, white lines part the stages, and every row has one colour scale. Figures are 7.2 inches wide with text of
    6 to 8 points: made to be printed at that size.

    - fig1: the early phase. Columns ResNet-20, ConvNet-20, ToyNet-20; rows A to E as in [A], with the churn
      rate below the relative change, both by one update where that is known throughout. Small triangles above B:
      strikes.
    - fig2: relative entropy against site, mean and one standard deviation over seeds, one colour for each
      depth; rows are five moments of the training.
    - fig3: a column for each method, in two groups of five; rows relative entropy, J_W to the final state, occupancy
      of the hash list.
    - fig4: full training. Rows A ToyNet-20, B ConvNet-20, C ResNet-20; columns the measures of fig1, changes without
      those over single steps that are measured in between.

    J_W to the initialisation refers to step 1 where the runs keep samples or tables of it, which is what [A]
    calls initialisation, else to step 0; the label says which.

    Args:
        figure: "fig1", "fig2", "fig3" or "fig4".
        runs: opened runs, in any order; those made for another figure are left out and named below.
        unfinished: runs that are not to be drawn, as their trainings go on: their panels say how far they are.

    Returns:
        A matplotlib Figure.

    Raises:
        ExportError: no such figure, or no run that belongs in it.
    """
    if figure not in FIGURES:
        raise ExportError(
            f'a figure of the paper called "{figure}" was asked for; there are {", ".join(FIGURES)} (closest: '
            f"{closest(figure, FIGURES)})."
        )
    chosen, left_out = paper_runs(figure, runs)
    if not chosen:
        raise nothing_to_place(figure, left_out)
    begun, _ = paper_runs(figure, unfinished)
    if figure == "fig2":
        return draw_entropy_curves(chosen, _footer(chosen, left_out, begun))
    early = tuple(place.in_early_phase for place in _NETS)
    places = {"fig1": early, "fig3": _ALL_METHODS, "fig4": _NETS[::-1]}[figure]
    placed = place_runs(chosen, places, early=figure == "fig1")
    left_out = [*left_out, *(one.view.name for one in chosen if one not in placed.values())]
    if not placed:
        raise nothing_to_place(figure, left_out)
    return _Grid(figure, placed, left_out, places, place_runs(begun, places, early=figure == "fig1")).draw()


class _Grid:
    """Heat maps of some measures for some places, one of them down and the other across."""

    def __init__(
        self,
        figure: str,
        runs: Mapping[Place, PaperRun],
        left_out: Sequence[str],
        places: Sequence[Place],
        begun: Mapping[Place, PaperRun],
    ) -> None:
        self._runs, self._places, self._begun = runs, places, begun
        self._rows = _THREE if figure == "fig3" else _FIVE
        self._nets_down = figure == "fig4"
        per_epoch = figure != "fig1"
        self._per_epoch = per_epoch and all(one.steps_per_epoch for one in runs.values())
        # The early phase shows changes by one update; one over a gap beside them would look like a strike.
        self._changes_of_one_update = not per_epoch and all(
            (field := field_of(one, "churn_rate")) is not None and single_updates(field) is not None
            for one in runs.values()
        )
        self._heads = {place: self._head(place, with_method=figure == "fig3") for place in places}
        self._notes = _footer(list(runs.values()), left_out, heat=self._how_to_read())
        self._sheet = self._lay_out(figure)
        self._axes = dict(self._placed_axes())

    def draw(self) -> Figure:
        has_strikes, fields = False, []
        for index, row in enumerate(self._rows):
            own, reference = self._fields(row)
            has_strikes |= self._draw_row(index, row, own, reference)
            fields += [(row, field) for field in own.values()]
        self._furniture()
        self._sheet.notes(
            self._notes,
            signs(
                low_coverage=any(
                    row.name in _LOW_COVERAGE_MATTERS and field.low_coverage.any() for row, field in fields
                ),
                at_ceiling=any(
                    field.at_ceiling is not None and field.at_ceiling.any() for _, field in fields
                ),
                undefined=not all(np.isfinite(field.values).all() for _, field in fields),
                strikes=has_strikes,
            ),
        )
        return self._sheet.figure

    def _lay_out(self, figure: str) -> Sheet:
        """Axes for all panels; measures are rows of them, in figure 4 columns."""
        heads = [row.title_of(1) for row in self._rows] if self._nets_down else list(self._heads.values())
        return lay_out(
            Form(
                groups=max(1, len(self._places) // 5),
                down=len(self._places if self._nets_down else self._rows),
                across=_ACROSS[figure],
                height=_HEIGHTS[figure],
                head_lines=max(head.count("\n") + 1 for head in heads),
                note_lines=self._notes.count("\n") + 1,
                bars_below=self._nets_down,
            )
        )

    def _placed_axes(self) -> Iterator[tuple[tuple[int, Place], Axes]]:
        """The axes of a row and a place, whichever way they stand."""
        panels = self._sheet.panels
        if self._nets_down:
            panels = panels.transpose(0, 2, 1)
        across = panels.shape[2]
        for group, row, column in np.ndindex(panels.shape):
            yield (row, self._places[group * across + column]), panels[group, row, column]

    def _how_to_read(self) -> str:
        """What is not self-explaining, beside the signs."""
        words = "White lines: stages."
        if not any(row.name in _CHANGES for row in self._rows):
            return words
        since = "Changes are those since the measurement before"
        changes = f"{since}, single steps measured in between left out." if self._per_epoch else f"{since}."
        return f"{words} " + ("Changes are those by one update." if self._changes_of_one_update else changes)

    def _draw_row(
        self, index: int, row: _Row, fields: Mapping[Place, Field], reference: int | str | None
    ) -> bool:
        """One measure everywhere; whether strikes were marked."""
        at_reference = reference if isinstance(reference, int) else None
        colours = fit_colours(row.measure, list(fields.values()), reference=at_reference)
        has_strikes = False
        meshes: dict[int, QuadMesh] = {}  # by group
        for number, place in enumerate(self._places):
            ax = self._axes[index, place]
            if place not in fields or colours is None:
                say(ax, self._why_empty(row, place), self._sheet.form.panel_width)
                continue
            meshes[0 if self._nets_down else number // self._sheet.form.across] = heat_map(
                ax, self._runs[place], fields[place], colours, per_epoch=self._per_epoch,
                hatch=row.name in _LOW_COVERAGE_MATTERS,
            )  # fmt: skip
            if row.name == "relative_change" and not self._per_epoch:
                has_strikes |= mark_strikes(ax, self._runs[place])
        title = row.title_of(reference)
        if self._nets_down:
            self._axes[index, self._places[0]].set_title(title, fontsize=HEAD, color=INK, pad=3)
        for group, bars in enumerate(self._sheet.bars):
            if group in meshes and colours is not None:
                color_bar(
                    self._sheet.figure, meshes[group], bars[index], colours, title, below=self._nets_down
                )
            else:
                bars[index].remove()
        return has_strikes

    def _why_empty(self, row: _Row, place: Place) -> str:
        if place in self._runs:
            return row.why_empty
        if place in self._begun:
            one = self._begun[place]
            return f"not finished:\nstep {one.view.steps[-1]:,} of {one.num_steps:,}"
        return f"No run of\n{place.words}"

    def _fields(self, row: _Row) -> tuple[dict[Place, Field], int | str | None]:
        """What each place has of a row, and the step that similarities refer to."""
        if row.name == "similarity_to_final":
            whole = {place: similarity_field(one, "final") for place, one in self._runs.items()}
            return {place: field for place, field in whole.items() if field is not None}, "final"
        if row.name == "weighted_jaccard_to_init":
            to_one = {place: similarity_field(one, 1) for place, one in self._runs.items()}
            if all(field is not None for field in to_one.values()):
                return {place: field for place, field in to_one.items() if field is not None}, 1
        recorded = {place: field_of(one, row.name) for place, one in self._runs.items()}
        if row.name in _CHANGES:
            if self._changes_of_one_update:
                recorded = {place: field and single_updates(field) for place, field in recorded.items()}
            elif self._per_epoch:
                recorded = {place: field and usual_gaps(field) for place, field in recorded.items()}
        reference = 0 if row.name == "weighted_jaccard_to_init" else None
        return {place: field for place, field in recorded.items() if field is not None}, reference

    def _furniture(self) -> None:
        """Heads, letters, names of sites and of the horizontal axis, each once."""
        form = self._sheet.form
        last = self._places[-1] if self._nets_down else len(self._rows) - 1
        unit = "epoch" if self._per_epoch else "step (optimizer updates done)"
        before = None  # the panel to the left, whose numbers of sites do for this one
        for (index, place), ax in self._axes.items():
            first = index == 0 if self._nets_down else self._places.index(place) % form.across == 0
            before = None if first else before
            if not ax.collections:
                continue
            named = first if self._nets_down else before is None or not self._same_sites(place, before)
            site_axis(ax, self._runs.get(place), named=named)
            before = place
            is_last = (place if self._nets_down else index) == last
            step_axis(
                ax, unit, numbered=is_last or not self._same_length(), named=is_last, width=form.panel_width
            )
        for number, place in enumerate(self._places):
            head, top = self._heads[place], self._axes[0, place]
            if self._nets_down:
                top.set_ylabel(f"{head}\nsite", fontsize=LABEL, color=INK)
                top.yaxis.set_label_coords(-0.28 / form.panel_width, 0.5)
                letter(top, "ABC"[number], form.left - 0.06)
                continue
            top.set_title(head, fontsize=HEAD, color=INK, pad=3)
            for index, row in enumerate(self._rows if number % form.across == 0 else ()):
                ax = self._axes[index, place]
                ax.set_ylabel("site", fontsize=LABEL, color=INK)
                ax.yaxis.set_label_coords(-0.2 / form.panel_width, 0.5)
                letter(ax, row.letter, form.left - 0.06)

    def _head(self, place: Place, *, with_method: bool) -> str:
        head = f"{place.net_name}\n{place.method_name}" if with_method else place.net_name
        run, between = self._runs.get(place), "\n" if with_method else " "
        if run is not None and not run.is_whole:
            head += f"\n(until step {run.view.steps[-1]:,}{between}of {run.num_steps:,})"
        return head

    def _same_sites(self, place: Place, other: Place) -> bool:
        """Whether two places have the same sites, and both have a run."""
        both = [self._runs[one] for one in (place, other) if one in self._runs]
        return len(both) == 2 and len(both[0].view.sites) == len(both[1].view.sites)

    def _same_length(self) -> bool:
        """Whether the horizontal axes of a column of panels are the same, so that one has the numbers."""
        return not self._nets_down or len({one.num_steps for one in self._runs.values()}) == 1


def _footer(
    runs: Sequence[PaperRun], left_out: Sequence[str], begun: Sequence[PaperRun] = (), *, heat: str = ""
) -> str:
    """What the trainings were, how to read heat maps, and which runs are not drawn."""
    parts = [_trained_on(runs), heat] if heat else [_trained_on(runs)]
    if begun:
        named = ", ".join(
            f"{one.view.name} (step {one.view.steps[-1]:,} of {one.num_steps:,})" for one in begun
        )
        parts.append(f"Not finished, and not drawn: {named}.")
    if left_out:
        named = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        parts.append(f"Given, but not drawn here: {named}.")
    return "\n".join(wrapped(part, WIDTH - 0.12, SMALL) for part in parts).replace("$", r"\$")


def _trained_on(runs: Sequence[PaperRun]) -> str:
    def common(values: Sequence[Any]) -> list[Any]:
        return sorted({value for value in values if value is not None})

    specifications = [one.run.info.get("training") or {} for one in runs]
    data = common([(one.get("data") or {}).get("name") for one in specifications])
    data = [_DATA.get(str(name), str(name)) for name in data]
    scales = common([one.get("scale") for one in specifications])
    samples = common([(one.run.info.get("probe") or {}).get("num_samples") for one in runs])
    seeds = common([one.seed for one in runs])
    parts = [", ".join(data)]
    parts.append(f"{' / '.join(f'{number:,}' for number in samples)} probe images" if samples else "")
    parts.append(f"{', '.join(scales)} scale" if scales else "")
    parts.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    return "; ".join(part for part in parts if part) + "."
