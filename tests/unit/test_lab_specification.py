"""Specifications: presets, YAML in and out, overrides with types, and errors in words."""

from __future__ import annotations

import pydantic
import pytest
import yaml

from reluscope.errors import SpecificationError
from reluscope.lab.presets import PRESETS, preset
from reluscope.lab.specification import (
    SGD,
    Adam,
    ConvolutionalModel,
    DataSpecification,
    MilestonesSchedule,
    MLPModel,
    Specification,
    TrainingSpecification,
    blocks_per_stage,
)
from reluscope.lab.specification_text import parse_specification, read_specification, specification_to_yaml


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_yaml(name, tmp_path):
    spec = preset(name)
    assert parse_specification(yaml.safe_load(specification_to_yaml(spec))) == spec
    path = tmp_path / "spec.yaml"
    path.write_text(specification_to_yaml(spec))
    assert read_specification(path) == spec


def test_a_short_yaml_gets_the_defaults(tmp_path):
    path = tmp_path / "short.yml"
    path.write_text("model: {name: mlp}\ndata: {name: mnist-sample}\noptimizer: {name: adam, lr: 1e-4}\n")
    spec = read_specification(path)
    assert spec.model == MLPModel(name="mlp")
    assert spec.optimizer == Adam(
        name="adam", lr=1e-4
    )  # YAML 1.1 reads 1e-4 as text: it must become a number
    assert spec.training.epochs == 10


def test_overrides_have_types():
    spec = read_specification(
        "resnet20-mnist-sample",
        overrides=[
            "optimizer.lr=5e-2",
            "optimizer.nesterov=true",
            "recording.at=[0, 3]",
            "recording.per_decade=null",
            "data.held_out=test",
            "model.depth=8",
        ],
    )
    assert spec.optimizer == SGD(name="sgd", lr=0.05, nesterov=True)
    assert spec.recording.at == (0, 3)
    assert spec.recording.per_decade is None
    assert spec.data.held_out == "test"
    assert spec.model == ConvolutionalModel(name="resnet", depth=8)


def test_a_later_override_wins_and_the_preset_stays():
    assert (
        read_specification("mlp-mnist", overrides=["training.seed=1", "training.seed=2"]).training.seed == 2
    )
    assert preset("mlp-mnist").training.seed == 0


def test_steps_and_epochs_take_each_other_away():
    by_steps = read_specification("mlp-mnist", overrides=["training.steps=5"]).training
    assert (by_steps.steps, by_steps.epochs) == (5, None)
    by_epochs = read_specification("resnet20-mnist-sample", overrides=["training.epochs=0.5"]).training
    assert (by_epochs.steps, by_epochs.epochs) == (None, 0.5)


