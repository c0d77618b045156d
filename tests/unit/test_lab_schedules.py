"""Schedules against torch's own, step for step, and against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from reluscope.errors import SpecificationError
from reluscope.lab.optimization import make_optimizer, set_rates
from reluscope.lab.paper_trainings import paper_training
from reluscope.lab.schedules import ConstantSchedule, CyclicSchedule, MilestonesSchedule, OneCycleSchedule
from reluscope.lab.specification import SGD, Adam
from reluscope.lab.specification_text import read_specification

CYCLIC = CyclicSchedule(name="cyclic", cycles=5, floor=0.01, lowest_momentum=0.765)
ONECYCLE = OneCycleSchedule(name="onecycle", warmup=0.1, start=0.1, end=1e-4, lowest_momentum=0.765)


def rates_of(schedule, lr: float, num_steps: int) -> list[tuple[float, float]]:
    return [
        (lr * schedule.multiplier(step, num_steps), schedule.momentum(step, num_steps, 0.9))
        for step in range(num_steps)
    ]


def rates_of_torch(make, num_steps: int, lr: float) -> list[tuple[float, float]]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler, found = make(optimizer), []
    for _ in range(num_steps):
        group = optimizer.param_groups[0]
        found.append((group["lr"], group["momentum"]))
        optimizer.step()
        if len(found) < num_steps:
            scheduler.step()
    return found


def assert_same_rates(found: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    # A handful of float64 operations in another order: 16 digits, of which a few may go.
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("cycles", "half"), [(1, 7), (5, 10), (3, 1)])
def test_cyclic_is_torchs_triangular2(cycles, half):
    def make(optimizer):
        return CyclicLR(
            optimizer,
            base_lr=0.002,
            max_lr=0.2,
            step_size_up=half,
            mode="triangular2",
            base_momentum=0.765,
            max_momentum=0.9,
        )

    num_steps = 2 * half * cycles
    schedule = CYCLIC.model_copy(update={"cycles": cycles})
    assert_same_rates(rates_of(schedule, 0.2, num_steps), rates_of_torch(make, num_steps, 0.2))


@pytest.mark.parametrize("num_steps", [20, 37, 1000])
def test_onecycle_is_torchs_with_cosines(num_steps):
    def make(optimizer):
        return OneCycleLR(
            optimizer,
            max_lr=0.8,
            total_steps=num_steps,
            pct_start=0.1,
            div_factor=10,
            final_div_factor=1000,
            base_momentum=0.765,
            max_momentum=0.9,
        )

    assert_same_rates(rates_of(ONECYCLE, 0.8, num_steps), rates_of_torch(make, num_steps, 0.8))


def test_cyclic_by_hand():
    """[A]: 0.002 to 0.2, 10 epochs up and 10 down; 5 cycles in 100 epochs, here of 3 updates."""
    rates = rates_of(CYCLIC, 0.2, 300)
    assert rates[0] == pytest.approx((0.002, 0.9))
    assert rates[15] == pytest.approx((0.101, 0.8325))  # half way up
    assert rates[30] == pytest.approx((0.2, 0.765))
    assert rates[60] == pytest.approx((0.002, 0.9))
    assert rates[90] == pytest.approx((0.101, 0.8325))  # the second top is half as high above the floor
    assert rates[150] == pytest.approx((0.002 + 0.198 / 4, 0.9 - 0.135 / 4))


def test_onecycle_by_hand():
    """[A]: 0.08 to 0.8 within the first 10 %, then to 8e-5 at the last update."""
    rates = rates_of(ONECYCLE, 0.8, 100)
    assert rates[0] == pytest.approx((0.08, 0.9))
    assert rates[3] == pytest.approx((0.08 + 0.72 / 4, 0.9 - 0.135 / 4))  # a third of the way: cos 60 degrees
    assert rates[9] == pytest.approx((0.8, 0.765))
    assert rates[54] == pytest.approx((0.400040, 0.8325))  # half way down: the means
    assert rates[99] == pytest.approx((8e-5, 0.9))


def test_a_training_for_fewer_epochs_keeps_whole_cycles():
    for num_steps in (300, 100, 77):
        heights = [CYCLIC.height(step, num_steps) for step in range(num_steps)]
        tops = [
            step for step in range(1, num_steps - 1) if heights[step - 1] < heights[step] >= heights[step + 1]
        ]
        assert len(tops) == 5
        assert heights[0] == 0


def test_the_shortest_trainings_have_a_rate():
    for num_steps in (1, 2, 3, 10, 11):
        for schedule in (CYCLIC, ONECYCLE):
            for lr, momentum in rates_of(schedule, 1.0, num_steps):
                assert 0 < lr <= 1
                assert 0.765 <= momentum <= 0.9


def test_the_momentum_may_be_left_alone():
    for schedule in (CYCLIC, ONECYCLE):
        still = schedule.model_copy(update={"lowest_momentum": None})
        assert {still.momentum(step, 50, 0.9) for step in range(50)} == {0.9}
        assert {still.multiplier(step, 50) for step in range(50)} == {
            schedule.multiplier(step, 50) for step in range(50)
        }


def test_constant_and_milestones_keep_the_momentum():
    for schedule in (ConstantSchedule(name="constant"), MilestonesSchedule(name="milestones")):
        assert {schedule.momentum(step, 9, 0.7) for step in range(9)} == {0.7}
    assert ConstantSchedule(name="constant").multiplier(7, 9) == 1


def test_rates_reach_every_group_of_the_optimizer():
    spec = paper_training("fixup_resnet", method="cyclic")
    module = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(spec.optimizer, module)
    assert set_rates(optimizer, spec.optimizer, spec.schedule, 30, 300) == pytest.approx(0.2)
    weights, biases = optimizer.param_groups
    assert weights["params"] == [module.weight]
    assert biases["params"] == [module.bias]
    assert (weights["lr"], biases["lr"]) == pytest.approx((0.2, 0.02))
    assert weights["momentum"] == biases["momentum"] == pytest.approx(0.765)


def test_one_group_where_all_have_one_rate_and_adam_has_no_momentum():
    module = torch.nn.Linear(3, 2)
    sgd = make_optimizer(SGD(name="sgd", lr=0.1, nesterov=True, weight_decay=0.5), module)
    assert len(sgd.param_groups) == 1
    assert (sgd.param_groups[0]["nesterov"], sgd.param_groups[0]["weight_decay"]) == (True, 0.5)
    adam_spec = Adam(name="adam", lr=0.4)
    adam = make_optimizer(adam_spec, module)
    set_rates(adam, adam_spec, MilestonesSchedule(name="milestones"), 60, 100)
    assert adam.param_groups[0]["lr"] == pytest.approx(0.04)
    assert "momentum" not in adam.param_groups[0]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ["schedule.name=cyclic", "optimizer.momentum=0.5"],
            r"lowest_momentum is 0\.765, but optimizer\.mom.*0\.5",
        ),
        (
            ["schedule.name=onecycle", "optimizer.name=adam"],
            r"adam has no momentum; set .*lowest_momentum=null",
        ),
    ],
)
def test_a_momentum_that_cannot_be_cycled(overrides, text):
    with pytest.raises(SpecificationError, match=text):
        read_specification("resnet20-mnist-sample", overrides=overrides)
    read_specification("resnet20-mnist-sample", overrides=[*overrides, "schedule.lowest_momentum=null"])


def test_the_methods_of_the_paper():
    stepwise, cyclic, onecycle = (
        paper_training("resnet", method=m) for m in ("stepwise", "cyclic", "onecycle")
    )
    lengths = [(spec.training.epochs, spec.training.batch_size) for spec in (stepwise, cyclic, onecycle)]
    assert lengths == [(200, 128), (100, 128), (50, 256)]
    decays = [spec.optimizer.weight_decay for spec in (stepwise, cyclic, onecycle)]
    assert decays == [1e-4, 5e-4, 2e-4]
    assert [spec.optimizer.nesterov for spec in (stepwise, cyclic, onecycle)] == [False, False, True]
    assert onecycle.model.batch_norm_momentum == 0.05
    assert onecycle.probe.batch_size is None  # so that of the training: 256
    # 50,000 images: 391 updates an epoch, 196 of OneCycle's
    num_steps = [spec.training.num_steps(50_000) for spec in (stepwise, cyclic, onecycle)]
    assert num_steps == [78_200, 39_100, 9_800]
    first = [spec.optimizer.lr * spec.schedule.multiplier(0, 78_200) for spec in (stepwise, cyclic, onecycle)]
    assert first == pytest.approx([0.1, 0.002, 0.08])
    last = [
        spec.optimizer.lr * spec.schedule.multiplier(steps - 1, steps)
        for spec, steps in zip((stepwise, cyclic, onecycle), num_steps, strict=True)
    ]
    # CyclicLR ends one update before its last cycle (a sixteenth of the range, 3,910 down-steps) is down again.
    assert last == pytest.approx([0.001, 0.002 + 0.198 / 16 / 3910, 8e-5])


def test_the_exceptions_of_the_paper():
    pyramid, fixup = paper_training("pyramidnet"), paper_training("fixup_resnet")
    assert pyramid.training.epochs == 300
    assert pyramid.optimizer.nesterov
    assert pyramid.schedule.milestones == (0.5, 0.75)  # epochs 150 and 225
    assert fixup.optimizer.weight_decay == 5e-4
    assert fixup.optimizer.bias_lr_factor == 0.1
    with pytest.raises(SpecificationError, match="this net has none"):
        paper_training("fixup_resnet", method="onecycle")
