"""`reluscope bench overhead`: what a measurement costs beside a bare forward pass over the same inputs.

overhead    `rs.measure(...).to_dataframe()` beside the fastest bare pass in the same state: `no_grad`, channels-last,
            batch norms normalising with the batch as in the measurement, running statistics left out; and beside
            a pass on running statistics, for those who compare with inference
parts       where the time goes: observing alone, reading each pre-activation once, packing, counting, rows
first-use   what compiling the kernels adds to the first measurement of a process: once, and ever after
scaling     the cost of counting from 10^5 evaluations on (see `scaling.py`)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reluscope.bench.alternatives import BARE, BARE_RUNNING, MEASURE, READ_ONCE, SUM
from reluscope.bench.cases import Case
from reluscope.bench.counting import check_device
from reluscope.bench.first_use import first_use_rows
from reluscope.bench.rows import Row, rows_of
from reluscope.bench.scaling import scaling_rows
from reluscope.bench.subjects import (
    LAB_NETWORKS,
    SUBJECTS,
    Subject,
    bench_images,
    check_models,
    large_subject,
    subject_of,
)
from reluscope.bench.timing import Effort, interleave
from reluscope.errors import BenchmarkError
from reluscope.instruments import measure
from reluscope.observe import ObservationMode, Probe, SiteBatch, observe
from reluscope.patterns import pack_patterns

__all__ = ["OverheadBenchmark", "bare_forward"]

_SUM_BYTES = 1 << 28  # far more than any cache holds
_PARTS_ROUNDS = 5
_LABELS = {"without": (False,), "with": (True,), "both": (False, True)}


@dataclass(frozen=True, kw_only=True)
class OverheadBenchmark:
    """What to measure on, and how often.

    Attributes:
        models: of SUBJECTS.
        num_images: for the networks of the lab; of the embedded digits there are 5,000.
        num_large: images of 224 x 224 for "resnet18"; the transformer gets twice as many sequences.
        pairs: rounds, each with every alternative.
        steps: states of the lab's networks, by updates done; the two larger ones are measured at step 0 only.
        labels: "without", "with" or "both".
        data_dir: see `subjects.bench_images`.
        device: "cpu" or "cuda".
        most_evaluations: up to where the cost of counting is followed.
        seconds: how long one size of it may take, all rounds together.

    Raises:
        BenchmarkError: a model, number, choice or device that cannot be.
    """

    models: Sequence[str] = SUBJECTS
    num_images: int = 10_000
    num_large: int = 128
    pairs: int = 9
    steps: Sequence[int] = (0, 200)
    labels: str = "without"
    data_dir: str | Path | None = None
    device: str = "cpu"
    most_evaluations: int = 1_000_000_000
    seconds: float = 120.0

    def __post_init__(self) -> None:
        check_models(self.models)
        check_device(self.device)
        if self.labels not in _LABELS:
            raise BenchmarkError(f'labels="{self.labels}"; allowed are {", ".join(_LABELS)}.')
        for name in ("num_images", "num_large", "pairs"):
            if getattr(self, name) < 1:
                raise BenchmarkError(f"{name}={getattr(self, name)}; give 1 or more.")
        if any(step < 0 for step in self.steps):
            raise BenchmarkError(f"steps {list(self.steps)}: a step is a number of updates, 0 or more.")

    def quick(self) -> OverheadBenchmark:
        """The same, tiny: to see that everything works; its numbers mean nothing."""
        return replace(
            self,
            num_images=min(self.num_images, 64),
            num_large=2,
            pairs=min(self.pairs, 3),
            steps=tuple(min(step, 2) for step in self.steps),
            most_evaluations=300_000,
            seconds=20.0,
        )

    def cases(self) -> list[Case]:
        """All cases; nothing is made before they run."""
        subjects: list[tuple[str, Callable[[], Subject]]] = []
        for labels in _LABELS[self.labels]:
            for name in (one for one in self.models if one in LAB_NETWORKS):
                for step in dict.fromkeys(self.steps):
                    make = partial(self._lab_subject, name, step, labels)
                    subjects.append((f"{name}-step{step}" + ("-labels" if labels else ""), make))
        for name in (one for one in self.models if one not in LAB_NETWORKS):
            size = self.num_large * (2 if name == "transformer" else 1)
            subjects.append((f"{name}-step0", partial(large_subject, name, size)))
        cases = [Case(name=f"overhead/{name}", run=partial(self._overhead, make)) for name, make in subjects]
        cases += [Case(name=f"parts/{name}", run=partial(self._parts, make)) for name, make in subjects]
        if self.device == "cpu":
            cases.append(Case(name="first-use", run=first_use_rows))
        scale = partial(scaling_rows, self.most_evaluations, self.seconds, self.device)
        return [*cases, Case(name="scaling", run=scale)]

    def _lab_subject(self, name: str, step: int, labels: bool) -> Subject:
        return subject_of(name, step, bench_images(self.num_images, self.data_dir), labels=labels)

    # The questions -----------------------------------------------------------------------------------------

    def _overhead(self, make: Callable[[], Subject], tell: Callable[[float], None]) -> list[Row]:
        subject = self._placed(make())
        probe = Probe(subject.inputs, subject.labels, batch_size=subject.batch_size)
        has_norms = bool(_norms(subject.model))
        memory = torch.ones(_SUM_BYTES // 4, device=subject.inputs.device)
        alternatives = {
            BARE: lambda: bare_forward(subject),
            **({BARE_RUNNING: lambda: bare_forward(subject, running=True)} if has_norms else {}),
            MEASURE: lambda: measure(subject.model, probe).to_dataframe(),
            SUM: lambda: memory.sum().item(),
        }
        read_bytes = _preactivation_bytes(subject, probe)  # compiles the kernels, too
        seconds = interleave(alternatives, Effort(rounds=self.pairs, seconds=math.inf), on_share=tell)
        rows: list[Row] = []
        for baseline in (BARE, BARE_RUNNING):
            if baseline in seconds:
                rows += self._rows(
                    "overhead", subject, {k: seconds[k] for k in (baseline, MEASURE)}, baseline
                )
        roof = {BARE: seconds[BARE], READ_ONCE: seconds[SUM] * (read_bytes / _SUM_BYTES)}
        rows += [
            row for row in self._rows("roofline", subject, roof, BARE, read_bytes) if row.alternative != BARE
        ]
        return rows

    def _parts(self, make: Callable[[], Subject], tell: Callable[[float], None]) -> list[Row]:
        subject = self._placed(make())
        probe = Probe(subject.inputs, subject.labels, batch_size=subject.batch_size)
        mode = ObservationMode()

        def observing(consume: Callable[[SiteBatch], object]) -> Callable[[], object]:
            return lambda: observe(subject.model, probe, mode, consume)  # pyright: ignore[reportArgumentType]

        alternatives = {
            BARE: lambda: bare_forward(subject),
            "observe": observing(lambda batch: None),
            "observe, sum": observing(lambda batch: batch.preactivations.sum().item()),
            "observe, pack": observing(
                lambda batch: pack_patterns(
                    batch.preactivations, batch.site.channel_dim, kinks=batch.site.kinks
                )
            ),
            "observe, pack, count": lambda: measure(subject.model, probe),
            MEASURE: lambda: measure(subject.model, probe).to_dataframe(),
        }
        measure(subject.model, probe)  # compiles, if anything must be
        effort = Effort(rounds=min(self.pairs, _PARTS_ROUNDS), seconds=math.inf)
        seconds = interleave(alternatives, effort, on_share=tell)
        return self._rows("parts", subject, seconds, BARE)

    def _rows(
        self,
        benchmark: str,
        subject: Subject,
        seconds: dict[str, np.ndarray],
        baseline: str,
        num_bytes: int | None = None,
    ) -> list[Row]:
        return rows_of(
            benchmark,
            subject.case,
            seconds,
            baseline=baseline,
            work=len(subject.inputs) if num_bytes is None else num_bytes,
            unit="samples" if num_bytes is None else "bytes",
            device=None if self.device == "cpu" else torch.cuda.get_device_name(self.device),
        )

    def _placed(self, subject: Subject) -> Subject:
        if self.device == "cpu":
            return subject
        return replace(
            subject,
            case=f"{subject.case}, cuda",
            model=subject.model.to(self.device),
            inputs=subject.inputs.to(self.device),
            labels=None if subject.labels is None else subject.labels.to(self.device),
        )


def bare_forward(subject: Subject, *, running: bool = False) -> None:
    """The fastest pass over the inputs in the state that is measured, batch by batch, results let go.

    Args:
        subject: what to pass; its model is in eval mode.
        running: batch norms normalise with running statistics, as in inference; False: with those of the batch,
            as in a measurement, and leave the running ones alone.
    """
    norms = _norms(subject.model)
    for norm in norms:
        norm.training, norm.track_running_stats = not running, running
    try:
        with torch.no_grad():
            for batch in subject.inputs.split(subject.batch_size):
                subject.model(batch)
        if subject.inputs.is_cuda:
            torch.cuda.synchronize()
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _preactivation_bytes(subject: Subject, probe: Probe) -> int:
    """Bytes of all pre-activations of one measurement."""
    rows = measure(subject.model, probe).rows()
    return sum(row["num_evaluations"] * row["num_units"] for row in rows) * 4
