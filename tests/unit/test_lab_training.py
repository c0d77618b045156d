"""The training loop: what it trains, what it records, and that an interruption leaves no trace."""

from __future__ import annotations

import dataclasses
import math
import signal
import subprocess
import sys
import textwrap
import warnings

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

import reluscope as rs
from reluscope.errors import (
    CheckpointError,
    ReluscopeWarning,
    RunExistsError,
    SpecificationError,
    TrainingDivergedError,
    TrajectoryMismatchError,
)
from reluscope.lab import checkpoints
from reluscope.lab.augmentation import crop_flip
from reluscope.lab.checkpoints import latest_checkpoint, load_checkpoint
from reluscope.lab.data import ImageData
from reluscope.lab.devices import exact_convolutions, resolve_device
from reluscope.lab.models import build
from reluscope.lab.order import AUGMENTATION_STREAM, BatchOrder, generator_for
from reluscope.lab.specification import Specification
from reluscope.lab.specification_text import parse_specification
from reluscope.lab.training import _Clock, stored_specification, train
from reluscope.recording import at

NUM_STEPS = 14


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These tensors are so small that several threads only wait for each other, long so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_images(num_images: int = 150) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) % 10
    images = torch.randn(num_images, 1, 12, 12, generator=generator) + labels.view(-1, 1, 1, 1) / 3
    return ImageData(
        name="small",
        images=images[:120],
        labels=labels[:120],
        held_out_images=images[120:],
        held_out_labels=labels[120:],
        num_classes=10,
        black=torch.tensor([-1.0]),
    )


def specification(**changes: dict) -> Specification:
    content = {
        "model": {"name": "resnet", "depth": 8},
        "data": {"name": "mnist-sample", "augmentation": "crop_flip"},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": {"name": "milestones", "milestones": [0.5]},
        "training": {"steps": NUM_STEPS, "batch_size": 32, "seed": 3},
        "probe": {"num_images": 40, "batch_size": 20},
        "recording": {"at": [0, 1, 2], "every": 5, "per_decade": None},
    }
    for section, fields in changes.items():
        content[section] = {**content.get(section, {}), **fields}
    return parse_specification(content)


ADAM = {"optimizer": {"name": "adam", "lr": 1e-3}, "model": {"name": "mlp", "hidden_layers": 2, "width": 12}}


def adam_on_an_mlp() -> Specification:
    content = specification().model_dump(mode="json")
    return parse_specification({**content, **ADAM, "training": {"steps": NUM_STEPS, "batch_size": 32}})


