"""The traits of one measure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Measure"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What there is to know about one quantity of one site at one step.

    Attributes:
        name: column in the layers table, e.g. "relative_entropy".
        title: for headings and axes, "Relative entropy".
        symbol: "H / H_max".
        unit: "bits", "patterns", "1" for dimensionless.
        family: "counts", "changes", "similarity", "labels", "hashlist" or "quality".
        lower: least possible value, None where there is no bound.
        upper: largest possible value, as a number or as a formula; None where there is no bound.
        direction: what a larger value means, in a few words.
        source: paper and equation.
        formula: in the notation of DEFINITIONS.
        description: what it means and what misleads, two to four sentences, plain text.
        dtype: "int64" or "float64".
        scale: how a colour or an axis should run: "linear", "log" or "symlog".
        function: name of the pure function below `reluscope.measures`.
    """

    name: str
    title: str
    symbol: str
    unit: str
    family: str
    lower: float | None
    upper: float | str | None
    direction: str
    source: str
    formula: str
    description: str
    dtype: str
    scale: str
    function: str
