"""Figures for paper: what stands in them, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reluscope.errors import ExportError
from reluscope.report import figures


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts)


def test_heat_maps_of_two_runs(make_view) -> None:
    views = [make_view("one"), make_view("two", seed=1)]
    figure = figures.heatmaps(views, ["relative_entropy", "net_change"])
    figure.draw_without_rendering()
    assert titles(figure) == ["one", "two"]
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 4
    drawn = np.asarray(images[1].get_array())
    np.testing.assert_array_equal(drawn, views[1].values["relative_entropy"].T)
    assert images[0].get_clim() == images[1].get_clim()
    assert images[2].get_clim()[0] == -images[2].get_clim()[1]
    assert np.ma.getmaskarray(images[2].get_array())[:, 0].all()  # no change before the first measurement
    assert images[0].axes.get_ylim() == (-0.5, 4.5)  # the input at the bottom
    assert [label.get_text() for label in images[0].axes.get_xticklabels()] == [
        "0",
        "1",
        "3",
        "6",
        "10",
        "15",
    ]


def test_the_default_is_the_paper_s_figure(make_view) -> None:
    figure = figures.heatmaps(make_view())
    labels = [ax.get_ylabel().replace("\n", " ") for ax in figure.axes if not ax.images]
    assert labels[0] == "Distinct patterns"
    assert len(labels) == len(figures.PAPER_MEASURES)
    assert "matplotlib.pyplot" not in sys.modules


def test_a_run_without_the_measure_says_why(make_view) -> None:
    figure = figures.heatmaps([make_view(), make_view("two", values={})], ["entropy"])
    assert "This run did not record it" in words(figure)
    figure = figures.curves([make_view(), make_view("one step", num_steps=1)], "churn_rate")
    assert "Only one measurement so far" in words(figure)


def test_curves_at_chosen_steps(make_view) -> None:
    view = make_view()
    figure = figures.curves(view, "relative_entropy", steps=[0, 5, 15])
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["step 0", "step 3", "step 15"]  # 5 was not measured
    np.testing.assert_array_equal(lines[1].get_ydata(), view.values["relative_entropy"][2])
    assert len(figures.curves(make_view(num_steps=30), "entropy").axes[0].lines) == 5


def test_training_curves(make_view) -> None:
    figure = figures.training([make_view("one"), make_view("two")])
    assert titles(figure) == ["Training loss", "Learning rate"]
    assert len(figure.axes[0].lines) == 4  # as logged and smoothed, for both
    assert len(figure.axes[1].lines) == 2
    with pytest.raises(ExportError, match="no run logged loss"):
        figures.training(make_view(scalars=pd.DataFrame({"step": []})))


def test_what_cannot_be_drawn(make_view) -> None:
    with pytest.raises(ExportError, match='no measure is called "entropi"; closest: "entropy"'):
        figures.heatmaps(make_view(), ["entropi"])
    with pytest.raises(ExportError, match="occupancy was asked for, but no run has it: runs only"):
        figures.curves(make_view(), "occupancy")
    with pytest.raises(ExportError, match="nothing has been measured yet"):
        figures.heatmaps(make_view(values={}))
    late = make_view(num_steps=3)
    with pytest.raises(ExportError, match="first measurement of mine is at step 0"):
        figures.curves(late, "entropy", steps=[-1])


def test_names_are_no_formulas(make_view) -> None:
    figure = figures.heatmaps(make_view("a_$x$ & $$"), ["entropy"])
    figure.draw_without_rendering()
