"""Rows of sites, and comparisons of states, of which the memory budget left estimates."""

from __future__ import annotations

import math

from reluscope import measures
from reluscope.measures.estimated_pairs import summarize_estimated_change
from reluscope.measures.estimates import error_name, summarize_estimate, summarize_labels_estimate
from reluscope.observe import Site
from reluscope.patterns import AnyCounts, EstimatedCounts, PatternCounts
from reluscope.patterns.estimate import pair_chunks, state_of

__all__ = ["compare_to_init", "compare_to_last", "estimated_row"]

NO_EXCESS = "the site's counts are an estimate (memory_budget), and information_excess needs every (pattern, sample) pair"


def estimated_row(
    site: Site, counts: EstimatedCounts, class_evaluations: object, *, has_permutations: bool
) -> tuple[dict[str, float | int], dict[str, str]]:
    """The measures of an estimated site and their standard errors, and for NaN ones the reason.

    Args:
        class_evaluations: int64 (num_classes,); None without labels.
    """
    shape = {"width": site.width, "num_units": site.num_units, "num_kinks": site.num_kinks}
    row: dict[str, float | int] = {"num_evaluations": counts.num_evaluations, "exact": False}
    row.update(summarize_estimate(counts.moments, **shape, heavy_frequency=counts.heavy_frequency))
    reasons: dict[str, str] = {}
    if class_evaluations is not None:
        labels = summarize_labels_estimate(counts.moments, **shape, class_evaluations=class_evaluations)  # type: ignore[arg-type]
        row.update(labels)
        if has_permutations:
            row["information_excess"] = math.nan
            reasons["information_excess"] = NO_EXCESS
    return row, reasons


def compare_to_last(before: AnyCounts, after: AnyCounts) -> dict[str, float | int]:
    """How a site's distribution changed since the last measurement: changes, and similarity to it.

    Where one of the two is an estimate, so is all of this, with standard errors (`measures.estimates.error_name`).

    Raises:
        IncompatibleCountsError: counts that cannot be compared.
    """
    found = _change(before, after)
    for name in ("weighted_jaccard", "jaccard"):
        _rename(found, name, f"{name}_to_last")
    return found


def compare_to_init(initial: AnyCounts, after: AnyCounts) -> dict[str, float | int]:
    """How like a site's distribution is to the initial one; estimates as in `compare_to_last`."""
    change = _change(initial, after)
    found: dict[str, float | int] = {}
    for name in ("weighted_jaccard", "jaccard"):
        for one in (name, error_name(name)):
            if one in change:
                found[one] = change[one]
        _rename(found, name, f"{name}_to_init")
    return found


def _change(before: AnyCounts, after: AnyCounts) -> dict[str, float | int]:
    if isinstance(before, PatternCounts) and isinstance(after, PatternCounts):
        return measures.summarize_change(before, after)
    found = summarize_estimated_change(pair_chunks(before, after), state_of(before), state_of(after))
    if before is after:  # the initial state itself: what was dropped is the same
        found |= {error_name(name): 0.0 for name in found if error_name(name) in found}
    return found


def _rename(row: dict[str, float | int], old: str, new: str) -> None:
    row[new] = row.pop(old)
    if error_name(old) in row:
        row[error_name(new)] = row.pop(error_name(old))
