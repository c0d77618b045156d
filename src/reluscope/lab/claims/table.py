"""Verdicts as text: the page claims.md and the plain values of claims.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reluscope.lab.claims.claim import ClaimResult, PartResult
from reluscope.lab.claims.evidence import span
from reluscope.lab.claims.verdict import MIN_SEEDS, Check, Verdict

__all__ = ["claims_as_dict", "claims_page", "decided_on", "number", "verdict_counts"]

_INTRODUCTION = (
    "Each claim of Hartmann, Franzen, Brodehl 2021 is a predicate over stored runs, fixed before any real run was "
    "looked at. A claim is decided only at the sites whose coverage is at least 0.5 at the measurements compared, and each "
    "verdict names them; with fewer than three (or fewer pairs of them) the scale is too small. Until figures 2 and 4 had "
    "been looked at, half of the sites had to be covered, which left every claim open on 4,000 images. "
    'A claim is "contradicted" when any part of it is, and "supported" when no part is contradicted '
    "and all its main parts are supported; further parts may stay open, and parts reported apart never count. With three "
    "or more seeds a difference counts when it exceeds two standard errors of the mean. Step s here is s updates; the "
    "paper's initialisation is our step 1."
)


def claims_page(results: Sequence[ClaimResult], *, left_out: Mapping[str, str] | None = None) -> str:
    """The verdicts as a Markdown page: one table of all claims, then each claim with its parts and numbers.

    Args:
        results: as `judge` returns them.
        left_out: by name of a run, why it was not used.
    """
    lines = ["# Claims of [A]", "", _INTRODUCTION, "", _counts_line(results), ""]
    lines += ["| claim | verdict | the paper says | decided on | changed |", "|---|---|---|---|---|"]
    for result in results:
        says, changed = _cell(result.claim.says), _cell(result.claim.changed or "")
        lines.append(
            f"| {result.claim.id} | {result.verdict} | {says} | {_cell(decided_on(result))} | {changed} |"
        )
    for result in results:
        lines += ["", *_section(result)]
    if left_out:
        lines += ["", "## Runs that were not used", ""]
        lines += [f"- {name}: {reason}" for name, reason in sorted(left_out.items())]
    return "\n".join(lines) + "\n"


def claims_as_dict(
    results: Sequence[ClaimResult], *, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The verdicts as plain values, for JSON; numbers that are not finite are None."""
    return {
        "counts": verdict_counts(results),
        "claims": [_claim_as_dict(result) for result in results],
        "left_out": dict(sorted((left_out or {}).items())),
    }


def verdict_counts(results: Sequence[ClaimResult]) -> dict[str, int]:
    """How many claims have each verdict, all four of them."""
    return {str(verdict): sum(result.verdict is verdict for result in results) for verdict in Verdict}


def decided_on(result: ClaimResult) -> str:
    """In one line: what decided the claim, or what it lacks."""
    parts = [part for part in result.parts if part.part.role != "apart"]
    if result.verdict is Verdict.CONTRADICTED:
        parts = [part for part in parts if part.verdict is Verdict.CONTRADICTED]
        failed = [check for part in parts for check in part.checks if check.counts and check.holds is False]
        return "; ".join(_check_text(check) for check in failed)
    if result.verdict is Verdict.NOT_MEASURED:
        if result.missing:
            return _missing_text(result)
        return "; ".join(dict.fromkeys(part.reason for part in parts if part.verdict is Verdict.NOT_MEASURED))
    if result.verdict is Verdict.TOO_SMALL:
        main = [part for part in parts if part.part.role == "main" and part.verdict is Verdict.TOO_SMALL]
        covered = [f"{part.part.name}: {_covered_text(part.at_covered)}" for part in main if part.at_covered]
        return "; ".join(dict.fromkeys([part.reason for part in main] + covered))
    text = [f"{part.part.name} ({_basis(part)})" for part in parts if part.verdict is Verdict.SUPPORTED]
    still_open = [
        f"{part.part.name}: {part.verdict}" for part in parts if part.verdict is not Verdict.SUPPORTED
    ]
    return "; ".join(text + still_open)


