"""The optimizer of a training, and the learning rate and momentum of each of its updates."""

from __future__ import annotations

import torch
from torch import nn

from reluscope.lab.schedules import ScheduleSpecification
from reluscope.lab.specification import SGD, OptimizerSpecification

__all__ = ["make_optimizer", "set_rates"]


def make_optimizer(specification: OptimizerSpecification, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a specification describes, over all parameters of `model`.

    Where biases and scalar multipliers have a learning rate of their own they are a second group; its share
    of the rate stands in the group as `lr_factor`.
    """
    if not isinstance(specification, SGD):
        return torch.optim.Adam(
            model.parameters(), lr=specification.lr, weight_decay=specification.weight_decay
        )
    return torch.optim.SGD(
        _groups(model, specification.bias_lr_factor),
        lr=specification.lr,
        momentum=specification.momentum,
        nesterov=specification.nesterov,
        weight_decay=specification.weight_decay,
    )


def set_rates(
    optimizer: torch.optim.Optimizer,
    specification: OptimizerSpecification,
    schedule: ScheduleSpecification,
    step: int,
    num_steps: int,
) -> float:
    """Prepare the update after `step` of `num_steps` updates; returns its learning rate.

    Biases and scalar multipliers may have a share of it, see `make_optimizer`.
    """
    lr = specification.lr * schedule.multiplier(step, num_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
        if isinstance(specification, SGD):
            group["momentum"] = schedule.momentum(step, num_steps, specification.momentum)
    return lr


def _groups(model: nn.Module, bias_lr_factor: float) -> list[dict[str, object]]:
    """All parameters in one group, or biases and scalar multipliers in a second one."""
    if bias_lr_factor == 1.0:
        return [{"params": list(model.parameters())}]
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for path, parameter in model.named_parameters():
        name = path.rpartition(".")[2]
        groups["bias" in name or "scale" in name].append(parameter)
    return [
        {"params": groups[False], "lr_factor": 1.0},
        {"params": groups[True], "lr_factor": bias_lr_factor},
    ]
