"""Verdicts as text: the page claims.md and the plain values of claims.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reluscope.lab.claims.claim import ClaimResult, PartResult
from reluscope.lab.claims.evidence import span
from reluscope.lab.claims.verdict import MIN_SEEDS, Check, Verdict

__all__ = ["claims_as_dict", "claims_page", "decided_on", "headline", "number", "verdict_counts"]

_INTRODUCTION = (
    "Each claim of Hartmann, Franzen, Brodehl 2021 is a predicate over stored runs. The predicates were written before any "
    'real run was looked at; what was changed since, and after which figures, stands under "changed"; figure 3 had '
    "not been looked at by then. A claim is decided only at the sites whose coverage is at least 0.5 at the "
    "measurements compared, and each verdict names them. Means over sites (or pairs of them) are decided by three covered "
    "ones; extremes, spreads and trends over all sites want half of them; a bound on every site is broken by one. Before "
    "figures 2 and 4 had been looked at, half of the sites were asked for always, which left every claim on 4,000 images "
    'open: "by the first rule" is the verdict by that. A claim is "contradicted" when any part of it is, and "supported" '
    "when no part is contradicted and all its main parts are supported; further parts may stay open, and parts reported "
    "apart never count. With three or more seeds a difference counts when it exceeds two standard errors of the mean. "
    "Step s here is s updates; the paper's initialisation is our step 1. In commands, DIR is the folder of the runs."
)


def claims_page(results: Sequence[ClaimResult], *, left_out: Mapping[str, str] | None = None) -> str:
    """The verdicts as a Markdown page: one table of all claims, then each claim with its parts and numbers.

    Args:
        results: as `judge` returns them.
        left_out: by name of a run, why it was not used.
    """
    lines = [
        "# Claims of [A]",
        "",
        _INTRODUCTION,
        "",
        *(line for text in headline(results) for line in (text, "")),
    ]
    lines += ["| claim | verdict | by the first rule | the paper says | decided on | changed |"]
    lines += ["|---|---|---|---|---|---|"]
    for result in results:
        first = "same" if result.by_first_rule is result.verdict else str(result.by_first_rule)
        cells = (result.claim.says, decided_on(result), result.claim.changed or "")
        told = " | ".join(_cell(text) for text in cells)
        lines.append(f"| {result.claim.id} | {result.verdict} | {first} | {told} |")
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


def headline(results: Sequence[ClaimResult]) -> list[str]:
    """The verdicts in a few sentences: how many, which parts of open claims hold, where the first rule differs."""
    lines = [", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(results).items()) + "."]
    held = [
        f"{result.claim.id} {', '.join(names)}"
        for result in results
        if result.verdict is not Verdict.SUPPORTED and (names := _supported_parts(result))
    ]
    if held:
        lines.append(f"Supported parts of the others: {'; '.join(held)}.")
    other = [
        f"{result.claim.id} ({result.by_first_rule})"
        for result in results
        if result.by_first_rule is not result.verdict
    ]
    if other:
        lines.append(
            "By the coverage rule that was fixed before any run was looked at, half of the sites always, these would be "
            f"different: {', '.join(other)}."
        )
    return lines


def decided_on(result: ClaimResult) -> str:
    """In one line: what decided the claim, or what it lacks, one reason for each part at most; and what is supported."""
    counted = [part for part in result.parts if part.part.role != "apart"]
    if result.verdict is Verdict.SUPPORTED:
        text = [f"{part.part.name} ({_basis(part)})" for part in counted if part.verdict is Verdict.SUPPORTED]
        text += [
            f"{part.part.name}: {part.verdict}" for part in counted if part.verdict is not Verdict.SUPPORTED
        ]
        return "; ".join(text)
    if result.verdict is Verdict.CONTRADICTED:
        text = [_failed(part) for part in counted if part.verdict is Verdict.CONTRADICTED]
    elif result.verdict is Verdict.NOT_MEASURED and result.missing:
        text = [_missing_text(result)]
    else:
        text = _open_parts(
            [part for part in counted if part.verdict is result.verdict and part.part.role == "main"]
        )
    held = _supported_parts(result)
    return "; ".join([*text, *([f"supported: {', '.join(held)}"] if held else [])])


def _supported_parts(result: ClaimResult) -> list[str]:
    return [
        part.part.name
        for part in result.parts
        if part.part.role != "apart" and part.verdict is Verdict.SUPPORTED
    ]


def _failed(part: PartResult) -> str:
    """The first inequality that fails, and how many more do."""
    failed = [check for check in part.checks if check.counts and check.holds is False]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return _check_text(failed[0]) + more


def _open_parts(parts: Sequence[PartResult]) -> list[str]:
    """One reason for each part; parts with the same one together."""
    by_reason: dict[str, list[str]] = {}
    for part in parts:
        by_reason.setdefault(part.brief, []).append(part.part.name)
    return [f"{', '.join(names)}: {brief}" for brief, names in by_reason.items()]


def number(value: float) -> str:
    """Four significant digits, thousands separated.

    >>> number(22000000.0), number(0.123456), number(float("inf")), number(1e-05)
    ('22,000,000', '0.1235', 'inf', '1e-05')
    """
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _missing_text(result: ClaimResult) -> str:
    """The missing trainings, or how many where the commands name so many, and the commands that make them."""
    texts = [need.text for need in result.missing]
    what = ", ".join(texts) if len(texts) <= 2 else f"{len(texts)} trainings"
    return f"needs {what}: {', '.join(f'`{command}`' for command in result.commands)}"


def _section(result: ClaimResult) -> list[str]:
    claim = result.claim
    lines = [f"## {claim.id}: {result.verdict}", "", claim.says, ""]
    if claim.changed:
        lines += [f"Changed: {claim.changed}.", ""]
    for part in result.parts:
        about = {"main": "", "further": ", further", "apart": ", reported apart"}[part.part.role]
        if part.by_first_rule is not part.verdict:
            about += f"; by the first rule {part.by_first_rule}"
        lines.append(f"- **{part.part.name}** ({part.verdict}{about}): {part.part.asks}.")
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
        "verdict_by_first_rule": str(result.by_first_rule),
        "decided_on": decided_on(result),
        "changed": result.claim.changed,
        "needs": [{"trainings": need.text, "names": need.name} for need in result.missing],
        "commands": list(result.commands),
        "parts": [_part_as_dict(part) for part in result.parts],
    }


def _part_as_dict(part: PartResult) -> dict[str, Any]:
    return {
        "name": part.part.name,
        "asks": part.part.asks,
        "role": part.part.role,
        "verdict": str(part.verdict),
        "verdict_by_first_rule": str(part.by_first_rule),
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
