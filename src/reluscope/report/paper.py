"""Figures 1 to 4 of [A] from runs of one's own, laid out as there."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from reluscope.errors import ExportError, closest
from reluscope.measures.spec import LAYER_MEASURES, Measure
from reluscope.report.paper_curves import draw_entropy_curves
from reluscope.report.paper_panels import (
    INK,
    SMALL,
    color_bar,
    fit_colours,
    heat_map,
    letter,
    mark_strikes,
    say,
    site_axis,
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

    from reluscope.runs import Run

__all__ = ["FIGURES", "draw_paper_figure"]

FIGURES = ("fig1", "fig2", "fig3", "fig4")
"""What can be drawn."""

_NETS = tuple(Place(net=net) for net in ("resnet", "convnet", "toynet"))
_METHODS = (("relu", "milestones"), ("prelu", "milestones"), ("relu", "cyclic"), ("relu", "onecycle"))
_ALL_METHODS = (
    *(
        Place(net=net, activation=activation, method=method)
        for net in ("convnet", "resnet")
        for activation, method in _METHODS
    ),
    Place(net="pyramidnet"),
    Place(net="fixup_resnet"),
)
_DATA = {
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "mnist-sample": "MNIST sample",
    "fashion-mnist": "Fashion-MNIST",
}
_CHANGES = ("relative_change", "churn_rate")
_LOW_COVERAGE_MATTERS = ("relative_entropy", "churn_rate", "weighted_jaccard_to_init", "similarity_to_final")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One measure in all panels: its letter in [A], and its column or the similarity it is."""

    letter: str
    name: str

    @property
    def measure(self) -> Measure:
        return LAYER_MEASURES["weighted_jaccard_to_init" if self.name == "similarity_to_final" else self.name]


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


