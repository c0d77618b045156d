"""docs/measures.md, written from the table of traits: what each number means.

Run `python -m reluscope.report.measures_page docs/measures.md` after a change to `measures/spec*.py`; a test
holds the committed file to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reluscope.measures.spec import FAMILIES, LAYER_MEASURES, Measure
from reluscope.report.text import bounds, unit

__all__ = ["measures_page"]

_HEAD = """\
<!-- Written by `python -m reluscope.report.measures_page docs/measures.md` from measures/spec*.py. -->

# What each number means

Every measure below is a column of the run's layers table, a variable of `rs.open_run(...).dataset`, and a
heat map of the report. Each is computed by a pure NumPy function in `rs.measures`, named at the end of its
entry.

Notation: a site of `d` bits (`units` x `K` kinks per unit; d = units for ReLU) was evaluated `N` times on the
probe, once for each sample and position. Pattern `i` occurred `c_i` times, so `sum c_i = N`. `L` is the class
of the sample, `C` the number of classes present, `N_c` the evaluations of class `c`. With several kinks per
unit the bits of one unit are nested, so `2^d` in a bound stands for `(K + 1)^units`, and `d` for
`units log2(K + 1)`.

**Read coverage first.** Below 0.5, most patterns were seen once: then entropy and information describe the
size of the probe rather than the layer, and similarities are near 0 by construction. Where nothing was
counted, `total` is 0 and everything else NaN.

Sources: [A] Hartmann, Franzen, Brodehl 2021, "Studying the Evolution of Neural Activation Patterns During
Training of Feed-Forward ReLU Networks", Front. Artif. Intell. 4:642374. Where a formula departs from print,
the entry says so.
"""


def measures_page() -> str:
    """The page as Markdown: a table of all measures, and an entry for each."""
    parts = [_HEAD, _overview()]
    for family, meaning in FAMILIES.items():
        parts.append(f"## {meaning}\n")
        parts.extend(_entry(measure) for measure in LAYER_MEASURES.values() if measure.family == family)
    return "\n".join(parts).rstrip("\n") + "\n"


def _overview() -> str:
    head = "| column | symbol | unit | bounds | larger means |\n|---|---|---|---|---|"
    rows = [
        _row(f"[`{m.name}`](#{_anchor(m)})", _cell(m.symbol), unit(m), _cell(bounds(m)), m.direction)
        for m in LAYER_MEASURES.values()
    ]
    return "\n".join([head, *rows]) + "\n"


def _entry(measure: Measure) -> str:
    return "\n".join(
        [
            f"### {measure.title}",
            "",
            f"`{measure.name}` = {_cell(measure.formula)}",
            "",
            measure.description,
            "",
            f"- unit: {unit(measure)}; bounds: {_cell(bounds(measure))}; larger means: {measure.direction}",
            f"- source: {measure.source}",
            f"- computed by: `reluscope.measures.{measure.function}`",
            "",
        ]
    )


def _anchor(measure: Measure) -> str:
    """The anchor that GitHub gives the entry's heading."""
    return "".join(c for c in measure.title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is: formulas hold *, _ and |."""
    return f"`{text}`" if any(c in text for c in "*_^|<>()") else text


def _row(*cells: str) -> str:
    """A row of a Markdown table, where a bar ends a cell even inside of code."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(measures_page(), encoding="utf-8")
