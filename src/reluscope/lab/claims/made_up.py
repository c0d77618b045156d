"""Studies from formulas: what a claim says of a training that was never run.

For trying a predicate before real runs are looked at, and for showing what it takes to satisfy or violate one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reluscope.lab.claims.study import Similarity, Study

__all__ = ["made_up_study"]

Formula = Callable[[int, int], float] | float
"""A value for (step, site), or one value for all."""


def made_up_study(
    net: str,
    experiment: str,
    steps: Sequence[int],
    *,
    activation: str = "relu",
    method: str = "stepwise",
    blocks: int = 3,
    seed: int = 0,
    scale: str | None = "paper",
    num_images: int = 50_000,
    num_steps: int | None = None,
    steps_per_epoch: int = 10,
    rate: Callable[[int], float] | None = None,
    similarity: Callable[[int, int, int], float] | None = None,
    similarity_error: float = 0.0,
    coverage: Formula = 1.0,
    **measures: Formula,
) -> Study:
    """A study whose measures are formulas of (step, site).

    Args:
        net, experiment, activation, method, blocks, seed, scale, num_images, steps_per_epoch: see `Study`.
        steps: the measured steps.
        num_steps: of the whole training; None: it ended at the last measured step.
        rate: the learning rate of the update after a step; None: 0.1, and a tenth from half of the steps on.
        similarity: weighted Jaccard similarity (step, other step, site); None: the run holds no samples.
        similarity_error: standard error of every similarity but that of a state to itself.
        coverage, measures: by name of the measure, a formula or a number.

    >>> study = made_up_study("resnet", "fig2", [0, 1, 2], relative_entropy=lambda step, site: site / 18)
    >>> study.at("relative_entropy", 2)[[0, 9, 18]].tolist()
    [0.0, 0.5, 1.0]
    """
    at = np.array(sorted(steps), dtype=np.int64)
    last = int(at[-1]) if num_steps is None else num_steps
    num_sites = 3 * blocks + 1 if net == "pyramidnet" else 6 * blocks + 1
    updates = np.arange(last)
    rates = [_stepwise(step, last) if rate is None else rate(step) for step in updates.tolist()]

    def similar(to: int, _: np.ndarray) -> Similarity:
        if similarity is None:
            return Similarity(np.full((len(at), num_sites), np.nan), np.zeros((len(at), num_sites)))
        formula = similarity
        values = _grid(lambda step, site: formula(step, to, site), at, num_sites)
        errors = np.full(values.shape, similarity_error)
        errors[at == to] = 0.0
        return Similarity(values, errors)

    return Study(
        name=f"{net}-{blocks}-{activation}-{method}-{experiment}-seed{seed}",
        net=net,
        blocks=blocks,
        activation=activation,
        method=method,
        seed=seed,
        experiment=experiment,
        scale=scale,
        data="made up",
        num_images=num_images,
        num_steps=last,
        steps_per_epoch=steps_per_epoch,
        steps=at,
        measures={
            name: _grid(formula, at, num_sites)
            for name, formula in {"coverage": coverage, **measures}.items()
        },
        learning_rate=(updates, np.array(rates, dtype=np.float64)),
        similarity=similar,
    )


def _stepwise(step: int, num_steps: int) -> float:
    return 0.1 if step < num_steps / 2 else 0.01


def _grid(formula: Formula, steps: np.ndarray, num_sites: int) -> np.ndarray:
    if not callable(formula):
        return np.full((len(steps), num_sites), float(formula))
    return np.array([[float(formula(int(step), site)) for site in range(num_sites)] for step in steps])