def test_another_kind_keeps_what_it_knows_and_drops_the_rest():
    spec = read_specification(
        "resnet20-mnist-sample", overrides=["model.name=convnet", "optimizer.lr=0.02", "optimizer.name=adam"]
    )
    assert spec.model == ConvolutionalModel(name="convnet", depth=20)
    assert spec.optimizer == Adam(name="adam", lr=0.02, weight_decay=1e-4)
    assert (
        read_specification("mlp-mnist", overrides=["model.name=toynet", "model.depth=14"]).model.depth == 14
    )


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["optimizer.lrr=3"], r'"optimizer\.lrr" is no field \(closest: "lr"; all: name, lr, momentum'),
        (["optimizer.lr=fast"], r"\"optimizer\.lr\" is 'fast', but it must be a valid number"),
        (["optimizer.lr=-1"], r'"optimizer\.lr" is -1, but it must be greater than 0'),
        (["optimizer.lr=.nan"], "finite"),
        (["optimizer.momentum=1"], "less than 1"),
        (["optimizer={name: sgd, momentum: 0, nesterov: true}"], "nesterov needs a momentum"),
        (["model.depth=21"], r'"model\.depth": depth 21 cannot be built.*Closest: 20'),
        (["model.name=resnett"], r"\"model\.name\" is 'resnett' \(closest: \"resnet\""),
        (["optimizer={lr: 3}"], r'"optimizer\.name" is missing \(allowed: sgd, adam\)'),
        (
            ["data.name=cifar"],
            r"\"data\.name\": 'cifar' is no data set; it must be 'mnist-sample', .*'hf:' and a name",
        ),
        (["data.held_out=1.5"], r'1\.5 is neither a fraction from 0 to 0\.9 nor "test"'),
        (["data.held_out=tset"], r"'tset' is neither a fraction"),
        (["data.columns=[a, b]"], r"columns and image_size are for sets of the library datasets"),
        (["training.device=gpu"], r"\"training\.device\" is 'gpu'"),
        (["training.steps=2.5"], "valid integer"),
        (["training={batch_size: 3}"], r'"training": give either steps or epochs'),
        (["training={steps: 3, epochs: 3}"], "steps or epochs, not both"),
        (["recording.at=[1, -3]"], r'"recording\.at\.1" is -3'),
        (["instruments.patterns.kep=1"], r'"instruments\.patterns\.kep" is no field \(closest: "keep"'),
        (["schedule={name: milestones, milestones: [0.5, 2]}"], "less than 1"),
        (["epochs=3"], r'"epochs" is no field'),
        (["a.b.c=1"], r'"a" is no field'),
        (["optimizer.lr.x=1"], r'"optimizer\.lr\.x" cannot be set: lr is a value, not a section'),
        (["optimizer.lr"], r"is not an override\. Write section\.field=value: optimizer\.lr=0\.05"),
        (["=3"], "is not an override"),
        (["optimizer..lr=3"], "is not an override"),
        (["optimizer.lr=[1"], r"is not YAML\. Quote it"),
        (["optimizer.lr=-1", "model.depth=3"], r"model\.depth.*; .*optimizer\.lr"),  # all mistakes at once
    ],
)
def test_mistakes_are_said_in_words(overrides, text):
    with pytest.raises(SpecificationError, match=text) as caught:
        read_specification("resnet20-mnist-sample", overrides=overrides)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_names_the_closest():
    with pytest.raises(
        SpecificationError, match=r'no preset is called "resnet-mnist".*closest: "resnet20-mnist-sample"'
    ):
        read_specification("resnet-mnist")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "holds nothing where sections"),
        ("- 1\n- 2\n", "holds a list where sections"),
        ("model: [1", "is not YAML"),
        ("model: {name: mlp}\n", '"data" is missing'),
        ("model: !!python/object/apply:os.getcwd []\n", "is not YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_specification(tmp_path, content, text):
    path = tmp_path / "spec.yaml"
    path.write_text(content)
    with pytest.raises(SpecificationError, match=text):
        read_specification(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecificationError, match=r"no specification at .*nosuch\.yaml"):
        read_specification(tmp_path / "nosuch.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecificationError, match="cannot be read"):
        read_specification(tmp_path / "folder.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecificationError, match="not a text file"):
        read_specification(tmp_path / "binary.yaml")


def test_sections_are_frozen_and_refuse_unknown_fields():
    spec = preset("mlp-mnist")
    with pytest.raises(pydantic.ValidationError):
        spec.training.seed = 3
    with pytest.raises(pydantic.ValidationError):
        DataSpecification(name="mnist", shuffle=True)
    with pytest.raises(ValueError):
        Specification(model=MLPModel(name="mlp"), data=DataSpecification(name="mnist"), extra=1)


def test_milestones_multiply_the_learning_rate():
    schedule = MilestonesSchedule(name="milestones", milestones=(0.5, 0.75), factor=0.1)
    found = [schedule.multiplier(step, 8) for step in range(8)]
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_lengths_of_trainings():
    training = TrainingSpecification(epochs=1.5, batch_size=128)
    assert training.steps_per_epoch(4500) == 36  # 35 full batches and one of 20
    assert training.num_steps(4500) == 54
    assert TrainingSpecification(epochs=0.001, batch_size=128).num_steps(10) == 1
    assert TrainingSpecification(steps=7).num_steps(10) == 7


def test_blocks_per_stage():
    assert [blocks_per_stage(depth) for depth in (8, 14, 20, 26, 32)] == [1, 2, 3, 4, 5]
