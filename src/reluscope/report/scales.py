"""How a measure's values become positions on an axis and colours, the same in every run of a report.

One scale is fitted for each measure over all runs, so that equal colours mean equal numbers. Sequential maps
are cividis, which reads alike with every kind of colour vision and in grey print; changes run on a red-blue
map centred on zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reluscope.measures.spec import Measure

__all__ = ["CIVIDIS", "Scale", "fit_scale", "nice_ticks", "number"]

CIVIDIS = (
    *("#00224e", "#083370", "#35456c", "#4f576c", "#666970", "#7d7c78"),
    *("#948e77", "#aea371", "#c8b866", "#e5cf52", "#fee838"),
)
"""11 stops of matplotlib's cividis."""

# ColorBrewer's RdBu (red: fewer, blue: more).
_RED_BLUE = (
    *("#67001f", "#b2182b", "#d6604d", "#f4a582", "#fddbc7", "#f7f7f7"),
    *("#d1e5f0", "#92c5de", "#4393c3", "#2166ac", "#053061"),
)
_NUM_TICKS = 5
# A measure between 0 and 1 that hardly moves is not stretched over all colours.
_LEAST_SPAN = 0.05

_Ticks = Callable[[float, float, float], list[tuple[float, str]]]  # from low, high and threshold


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A monotone map from values to positions, with the range that all runs share.

    Attributes:
        kind: "linear"; "log" for values > 0, log10 x; "log1p" for counts, log10(1 + x); "symlog",
            sign(x) log10(1 + |x| / threshold).
        threshold: of "symlog": where it turns from linear to logarithmic.
        low, high: range of the positions.
        ticks: positions and their texts.
        colors: evenly spaced stops from `low` to `high`.
    """

    kind: str
    threshold: float
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    colors: tuple[str, ...]

    def position(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Positions of the values; NaN stays NaN."""
        x = np.asarray(values, dtype=np.float64)
        return _position(x, self.kind, self.threshold)


def fit_scale(measure: Measure, values: Iterable[npt.NDArray[np.float64]]) -> Scale | None:
    """The scale of a measure over the values of all runs; None when none of them is defined."""
    arrays = [array[np.isfinite(array)] for array in values]
    finite = np.concatenate(arrays) if arrays else np.empty(0)
    if finite.size == 0:
        return None
    least, most = float(finite.min()), float(finite.max())
    if measure.scale == "symlog":
        return _symlog(measure, max(abs(least), abs(most)))
    if measure.scale == "log" and measure.dtype == "int64":
        return _scale("log1p", *_log1p_range(least, most), ticks=_log1p_ticks)
    if measure.scale == "log" and least > 0:
        low, high = math.log10(least), math.log10(most)
        middle = (low + high) / 2
        return _scale("log", min(low, middle - 0.15), max(high, middle + 0.15), ticks=_log_ticks)
    return _scale("linear", *_linear_range(measure, least, most), ticks=_linear_ticks)


def number(value: float) -> str:
    """A number as people write it: 1,234,567; 0.0312; 4.2e-06; "not defined" for NaN.

    >>> number(1234567), number(0.03124), number(float("nan"))
    ('1,234,567', '0.03124', 'not defined')
    """
    if math.isnan(value):
        return "not defined"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def nice_ticks(low: float, high: float, count: int = _NUM_TICKS) -> list[float]:
    """About `count` round numbers between low and high, both included as far as they are round.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) + 0.0 for index in range(first, last + 1)]


def _position(x: npt.NDArray[np.float64], kind: str, threshold: float) -> npt.NDArray[np.float64]:
    if kind == "linear":
        return x
    if kind == "log":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(x)
    if kind == "log1p":
        return np.log10(1.0 + x)
    return np.sign(x) * np.log10(1.0 + np.abs(x) / threshold)


def _scale(kind: str, low: float, high: float, *, ticks: _Ticks, threshold: float = 1.0) -> Scale:
    return Scale(
        kind=kind,
        threshold=threshold,
        low=low,
        high=high,
        ticks=tuple(ticks(low, high, threshold)),
        colors=_RED_BLUE if kind == "symlog" else CIVIDIS,
    )


def _linear_range(measure: Measure, least: float, most: float) -> tuple[float, float]:
    bounded = measure.lower == 0.0 and measure.upper == 1.0
    span = _LEAST_SPAN if bounded else max(abs(most) * 0.02, 1e-9)
    if most - least < span:
        middle = (least + most) / 2
        least, most = middle - span / 2, middle + span / 2
        if bounded:  # moved inside, not cut off, so that the span stays
            shift = max(0.0, -least) - max(0.0, most - 1.0)
            least, most = least + shift, most + shift
    return least, most


def _log1p_range(least: float, most: float) -> tuple[float, float]:
    low, high = math.log10(1.0 + least), math.log10(1.0 + most)
    if high - low < 0.3:
        middle = (low + high) / 2
        low, high = max(middle - 0.15, 0.0), middle + 0.15
    return low, high


def _symlog(measure: Measure, largest: float) -> Scale:
    # Patterns come in whole numbers; a relative change of 1 % is where one begins to look.
    threshold = 1.0 if measure.dtype == "int64" else 0.01
    end = math.log10(1.0 + max(largest, threshold) / threshold)
    return _scale("symlog", -end, end, ticks=_symlog_ticks, threshold=threshold)


def _linear_ticks(low: float, high: float, _: float) -> list[tuple[float, str]]:
    return [(value, f"{value:,g}") for value in nice_ticks(low, high)]


def _log_ticks(low: float, high: float, _: float) -> list[tuple[float, str]]:
    """Powers of ten; with 3, or 2 and 5, between them where there would be fewer than three."""
    for mantissas in ((1,), (1, 3), (1, 2, 5)):
        candidates = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in mantissas]
        inside = [value for value in candidates if low - 1e-9 <= math.log10(value) <= high + 1e-9]
        if len(inside) >= 3:
            break
    if len(inside) < 2:  # hardly any range: round numbers, as on a linear scale
        inside = nice_ticks(10.0**low, 10.0**high)
    every = math.ceil(len(inside) / 7)
    return [(math.log10(value), _short(value)) for value in inside[::every]]


def _log1p_ticks(low: float, high: float, _: float) -> list[tuple[float, str]]:
    least, most = 10.0**low - 1.0, 10.0**high - 1.0
    ticks = [(0.0, "0")] if low == 0.0 else []
    if most < 1.0:
        return ticks
    values = [round(10.0**p) for p, _ in _log_ticks(math.log10(max(least, 1.0)), math.log10(most), 1.0)]
    ticks += [(math.log10(1.0 + value), _short(value)) for value in dict.fromkeys(values)]
    return [(position, text) for position, text in ticks if low - 1e-9 <= position <= high + 1e-9]


def _symlog_ticks(low: float, high: float, threshold: float) -> list[tuple[float, str]]:
    decades = range(math.ceil(math.log10(threshold)), math.floor(math.log10(threshold * 10.0**high)) + 1)
    every = max(1, math.ceil(len(decades) / 3))
    sizes = [10.0**decade for decade in decades][::every]
    positions = [math.log10(1.0 + size / threshold) for size in sizes]
    # next to zero there is no room for a text
    apart = [(p, size) for p, size in zip(positions, sizes, strict=True) if 0.15 * high < p <= high + 1e-9]
    upper = [(position, _short(size)) for position, size in apart]
    return [*((-p, f"\u2212{text}") for p, text in reversed(upper)), (0.0, "0"), *upper]


def _short(value: float) -> str:
    """2000000 as 2 M, 30000 as 30,000; small numbers as they are."""
    for size, suffix in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
