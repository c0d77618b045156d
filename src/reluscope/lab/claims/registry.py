"""All claims of [A], and the judging of stored runs by them. Nothing else lists the claims."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reluscope.lab.claims.changes import A2, A15, A21
from reluscope.lab.claims.claim import Claim, ClaimResult, decide_claim
from reluscope.lab.claims.convergence import A10, A11, A12
from reluscope.lab.claims.counts import A1, A3, A4, A16
from reluscope.lab.claims.entropy import A6, A7, A9, A20
from reluscope.lab.claims.initialization import A5
from reluscope.lab.claims.methods import A13, A14, A17, A18
from reluscope.lab.claims.progress import JudgingProgress
from reluscope.lab.claims.reading import chosen_studies, find_runs, read_study
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.zigzag import A8, A19
from reluscope.runs import Run

__all__ = ["CLAIMS", "Judgement", "judge", "judge_folder", "judge_studies"]

CLAIMS: tuple[Claim, ...] = (
    A1,
    A2,
    A3,
    A4,
    A5,
    A6,
    A7,
    A8,
    A9,
    A10,
    A11,
    A12,
    A13,
    A14,
    A15,
    A16,
    A17,
    A18,
    A19,
    A20,
    A21,
)
"""In the order of their numbers. Source: [A], sections 3.2 to 3.4, 4.4, 4.5 and abstract."""


def judge(runs: Sequence[Run]) -> list[ClaimResult]:
    """What stored runs say about each claim.

    Runs of anything but [A]'s networks trained by the lab, and of no figure, are passed over; `chosen_studies` says
    which run is used where several are of one training.

    Returns:
        One result per claim, in order; without any run all of them "not measured", naming what they need.
    """
    found = [study for study in map(read_study, runs) if study is not None]
    return judge_studies(chosen_studies(found)[0])


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdicts on a folder of runs.

    Attributes:
        results: one per claim, in order.
        used: names of the runs that were judged, relative to the folder.
        left_out: by name of a run, why it was not.
    """

    results: tuple[ClaimResult, ...]
    used: tuple[str, ...]
    left_out: dict[str, str]


def judge_folder(
    folder: str | os.PathLike[str], *, on_progress: Callable[[JudgingProgress], None] | None = None
) -> Judgement:
    """What all the runs below a folder say about each claim.

    Args:
        folder: at any depth below it are the runs.
        on_progress: told before each run is read and each claim judged, and at the end.

    Raises:
        RunNotFoundError: there is no such folder. One without runs is judged: nothing is measured.
    """
    top = Path(folder).expanduser()
    runs, left_out = find_runs(top)
    total = len(runs) + len(CLAIMS)

    def tell(done: int, doing: str) -> None:
        if on_progress is not None:
            on_progress(JudgingProgress(done=done, total=total, doing=doing))

    studies = []
    for number, run in enumerate(runs):
        name = run.path.relative_to(top).as_posix()
        tell(number, f"reading {name}")
        study = read_study(run, name=name)
        if study is None:
            left_out[name] = "holds no measurements of a network of the paper that the lab trained"
        else:
            studies.append(study)
    chosen, not_chosen = chosen_studies(studies)
    results = []
    for number, claim in enumerate(CLAIMS, start=len(runs)):
        tell(number, f"judging {claim.id}")
        results.append(decide_claim(claim, chosen))
    tell(total, "")
    return Judgement(
        results=tuple(results),
        used=tuple(sorted(study.name for study in chosen)),
        left_out={**left_out, **not_chosen},
    )


def judge_studies(studies: Sequence[Study]) -> list[ClaimResult]:
    """What studies, of stored runs or made up, say about each claim."""
    return [decide_claim(claim, studies) for claim in CLAIMS]
