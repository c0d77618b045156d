"""The trainings behind the figures: which, how long, measured when; a scale changes numbers only."""

from __future__ import annotations

import pytest

from reluscope.errors import SpecificationError
from reluscope.lab.experiments import FIGURES, NUMBERS, SCALES, experiment
from reluscope.lab.reproduction import selected_trainings
from reluscope.lab.specification_text import parse_specification, specification_differences


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_training_is_valid_named_once_and_tagged(figure, scale):
    trainings = experiment(figure, scale)
    assert len({name for name, _ in trainings}) == len(trainings)
    for name, spec in trainings:
        assert parse_specification(spec.model_dump(mode="json")) == spec  # nothing slipped past validation
        assert (spec.experiment, spec.scale) == (figure, scale)
        assert name.endswith(f"-seed{spec.training.seed}")
        assert {0, 1, 2, 8, 9, 40, 41} <= set(spec.recording.at)
        assert spec.instruments.patterns.sample_every == 1


@pytest.mark.parametrize("figure", FIGURES)
def test_scales_differ_in_numbers_only(figure):
    """Between laptop and paper: lengths, sizes and times of measuring; and fig2 has more nets."""
    allowed = {"num_images", "epochs", "steps", "cycles", "hashlist", "until", "every", "at", "scale"}
    paper = dict(experiment(figure, "paper"))
    for name, spec in experiment(figure, "laptop"):
        for difference in specification_differences(spec, paper[name]).split("; "):
            assert difference.split(" ")[0].rpartition(".")[2] in allowed


def test_figure_1_is_the_early_phase_of_the_stepwise_training():
    trainings = dict(experiment("fig1", "paper"))
    assert set(trainings) == {f"{net}20-relu-constant-seed0" for net in ("resnet", "convnet", "toynet")}
    for spec in trainings.values():
        assert spec.training.steps == 3000  # of 78,200: before the first drop of the rate
        assert spec.schedule.name == "constant"
        assert spec.optimizer.lr == 0.1
        assert spec.data.held_out == 0.01
        assert spec.probe.num_images == 49_500
        assert spec.recording.every == 1


def test_laptop_figure_1_measures_the_change_over_one_update_to_its_end():
    """Two claims ask for the changes between neighbouring steps late in the training."""
    recording = experiment("fig1", "laptop")[0][1].recording
    assert recording.until == 200
    assert recording.every == 20
    assert {219, 419, 499, 979, 999} <= set(recording.at)


def test_figure_2_has_depths_and_seeds():
    assert len(experiment("fig2", "laptop")) == 3 * 3 * 3
    assert len(experiment("fig2", "paper")) == 3 * 5 * 25
    assert len(experiment("fig2", "laptop", seeds=1)) == 3 * 3
    spec = experiment("fig2", "laptop")[0][1]
    assert spec.recording.shares == (0.5,)
    # 79 updates an epoch, 12 epochs: measured at 474, the last state before the rate drops.
    assert spec.training.num_steps(10_000) == 948
    assert spec.schedule.multiplier(473, 948) == 1
    assert spec.schedule.multiplier(474, 948) == pytest.approx(0.1)


def test_figure_3_has_ten_methods():
    trainings = dict(experiment("fig3", "paper"))
    assert len(trainings) == 10
    assert {(s.model.name, s.model.activation, s.schedule.name) for s in trainings.values()} == {
        *(
            (net, activation, method)
            for net in ("resnet", "convnet")
            for activation, method in (
                ("relu", "milestones"),
                ("prelu", "milestones"),
                ("relu", "cyclic"),
                ("relu", "onecycle"),
            )
        ),
        ("pyramidnet", "relu", "milestones"),
        ("fixup_resnet", "relu", "milestones"),
    }
    assert trainings["pyramidnet20-relu-stepwise-seed0"].training.epochs == 300
    onecycle = trainings["resnet20-relu-onecycle-seed0"]
    assert (onecycle.training.epochs, onecycle.training.batch_size) == (50, 256)
    assert trainings["resnet20-relu-cyclic-seed0"].schedule.cycles == 5
    assert dict(experiment("fig3", "laptop"))["resnet20-relu-cyclic-seed0"].schedule.cycles == 2
    sizes = {spec.model.name: spec.instruments.patterns.hashlist for spec in trainings.values()}
    assert sizes == {"resnet": 2**26, "convnet": 2**26, "fixup_resnet": 2**26, "pyramidnet": 2**28}
    assert all(spec.data.held_out == "test" for spec in trainings.values())


def test_figure_4_measures_twice_per_epoch():
    for scale in SCALES:
        assert {spec.recording.per_epoch for _, spec in experiment("fig4", scale)} == {2}
    assert {spec.training.epochs for _, spec in experiment("fig4", "paper")} == {200}


def test_the_smoke_scale_needs_no_files():
    assert {numbers["smoke"].data for numbers in NUMBERS.values()} == {"mnist-sample"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fig5", "smoke"), r'no figure "fig5".*Allowed: fig1, fig2, fig3, fig4'),
        (("fig1", "large"), "Allowed: smoke, laptop, paper"),
    ],
)
def test_what_is_not_reproduced(arguments, text):
    with pytest.raises(SpecificationError, match=text):
        experiment(*arguments)
    with pytest.raises(SpecificationError, match="0 seeds"):
        experiment("fig1", "smoke", seeds=0)


def test_a_choice_of_trainings():
    trainings = experiment("fig3", "smoke")
    chosen = selected_trainings(trainings, ["resnet20-*-stepwise-*", "pyramidnet20-relu-stepwise-seed0"])
    assert [name for name, _ in chosen] == [
        "pyramidnet20-relu-stepwise-seed0",
        "resnet20-prelu-stepwise-seed0",
        "resnet20-relu-stepwise-seed0",
    ]
    assert selected_trainings(trainings, []) == trainings
    with pytest.raises(SpecificationError, match=r'called "resnet"\. Closest: .*"resnet20-relu-'):
        selected_trainings(trainings, ["resnet20-*", "resnet"])
