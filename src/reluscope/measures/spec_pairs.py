"""Traits of the measures of two distributions (`pairs.py`): changes and similarities."""

from __future__ import annotations

from reluscope.measures.measure import Measure

__all__ = ["CHANGES", "SIMILARITY"]

CHANGES: tuple[Measure, ...] = (
    Measure(
        name="appeared",
        title="Patterns appeared",
        symbol="T+",
        unit="patterns",
        family="changes",
        lower=0.0,
        upper="min(2^d, N)",
        direction="more new patterns",
        source="[A] Eq. 6, its first term",
        formula="number of i with c_i(last) = 0 and c_i(now) > 0",
        description=(
            "Patterns present now that were absent at the last measurement. Measurements are not evenly "
            "spaced, so a larger gap in steps alone makes this larger."
        ),
        dtype="int64",
        scale="log",
        function="pairs.changes",
    ),
    Measure(
        name="vanished",
        title="Patterns vanished",
        symbol="T-",
        unit="patterns",
        family="changes",
        lower=0.0,
        upper="min(2^d, N)",
        direction="more patterns lost",
        source="[A] Eq. 6, its second term",
        formula="number of i with c_i(last) > 0 and c_i(now) = 0",
        description=(
            "Patterns present at the last measurement that are absent now. Like the patterns that appeared, "
            "it depends on the gap in steps since that measurement."
        ),
        dtype="int64",
        scale="log",
        function="pairs.changes",
    ),
    Measure(
        name="net_change",
        title="Net change",
        symbol="dT",
        unit="patterns",
        family="changes",
        lower=None,
        upper="min(2^d, N)",
        direction="more patterns than before",
        source="[A] Eq. 6, with the sign of the authors' figures",
        formula="appeared - vanished = total(now) - total(last)",
        description=(
            "Patterns gained minus patterns lost since the last measurement. Near 0 does not mean that "
            "nothing changed: as many may have appeared as vanished, which the churn rate shows."
        ),
        dtype="int64",
        scale="symlog",
        function="pairs.changes",
    ),
    Measure(
        name="relative_change",
        title="Relative change",
        symbol="dT / T",
        unit="1",
        family="changes",
        lower=None,
        upper=1.0,
        direction="more patterns than before",
        source="[A] figure 1B",
        formula="net_change / total(now)",
        description=(
            "Net change as a share of the patterns present now. It is at most 1 but has no lower bound: -9 "
            "says that nine of ten patterns are gone. It depends on the gap in steps since the last "
            "measurement."
        ),
        dtype="float64",
        scale="symlog",
        function="pairs.changes",
    ),
    Measure(
        name="churn_rate",
        title="Churn rate",
        symbol="churn",
        unit="1",
        family="changes",
        lower=0.0,
        upper=1.0,
        direction="more turnover",
        source="reluscope; equals 1 - jaccard",
        formula="(appeared + vanished) / patterns of the union",
        description=(
            "Share of all patterns of the two measurements that belong to one of them only. At low coverage "
            "it is near 1 by construction, since patterns seen once rarely come back."
        ),
        dtype="float64",
        scale="linear",
        function="pairs.changes",
    ),
)


def _similarity(*, to: str, reference: str, weighted: bool) -> Measure:
    """The four similarities differ in the reference and in whether counts weigh."""
    if weighted:
        name, title, symbol = "weighted_jaccard", "Weighted similarity", "J_W"
        source, formula = "[A] Eq. 10", "sum_i min(c_i, c'_i) / sum_i max(c_i, c'_i)"
        description = (
            f"How alike the pattern distributions of now and of {reference} are, counting how often each "
            "pattern occurs: 1 when all counts are equal, 0 when no pattern is shared."
        )
        function = "pairs.weighted_jaccard"
    else:
        name, title, symbol = "jaccard", "Set similarity", "J"
        source, formula = (
            "[A], section 3.2",
            "size of the intersection / size of the union of the pattern sets",
        )
        description = (
            f"Share of the patterns of now and of {reference} that both have. A pattern seen once weighs "
            "like one seen a million times, so the number depends on the size of the probe; the weighted "
            "similarity does so less."
        )
        function = "pairs.jaccard"
    trap = " At a coverage below 0.5 it is near 0 by construction, whatever the layer does."
    if to == "last":
        trap += " It depends on the gap in steps since that measurement."
    return Measure(
        name=f"{name}_to_{to}",
        title=f"{title} to {reference}",
        symbol=f"{symbol}({to})",
        unit="1",
        family="similarity",
        lower=0.0,
        upper=1.0,
        direction="more alike",
        source=source,
        formula=f"{formula}, c' of {reference}",
        description=description + trap,
        dtype="float64",
        scale="linear",
        function=function,
    )


SIMILARITY: tuple[Measure, ...] = (
    _similarity(to="last", reference="the last measurement", weighted=True),
    _similarity(to="last", reference="the last measurement", weighted=False),
    _similarity(to="init", reference="the first measurement", weighted=True),
    _similarity(to="init", reference="the first measurement", weighted=False),
)