def draw_paper_figure(figure: str, runs: Sequence[Run]) -> Figure:
    """One of the figures of [A], from the runs of one's own trainings.

    Runs find their place by the specification in their run.json ("training"): network, activation, schedule,
    seed. A place without a run stays as an empty panel that says what is missing. The first site is at the
    bottom, white lines part the stages, and every row has one colour scale.

    - fig1: the early phase. Columns ResNet-20, ConvNet-20, ToyNet-20; rows A to E as in [A], with the churn
      rate below the relative change, both by one update where that is known throughout. Small triangles above B:
      strikes.
    - fig2: relative entropy against site, mean and one standard deviation over seeds, one colour for each
      depth; rows are five moments of the training.
    - fig3: a column for each method; rows relative entropy, J_W to the final state, occupancy of the hash
      list.
    - fig4: full training. Rows A ToyNet-20, B ConvNet-20, C ResNet-20; columns the measures of fig1, changes without
      those over single steps that are measured in between.

    J_W to the initialisation refers to step 1 where the runs keep samples or tables of it, which is what [A]
    calls initialisation, else to step 0; the label says which.

    Args:
        figure: "fig1", "fig2", "fig3" or "fig4".
        runs: opened runs, in any order; those made for another figure are left out and named below.

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
    if figure == "fig2":
        return draw_entropy_curves(chosen, _footer(chosen, left_out))
    early = tuple(place.in_early_phase for place in _NETS)
    places = {"fig1": early, "fig3": _ALL_METHODS, "fig4": _NETS[::-1]}[figure]
    placed = place_runs(chosen, places, early=figure == "fig1")
    unplaced = [one.view.name for one in chosen if one not in placed.values()]
    if not placed:
        raise nothing_to_place(figure, [*left_out, *unplaced])
    grid = _Grid(
        placed,
        [*left_out, *unplaced],
        places,
        _THREE if figure == "fig3" else _FIVE,
        per_epoch=figure != "fig1",
        nets_down=figure == "fig4",
    )
    return grid.draw()


class _Grid:
    """Heat maps of some measures for some places, one of them down and the other across."""

    def __init__(
        self,
        runs: Mapping[Place, PaperRun],
        left_out: Sequence[str],
        places: Sequence[Place],
        rows: Sequence[_Row],
        *,
        per_epoch: bool,
        nets_down: bool,
    ) -> None:
        self._runs, self._left_out = runs, left_out
        self._places, self._rows = places, rows
        self._per_epoch = per_epoch and all(one.steps_per_epoch for one in self._runs.values())
        self._nets_down = nets_down
        # The early phase shows changes by one update; one over a gap beside them would look like a strike.
        self._changes_of_one_update = not per_epoch and all(
            (field := field_of(one, "churn_rate")) is not None and single_updates(field) is not None
            for one in runs.values()
        )

    def draw(self) -> Figure:
        figure, axes = self._axes()
        has_strikes = False
        for index, row in enumerate(self._rows):
            own = {place: axes[index, column] for column, place in enumerate(self._places)}
            has_strikes |= self._draw_row(figure, row, own)
        self._furniture(figure, axes)
        notes = _footer(list(self._runs.values()), self._left_out, heat=self._legend(strikes=has_strikes))
        figure.text(0.006, 0.004, notes, fontsize=SMALL, color="#5b626c", va="bottom")
        return figure

    def _legend(self, *, strikes: bool) -> str:
        """How to read what is not self-explaining."""
        legend = [
            "White lines: stages. Hatched: coverage below 0.5 (of two states compared: at either), where the value is the "
            "sample's. Grey: not defined."
        ]
        if any(row.name in _CHANGES for row in self._rows):
            since = "Changes are those since the measurement before"
            changes = (
                f"{since}, single steps measured in between left out." if self._per_epoch else f"{since}."
            )
            changes = "Changes are those by one update." if self._changes_of_one_update else changes
            legend.append(changes + (" Triangles: strikes." if strikes else ""))
        return "\n".join(legend)

    def _axes(self) -> tuple[Figure, Any]:
        """The figure, and its axes as (measure, place) whichever way they stand."""
        across = len(self._rows) if self._nets_down else len(self._places)
        down = len(self._places) if self._nets_down else len(self._rows)
        many = across > 4
        size = ((1.85 if many else 2.9) * across + 1.0, 1.55 * down + (1.6 if self._nets_down else 1.1))
        figure = Figure(figsize=size, layout="constrained", dpi=200)
        figure.get_layout_engine().set(rect=(0.0, 0.4 / size[1], 1.0, 1.0 - 0.4 / size[1]))  # type: ignore[union-attr]
        axes = figure.subplots(down, across, squeeze=False)
        return figure, axes.T if self._nets_down else axes

    def _draw_row(self, figure: Figure, row: _Row, own: Mapping[Place, Axes]) -> bool:
        fields, reference = self._fields(row)
        at_reference = reference if isinstance(reference, int) else None
        colours = fit_colours(row.measure, list(fields.values()), reference=at_reference)
        mesh, has_strikes = None, False
        for place, ax in own.items():
            if place not in self._runs:
                say(ax, "No run of\n" + "\n".join(textwrap.wrap(place.words, 22)))
            elif place not in fields or colours is None:
                say(ax, "\n".join(textwrap.wrap(_why_empty(row), 24)))
            else:
                mesh = heat_map(
                    ax, self._runs[place], fields[place], colours, per_epoch=self._per_epoch,
                    hatch=row.name in _LOW_COVERAGE_MATTERS,
                )  # fmt: skip
                if row.name == "relative_change" and not self._per_epoch:
                    has_strikes |= mark_strikes(ax, self._runs[place])
        if mesh is not None and colours is not None:
            title = _title(row, reference)
            color_bar(figure, mesh, list(own.values()), colours, title, below=self._nets_down)
        return has_strikes

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

    def _furniture(self, figure: Figure, axes: Any) -> None:
        """Titles, letters, names of sites and of the horizontal axis, each once."""
        grid = axes.T if self._nets_down else axes
        for index, place in enumerate(self._places):
            head = _head(place, self._runs.get(place), with_method=len(self._places) > 3)
            if self._nets_down:
                axes[0, index].set_ylabel(f"{head}\nsite", fontsize=8)
                letter(axes[0, index], "ABC"[index])
            else:
                axes[0, index].set_title(head, fontsize=9 if len(self._places) <= 3 else 8)
        for down in range(grid.shape[0]):
            for across in range(grid.shape[1]):
                ax, place = grid[down, across], self._places[down if self._nets_down else across]
                if not ax.collections:
                    continue
                before = self._places[across - 1] if across and not self._nets_down else place
                named = across == 0 or not self._same_sites(place, before)
                site_axis(ax, self._runs.get(place), named=named)
                if down < grid.shape[0] - 1 and self._same_length():
                    ax.set_xticklabels([])
        if not self._nets_down:
            for row, ax in zip(self._rows, axes[:, 0], strict=True):
                ax.set_ylabel("site", fontsize=8, color=INK)
                letter(ax, row.letter)
        unit = "epoch" if self._per_epoch else "step (optimizer updates done)"
        for ax in grid[-1]:
            ax.set_xlabel(unit, fontsize=8)

    def _same_sites(self, place: Place, other: Place) -> bool:
        """Whether two places have the same sites, and both have a run."""
        both = [self._runs[one] for one in (place, other) if one in self._runs]
        return len(both) == 2 and len(both[0].view.sites) == len(both[1].view.sites)

    def _same_length(self) -> bool:
        """Whether the horizontal axes of a column of panels are the same, so that one has the numbers."""
        return not self._nets_down or len({one.num_steps for one in self._runs.values()}) == 1


def _head(place: Place, paper_run: PaperRun | None, *, with_method: bool) -> str:
    head = f"{place.net_name}\n{place.method_name}" if with_method else place.net_name
    if paper_run is not None and not paper_run.is_whole:
        head += f"\n(until step {paper_run.view.steps[-1]:,} of {paper_run.num_steps:,})"
    return head


def _title(row: _Row, reference: int | str | None) -> str:
    if reference == "final":
        return "$J_W$ to the\nfinal state"
    if reference == 1:
        return "$J_W$ to initialisation\n(step 1)"
    if reference == 0:
        return "$J_W$ to initialisation\n(step 0)"
    return "\n".join(textwrap.wrap(row.measure.title, 20))


def _why_empty(row: _Row) -> str:
    if row.name == "similarity_to_final":
        return "The run keeps neither samples nor tables to compare its steps with the final state."
    if row.name == "occupancy":
        return "The run was recorded without the hash list."
    return f"The run has no value of {row.measure.title.lower()}."


def _footer(runs: Sequence[PaperRun], left_out: Sequence[str], *, heat: str = "") -> str:
    """What the trainings were, how to read heat maps, and which runs are not drawn."""
    parts = [_trained_on(runs), heat]
    if left_out:
        named = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        parts.append(f"Given, but not drawn here: {named}.")
    return "\n".join(part.replace("$", r"\$") for part in parts if part)


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
