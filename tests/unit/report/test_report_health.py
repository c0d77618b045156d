"""Health, strikes and similarity on the page: what is found, that nothing is, and what could not be looked for."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from reluscope.measures.similarity import PatternSample
from reluscope.report import charts, page, similarity_maps, view_of
from reluscope.report.page import render_page
from reluscope.report.page_health import health_section, strikes_section
from reluscope.runs import RunWriter, open_run
from reluscope.runs.health import Finding
from reluscope.runs.strikes import RunStrike, RunStrikes


@pytest.fixture(autouse=True)
def small_pages(monkeypatch) -> None:
    monkeypatch.setattr(page, "get_plotlyjs", lambda: "")


def words(source: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", source).split()))


def struck(step: int, *, batch: tuple[int, ...] | None = None, z: float = 9.0) -> RunStrike:
    return RunStrike(
        step=step, appeared=("layer0.relu", "layer1.relu"), num_sites=5, largest_z=z, batch_indices=batch
    )


def test_findings_are_told_and_escaped(make_view) -> None:
    finding = Finding(kind="nan", title="NaN", text='NaN among "<b>".', sites=("<b>",))
    section = health_section([make_view(findings=(finding,))])
    assert "<dt>NaN</dt><dd>NaN among &quot;&lt;b&gt;&quot;.</dd>" in section
    assert "<h3>" not in section
    assert "<h3>two</h3>" in health_section([make_view("one"), make_view("two")])


def test_that_nothing_stands_out_is_told_too(make_view) -> None:
    assert "Nothing stands out" in words(health_section([make_view()]))
    empty = make_view(steps=np.empty(0, np.int64), values={})
    assert "Nothing has been measured" in words(health_section([empty]))


def test_strikes_with_their_batches(make_view) -> None:
    strikes = (struck(3, batch=tuple(range(100, 120))), struck(10), struck(15, batch=(4, 5)))
    view = make_view(strikes=RunStrikes(strikes=strikes, num_judged=5, num_unjudged=1))
    text = words(strikes_section([view]))
    assert "5 of 6 measurements could be judged; the others" in text
    assert '"layer0.relu" and "layer1.relu" (2 of 5 sites: 0-1)' in text
    assert "100, 101, 102, 103, 104, 105, 106, 107, ... (20) 100, 101" in text
    assert "not logged: recorder.log(step, batch_indices=...)" in text
    assert "9 4, 5" in text


def test_the_page_says_what_indices_point_to(make_view) -> None:
    strikes = RunStrikes(strikes=(struck(3, batch=(4, 5)),), num_judged=5)
    said = {
        "places in the set": {"batch_indices": "places in the set", "training_steps": {}},
        "without those kept back: of lab.load_for(...).images": {"training_steps": {}},
    }
    for text, info in said.items():
        assert text in words(strikes_section([make_view(strikes=strikes, info=info)]))
    assert "Training images:" not in words(strikes_section([make_view(strikes=strikes, info={})]))


def test_many_strikes_are_cut_to_the_largest(make_view) -> None:
    strikes = tuple(struck(step, z=6.0 + step) for step in range(80))
    section = strikes_section([make_view(strikes=RunStrikes(strikes=strikes, num_judged=80))])
    assert section.count("<tr>") == 1 + 50
    assert "The 50 largest of 80." in section
    assert '<td class="n">29</td>' not in section
    assert '<td class="n">30</td>' in section


def test_strikes_that_were_not_there_and_that_could_not_be_looked_for(make_view) -> None:
    assert "No strike among them." in strikes_section([make_view(strikes=RunStrikes(num_judged=80))])
    assert "more than 20 measurements at consecutive steps" in strikes_section([make_view()])


def test_strikes_are_marked_on_the_heat_maps_of_changes_and_survive_thinning(make_view, monkeypatch) -> None:
    view = make_view(
        num_steps=40, strikes=RunStrikes(strikes=(struck(91), struck(105)), num_judged=40)
    )  # 91 and 105: measurements 13 and 14
    monkeypatch.setattr(page, "_MAX_MEASUREMENTS", 10)
    data = json.loads(re.search(r'id="data">(.*?)</script>', render_page([view]))[1])
    assert {91, 105} <= set(data["runs"][0]["steps"])
    drawn = data["charts"]["churn_rate-0"]["figure"]
    go.Figure(drawn)
    places = [data["runs"][0]["steps"].index(step) for step in (91, 105)]
    assert drawn["data"][1]["x"] == places
    assert len(data["charts"]["entropy-0"]["figure"]["data"]) == 1


@pytest.fixture
def sampled(tmp_path):
    """A run of 9 steps and 2 sites; of the ten patterns, one is another one after each step."""

    def make(num_steps: int = 9, *, tau: float = 0.0):
        with RunWriter.create(tmp_path / "run", {}) as writer:
            for step in range(num_steps):
                keys = np.arange(step, step + 10, dtype=np.uint64)[:, None]
                sample = PatternSample(
                    keys=keys, counts=np.ones(10, np.int64), tau=tau, num_patterns=10 if tau == 0 else 40,
                    num_evaluations=10 if tau == 0 else 40,
                )  # fmt: skip
                rows = [{"site": site, "site_index": index, "entropy": 1.0, "exact": True}
                        for index, site in enumerate("ab")]  # fmt: skip
                writer.commit(step, rows, samples={"a": sample, "b": sample})
        return open_run(tmp_path / "run")

    return make


def data_of(source: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', source)[1])


def test_similarity_of_any_two_steps_is_in_the_page(sampled) -> None:
    source = render_page([view_of(sampled())])
    data = data_of(source)
    (first, second) = data["similarities"][0]
    assert (first["site"], second["site"]) == ("a", "b")
    assert first["steps"] == list(range(9))
    assert len(first["values"]) == len(first["errors"]) == 9 * 8 // 2
    assert first["values"][:3] == [round(10_000 * (10 - gap) / (10 + gap)) for gap in (1, 2, 3)]
    assert set(first["errors"]) == {0}  # whole tables
    go.Figure(data["charts"]["similarity-0"]["figure"])
    assert '<option value="1">b</option>' in source
    assert "evenly chosen" not in words(source)


def test_estimates_have_errors(sampled) -> None:
    (first, _) = similarity_maps.similarity_maps(view_of(sampled(tau=4.0)))
    assert first.errors[0, 5] > 0
    assert first.errors[3, 3] == 0


def test_maps_of_long_runs_are_thinned_and_say_so(sampled, monkeypatch) -> None:
    monkeypatch.setattr(similarity_maps, "_MAX_STEPS", 4)
    source = render_page([view_of(sampled())])
    assert data_of(source)["similarities"][0][0]["steps"] == [0, 3, 5, 8]
    assert "4 of the 9 steps that can be compared" in words(source)
    assert similarity_maps.steps_per_map(100_000) == 2
    assert similarity_maps.steps_per_map(0) == 4


def test_runs_without_samples_say_what_to_do(make_view) -> None:
    text = words(render_page([make_view()]))
    assert "keeps neither samples nor tables of at least two steps" in text
    assert "Needs at least two measurements." in words(render_page([make_view(num_steps=1)]))


def test_findings_of_a_run_are_not_told_twice(tmp_path) -> None:
    with RunWriter.create(tmp_path / "run", {"notes": ["one is missing."]}) as writer:
        rows = [{"site": "a", "site_index": 0, "nan_fraction": 0.5, "exact": True}]
        writer.commit(0, rows)
    view = view_of(open_run(tmp_path / "run"))
    assert [finding.kind for finding in view.findings] == ["nan"]
    assert view.warnings == ("one is missing.",)
    assert view_of(tmp_path / "run", with_health=False).findings == ()


def test_a_heat_map_without_strikes_has_no_marks(make_view) -> None:
    scale = page.fit_scale(page.LAYER_MEASURES["churn_rate"], [make_view().values["churn_rate"]])
    view = replace(make_view(), strikes=RunStrikes())
    assert len(charts.heatmap(view, scale, height=100, marked=[2])["data"]) == 1  # step 2 is not measured
