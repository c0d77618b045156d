"""Fingerprints: equal for the same model in any wrapping and layout, different for anything else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reluscope.recording.fingerprints import describe_model, parameter_hash


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


def test_the_description_names_every_parameter():
    assert describe_model(make_model()) == {
        "class": "Sequential",
        "num_parameters": 4 * 3 * 9 + 4 + 8 + 10,
        "parameters": {
            "0.weight": "float32[4, 3, 3, 3]",
            "0.bias": "float32[4]",
            "1.weight": "float32[4]",
            "1.bias": "float32[4]",
            "4.weight": "float32[2, 4]",
            "4.bias": "float32[2]",
        },
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model.to(memory_format=torch.channels_last),
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
        lambda model: model.eval(),
        lambda model: model.requires_grad_(False),
    ],
)
@pytest.mark.filterwarnings("default")  # compilers warn about what they please
def test_wrapping_and_layout_change_nothing(wrap):
    wrapped = wrap(make_model())
    assert describe_model(wrapped) == describe_model(make_model())
    assert parameter_hash(wrapped) == parameter_hash(make_model())


def test_a_compiled_child_changes_nothing():
    model = make_model()
    model[4] = torch.compile(model[4], backend="eager")
    assert describe_model(model) == describe_model(make_model())
    assert parameter_hash(model) == parameter_hash(make_model())


def flip_last_bit(model: nn.Module) -> None:
    model[4].bias.data.view(torch.int32)[1] ^= 1


def swap_equal_shapes(model: nn.Module) -> None:
    model[1].weight.data[0] = 2.0
    model[1].weight.data, model[1].bias.data = model[1].bias.data, model[1].weight.data


@pytest.mark.parametrize("change", [flip_last_bit, swap_equal_shapes, lambda model: model.double()])
def test_every_bit_counts(change):
    model = make_model()
    before = parameter_hash(model)
    change(model)
    assert parameter_hash(model) != before


def test_buffers_do_not_count():
    model = make_model()
    before = parameter_hash(model)
    model[1].running_mean += 1
    assert parameter_hash(model) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_any_dtype(dtype):
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(3, 2, dtype=dtype))
    model.none = nn.Parameter(torch.empty(0, 4, dtype=dtype))
    assert len(parameter_hash(model)) == 32
    assert describe_model(model)["parameters"]["weight"] == f"{str(dtype).removeprefix('torch.')}[3, 2]"


def test_a_model_without_parameters():
    assert describe_model(nn.ReLU()) == {"class": "ReLU", "num_parameters": 0, "parameters": {}}
    assert len(parameter_hash(nn.ReLU())) == 32