def number(value: float) -> str:
    """Four significant digits, thousands separated.

    >>> number(22000000.0), number(0.123456), number(float("inf")), number(1e-05)
    ('22,000,000', '0.1235', 'inf', '1e-05')
    """
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _missing_text(result: ClaimResult) -> str:
    """The missing trainings, by the command that makes them."""
    by_command: dict[str, list[str]] = {}
    for need in result.missing:
        by_command.setdefault(need.command, []).append(need.text)
    return "needs " + "; ".join(f"{', '.join(texts)}: `{command}`" for command, texts in by_command.items())


def _counts_line(results: Sequence[ClaimResult]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(results).items()) + "."


def _section(result: ClaimResult) -> list[str]:
    claim = result.claim
    lines = [f"## {claim.id}: {result.verdict}", "", claim.says, ""]
    if claim.changed:
        lines += [f"Changed after real runs were looked at: {claim.changed}", ""]
    for part in result.parts:
        apart = ", reported apart" if part.part.role == "apart" else ""
        lines.append(f"- **{part.part.name}** ({part.verdict}{apart}): {part.part.asks}.")
        if part.reason:
            lines.append(f"  - {part.reason}")
        lines += [f"  - {_check_text(check)}: {_outcome(check)}" for check in part.checks]
        if part.runs:
            lines.append(f"  - on {_basis(part)}; runs {', '.join(part.runs)}")
        if part.at_covered is not None:
            lines.append(f"  - {_covered_text(part.at_covered)}")
            lines += [f"    - {_check_text(check)}: {_outcome(check)}" for check in part.at_covered.checks]
    return lines


def _covered_text(part: PartResult) -> str:
    """What the covered sites alone say of a part, which decides nothing."""
    why = f" ({part.reason})" if part.reason else ""
    return f"at the covered sites alone (of {span(part.sites)}) {part.verdict}{why}"


def _basis(part: PartResult) -> str:
    """n, seeds and sites of a part."""
    images = " or ".join(f"{count:,}" for count in part.num_images)
    seeds = f"{part.num_seeds} seed" + ("" if part.num_seeds == 1 else "s")
    return f"n = {images}, {seeds}, sites {span(part.sites)}"


def _check_text(check: Check) -> str:
    """An inequality with its numbers: "name: 0.21 ± 0.01 <= 0.3333"."""
    value, bound = number(check.value), number(check.bound_value)
    error = check.margin_error
    spread = f" (difference ± {number(error)})" if error > 0.0 else ""
    return f"{check.name}: {value} {check.relation} {bound}{spread}"


def _outcome(check: Check) -> str:
    if not check.counts:
        return "shown only"
    return {True: "holds", False: "fails", None: "open"}[check.holds]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _claim_as_dict(result: ClaimResult) -> dict[str, Any]:
    return {
        "id": result.claim.id,
        "says": result.claim.says,
        "verdict": str(result.verdict),
        "decided_on": decided_on(result),
        "changed": result.claim.changed,
        "needs": [{"trainings": need.text, "command": need.command} for need in result.missing],
        "parts": [_part_as_dict(part) for part in result.parts],
    }


def _part_as_dict(part: PartResult) -> dict[str, Any]:
    return {
        "name": part.part.name,
        "asks": part.part.asks,
        "role": part.part.role,
        "verdict": str(part.verdict),
        "reason": part.reason,
        "num_images": list(part.num_images),
        "num_seeds": part.num_seeds,
        "sites": list(part.sites),
        "runs": list(part.runs),
        "numbers": [_check_as_dict(check) for check in part.checks],
        "at_covered_sites": None if part.at_covered is None else _part_at_covered(part.at_covered),
    }


def _part_at_covered(part: PartResult) -> dict[str, Any]:
    return {
        "verdict": str(part.verdict),
        "reason": part.reason,
        "sites": list(part.sites),
        "numbers": [_check_as_dict(check) for check in part.checks],
    }


def _check_as_dict(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "value": _finite(check.value),
        "relation": check.relation,
        "bound": _finite(check.bound_value),
        "margin_error": _finite(check.margin_error),
        "error_from": "seeds" if check.num_seeds >= MIN_SEEDS else "sampling",
        "holds": check.holds,
        "counts": check.counts,
        "values": [_finite(value) for value in check.values],
        "bounds": [_finite(value) for value in check.bound],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
