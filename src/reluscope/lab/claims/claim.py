"""A claim as data: what the paper says, its parts, and how their verdicts make the claim's.

The rule: a claim is contradicted when any part that counts is. It is supported when no part is contradicted and
all its main parts are supported; other parts may stay open. Otherwise the main parts that stay open give their
verdict, "not measured" before "scale too small". Parts that are reported apart never count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reluscope.lab.claims.evidence import Evidence
from reluscope.lab.claims.needs import Need, commands_for
from reluscope.lab.claims.study import Study
from reluscope.lab.claims.verdict import Check, Undecidable, Verdict, combined

__all__ = [
    "HALF_AGAIN",
    "PAPER_IMAGES",
    "THREE_SITES",
    "Claim",
    "ClaimResult",
    "Part",
    "PartResult",
    "decide_claim",
]

PAPER_IMAGES = 49_500
"""Probe of the paper: all 50,000 training images, less the 1 % it holds out in figures 1 and 4."""

THREE_SITES = "three covered sites, or pairs of them, decide instead of half of those asked about (after figures 2 and 4)"
"""`Claim.changed` of what is decided by the rule of now instead of the first one."""

HALF_AGAIN = (
    "three covered sites decided instead of half (after figures 2 and 4); half again, as at first, since a trend over "
    "all layers is not that of a few (after figures 1, 2 and 4)"
)
"""The same of trends over all layers."""

Role = Literal["main", "further", "apart"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One statement within a claim.

    Attributes:
        name: short, unique within the claim.
        asks: the predicate in words, with its thresholds; "print" marks those of the paper, others are ours.
        decide: takes what it needs from the evidence and returns the checks that all have to hold.
        role: "main" decides the claim, "further" can only contradict it, "apart" is shown and does neither.
        min_images: probe images below which the part stays undecided; numbers are shown all the same.
        min_seeds: likewise, seeds.
    """

    name: str
    asks: str
    decide: Callable[[Evidence], Iterable[Check]]
    role: Role = "main"
    min_images: int = 0
    min_seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of [A].

    Attributes:
        id: "A1" to "A21".
        says: what the paper says, in our words.
        parts: the predicates.
        needs: the trainings that its main parts read.
        changed: what was changed in its predicates, the coverage they want or the sites they compare after real runs
            had been looked at, and after which figures; None: nothing was.
    """

    id: str
    says: str
    parts: tuple[Part, ...]
    needs: tuple[Need, ...]
    changed: str | None = None


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """A part with its verdict and the numbers, runs, seeds and sites it was decided on.

    Attributes:
        part: what was decided.
        verdict, reason: how, and why not.
        brief: the first reason why not in few words, and how many more there are.
        checks: the inequalities with their numbers.
        runs, num_seeds, num_images, sites: what they are of.
        at_covered: the same part at the covered sites alone, where too few sites are covered and
            `checks` therefore show numbers of the sample; shown for information, no verdict depends on it.
        by_first_rule: its verdict by the coverage rule that was fixed before any run was looked at: half of the
            sites that a statement is about, always.
    """

    part: Part
    verdict: Verdict
    reason: str
    by_first_rule: Verdict
    brief: str = ""
    checks: tuple[Check, ...] = ()
    runs: tuple[str, ...] = ()
    num_seeds: int = 0
    num_images: tuple[int, ...] = ()
    sites: tuple[int, ...] = ()
    at_covered: PartResult | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """A claim with its verdict, the verdicts of its parts, and the trainings that are missing.

    Attributes:
        claim, verdict, parts: what was decided, how, and on what.
        by_first_rule: its verdict by the coverage rule that was fixed before any run was looked at.
        missing: trainings that its main parts need.
        commands: what makes them, one command per figure.
    """

    claim: Claim
    verdict: Verdict
    by_first_rule: Verdict
    parts: tuple[PartResult, ...]
    missing: tuple[Need, ...]
    commands: tuple[str, ...]

    def part(self, name: str) -> PartResult:
        """The part of this name. Raises KeyError, naming those there are."""
        found = {part.part.name: part for part in self.parts}
        if name not in found:
            raise KeyError(f'{self.claim.id} has no part "{name}"; it has {", ".join(found)}')
        return found[name]


def decide_claim(claim: Claim, studies: Sequence[Study]) -> ClaimResult:
    """Decide a claim, part by part."""
    parts = tuple(_decide_part(part, studies) for part in claim.parts)
    missing = tuple(need for need in claim.needs if not any(need.covers(study) for study in studies))
    return ClaimResult(
        claim=claim,
        verdict=_verdict([(part.part.role, part.verdict) for part in parts]),
        by_first_rule=_verdict([(part.part.role, part.by_first_rule) for part in parts]),
        parts=parts,
        missing=missing,
        commands=commands_for(missing, studies),
    )


def _verdict(parts: Sequence[tuple[Role, Verdict]]) -> Verdict:
    counted = [verdict for role, verdict in parts if role != "apart"]
    main = [verdict for role, verdict in parts if role == "main"]
    if Verdict.CONTRADICTED in counted:
        return Verdict.CONTRADICTED
    for open_verdict in (Verdict.NOT_MEASURED, Verdict.TOO_SMALL):
        if open_verdict in main:
            return open_verdict
    return Verdict.SUPPORTED


def _decide_part(part: Part, studies: Sequence[Study]) -> PartResult:
    evidence = Evidence(studies)
    result = _decide_on(part, evidence)
    if evidence.rule_matters:
        first = _decide_on(part, Evidence(studies, rule="first"))
        result = replace(result, by_first_rule=first.verdict)
    if not evidence.lacks_coverage:
        return result
    covered = Evidence(studies, rule="any")
    at_covered = _decide_on(part, covered)
    # Where not even one site of each group is covered, there is nothing to add.
    return result if covered.lacks_coverage else replace(result, at_covered=at_covered)


def _decide_on(part: Part, evidence: Evidence) -> PartResult:
    checks: tuple[Check, ...] = ()
    try:
        checks = tuple(part.decide(evidence))
        verdict, reasons = _with_limits(part, evidence, checks)
    except Undecidable as undecidable:
        verdict, reasons = undecidable.verdict, [(undecidable.reason, undecidable.reason)]
        if verdict is Verdict.TOO_SMALL:
            reasons = [*_limits(evidence), *reasons]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return PartResult(
        part=part,
        verdict=verdict,
        reason="; ".join(reason for reason, _ in reasons),
        brief=reasons[0][1] + more if reasons else "",
        by_first_rule=verdict,
        checks=checks,
        runs=tuple(evidence.runs),
        num_seeds=min(evidence.seeds, default=0),
        num_images=tuple(sorted(evidence.num_images)),
        sites=tuple(sorted(evidence.sites)),
    )


def _limits(evidence: Evidence) -> list[tuple[str, str]]:
    """Why the scale is too small, each reason whole and in brief."""
    return list(zip(evidence.too_small, evidence.briefs, strict=True))


def _with_limits(
    part: Part, evidence: Evidence, checks: Sequence[Check]
) -> tuple[Verdict, list[tuple[str, str]]]:
    """The verdict of the checks, unless images, seeds, coverage or length do not allow one; and why."""
    num_images, num_seeds = min(evidence.num_images, default=0), min(evidence.seeds, default=0)
    if num_images < part.min_images:
        evidence.limit(f"needs a probe of {part.min_images:,} images, has {num_images:,}")
    if num_seeds < part.min_seeds:
        text = f"needs {part.min_seeds} seeds, has {num_seeds}"
        commands = evidence.commands(evidence.needs, seeds=part.min_seeds)
        evidence.limit(f"{text}: {', '.join(f'`{command}`' for command in commands)}", brief=text)
    if evidence.too_small:
        return Verdict.TOO_SMALL, _limits(evidence)
    verdict = combined(checks)
    if verdict is not Verdict.TOO_SMALL:
        return verdict, []
    unclear = [check.name for check in checks if check.counts and check.holds is None]
    text = "within two standard errors, or not defined: "
    more = f" (and {len(unclear) - 1} more)" if len(unclear) > 1 else ""
    return verdict, [(text + "; ".join(unclear), f"{text}{unclear[0]}{more}")]
