"""The report as one self-contained HTML page: readable offline, no request anywhere, equal for equal runs."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from reluscope.measures.spec import FAMILIES, LAYER_MEASURES, Measure
from reluscope.report import charts, text
from reluscope.report.markup import empty, figure, panels, row
from reluscope.report.page_health import health_section, strikes_section
from reluscope.report.scalars import SCALARS
from reluscope.report.scales import Scale, fit_scale
from reluscope.report.similarity_maps import SimilarityMap, map_data, similarity_maps
from reluscope.report.view import RunView

__all__ = ["render_page"]

# More columns than this cannot be told apart on a screen, and would make the page heavy.
_MAX_MEASUREMENTS = 500
# The site itself forbids what the page never does: no script, style, font, image or data from anywhere else.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_SITE_COLUMNS = {
    "name": "site",
    "operation": "operation",
    "module": "module",
    "num_units": "units",
    "kinks": "kinks",
    "width": "bits",
    "num_positions": "positions",
    "channel_dim": "unit axis",
    "channel_dim_source": "axis known from",
    "dtype": "type",
}


def render_page(views: Sequence[RunView]) -> str:
    """The whole page for one run, or for several side by side.

    Args:
        views: the runs, in the order of the columns.

    Returns:
        HTML, with plotly.js (4.8 MB) embedded once and each number of each measure once.
    """
    shown = [view.thinned(_MAX_MEASUREMENTS) for view in views]
    scales = {
        name: scale
        for name, measure in LAYER_MEASURES.items()
        if (scale := fit_scale(measure, (view.values[name] for view in shown if name in view.values)))
    }
    page = _Page(shown, scales)
    body = [
        _header(views, shown, scales),
        "<main>",
        health_section(views),
        strikes_section(views),
        page.training(),
        page.slider(),
        *(page.family(family, meaning) for family, meaning in FAMILIES.items()),
        page.similarities(),
        _absent(views, scales),
        _sites(views),
        "</main>",
        "<footer>Written by reluscope from the recorded runs alone. Sources: [A] Hartmann, Franzen, Brodehl "
        "2021, “Studying the Evolution of Neural Activation Patterns During Training of Feed-Forward ReLU "
        "Networks”, Front. Artif. Intell. 4:642374.</footer>",
    ]
    return _document(_title(views), "\n".join(body), page.data())


class _Page:
    """Collects the charts while the sections are written, so that their data stand in one place."""

    def __init__(self, views: Sequence[RunView], scales: dict[str, Scale]) -> None:
        self._views = views
        self._scales = scales
        self._charts: dict[str, dict[str, Any]] = {}
        self._maps = [similarity_maps(view) for view in views]
        self._height = min(max(240, 90 + 14 * max((len(view.sites) for view in views), default=0)), 460)

    def training(self) -> str:
        """The training curves, or what to do to have them."""
        parts = []
        for column, (title, meaning) in SCALARS.items():
            drawn = charts.training(self._views, column, height=260)
            if drawn is not None:
                if any("opacity" in trace for trace in drawn["data"]):
                    meaning += " Thin: as logged; thick: running mean."
                chart = self._chart(f"training-{column}", {"kind": "training", "figure": drawn}, 260)
                parts.append(figure(title, meaning, chart))
        if not parts:
            parts = [
                empty(
                    "No loss, accuracy or learning rate was logged. recorder.log(step, loss=..., "
                    "accuracy=..., lr=...) beside recorder.record(step) puts the training curve here.",
                    120,
                )
            ]
        meaning = "What the training itself reported, against the number of updates done."
        lead = f'<h2 id="training">Training curve</h2><p class="lead">{meaning}</p>'
        return lead + panels(parts)

    def slider(self) -> str:
        """The step that all curves show; nothing to choose from where there is one step or none."""
        steps = self._steps()
        if len(steps) < 2 or not self._scales:
            return ""
        last = len(steps) - 1
        return (
            '<div class="slider"><label for="step">Curves across the layers at step</label>'
            f'<output id="step-shown" for="step">{steps[-1]:,}</output>'
            f'<input id="step" type="range" min="0" max="{last}" value="{last}" step="1"></div>'
        )

    def family(self, family: str, meaning: str) -> str:
        """All measures of one family that some run has."""
        measures = [m for m in LAYER_MEASURES.values() if m.family == family and m.name in self._scales]
        if not measures:
            return ""
        sections = "\n".join(self._measure(measure) for measure in measures)
        return f'<h2 id="{family}">{html.escape(meaning)}</h2>\n{sections}'

    def similarities(self) -> str:
        """A map of any two steps for each run, of a site to choose."""
        lead = (
            "The weighted similarity J_W of the pattern distributions of any two recorded steps: 1 when all "
            "counts are equal, 0 when no pattern is shared. Blocks along the diagonal are phases in which the "
            "site hardly changed. From kept tables the values are exact, from samples estimates."
        )
        parts = [self._similarity(index, view) for index, view in enumerate(self._views)]
        return (
            f'<h2 id="similarities">Similarity of any two steps</h2><p class="lead">{lead}</p>{panels(parts)}'
        )

    def data(self) -> dict[str, Any]:
        """Everything that page.js draws from."""
        return {
            "runs": [
                {"name": view.name, "steps": view.steps.tolist(), "sites": list(view.sites)}
                for view in self._views
            ],
            "steps": self._steps(),
            "measures": {
                name: self._measure_data(LAYER_MEASURES[name], scale) for name, scale in self._scales.items()
            },
            "similarities": [map_data(maps) for maps in self._maps],
            "charts": self._charts,
        }

    def _measure(self, measure: Measure) -> str:
        scale = self._scales[measure.name]
        parts = [self._heatmap(index, view, measure, scale) for index, view in enumerate(self._views)]
        parts.append(self._curves(measure, scale))
        traits = {
            "Unit": text.unit(measure),
            "Bounds": text.bounds(measure),
            "Larger means": measure.direction,
            "Formula": measure.formula,
            "Source": measure.source,
        }
        listed = " · ".join(f"<b>{label}</b> {html.escape(value)}" for label, value in traits.items())
        return (
            f'<section id="{measure.name}"><h3>{html.escape(measure.title)}'
            f'<span class="symbol">{html.escape(measure.symbol)}</span></h3>'
            f'<p>{html.escape(measure.description)}</p><p class="traits">{listed}</p>'
            f"{_scale_bar(scale, self._has_gaps(measure))}{panels(parts)}</section>"
        )

    def _heatmap(self, index: int, view: RunView, measure: Measure, scale: Scale) -> str:
        meaning = "Row: site, the input at the bottom. Column: measurement. Colour: as in the bar above."
        reason = text.nothing_to_draw(view, measure)
        if reason is not None:
            return figure(view.name, meaning, empty(reason, self._height))
        marked = [one.step for one in view.strikes.strikes] if measure.family == "changes" else []
        drawn = charts.heatmap(view, scale, height=self._height, marked=marked)
        chart = {"kind": "heatmap", "measure": measure.name, "run": index, "figure": drawn}
        return figure(view.name, meaning, self._chart(f"{measure.name}-{index}", chart, self._height))

    def _curves(self, measure: Measure, scale: Scale) -> str:
        runs = [index for index, view in enumerate(self._views) if view.has(measure.name)]
        drawn = {index: self._views[index] for index in runs}
        curves = charts.curves(drawn, scale, height=self._height)
        chart = {"kind": "curves", "measure": measure.name, "runs": runs, "figure": curves}
        meaning = "The same numbers site by site, at the slider's step or the last measurement before it."
        if len(self._steps()) < 2:
            meaning = "The same numbers, site by site, at the only step measured."
        content = self._chart(f"{measure.name}-curves", chart, self._height)
        return figure("Across the layers", meaning, content)

    def _similarity(self, index: int, view: RunView) -> str:
        maps = self._maps[index]
        if not maps:
            return figure(view.name, "Row and column: step.", empty(text.no_similarities(view), 240))
        name = f"similarity-{index}"
        self._charts[name] = {"kind": "similarity", "run": index, "figure": charts.similarity(height=460)}
        options = "".join(
            f'<option value="{place}">{html.escape(one.site)}</option>' for place, one in enumerate(maps)
        )
        control = f'<label class="choice">Site <select data-chart="{name}">{options}</select></label>'
        chart = f'<div class="chart square" id="{name}" style="height:460px"></div>'
        return figure(view.name, _map_meaning(maps), chart, control=control)

    def _has_gaps(self, measure: Measure) -> bool:
        return any(
            np.isnan(view.values[measure.name]).any() for view in self._views if view.has(measure.name)
        )

    def _chart(self, name: str, chart: dict[str, Any], height: int) -> str:
        self._charts[name] = chart
        return f'<div class="chart" id="{name}" style="height:{height}px"></div>'

    def _steps(self) -> list[int]:
        return sorted({int(step) for view in self._views for step in view.steps})

    def _measure_data(self, measure: Measure, scale: Scale) -> dict[str, Any]:
        values = [charts.matrix(view, measure) if view.has(measure.name) else None for view in self._views]
        return {
            "unit": measure.unit,
            "scale": {"kind": scale.kind, "threshold": scale.threshold},
            "values": values,
        }


def _map_meaning(maps: Sequence[SimilarityMap]) -> str:
    shown, there = max((len(one.steps), one.num_steps) for one in maps)
    meaning = "Row and column: step, evenly spaced whatever the steps are."
    if shown < there:
        meaning += f" {shown} of the {there:,} steps that can be compared, evenly chosen."
    return meaning


def _header(views: Sequence[RunView], shown: Sequence[RunView], scales: dict[str, Scale]) -> str:
    """What was trained and measured, what to know before reading, and where to find what."""
    facts = [text.facts(view) for view in views]
    labels = list(dict.fromkeys(label for found in facts for label in found))
    heads = "".join(f"<th>{_swatch(index, view, len(views))}</th>" for index, view in enumerate(views))
    rows = "".join(row(f"<th>{label}</th>", [found.get(label, "-") for found in facts]) for label in labels)
    noted = [(view, text.notes(view, len(drawn.steps))) for view, drawn in zip(views, shown, strict=True)]
    warned = "".join(_notes(view, found, len(views)) for view, found in noted if found)
    lead = (
        "Which on/off patterns each activation site used on a fixed set of inputs, counted exactly while "
        "the network trained. A site is one call of an activation function; a step is the number of "
        "optimizer updates done."
    )
    return (
        f'<header class="top"><h1>{html.escape(_title(views))}</h1><p class="lead">{lead}</p>'
        f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"{warned}{_contents(scales)}</header>"
    )


def _contents(scales: dict[str, Scale]) -> str:
    """Links to every section, the measures grouped by family."""
    lines = [
        '<a href="#health">Health</a>, <a href="#strikes">strikes</a>, <a href="#training">training curve</a>'
    ]
    for family, meaning in FAMILIES.items():
        measures = [m for m in LAYER_MEASURES.values() if m.family == family and m.name in scales]
        if measures:
            links = ", ".join(f'<a href="#{m.name}">{html.escape(m.title)}</a>' for m in measures)
            lines.append(f"{html.escape(meaning)}: {links}")
    lines.append('<a href="#similarities">Similarity of any two steps</a>, <a href="#sites">sites</a>')
    return "<nav><ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul></nav>"


def _title(views: Sequence[RunView]) -> str:
    return "Activation patterns: " + ", ".join(view.name for view in views)


def _swatch(index: int, view: RunView, num_runs: int) -> str:
    if num_runs == 1:
        return html.escape(view.name)
    line = charts.line_style(index)
    border = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "double"}[line["dash"]]
    style = f"border-top-style:{border};border-color:{line['color']}"
    return f'<span class="swatch" style="{style}"></span>{html.escape(view.name)}'


def _notes(view: RunView, found: Sequence[str], num_runs: int) -> str:
    title = "Before reading" if num_runs == 1 else f"Before reading {view.name}"
    items = "".join(f"<li>{html.escape(note)}</li>" for note in found)
    return f'<div class="notes"><h3>{html.escape(title)}</h3><ul>{items}</ul></div>'


def _scale_bar(scale: Scale, has_gaps: bool) -> str:
    """The colours and their numbers, once for all runs."""
    span, colors = scale.high - scale.low, ",".join(scale.colors)
    ticks = "".join(
        f'<span style="left:{100 * (position - scale.low) / span:.1f}%">{html.escape(label)}</span>'
        for position, label in scale.ticks
    )
    return (
        f'<div class="scale"><div class="bar" style="background:linear-gradient(to right,{colors})"></div>'
        f'<div class="ticks">{ticks}</div>'
        + ('<div class="missing">not defined</div></div>' if has_gaps else "</div>")
    )


def _absent(views: Sequence[RunView], scales: dict[str, Scale]) -> str:
    """Measures that no run has, with the reason: a figure never leaves a panel out without a word."""
    if not any(len(view.steps) for view in views):
        return '<h2 id="absent">Measures</h2>' + empty(
            "Nothing has been measured yet. Each measure appears here from the first measurement on.", 120
        )
    reasons: dict[str, list[str]] = {}
    for measure in LAYER_MEASURES.values():
        if measure.name not in scales:
            reasons.setdefault(text.not_recorded(measure), []).append(measure.title)
    if not reasons:
        return ""
    items = "".join(
        f"<li>{html.escape(', '.join(titles))}: {html.escape(reason)}.</li>"
        for reason, titles in reasons.items()
    )
    return f'<h2 id="absent">Not in these runs</h2><ul>{items}</ul>'


def _sites(views: Sequence[RunView]) -> str:
    """A table of the sites; one for runs with the same sites."""
    groups: list[tuple[list[str], RunView]] = []
    for view in views:
        same = next((names for names, other in groups if _site_rows(other) == _site_rows(view)), None)
        if same is None:
            groups.append(([view.name], view))
        else:
            same.append(view.name)
    lead = "The activation sites in the order of the forward pass, and how many bits their patterns have."
    tables = "".join(
        (f"<h3>{html.escape(', '.join(names))}</h3>" if len(views) > 1 else "") + _site_table(view)
        for names, view in groups
    )
    return f'<h2 id="sites">Sites</h2><p class="lead">{lead}</p>{tables}'


def _site_rows(view: RunView) -> tuple[list[str], list[list[Any]]]:
    columns = [column for column in _SITE_COLUMNS if column in view.sites_table]
    return columns, [list(row) for row in view.sites_table[columns].astype(object).to_numpy()]


def _site_table(view: RunView) -> str:
    columns, rows = _site_rows(view)
    if not rows:
        return empty("The sites are known from the first measurement on.", 80)
    heads = "".join(f"<th>{_SITE_COLUMNS[column]}</th>" for column in columns)
    cells = "".join(
        row(f'<td class="n">{index}</td>', [_cell(value) for value in values])
        for index, values in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr><th class="n">#</th>{heads}</tr></thead>'
        f"<tbody>{cells}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"{one:g}" for one in value)
    if value is None or value != value:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _document(title: str, body: str, data: dict[str, Any]) -> str:
    folder = files("reluscope.report")
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # "<" would let a site's name close the script element
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    embedded = embedded.replace("<", "\\u003c")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            body,
            f'<script type="application/json" id="data">{embedded}</script>',
            f"<script>{get_plotlyjs()}</script>",
            f"<script>{script}</script>",
            "</body>\n</html>\n",
        ]
    )
