"""The picture and the tables of docs/hashlist.md, from benchmarks/results/hashlist_bias.csv."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

__all__ = ["draw", "insert_tables", "tables_of"]

PANELS = {
    "total": "distinct patterns: too few\n|bias| / exact",
    "entropy": "entropy: too low\n|bias| in bits",
    "relative_entropy": "relative entropy: too low\n|bias|",
    "max_frequency": "most frequent pattern: too frequent\n|bias| / exact",
    "coverage": "coverage: too high\n|bias|",
    "weighted_jaccard": "weighted similarity $J_W$: too high\n|bias|",
    "churn_rate": "churn rate: too low\n|bias|",
    "relative_change": "relative change (over 5 %): too near to 0\n|bias| / |exact|",
}
UNITS = {
    "total": ", relative",
    "entropy": ", bits",
    "relative_entropy": "",
    "max_frequency": ", relative",
    "coverage": "",
    "weighted_jaccard": "",
    "churn_rate": "",
    "relative_change": ", relative",
}
CHANGED = 0.05  # smallest relative change whose relative bias is looked at
MARKERS = {16: "o", 32: "s", 64: "^"}
LIMIT = 0.15
LOAD = np.geomspace(1e-3, 7, 120)  # patterns per slot
OCCUPANCIES = (0.01, 0.05, 0.15, 0.5, 0.9)
THEORY = {"color": "#b2182b", "lw": 1.2, "zorder": 3}


def poisson(load: np.ndarray, largest: int = 40) -> np.ndarray:
    """Shares of slots with 0, 1, ..., largest patterns, (loads, largest + 1)."""
    number = np.arange(largest + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(number[1:]))])
    return np.exp(number * np.log(load)[:, None] - load[:, None] - log_factorial)


def disjoint_similarity(load: np.ndarray) -> np.ndarray:
    """J_W of two states without a common pattern, each with `load` patterns per slot that occurred once."""
    tail = 1 - np.cumsum(poisson(load), axis=1)
    smaller = (tail**2).sum(axis=1)  # E min(K, K') = sum over k of P(K > k)^2
    return smaller / (2 * load - smaller)


def equal_counts_entropy_loss(load: np.ndarray) -> np.ndarray:
    """E[K log2 K] / load in bits, K patterns in a slot, when all patterns are equally frequent."""
    number = np.arange(41)
    return poisson(load) @ (number * np.log2(np.maximum(number, 1))) / load


def theory(axes: Axes, measure: str) -> None:
    """What can be said without the distribution: a curve where it is exact on average, dashed where a bound."""
    occupancy = 1 - np.exp(-LOAD)
    if measure == "total":
        axes.plot(occupancy, 1 - occupancy / LOAD, **THEORY)
    if measure == "entropy":
        axes.plot(occupancy, equal_counts_entropy_loss(LOAD), **THEORY)
        axes.plot(occupancy, np.log2(1 + LOAD), ls="--", **THEORY)
    if measure == "coverage":
        axes.plot(occupancy, occupancy, ls="--", **THEORY)
    if measure in ("weighted_jaccard", "churn_rate"):
        found = disjoint_similarity(LOAD) if measure == "weighted_jaccard" else occupancy / (2 - occupancy)
        axes.plot(occupancy, found, **THEORY)


def rows_of(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Of relative_change only changes that are not themselves near 0, as its bias is divided by them."""
    floor = CHANGED if measure == "relative_change" else 0.0
    return pd.DataFrame(results[(results["measure"] == measure) & (np.abs(results["exact"]) >= floor)])


