"""Figures of the paper from made-up runs: what stands where, what is missing, what is said."""

from __future__ import annotations

import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from reluscope.errors import ExportError
from reluscope.measures.similarity import PatternSample
from reluscope.report import paper_panels
from reluscope.report.paper import draw_paper_figure
from reluscope.report.paper_curves import moment_index
from reluscope.report.paper_runs import (
    Field,
    Place,
    field_of,
    paper_runs,
    similarity_field,
    single_updates,
    stage_ends,
    usual_gaps,
)
from reluscope.runs import RunWriter, open_run
from reluscope.runs.strikes import RunStrike, RunStrikes


def sites_of(net: str, depth: int) -> list[str]:
    blocks = (depth - 2) // 6
    each = ("",) if net == "pyramidnet" else ("1", "2")
    inner = [f"stage{stage}.{block}.act{n}" for stage in (1, 2, 3) for block in range(blocks) for n in each]
    return [*inner, "act"] if net == "pyramidnet" else ["act", *inner]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch) -> None:
    """These runs need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def train(tmp_path):
    """A run of a made-up training; entropy = 0.5 + 0.01 site + seed / 100, so that every value can be told."""

    def make(
        net: str,
        depth: int = 20,
        *,
        steps=(0, 1, 2, 9, 41, 50, 100),
        activation: str = "relu",
        method: str = "milestones",
        seed: int = 0,
        experiment: str | None = "fig1",
        sampled: bool = True,
        num_steps: int = 100,
        coverage=lambda site, step: 0.9,
        **columns: float,
    ):
        name = f"{net}{depth}-{activation}-{method}-seed{seed}"
        sites = sites_of(net, depth)
        training = {
            "model": {"name": net, "depth": depth, "activation": activation},
            "schedule": {"name": method, "milestones": [0.5, 0.75]},
            "training": {"seed": seed},
            "data": {"name": "cifar10"},
            "experiment": experiment,
            "scale": "smoke",
        }
        info = {
            "training": training,
            "training_steps": {"num_steps": num_steps, "steps_per_epoch": 10},
            "sites": [{"name": site} for site in sites],
            "probe": {"num_samples": 1234},
        }
        with RunWriter.create(tmp_path / (experiment or "any") / name, info) as writer:
            for step in steps:
                rows = [
                    {
                        "site": site,
                        "site_index": index,
                        "relative_entropy": 0.5 + 0.01 * index + seed / 100 + step / 10_000,
                        "total": 1000 + step,
                        "max_frequency": 0.1,
                        "relative_change": None if step == 0 else -0.5,
                        "churn_rate": None if step == 0 else 0.5,
                        "coverage": coverage(index, step),
                        "weighted_jaccard_to_init": 0.25 if step else 1.0,
                        "occupancy": 0.1,
                        "exact": True,
                    }
                    | columns
                    for index, site in enumerate(sites)
                ]
                writer.commit(step, rows, samples={site: sample(step) for site in sites} if sampled else None)
        return open_run(tmp_path / (experiment or "any") / name)

    return make


def sample(step: int) -> PatternSample:
    """A whole table of ten patterns, of which `step` / 10 are others than at first."""
    keys = np.arange(10, dtype=np.uint64)[:, None] + np.uint64(step // 10)
    counts = np.ones(10, dtype=np.int64)
    return PatternSample(keys=keys, counts=counts, tau=0.0, num_evaluations=10, num_patterns=10)


def meshes(figure: Figure) -> list:
    """The panels with a heat map, in the order they were made: row by row (colour bars have no title or ticks)."""
    return [ax for ax in figure.axes if ax.collections and ax.get_label() != "<colorbar>"]


def words(figure: Figure) -> str:
    found = [text.get_text() for ax in figure.axes for text in ax.texts] + [
        text.get_text() for part in (figure, *figure.legends) for text in part.texts
    ]
    titles = [ax.get_title() for ax in figure.axes]
    return " ".join(" ".join([*found, *titles]).split())


def test_figure_1_has_a_column_for_each_net_and_a_row_for_each_measure(train) -> None:
    runs = [train(net) for net in ("toynet", "resnet", "convnet")]
    figure = draw_paper_figure("fig1", runs)
    figure.draw_without_rendering()
    panels = meshes(figure)
    assert len(panels) == 3 * 6
    assert [ax.get_title() for ax in figure.axes[:3]] == ["ResNet-20", "ConvNet-20", "ToyNet-20"]
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    labels = [bar.get_ylabel().replace("\n", " ") for bar in bars]
    assert labels == [
        "Distinct patterns",
        "Relative change",
        "Churn rate",
        "Most frequent pattern",
        "Relative entropy",
        "$J_W$ to step 1 (initialisation)",
    ]
    entropy = np.asarray(panels[12].collections[0].get_array())
    assert entropy.shape == (19, 7)
    assert entropy[0, 0] < entropy[18, 0]  # the input at the bottom
    assert panels[12].get_ylim() == (-0.5, 18.5)
    for row in range(6):  # one scale in each row
        assert len({panels[3 * row + column].collections[0].get_clim() for column in range(3)}) == 1
    to_one = np.asarray(panels[15].collections[0].get_array())[0]
    assert to_one[1] == 1.0
    assert to_one[5] == pytest.approx(5 / 15)  # five of ten patterns are others at step 50
    assert "CIFAR-10; 1,234 probe images; smoke scale; seed 0." in words(figure)
    lines = [line.get_ydata()[0] for line in panels[0].lines]
    assert lines == [6.5, 12.5]


def test_similarity_falls_back_to_step_0_where_nothing_was_sampled(train) -> None:
    figure = draw_paper_figure("fig1", [train("resnet"), train("convnet", sampled=False)])
    bars = [ax.get_ylabel() for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert "to step 0" in bars[-1]
    assert np.asarray(meshes(figure)[-1].collections[0].get_array()).min() == 0.25


def test_a_missing_run_leaves_a_panel_that_names_it(train) -> None:
    other = train("resnet", experiment="fig4")
    figure = draw_paper_figure("fig1", [train("resnet"), other])
    assert words(figure).count("No run of ConvNet-20, ReLU, constant") == 6
    assert f"Given, but not drawn here: {other.name}." in words(figure)
    half = draw_paper_figure("fig1", [train("convnet", num_steps=1000)])
    assert "ConvNet-20 (until step 100 of 1,000)" in words(half)


def test_the_early_phase_of_a_stepwise_training_is_that_of_a_constant_rate(train) -> None:
    runs = [train("resnet", method="constant"), train("convnet"), train("toynet", method="cyclic")]
    figure = draw_paper_figure("fig1", runs)
    assert len(meshes(figure)) == 2 * 6
    assert "Given, but not drawn here: toynet20-relu-cyclic-seed0." in words(figure)
    with pytest.raises(ExportError, match="none of them made for it"):
        draw_paper_figure("fig4", [train("resnet", method="constant", experiment="fig4")])


def test_seeds_beyond_the_first_and_other_activations_are_named(train) -> None:
    runs = [train("resnet", seed=1), train("resnet", seed=0), train("resnet", activation="leaky_relu")]
    text = words(draw_paper_figure("fig1", runs))
    assert "resnet20-leaky_relu-milestones-seed0, resnet20-relu-milestones-seed1" in text
    assert "seed 0." in text


def test_figure_2_means_and_spread_over_seeds(train) -> None:
    runs = [
        train(net, depth, seed=seed, experiment="fig2")
        for net in ("resnet", "convnet")
        for depth in (8, 14)
        for seed in (0, 2, 4)
        if not (net == "convnet" and depth == 14)
    ]
    figure = draw_paper_figure("fig2", runs)
    figure.draw_without_rendering()
    axes = np.array(figure.axes).reshape(5, 3)
    assert [ax.get_title() for ax in axes[0]] == ["ResNet", "ConvNet", "ToyNet"]
    lines = {line.get_label(): line for line in axes[0, 0].lines}
    mean = lines["b = 1, 3 seeds"].get_ydata()
    np.testing.assert_allclose(mean, 0.5 + 0.01 * np.arange(7) + 0.02 + 0.0001)  # at step 1
    assert len(lines["b = 2, 3 seeds"].get_ydata()) == 13
    band = axes[0, 0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() - band.min() == pytest.approx(0.06 + 2 * 0.02)  # sd of 0, .02, .04 is .02
    for row, step in zip(axes, (1, 9, 41, 50, 100), strict=True):
        at = row[0].lines[0].get_ydata()[0]
        assert at == pytest.approx(0.52 + step / 10_000)
    assert "missing: b = 2" in [text.get_text() for text in axes[0, 1].texts]
    assert "No run of ToyNet measured here." in words(figure)
    assert "seeds 0, 2, 4" in words(figure)
    begun = train("toynet", 14, experiment="fig2", num_steps=700)
    assert f"Not finished, and not drawn: {begun.name} (step 100 of 700)." in words(
        draw_paper_figure("fig2", runs, unfinished=[begun])
    )


def test_moments_that_were_not_measured_are_missing(train) -> None:
    (run,), _ = paper_runs("fig2", [train("resnet", steps=(0, 8, 47, 60), experiment=None)])
    assert moment_index(run, "init") is None
    assert moment_index(run, "8") is None  # our step 8 is not the paper's
    assert moment_index(run, "half") == 2  # 47 is near enough to 50, 60 is beyond the drop
    assert moment_index(run, "end") is None
    (run,), _ = paper_runs("fig2", [train("resnet", steps=(0, 44, 51, 100), experiment="fig2")])
    assert moment_index(run, "half") is None


def test_figure_3_has_ten_methods_and_says_what_was_not_recorded(train) -> None:
    runs = [
        train("convnet", experiment="fig3"),
        train("resnet", activation="prelu", experiment="fig3", sampled=False),
        train("resnet", method="cyclic", experiment="fig3", occupancy=None),
        train("pyramidnet", experiment="fig3"),
        train("fixup_resnet", experiment="fig3"),
    ]
    figure = draw_paper_figure("fig3", runs)
    figure.draw_without_rendering()
    heads = [
        ax.get_title().replace("\n", " ") for ax in figure.axes
    ]  # two groups of five columns and three rows
    methods = ["stepwise", "PReLU stepwise", "CyclicLR", "OneCycleLR"]
    assert heads[:5] == [*(f"ConvNet-20 {method}" for method in methods), "PyramidNet-20 stepwise"]
    assert heads[15:20] == [*(f"ResNet-20 {method}" for method in methods), "FixUp ResNet-20 stepwise"]
    assert len(meshes(figure)) == 3 * 5 - 2
    assert "keeps neither samples nor tables" in words(figure)
    assert "recorded without the hash list" in words(figure)
    to_final = np.asarray(meshes(figure)[2].collections[0].get_array())[0]
    assert to_final[-1] == 1.0
    assert to_final[0] == 0.25  # compared exactly while recording
    assert to_final[1] == 0.0  # ten patterns later, none is left
    assert meshes(figure)[0].get_xlim() == (0.0, 10.0)  # epochs


def test_figure_4_lies_on_its_side(train) -> None:
    runs = [train(net, experiment="fig4") for net in ("toynet", "resnet", "convnet")]
    figure = draw_paper_figure("fig4", runs)
    figure.draw_without_rendering()
    axes = np.array(figure.axes[:18]).reshape(3, 6)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == [
        "ToyNet-20\nsite",
        "ConvNet-20\nsite",
        "ResNet-20\nsite",
    ]
    assert [ax.get_xlabel() for ax in axes[2]] == ["epoch"] * 6
    assert axes[0, 3].get_title() == "Most frequent\npattern"


def test_low_coverage_is_hatched(train) -> None:
    figure = draw_paper_figure("fig1", [train("resnet", coverage=lambda site, _: 0.4 if site >= 17 else 0.9)])
    panels = meshes(figure)
    assert [len(ax.patches) for ax in panels] == [2, 2, 2, 0, 2, 2]  # dark lines in light ones
    assert panels[4].patches[0].get_hatch().startswith("/")
    assert panels[4].patches[0].get_path().get_extents().bounds == (0.0, 16.5, 100.0, 2.0)
    assert "coverage below 0.5" in words(figure)
    assert "coverage" not in words(draw_paper_figure("fig1", [train("convnet")]))


def test_numbers_of_patterns_at_their_ceiling_are_crossed(train) -> None:
    """Nearly every evaluation has a pattern of its own there, so that it cannot be seen whether they change."""
    figure = draw_paper_figure("fig1", [train("resnet", total_fraction=0.9)])
    panels = meshes(figure)
    assert [len(ax.patches) for ax in panels] == [2, 0, 0, 0, 0, 0]
    assert panels[0].patches[0].get_hatch().startswith("x")
    assert "90 % of the most patterns possible" in words(figure)
    figure = draw_paper_figure("fig1", [train("convnet", total_fraction=0.89)])
    assert not meshes(figure)[0].patches
    assert "90 %" not in words(figure)


def written(figure: Figure) -> list:
    """All texts that are drawn."""
    ticks = [
        tick.label1
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks()
        if tick.label1.get_visible()
    ]
    other = [text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts)]
    below = [*figure.texts, *(text for legend in figure.legends for text in legend.texts)]
    return [text for text in [*ticks, *other, *below] if text.get_text().strip()]


@pytest.mark.parametrize("name", ["fig1", "fig3", "fig4"])
def test_a_figure_fits_a_page_and_no_text_meets_another(name: str, train) -> None:
    nets = ("resnet", "convnet", "toynet") if name != "fig3" else ("resnet", "convnet", "pyramidnet")
    runs = [train(net, experiment=name, steps=(0, 1, 999, 1000), num_steps=1000) for net in nets]
    if name == "fig3":
        runs += [train("convnet", method=method, experiment=name) for method in ("cyclic", "onecycle")]
        runs += [train("resnet", activation="prelu", experiment=name, num_steps=12_345)]
    figure = draw_paper_figure(name, runs, unfinished=[train("fixup_resnet", experiment=name, num_steps=500)])
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width <= 7.5
    assert height <= 9.0
    texts = written(figure)
    assert {text.get_fontsize() for text in texts} <= {6.0, 7.0, 7.5, 9.0}
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1, text.get_text()
    meeting = [
        (one.get_text(), other.get_text())
        for (place, (one, box)) in enumerate(zip(texts, boxes, strict=True))
        for other, beside in zip(texts[:place], boxes[:place], strict=True)
        if box.shrunk(0.98, 0.9).overlaps(beside)
    ]
    assert not meeting
    if name == "fig3":
        assert "not finished: step 100 of 500" in words(figure)


def test_what_compares_two_states_is_hatched_where_either_is_not_covered(train) -> None:
    """Step 1 alone is not covered: similarity to it vanishes by construction at every other step."""
    [one], _ = paper_runs("fig1", [train("resnet", coverage=lambda _, step: 0.4 if step == 1 else 0.9)])
    at_1 = [False, True, False, False, False, False, False]
    assert field_of(one, "relative_entropy").low_coverage[:, 0].tolist() == at_1
    assert field_of(one, "churn_rate").low_coverage[:, 0].tolist() == [False, True, True, *at_1[3:]]
    assert not field_of(one, "weighted_jaccard_to_init").low_coverage[2:].any()
    assert similarity_field(one, 1).low_coverage.all()
    assert similarity_field(one, "final").low_coverage[:, 0].tolist() == at_1
    [one], _ = paper_runs("fig1", [train("toynet", coverage=lambda _, step: 0.4 if step == 0 else 0.9)])
    assert field_of(one, "weighted_jaccard_to_init").low_coverage.all()


def test_the_early_phase_shows_changes_by_one_update_where_they_are_known_throughout(train) -> None:
    pairs = [step for tenth in range(10, 101, 10) for step in (tenth - 1, tenth)]
    runs = [train("resnet", steps=(0, 1, 2, *pairs)), train("convnet", steps=(0, 1, 2, *pairs))]
    [one, _], _ = paper_runs("fig1", runs)
    changes = single_updates(field_of(one, "relative_change"))
    assert changes.steps.tolist() == [1, 2, *range(10, 101, 10)]
    figure = draw_paper_figure("fig1", runs)
    assert "Changes are those by one update." in words(figure)
    assert all(ax.get_xlim() == (0.0, 100.0) for ax in meshes(figure))
    sizes = [ax.collections[0].get_array().size // 19 for ax in meshes(figure)]
    assert sizes == [23] * 2 + [12] * 4 + [23] * 6
    # One net without them: all three show changes since the measurement before, and the figure says so.
    sparse = draw_paper_figure("fig1", [*runs, train("toynet")])
    assert "Changes are those since the measurement before." in words(sparse)
    # Full trainings are measured once or twice an epoch.
    whole = draw_paper_figure("fig4", [train("resnet", steps=(0, 1, 2, *pairs), experiment="fig4")])
    assert "since the measurement before" in words(whole)


def test_changes_over_single_steps_are_no_stripes_among_those_over_half_epochs(train) -> None:
    halves = [40, *range(79, 401, 40)]
    whole = train("resnet", steps=sorted([0, 1, 2, 8, 9, 41, *halves]), experiment="fig4", num_steps=399)
    [one], _ = paper_runs("fig4", [whole])
    assert usual_gaps(field_of(one, "churn_rate")).steps.tolist() == halves
    figure = draw_paper_figure("fig4", [whole])
    sizes = [ax.collections[0].get_array().size // 19 for ax in meshes(figure)]
    assert sizes == [len(halves) + 6 if name not in (1, 2) else len(halves) for name in range(6)]
    assert all(ax.get_xlim()[0] == 0.0 for ax in meshes(figure))
    assert "measurement before, single steps measured in between left out." in words(figure)
    # Measurements that get rarer have no usual distance, and figure 3 shows no changes.
    rarer = train("convnet", steps=(0, 1, 2, 4, 8, 16, 32, 64, 100), experiment="fig4")
    [one], _ = paper_runs("fig4", [rarer])
    assert usual_gaps(field_of(one, "churn_rate")).steps.size == 9
    assert "Changes" not in words(draw_paper_figure("fig3", [train("resnet", experiment="fig3")]))


def test_strikes_are_marked_in_the_row_of_changes(train) -> None:
    run = train("resnet")
    assert "strike" not in words(draw_paper_figure("fig1", [run]))
    run.__dict__["strikes"] = RunStrikes(strikes=(RunStrike(step=41, num_sites=19, largest_z=9.0),))
    figure = draw_paper_figure("fig1", [run])
    assert meshes(figure)[1].lines[-1].get_xdata() == [41]
    assert "strike" in words(figure)


def test_more_measurements_than_pixels_keep_the_largest_change() -> None:
    values = np.zeros((3000, 2))
    values[1200, 0], values[1201, 0] = 3.0, -4.0
    field = Field(steps=np.arange(3000), values=values, low_coverage=np.zeros((3000, 2), dtype=bool))
    extremes = paper_panels._pooled(field, extremes=True)
    assert extremes.values.shape == (600, 2)
    assert extremes.values.min() == -4.0
    means = paper_panels._pooled(field, extremes=False)
    assert means.values[240, 0] == pytest.approx(-1 / 5)
    assert (means.steps[0], means.steps[-1]) == (2, 2999)
    assert paper_panels._pooled(means, extremes=False) is means


def test_stages_of_each_net(train) -> None:
    found = {}
    for net, depth in (("resnet", 8), ("convnet", 32), ("pyramidnet", 20), ("fixup_resnet", 20)):
        (run,), _ = paper_runs("fig1", [train(net, depth)])
        found[net] = stage_ends(run)
    assert found == {
        "resnet": [2, 4],
        "convnet": [10, 20],
        "pyramidnet": [2, 5],
        "fixup_resnet": [6, 12],
    }


def test_places_in_words() -> None:
    place = Place(net="resnet", activation="prelu")
    assert (place.net_name, place.method_name) == ("ResNet-20", "PReLU stepwise")
    assert Place(net="fixup_resnet").words == "FixUp ResNet-20, ReLU, stepwise"


def test_what_cannot_be_drawn(train) -> None:
    with pytest.raises(ExportError, match="there are fig1, fig2, fig3, fig4"):
        draw_paper_figure("fig5", [])
    with pytest.raises(ExportError, match="no run was given"):
        draw_paper_figure("fig1", [])
    with pytest.raises(ExportError, match="1 run was given, none of them made for it"):
        draw_paper_figure("fig3", [train("resnet", experiment="fig1")])
    with pytest.raises(ExportError, match="reluscope reproduce fig1"):
        draw_paper_figure("fig1", [train("pyramidnet")])
