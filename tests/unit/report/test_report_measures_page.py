"""docs/measures.md follows from the table of traits."""

from __future__ import annotations

import re
from pathlib import Path

from reluscope.measures import LAYER_MEASURES
from reluscope.report.measures_page import measures_page

COMMITTED = Path(__file__).parents[3] / "docs" / "measures.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == measures_page(), (
        "write it again: python -m reluscope.report.measures_page docs/measures.md"
    )


def test_every_link_leads_to_a_heading() -> None:
    source = measures_page()
    headings = {
        re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
        for heading in re.findall(r"^### (.*)$", source, re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]*)\)", source)
    assert len(links) == len(LAYER_MEASURES)
    assert set(links) == headings


def test_the_table_has_five_cells_in_each_row() -> None:
    rows = [line for line in measures_page().splitlines() if line.startswith("|")]
    assert len(rows) == len(LAYER_MEASURES) + 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