def final_state(run) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(latest_checkpoint(run / "checkpoints"))
    momenta = {
        f"optimizer.{index}.{name}": value
        for index, state in checkpoint.optimizer["state"].items()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    return {**checkpoint.model, **momenta, "step": torch.tensor(checkpoint.step)}


def assert_same_state(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def assert_same_run(found_path, expected_path) -> None:
    """Every row of every table but the wall-clock times, exactly."""
    found, expected = rs.open_run(found_path), rs.open_run(expected_path)
    clock = ["seconds", "time"]
    pd.testing.assert_frame_equal(
        found.layers.drop(columns=clock), expected.layers.drop(columns=clock), check_exact=True
    )
    pd.testing.assert_frame_equal(found.scalars, expected.scalars, check_exact=True)
    assert found.state == expected.state == "closed"
    assert_same_state(final_state(found_path), final_state(expected_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training that nobody interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return train(specification(), run, data=small_images())


def test_a_training_records_what_it_says(whole):
    run = rs.open_run(whole.run)
    assert run.steps == [0, 1, 2, 5, 10, NUM_STEPS]
    assert whole.num_measurements == 6
    assert (whole.first_step, whole.num_steps) == (0, NUM_STEPS)
    assert list(run.scalars["step"]) == list(range(NUM_STEPS))
    assert list(run.scalars["lr"]) == pytest.approx([0.05] * 7 + [0.005] * 7)
    assert run.scalars["loss"].iloc[-1] == whole.loss
    assert run.scalars["accuracy"].between(0, 1).all()
    first_epoch = [index for batch in run.scalars["batch_indices"][:4] for index in batch]
    assert sorted(first_epoch) == list(range(120))
    assert len(run.sites) == 7
    assert stored_specification(whole.run) == specification()
    assert 0 <= whole.held_out_accuracy <= 1


def test_batches_are_logged_as_places_in_the_data_set(whole, tmp_path):
    """Where they are known; a run that began without goes on without."""
    places = 7 * torch.arange(120) + 3
    data = dataclasses.replace(small_images(), indices=places)
    spec = specification(training={"steps": 3})
    train(spec, tmp_path / "run", data=data)
    run, order = rs.open_run(tmp_path / "run"), BatchOrder(120, 32, 3)
    assert run.info["batch_indices"] == "places in the data set's own training images"
    for step, batch in enumerate(run.scalars["batch_indices"]):
        assert batch.tolist() == places[order.batch(step)].tolist()
    assert "batch_indices" not in rs.open_run(whole.run).info

    def interrupt(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    spec = specification()
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "old", data=small_images(), on_step=interrupt)
    train(spec, tmp_path / "old", data=data, resume=True)
    assert "batch_indices" not in rs.open_run(tmp_path / "old").info
    assert_same_run(tmp_path / "old", whole.run)


def test_the_time_left_counts_updates_and_measurements(tmp_path):
    told = []
    spec = specification(training={"steps": 6}, recording={"at": [0, 1, 2], "every": None})
    train(spec, tmp_path / "run", data=small_images(), on_step=told.append)
    assert all(0 < one.seconds_left < one.seconds_whole for one in told)
    clock = _Clock(at(0, 1, 2, 6), 6)
    clock._updates, clock._measurements = (2, 4.0), (2, 60.0)  # 2 s an update, 30 s a measurement
    assert clock.seconds(0) == 6 * 2 + 4 * 30
    assert clock.seconds(2) == 4 * 2 + 2 * 30  # the state after two updates is still to be measured
    assert clock.seconds(3) == 3 * 2 + 30
    assert math.isnan(_Clock(at(0), 6).seconds(0))


def test_recording_leaves_the_training_as_a_bare_loop_would_have_it(whole):
    spec, data = specification(), small_images()
    model = build(spec.model, (1, 12, 12), 10, seed=3).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    order = BatchOrder(120, 32, seed=3)
    for step in range(NUM_STEPS):
        batch = order.batch(step)
        images = crop_flip(
            data.images[batch], generator_for(3, AUGMENTATION_STREAM, step), fill=torch.tensor([-1.0])
        )
        optimizer.param_groups[0]["lr"] = 0.05 if step < 7 else 0.05 * 0.1
        optimizer.zero_grad()
        F.cross_entropy(
            model(images.contiguous(memory_format=torch.channels_last)), data.labels[batch]
        ).backward()
        optimizer.step()
    checkpoint = load_checkpoint(latest_checkpoint(whole.run / "checkpoints"))
    assert_same_state(checkpoint.model, model.state_dict())


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 13])
def test_an_interrupted_training_ends_as_the_whole_one(whole, tmp_path, cut):
    def interrupt(progress):
        if progress.step == cut:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(specification(), run, data=small_images(), on_step=interrupt)
    assert rs.open_run(run).state == "interrupted"
    result = train(specification(), run, data=small_images(), resume=True)
    assert result.first_step == max(step for step in (0, 1, 2, 5, 10) if step < cut)
    assert_same_run(run, whole.run)


def test_a_killed_training_ends_as_the_whole_one(tmp_path):
    """kill -9 in another process, twice, with Adam; then to the end in this one."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(adam_on_an_mlp(), whole, data=small_images())
    script = textwrap.dedent(
        """
        import importlib.util, os, signal, sys
        spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
        helpers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(helpers)
        helpers.torch.set_num_threads(1)

        def kill(progress):
            if progress.step == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)

        helpers.train(
            helpers.adam_on_an_mlp(), sys.argv[2], data=helpers.small_images(), resume=True, on_step=kill
        )
        """
    )
    for cut in (6, 12):
        ended = subprocess.run([sys.executable, "-c", script, __file__, str(run), str(cut)], timeout=120)
        assert ended.returncode == -signal.SIGKILL
    train(adam_on_an_mlp(), run, data=small_images(), resume=True)
    assert_same_run(run, whole)


def test_resuming_what_is_finished_changes_nothing(tmp_path):
    run = tmp_path / "run"
    train(specification(), run, data=small_images())
    before = final_state(run)
    again = train(specification(), run, data=small_images(), resume=True)
    assert again.first_step == again.num_steps == NUM_STEPS
    assert math.isnan(again.loss)
    assert again.num_measurements == 6
    assert_same_state(final_state(run), before)


def test_another_specification_is_not_resumed(whole):
    other = specification(optimizer={"lr": 0.1}, training={"seed": 4})
    with pytest.raises(
        CheckpointError, match=r"optimizer\.lr was 0\.05, is 0\.1; training\.seed was 3, is 4"
    ):
        train(other, whole.run, data=small_images(), resume=True)


def test_other_images_are_not_resumed(whole):
    data = small_images()
    data.images.add_(1)
    with pytest.raises(TrajectoryMismatchError):
        train(specification(), whole.run, data=data, resume=True)


def test_a_run_is_not_overwritten(whole):
    with pytest.raises(RunExistsError):
        train(specification(), whole.run, data=small_images())


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no specification\.yaml"):
        stored_specification(tmp_path)


def test_a_diverging_training_stops_with_what_it_measured(tmp_path):
    run = tmp_path / "run"
    wild = specification(optimizer={"lr": 1e30}, model={"name": "convnet"})
    with (
        pytest.warns(ReluscopeWarning, match="at step 1: NaN among the pre-activations"),
        pytest.raises(TrainingDivergedError, match=r"the loss of step \d+ is (nan|inf).*lower rate than"),
    ):
        train(wild, run, data=small_images())
    assert 0 in rs.open_run(run).steps


def test_the_run_says_how_the_training_ended(tmp_path):
    result = train(specification(), tmp_path / "run", data=small_images())
    run = rs.open_run(tmp_path / "run")
    assert run.info["held_out_accuracy"] == result.held_out_accuracy
    assert run.info["training"]["optimizer"]["lr"] == 0.05
    assert run.state == "closed"


def test_the_run_says_from_its_start_what_is_trained(tmp_path):
    """What readers group runs by is there while the training still goes on, and after a kill."""
    spec = specification().model_copy(update={"experiment": "fig4", "scale": "smoke"})
    seen = []

    def look(progress):
        if progress.step == 1:
            seen.append(rs.open_run(tmp_path / "run").info)

    train(spec, tmp_path / "run", data=small_images(), on_step=look)
    assert seen[0]["training"] == spec.model_dump(mode="json")
    assert (seen[0]["training"]["experiment"], seen[0]["training"]["scale"]) == ("fig4", "smoke")
    assert seen[0]["training_steps"] == {"num_steps": NUM_STEPS, "steps_per_epoch": 4}
    assert "held_out_accuracy" not in seen[0]


@pytest.mark.parametrize("schedule", ["cyclic", "onecycle"])
def test_rates_and_momenta_of_every_update(tmp_path, schedule):
    """A FixUp net with cycled momentum: resumed bit for bit, rates as the schedule says in both groups."""
    spec = specification(
        model={"name": "fixup_resnet"},
        optimizer={"weight_decay": 5e-4, "bias_lr_factor": 0.1},
    ).model_dump(mode="json")
    spec = parse_specification({**spec, "schedule": {"name": schedule}})

    def interrupt(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    train(spec, tmp_path / "whole", data=small_images())
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "run", data=small_images(), on_step=interrupt)
    train(spec, tmp_path / "run", data=small_images(), resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    rates = rs.open_run(tmp_path / "whole").scalars["lr"]
    expected = [0.05 * spec.schedule.multiplier(step, NUM_STEPS) for step in range(NUM_STEPS)]
    assert list(rates) == expected
    last = load_checkpoint(latest_checkpoint(tmp_path / "whole" / "checkpoints")).optimizer["param_groups"]
    assert [group["lr"] for group in last] == pytest.approx([expected[-1], expected[-1] / 10])
    momentum = spec.schedule.momentum(NUM_STEPS - 1, NUM_STEPS, 0.9)
    assert {group["momentum"] for group in last} == {momentum}


def test_measurements_up_to_a_step_and_at_shares(tmp_path):
    recording = {"at": [], "every": 6, "until": 3, "shares": [0.5, 0.9], "per_decade": None}
    run = tmp_path / "run"
    train(specification(recording=recording), run, data=small_images())
    assert rs.open_run(run).steps == [0, 1, 2, 3, 6, 7, 12, 13, NUM_STEPS]  # ceil(0.9 * 14) = 13
    # 0.5 of 14: what step 7 measured is the last state that was trained at the first rate.
    assert list(rs.open_run(run).scalars["lr"]) == pytest.approx([0.05] * 7 + [0.005] * 7)


def test_a_device_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:3"):
        with pytest.raises(
            SpecificationError, match=rf'device is {name}; torch finds no CUDA.*"auto" or "cpu"'
        ):
            train(specification(training={"device": name}), tmp_path / "run", data=small_images())
    assert not (tmp_path / "run").exists()
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")


def test_auto_is_the_first_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(SpecificationError, match="torch finds 2 CUDA devices"):
        resolve_device("cuda:2")


def test_convolutions_on_a_gpu_are_exact_and_the_setting_is_put_back():
    flags = torch.backends.cudnn
    before = (flags.allow_tf32, flags.deterministic)
    with exact_convolutions(torch.device("cuda")):
        assert (flags.allow_tf32, flags.deterministic) == (False, True)
    assert (flags.allow_tf32, flags.deterministic) == before


def test_images_move_whole(whole):
    data = small_images()
    moved = data.to(torch.device("meta"))
    tensors = {name for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert {getattr(moved, name).device.type for name in tensors} == {"meta"}
    assert len(tensors) == 5
    assert data.images.device.type == "cpu"


def test_the_probe_must_fit_the_images(tmp_path):
    with pytest.raises(SpecificationError, match="the probe asks for 500 images, small has 120"):
        train(specification(probe={"num_images": 500}), tmp_path / "run", data=small_images())


def test_the_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(specification(training={"steps": 2}), tmp_path / "run", data=small_images())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("keep", "count"), [("all", 4), ("last", 1), ("none", 0)])
def test_checkpoints_are_kept_as_asked(tmp_path, keep, count):
    run = tmp_path / "run"
    train(specification(training={"steps": 3, "checkpoints": keep}), run, data=small_images())
    assert len(list(run.glob("checkpoints/*"))) == count


def test_without_checkpoints_a_resumed_training_starts_over_and_agrees(tmp_path):
    spec = specification(training={"steps": 6, "checkpoints": "none"})

    def interrupt(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "run", data=small_images(), on_step=interrupt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(spec, tmp_path / "run", data=small_images(), resume=True)
    assert result.first_step == 0
    assert rs.open_run(tmp_path / "run").steps == [0, 1, 2, 5, 6]


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch):
    def full(*_arguments, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.warns(ReluscopeWarning) as warned:
        result = train(specification(training={"steps": 2}), tmp_path / "run", data=small_images())
    texts = [str(one.message) for one in warned]
    assert [text[:40] for text in texts] == [
        f"the checkpoint of step {step} was not written"[:40] for step in range(3)
    ]
    assert result.num_measurements == 3


def test_every_update_is_told(tmp_path):
    told = []
    train(specification(training={"steps": 3}), tmp_path / "run", data=small_images(), on_step=told.append)
    assert [(one.step, one.num_steps) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(math.isfinite(one.loss) for one in told)


def test_measurements_per_epoch_and_per_decade(tmp_path):
    recording = {"at": [], "every": None, "per_epoch": 2, "per_decade": 1}
    run = tmp_path / "run"
    train(specification(recording=recording, training={"steps": 12}), run, data=small_images())
    assert rs.open_run(run).steps == [0, 1, 2, 4, 6, 8, 10, 12]  # 4 steps per epoch; 1, 10 and the last
