"""What a claim reads: one training with its measurements as arrays over (step, site).

A Study is plain data. `reading.py` makes one of a stored run, `made_up.py` one of formulas.

Notation: e the last step; b the last measurement before the first drop of the learning rate, a one epoch after
it; J(s) the weighted Jaccard similarity to step s. Blocks are the sites of equal width: for 6b + 1 sites 0..2b,
2b+1..4b and 4b+1..6b, so that the first site behind a strided convolution opens a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reluscope.lab.claims.commands import reproduce_command, training_name
from reluscope.lab.claims.verdict import Undecidable, Verdict

__all__ = ["NET_NAMES", "Similarity", "Study", "inner_pairs"]

NET_NAMES = {
    "resnet": "ResNet",
    "convnet": "ConvNet",
    "toynet": "ToyNet",
    "pyramidnet": "PyramidNet",
    "fixup_resnet": "FixUp ResNet",
}
"""The networks of [A] by the name they have in a specification."""


@dataclass(frozen=True)
class Similarity:
    """Weighted Jaccard similarity of every measurement to one state, (steps, sites); NaN where it is not known.

    Attributes:
        values: in [0, 1].
        errors: standard errors of the sampling; 0 where the value is exact.
    """

    values: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One training of one of [A]'s networks.

    Attributes:
        name: of the run, for the reader.
        net, activation, method: "resnet", "relu", "stepwise" and so on, as in the specification
            ("stepwise" for milestones).
        blocks: b, residual blocks per stage; 3 for 20 layers.
        experiment: "fig1" ... "fig4", or None for a training of somebody's own.
        scale: "smoke", "laptop", "paper" or None.
        data: name of the data set.
        num_images: images of the probe, n.
        num_steps, steps_per_epoch: of the whole training as planned.
        steps: the measured steps, increasing, (S,).
        measures: by name of the measure, float64 (S, L); NaN where it is not defined or not measured.
        learning_rate: steps and the rate of the update after each of them; two equally long arrays.
        similarity: gives the similarity to a measured step of measurements asked for, in rows for all measurements; NaN
            where it is not known, and perhaps where it was not asked for.
    """

    name: str
    net: str
    blocks: int
    activation: str
    method: str
    seed: int
    experiment: str | None
    scale: str | None
    data: str
    num_images: int
    num_steps: int
    steps_per_epoch: int
    steps: np.ndarray
    measures: Mapping[str, np.ndarray]
    learning_rate: tuple[np.ndarray, np.ndarray]
    similarity: Callable[[int, np.ndarray], Similarity]

    @property
    def title(self) -> str:
        """What the run is, in words."""
        tag = self.experiment or "no figure"
        return f"{self.net_title} {self.activation} {self.method} ({tag}, seed {self.seed})"

    @property
    def net_title(self) -> str:
        """The network with its number of layers."""
        return f"{NET_NAMES.get(self.net, self.net)}-{6 * self.blocks + 2}"

    @property
    def num_sites(self) -> int:
        """Activation sites."""
        return int(self.measures["coverage"].shape[1])

    @property
    def stages(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sites of blocks 1, 2 and 3."""
        sites = np.arange(self.num_sites)
        if self.net == "pyramidnet":  # one site a residual block and one at the end
            first, second = self.blocks, 2 * self.blocks
        else:
            first, second = 2 * self.blocks + 1, 4 * self.blocks + 1
        return sites[:first], sites[first:second], sites[second:]

    # Where in the training ---------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """e, the last step. Raises Undecidable when the training has not come to it."""
        last = int(self.steps[-1]) if len(self.steps) else 0
        if last < self.num_steps:
            raise Undecidable(
                Verdict.NOT_MEASURED,
                f"{self.title} is measured up to step {last:,} of {self.num_steps:,}; go on with{self._command}",
            )
        return last

    @property
    def before_drop(self) -> int:
        """b, the last measurement before the learning rate first drops."""
        return int(self.steps[self.steps <= self._first_drop()][-1])

    @property
    def after_drop(self) -> int:
        """a, the first measurement that is at least one epoch, and at most two, after the first drop."""
        drop, epoch = self._first_drop(), self.steps_per_epoch
        found = self.steps[(self.steps >= drop + epoch) & (self.steps <= drop + 2 * epoch)]
        if not len(found):
            raise Undecidable(
                Verdict.NOT_MEASURED,
                f"{self.title} has no measurement one to two epochs after the drop of the learning rate at step "
                f"{drop:,}; it needs one per epoch",
            )
        return int(found[0])

    def at_share(self, share: float) -> int:
        """The last measurement at or before this share of the training, not before step 1."""
        found = self.steps[(self.steps <= share * self.num_steps) & (self.steps >= 1)]
        if not len(found):
            raise Undecidable(
                Verdict.NOT_MEASURED, f"{self.title} has no measurement in its first {share:.0%}"
            )
        return int(found[-1])

    def steps_within(self, first: float, last: float) -> np.ndarray:
        """The measured steps from `first` to `last`, both included."""
        return self.steps[(self.steps >= first) & (self.steps <= last)]

    def full_epochs(self) -> np.ndarray:
        """The measured steps from the first epoch's end on, without the final one."""
        return self.steps_within(self.steps_per_epoch, self.end - 1)

    def rates(self, steps: Sequence[int] | np.ndarray) -> np.ndarray:
        """The learning rate of the update that led to each of these steps (of the first one at step 0)."""
        logged, values = self._learning_rate()
        return values[np.clip(np.searchsorted(logged, np.asarray(steps) - 1, side="right") - 1, 0, None)]

    def num_cycles(self) -> int:
        """How often the learning rate rose and then fell."""
        changes = np.sign(np.diff(self._learning_rate()[1]))
        changes = changes[changes != 0]
        return int(np.sum((changes[:-1] > 0) & (changes[1:] < 0)))

    # What was measured there -------------------------------------------------------------------------------

    def at(self, measure: str, steps: int | Sequence[int] | np.ndarray) -> np.ndarray:
        """A measure at one step, (L,), or at several, (S, L). Raises Undecidable when one is not measured."""
        return self._measure(measure)[self._rows(steps)]

    def similar(self, to: int, steps: int | Sequence[int] | np.ndarray) -> Similarity:
        """Similarity of the state at `steps` to that at step `to`, (L,) or (S, L)."""
        self._rows(to)
        rows = self._rows(steps)
        whole = self.similarity(to, np.atleast_1d(np.asarray(steps)))
        found = Similarity(whole.values[rows], whole.errors[rows])
        if np.isnan(found.values).all(axis=-1).any():
            raise Undecidable(
                Verdict.NOT_MEASURED,
                f"{self.title} holds neither samples nor tables to compare its states with step {to:,}; record "
                "with rs.Patterns(sample_size=4096)",
            )
        return found

    def _measure(self, name: str) -> np.ndarray:
        if name not in self.measures:
            raise Undecidable(Verdict.NOT_MEASURED, f"{self.title} does not hold the measure {name}")
        return self.measures[name]

    def _rows(self, steps: int | Sequence[int] | np.ndarray) -> np.ndarray:
        missing = np.setdiff1d(np.atleast_1d(np.asarray(steps, dtype=np.int64)), self.steps)
        if len(missing):
            raise Undecidable(
                Verdict.NOT_MEASURED,
                f"{self.title} has no measurement at step {missing[0]:,}; it is made by{self._command}",
            )
        return np.searchsorted(self.steps, np.asarray(steps))

    def _learning_rate(self) -> tuple[np.ndarray, np.ndarray]:
        steps, rates = self.learning_rate
        if not len(steps):
            raise Undecidable(Verdict.NOT_MEASURED, f"{self.title} has no learning rate on record")
        return steps, rates

    def _first_drop(self) -> int:
        """The first update with a lower rate: the state before it has had the higher one throughout."""
        steps, rates = self._learning_rate()
        falls = np.flatnonzero(np.diff(rates) < 0)
        if not len(falls):
            raise Undecidable(
                Verdict.NOT_MEASURED,
                f"the learning rate of {self.title} has not dropped so far; go on with{self._command}",
            )
        return int(steps[falls[0] + 1])

    @property
    def _command(self) -> str:
        if not self.experiment:
            return " its own training"
        name = training_name(self.net, self.blocks, self.activation, self.method, self.seed)
        return f" `{reproduce_command(self.experiment, [name], scale=self.scale, seeds=self.seed + 1)}`"


def inner_pairs(sites: np.ndarray) -> np.ndarray:
    """The pairs (2j - 1, 2j) that lie within these sites, (num_pairs, 2).

    Site 2j - 1 is the second activation of a residual block, 2j the first of the next, right after the sum; both
    have the same width.

    >>> inner_pairs(np.arange(7, 13)).tolist()
    [[7, 8], [9, 10], [11, 12]]
    """
    found = {int(site) for site in sites}
    return np.array([(site, site + 1) for site in sorted(found) if site % 2 and site + 1 in found]).reshape(
        -1, 2
    )
