"""Pieces of HTML that the sections of the page share. Whatever comes from a run is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["empty", "figure", "panels", "row"]


def panels(parts: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="panels">{"".join(parts)}</div>'


def figure(title: str, meaning: str, content: str, *, control: str = "") -> str:
    """A chart with its title and a sentence on what it shows; `control` is HTML that stands above the chart."""
    caption = f"<b>{html.escape(title)}</b><span>{html.escape(meaning)}</span>"
    return f"<figure><figcaption>{caption}</figcaption>{control}{content}</figure>"


def empty(reason: str, height: int) -> str:
    """Why there is no chart, where it would be."""
    return f'<div class="empty" style="min-height:{height}px">{html.escape(reason)}</div>'


def row(head: str, cells: Iterable[str]) -> str:
    """A row of a table: `head` is HTML, the cells are text."""
    return f"<tr>{head}{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
