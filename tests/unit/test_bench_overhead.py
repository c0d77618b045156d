"""The overhead benchmark, tiny: what a bare pass leaves alone, what is reported, larger networks, memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import reluscope as rs
from reluscope.bench import OverheadBenchmark, first_use, run_cases, select
from reluscope.bench.memory import measure_memory, read_memory_rows, write_memory_rows
from reluscope.bench.networks import ResNet18, Transformer
from reluscope.bench.overhead import bare_forward
from reluscope.bench.scaling import scaling_rows
from reluscope.bench.subjects import Subject, bench_images, network_after, subject_of
from reluscope.errors import BenchmarkError

TINY = OverheadBenchmark(
    models=("convnet20",), num_images=4, num_large=1, pairs=1, steps=(0, 1), labels="both", seconds=0.1
)


@pytest.fixture(autouse=True)
def no_real_data(monkeypatch):
    monkeypatch.delenv("RELUSCOPE_DATA_DIR", raising=False)


@pytest.mark.parametrize("running", [False, True])
def test_a_bare_pass_has_the_right_statistics_and_leaves_everything_alone(running):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3)).eval()
    subject = Subject(case="x", model=model, inputs=torch.randn(4, 1, 5, 5) + 3, labels=None, batch_size=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    bare_forward(subject, running=running)
    is_normalised = torch.allclose(outputs[0].mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert is_normalised != running
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[1].training
    assert model[1].track_running_stats


def test_a_measurement_is_compared_with_both_bare_passes_and_the_roofline():
    rows = run_cases(select(TINY.cases(), ["overhead/convnet20-step0-labels"]))
    assert [(row.benchmark, row.alternative, row.baseline) for row in rows] == [
        ("overhead", "bare", "bare"),
        ("overhead", "measure", "bare"),
        ("overhead", "bare_eval", "bare_eval"),
        ("overhead", "measure", "bare_eval"),
        ("roofline", "read once", "bare"),
    ]
    assert rows[0].case == "convnet20, step 0 with labels, 4 embedded digits"
    # Sites of 16 x 28^2, 32 x 14^2 and 64 x 7^2 values: 7, 6 and 6 of them, but for where strides begin.
    assert rows[4].work == 4 * 4 * (7 * 16 * 28**2 + 6 * 32 * 14**2 + 6 * 64 * 7**2)


def test_the_parts_of_a_measurement_are_named():
    rows = run_cases(select(TINY.cases(), ["parts/convnet20-step0"])[:1])
    assert [row.alternative for row in rows] == [
        "bare",
        "observe",
        "observe, sum",
        "observe, pack",
        "observe, pack, count",
        "measure",
    ]


def test_cases_are_those_of_the_models_and_states():
    names = [case.name for case in TINY.cases()]
    assert names[:4] == [f"overhead/convnet20-step{s}{w}" for w in ("", "-labels") for s in (0, 1)]
    assert names[-2:] == ["first-use", "scaling"]
    names = [case.name for case in OverheadBenchmark().cases()]
    assert "overhead/resnet20-step200" in names
    assert {"overhead/resnet18-step0", "overhead/transformer-step0"} <= set(names)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"models": ("resnet81",)}, 'Closest: "resnet18"'),
        ({"labels": "some"}, "allowed are without, with, both"),
        ({"pairs": 0}, "pairs=0; give 1 or more"),
        ({"steps": (-5,)}, "0 or more"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(BenchmarkError, match=words):
        OverheadBenchmark(**wrong)


def test_a_short_training_moves_the_network_once_per_process():
    data = bench_images(130)
    start, trained = network_after("convnet20", 0, data), network_after("convnet20", 1, data)
    again = network_after("convnet20", 1, data)
    assert not torch.equal(start.conv.weight, trained.conv.weight)
    assert torch.equal(again.conv.weight, trained.conv.weight)
    assert again is not trained
    assert trained.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert subject_of("convnet20", 1, data).case == "convnet20, step 1, 130 embedded digits"
    with pytest.raises(BenchmarkError, match="nothing to measure on"):
        bench_images(0)


def test_without_images_there_is_noise_and_it_says_so(monkeypatch):
    from reluscope.bench import subjects
    from reluscope.errors import MissingExtraError

    def none_there(*arguments, **keywords):
        raise MissingExtraError("no mlxtend")

    monkeypatch.setattr(subjects, "load", none_there)
    data = bench_images(7)
    assert data.images.shape == (7, 3, 32, 32)
    assert "7 noise images" in subject_of("convnet20", 0, data).case


def test_resnet18_is_laid_out_as_in_torchvision():
    model = ResNet18()
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == 11_689_512
    )  # torchvision's own number
    table = rs.sites(model, torch.randn(2, 3, 64, 64))
    observed = table[table.observed]
    assert len(observed) == 17
    assert set(observed.width) == {64, 128, 256, 512}


def test_the_transformer_has_a_site_of_2048_units_per_layer():
    table = rs.sites(Transformer(), torch.randint(0, 1024, (2, 4)))
    assert list(table[table.observed].width) == [2048] * 4
    assert list(table[table.observed].num_positions) == [4] * 4


def test_the_cost_of_counting_is_followed_as_far_as_time_goes():
    rows = scaling_rows(250_000, 60.0, "cpu", lambda share: None)
    assert [row.work for row in rows] == [100_000, 250_000]
    assert len(scaling_rows(10_000_000, 1e-6, "cpu", lambda share: None)) == 1


def test_first_and_later_uses_are_told_apart(monkeypatch):
    answers = iter([12.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    folders = []
    monkeypatch.setattr(first_use, "_extra_seconds", lambda cache: (folders.append(cache), next(answers))[1])
    first, later = first_use.first_use_rows(lambda share: None)
    assert (first.alternative, first.rounds, first.median_s) == ("first use, kernels compiled", 1, 12.0)
    assert (later.rounds, later.median_s) == (5, 0.3)
    assert len(set(folders)) == 1  # the later ones find what the first one left


def test_a_process_that_fails_is_an_error_with_its_words(monkeypatch, tmp_path):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "none-such")
    with pytest.raises(BenchmarkError, match=r"none-such"):
        first_use._extra_seconds(str(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_memory_is_measured_in_a_process_of_its_own(tmp_path):
    rows = measure_memory(["distinct"], num_images=8, repeats=1)
    assert [(row.network, row.images, row.labels) for row in rows] == [
        ("distinct", 8, False),
        ("distinct", 8, True),
    ]
    assert rows[0].patterns <= 8 * (32**2 + 16**2)
    assert rows[0].patterns > 8000
    write_memory_rows(tmp_path / "memory.csv", rows)
    assert read_memory_rows(tmp_path / "memory.csv") == rows
    with pytest.raises(BenchmarkError, match='Closest: "toynet20"'):
        measure_memory(["toynet"])
