"""Saved weights: which step a file is of, where its state dict stands, and that it fits the model."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from reluscope.errors import CheckpointError, MissingExtraError, ScheduleError
from reluscope.recording.weights import STATE_KEYS, load_weights, locate_weights


class Config:
    """Something that only unpickling would bring back."""


def make_model(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())


def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    model = make_model()
    model(torch.randn(4, 1, 6, 6))  # moves the running statistics
    return model.state_dict()


def assert_loads(content, tmp_path, **given) -> None:
    path = tmp_path / "weights-3.pt"
    torch.save(content, path)
    model = make_model()
    load_weights(model, path, **given)
    for name, value in trained().items():
        assert torch.equal(model.state_dict()[name], value), name


def steps_of(paths, **given) -> dict[str, int]:
    return {one.path.name: one.step for one in locate_weights(paths, **given)}


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


# Steps -----------------------------------------------------------------------------------------------------


def test_the_step_a_file_holds_comes_before_its_name(tmp_path):
    paths = [
        save({"model": trained(), "step": 30}, tmp_path / "a-1.pt"),
        save({"model": trained(), "global_step": torch.tensor(20)}, tmp_path / "b-2.pt"),
        save({"model": trained(), "step": "seven"}, tmp_path / "c-7.pt"),
        save(trained(), tmp_path / "resnet20-step-00000011.pt"),
    ]
    found = locate_weights(paths)
    assert [one.step for one in found] == [7, 11, 20, 30]
    assert found[0].path == paths[2]


def test_steps_that_are_given_come_before_all_others(tmp_path):
    paths = [save({"model": trained(), "step": 30}, tmp_path / "a-1.pt"), save(trained(), tmp_path / "b.pt")]
    assert steps_of(paths, steps=[200, 100]) == {"b.pt": 100, "a-1.pt": 200}


def test_a_folder_that_is_named_by_a_step(tmp_path):
    save(trained(), tmp_path / "checkpoint-500" / "model.bin")
    assert steps_of([tmp_path / "checkpoint-500" / "model.bin"]) == {"model.bin": 500}
    save(trained(), tmp_path / "user2" / "model.bin")  # a number in a path is not a step
    with pytest.raises(
        CheckpointError, match=r"which step .*user2.model\.bin. is of cannot be told.*--steps"
    ):
        locate_weights([tmp_path / "user2" / "model.bin"])


def test_two_files_of_one_step_are_refused(tmp_path):
    paths = [save(trained(), tmp_path / "a-1.pt"), save(trained(), tmp_path / "b-1.pt")]
    with pytest.raises(CheckpointError, match=r"a-1\.pt.*b-1\.pt.*both of step 1.*--steps"):
        locate_weights(paths)


def test_steps_that_are_none(tmp_path):
    path = save(trained(), tmp_path / "a-1.pt")
    with pytest.raises(ScheduleError, match="2 steps for 1 checkpoints"):
        locate_weights([path], steps=[1, 2])
    with pytest.raises(ScheduleError):
        locate_weights([path], steps=[-1])
    with pytest.raises(CheckpointError, match="no checkpoints"):
        locate_weights([])


# Files -----------------------------------------------------------------------------------------------------


def test_a_state_dict_by_itself_or_under_a_usual_name(tmp_path):
    assert_loads(trained(), tmp_path)
    for name in STATE_KEYS:
        assert_loads({"epoch": 3, "optimizer": {"state": {}}, name: trained()}, tmp_path)


def test_a_state_dict_under_a_name_that_is_given(tmp_path):
    other = {name: torch.zeros_like(value) for name, value in trained().items()}
    assert_loads({"model": other, "ema": trained()}, tmp_path, key="ema")
    with pytest.raises(CheckpointError, match=r"no state dict under 'emma'; it holds 'model', 'ema'"):
        assert_loads({"model": other, "ema": trained()}, tmp_path, key="emma")


def test_a_file_without_or_with_several_state_dicts(tmp_path):
    with pytest.raises(CheckpointError, match=r"no state dict, neither by itself.*it holds 'epoch', 'net'"):
        assert_loads({"epoch": 3, "net": trained()}, tmp_path)
    with pytest.raises(CheckpointError, match=r"under 'model', 'network'.*--key NAME"):
        assert_loads({"model": trained(), "network": trained()}, tmp_path)
    with pytest.raises(CheckpointError, match="holds a list, no state dict"):
        assert_loads([1, 2], tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.inner."])
def test_what_wrappers_put_in_front_of_names(tmp_path, prefix):
    assert_loads({prefix + name: value for name, value in trained().items()}, tmp_path)


def test_weights_beside_those_of_the_model(tmp_path):
    inside = {f"model.{name}": value for name, value in trained().items()}
    assert_loads({"state_dict": {**inside, "loss.weight": torch.ones(10)}, "global_step": 4}, tmp_path)
    twice = {**inside, **{f"teacher.{name}": value for name, value in trained().items()}}
    with pytest.raises(
        CheckpointError, match=r"several sets of weights that fit, under 'model\.', 'teacher\.'"
    ):
        assert_loads({"state_dict": twice}, tmp_path)


def test_a_wrapped_model_takes_plain_weights(tmp_path):
    path = save(trained(), tmp_path / "weights-3.pt")
    model = make_model()
    load_weights(nn.DataParallel(model), path)
    assert torch.equal(model[0].weight, trained()["0.weight"])


def test_weights_of_another_model(tmp_path):
    path = save(trained(), tmp_path / "weights-3.pt")
    with pytest.raises(CheckpointError, match=r"weights of another model: .*size mismatch for 0\.weight"):
        load_weights(make_model(width=6), path)
    with pytest.raises(CheckpointError, match=r"1 that the model has are not in it, first 3\.weight"):
        load_weights(nn.Sequential(*make_model(), nn.Linear(2, 2, bias=False)), path)
    with pytest.raises(CheckpointError, match=r"5 that it has not are, first 1\.weight"):
        load_weights(nn.Sequential(nn.Conv2d(1, 5, 3)), path)


def test_nothing_else_is_unpickled(tmp_path):
    path = save({"model": trained(), "config": Config()}, tmp_path / "weights-3.pt")
    with pytest.raises(CheckpointError, match=r"more than tensors and plain values.*add_safe_globals"):
        load_weights(make_model(), path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        locate_weights([path])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load_weights(make_model(), tmp_path / "nothing-1.pt")
    whole = save(trained(), tmp_path / "whole-1.pt").read_bytes()
    for content in (b"", b"hello, this is a text file", whole[: len(whole) // 2]):
        (tmp_path / "damaged-1.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged-1\.pt"):
            load_weights(make_model(), tmp_path / "damaged-1.pt")


def test_the_format_of_old_torch(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"step": 9, "model": trained()}, path, _use_new_zipfile_serialization=False)
    assert steps_of([path]) == {"old.pt": 9}
    model = make_model()
    load_weights(model, path)
    assert torch.equal(model[0].weight, trained()["0.weight"])


def test_safetensors_only_where_it_is_installed(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint-4" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert steps_of([path]) == {"model.safetensors": 4}
    with pytest.raises(MissingExtraError, match="pip install safetensors"):
        load_weights(make_model(), path)