def draw(results: pd.DataFrame, path: Path) -> None:
    """|bias| against occupancy, one panel per measure; colour: coverage of the state, marker: width."""
    figure, all_axes = plt.subplots(2, 4, figsize=(13, 6.6), sharex=True, layout="constrained")
    style = Normalize(0, 1), "cividis"
    for axes, (measure, title) in zip(all_axes.flat, PANELS.items(), strict=True):
        rows = rows_of(results, measure)
        theory(axes, measure)
        for width, marker in MARKERS.items():
            some = rows[(rows["width"] == width) & (np.abs(rows["bias"]) > 1e-7)]
            size = np.abs(some["bias"])
            axes.scatter(
                some["occupancy"],
                size,
                c=some["coverage"],
                marker=marker,
                norm=style[0],
                cmap=style[1],
                s=13,
                lw=0,
                alpha=0.85,
            )
        axes.axvline(LIMIT, color="#5b626c", lw=0.9, ls=":")
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1.05))
        axes.set_title(title, fontsize=9)
        axes.grid(visible=True, color="#e4e6ea", lw=0.6)
        axes.tick_params(labelsize=8)
    for axes in all_axes[1]:
        axes.set_xlabel("occupancy", fontsize=9)
    finish(figure, all_axes, ScalarMappable(*style))
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def finish(figure, all_axes: np.ndarray, dots) -> None:
    bar = figure.colorbar(dots, ax=all_axes, shrink=0.7, pad=0.01)
    bar.set_label("coverage of the state (0: every pattern was seen once)", fontsize=9)
    handles = [
        Line2D([], [], color="#5b626c", marker=m, ls="", ms=4, label=f"{w} units") for w, m in MARKERS.items()
    ]
    handles += [
        Line2D([], [], **THEORY, label="theory (for entropy, $J_W$, churn: nothing in common, all once)"),
        Line2D([], [], ls="--", **THEORY, label="upper bound of the mean bias"),
        Line2D([], [], color="#5b626c", lw=0.9, ls=":", label="occupancy 0.15"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def tables_of(results: pd.DataFrame) -> dict[str, str]:
    """The tables of the page, by name."""
    return {
        "occupancy": by_occupancy(results),
        "width": by_width(results),
        "similarity": similarities(results),
    }


def insert_tables(page: Path, tables: dict[str, str]) -> None:
    """Each table goes between `<!-- table NAME -->` and `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        start = text.index(f"<!-- table {name} -->")
        end = text.index("<!-- end -->", start)
        text = f"{text[:start]}<!-- table {name} -->\n{table}\n{text[end:]}"
    page.write_text(text, encoding="utf-8")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def signed(value: float) -> str:
    return (
        "0"
        if abs(value) < 5e-7
        else np.format_float_positional(value, 2, fractional=False, sign=True, trim="-")
    )


def by_occupancy(results: pd.DataFrame) -> str:
    """Median bias over all sites and states, and the largest."""
    rows = []
    for measure, unit in UNITS.items():
        cells = []
        for occupancy in OCCUPANCIES:
            groups = rows_of(results, measure).groupby(["network", "site", "state"])
            found = [at(pd.DataFrame(group), occupancy) for _, group in groups]
            found = np.array([value for value in found if value is not None])
            cells.append(f"{signed(np.median(found))} ({signed(found[np.argmax(np.abs(found))])})")
        rows.append([f"`{measure}`{unit}", *cells])
    return markdown(["bias at occupancy", *(f"{occupancy:g}" for occupancy in OCCUPANCIES)], rows)


def at(group: pd.DataFrame, occupancy: float) -> float | None:
    """The bias of one site and state at an occupancy, between measured sizes linear in its logarithm."""
    group = group.sort_values("occupancy")
    known = group["occupancy"].to_numpy()
    if not known[0] <= occupancy <= known[-1]:
        return None
    return float(np.interp(np.log(occupancy), np.log(known), group["bias"].to_numpy()))


def at_limit(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows of the size at which an occupancy of 0.15 is expected, the only one that is no power of two."""
    rows = rows_of(results, measure)
    return pd.DataFrame(rows[np.log2(rows["size"]) % 1 != 0])


def by_width(results: pd.DataFrame) -> str:
    """At the limit: median bias over sites and states, and how far apart keys put it there."""
    rows = []
    for measure, unit in UNITS.items():
        cells = []
        for width in MARKERS:
            some = at_limit(results, measure).query(f"width == {width}")
            p20, p80 = (np.median(some[name]) if len(some) else np.nan for name in ("bias_p20", "bias_p80"))
            median = signed(np.median(some["bias"])) if len(some) else "none"
            cells.append(f"{median} ({signed(p20)} to {signed(p80)})" if len(some) else median)
        rows.append([f"`{measure}`{unit}", *cells])
    return markdown(["bias at 0.15", *(f"{width} units" for width in MARKERS)], rows)


def similarities(results: pd.DataFrame) -> str:
    """J_W at the limit, one row per site: exact and hashed, between far and between neighbouring states."""
    pairs = at_limit(results, "weighted_jaccard")
    far, near = sorted(pairs["state"].unique())
    rows = []
    for place, group in pairs.groupby(["network", "site"], sort=False):
        network, site = np.array(place)
        found = group.set_index("state")
        cells = [f"{found.at[s, name]:.3f}" for s in (far, near) for name in ("exact", "hashed")]
        coverage = f"{found.at[near, 'coverage']:.2f}"
        rows.append([network, f"`{site}`", str(found.at[near, "width"]), coverage, *cells])
    head = ["network", "site", "units", "coverage"]
    return markdown([*head, *(f"{s}, {name}" for s in (far, near) for name in ("exact", "hashed"))], rows)
