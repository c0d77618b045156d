"""The page: complete, offline, escaped, deterministic, and never a blank chart."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from reluscope.measures import LAYER_MEASURES
from reluscope.report import page
from reluscope.report.charts import matrix
from reluscope.report.page import render_page

PLOTLY = "/*plotly*/"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch) -> None:
    """5 MB of plotly.js say nothing about the page around it."""
    monkeypatch.setattr(page, "get_plotlyjs", lambda: PLOTLY)


class Reader(HTMLParser):
    """Elements, text and ids of a page; fails on tags that do not match."""

    VOID = {"meta", "input", "br"}

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.attributes.extend(attrs)
        self.ids.extend(value for name, value in attrs if name == "id")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def data_of(source: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', source)[1])


def test_every_measure_has_a_heat_map_for_each_run_and_curves(make_view) -> None:
    source = render_page([make_view("one"), make_view("two", seed=1)])
    reader, data = Reader(source), data_of(source)
    recorded = [m for m in LAYER_MEASURES if m in make_view().values]
    assert list(data["measures"]) == recorded
    for name in recorded:
        assert {f"{name}-0", f"{name}-1", f"{name}-curves", name} <= set(reader.ids)
        measure = LAYER_MEASURES[name]
        assert measure.title in reader.text
        assert measure.description in reader.text
    assert {"training-loss", "training-lr"} <= set(reader.ids)
    assert "training-accuracy" not in reader.ids
    assert set(data["charts"]) == {name for name in reader.ids if name in data["charts"]}
    assert len(reader.ids) == len(set(reader.ids))
    assert "hashlist=30_000" in reader.text  # what is not there is said, with the reason


def test_plotly_takes_every_chart(make_view) -> None:
    data = data_of(render_page([make_view("one"), make_view("two", seed=1)]))
    for chart in data["charts"].values():
        go.Figure(chart["figure"])  # raises on a name or value that plotly does not know


def test_the_numbers_are_those_of_the_run(make_view) -> None:
    views = [make_view("one"), make_view("two", seed=1, num_steps=3)]
    data = data_of(render_page(views))
    for number, view in enumerate(views):
        found = np.array(data["measures"]["total"]["values"][number])
        np.testing.assert_array_equal(found, view.values["total"])
        entropy = np.array(data["measures"]["entropy"]["values"][number])
        np.testing.assert_allclose(entropy, view.values["entropy"], rtol=5e-6)  # six digits
        assert data["runs"][number]["steps"] == view.steps.tolist()
    assert data["steps"] == [0, 1, 3, 6, 10, 15]
    assert data["measures"]["churn_rate"]["values"][0][0] == [None] * 5
    scales = [data["charts"][f"entropy-{run}"]["figure"]["data"][0] for run in (0, 1)]
    assert scales[0]["zmin"] == scales[1]["zmin"]
    assert scales[0]["zmax"] == scales[1]["zmax"]
    exact = make_view(values={"total": np.full((6, 5), 2.0**53)})
    assert matrix(exact, LAYER_MEASURES["total"])[0][0] == 2**53


def test_a_run_keeps_its_colour_where_another_one_lacks_the_measure(make_view) -> None:
    first = make_view("one")
    without = replace(first, values={k: v for k, v in first.values.items() if k != "entropy"})
    data = data_of(render_page([without, make_view("two")]))
    chart = data["charts"]["entropy-curves"]
    assert chart["runs"] == [1]
    both = data["charts"]["total-curves"]["figure"]["data"]
    assert chart["figure"]["data"][0]["line"] == both[1]["line"] != both[0]["line"]


def test_nothing_is_fetched_from_anywhere(make_view) -> None:
    source = render_page([make_view()])
    reader = Reader(source)
    assert not [value for name, value in reader.attributes if name in ("src", "action", "data", "poster")]
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    assert not re.search(r"url\(|@import|https?://", source.replace(PLOTLY, ""))
    assert "default-src 'none'" in source


def test_names_are_text_and_nothing_else(make_view) -> None:
    nasty = "</script><script>alert(1)</script> & <b>%{x}"
    view = make_view(nasty, sites_table=pd.DataFrame({"name": [nasty] * 5}), warnings=(nasty,))
    source = render_page([replace(view, sites=(nasty, "b", "c", "d", "e")), make_view("two")])
    reader, data = Reader(source), data_of(source)
    assert nasty in reader.text
    assert "<script>alert" not in source
    assert data["runs"][0]["sites"][0] == nasty
    drawn = [trace for chart in data["charts"].values() for trace in chart["figure"]["data"]]
    assert not [trace["name"] for trace in drawn if "<" in trace.get("name", "")]
    extras = [
        trace["hovertemplate"].split("<extra>")[1]
        for trace in drawn
        if "<extra>" in trace.get("hovertemplate", "")
    ]
    assert any("alert(1)" in extra for extra in extras)
    assert not [extra for extra in extras if "%{" in extra]  # plotly would fill it in


def test_equal_runs_give_equal_pages(make_view) -> None:
    assert render_page([make_view()]) == render_page([make_view()])


def test_a_single_measurement(make_view) -> None:
    reader = Reader(render_page([make_view(num_steps=1)]))
    assert "Only one measurement (step 0)" in reader.text
    assert "step" not in reader.ids  # no slider with nothing to slide
    assert "churn_rate" not in reader.ids
    assert "needs at least two measurements" in reader.text
    assert "at the only step measured" in reader.text


def test_a_run_without_anything(make_view) -> None:
    nothing = {
        "steps": np.empty(0, np.int64),
        "values": {},
        "sites": (),
        "sites_table": pd.DataFrame(),
        "scalars": pd.DataFrame({"step": []}),
        "seconds": np.empty(0),
        "times": (),
        "state": "recording",
    }
    empty = make_view("empty", **nothing)
    reader = Reader(render_page([empty]))
    assert "still being recorded" in reader.text
    assert "Nothing has been measured yet" in reader.text
    assert "No loss, accuracy or learning rate was logged" in reader.text
    assert "The sites are known from the first measurement on" in reader.text
    assert data_of(render_page([empty]))["charts"] == {}
    beside = Reader(render_page([make_view(), empty]))
    assert "Nothing has been measured in this run yet." in beside.text


def test_a_measure_without_any_number_is_explained_beside_the_other_run(make_view) -> None:
    view = make_view("one")
    values = {**view.values, "entropy": np.full((6, 5), np.nan)}
    source = render_page([replace(view, values=values), make_view("two")])
    assert "Entropy is not defined at any of the 6 measurements" in Reader(source).text
    assert "entropy-0" not in data_of(source)["charts"]
    assert data_of(source)["measures"]["entropy"]["values"][0] is None


def test_a_long_run_is_thinned_and_says_so(make_view, monkeypatch) -> None:
    monkeypatch.setattr(page, "_MAX_MEASUREMENTS", 4)
    source = render_page([make_view(num_steps=40)])
    assert "draws 4 of the 40 measurements" in Reader(source).text
    assert len(data_of(source)["runs"][0]["steps"]) == 4


def test_runs_with_the_same_sites_share_one_table(make_view) -> None:
    source = render_page([make_view("one"), make_view("two"), make_view("three", num_sites=3)])
    assert "<h3>one, two</h3>" in source
    assert "<h3>three</h3>" in source
    assert source.count("<table>") == 3  # facts, and two lists of sites
