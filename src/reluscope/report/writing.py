"""Writing a report to a file: a page or a figure, whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

from reluscope.errors import ExportError
from reluscope.report.view import Runs, RunView, views_of

__all__ = ["write_report"]

_FIGURES = (".png", ".pdf", ".svg")
# Without dates and random ids, so that equal runs give equal files.
_METADATA = {
    ".pdf": {"CreationDate": None, "ModDate": None},
    ".svg": {"Date": None},
    ".png": {"Software": None},
}


def write_report(runs: Runs, output: str | os.PathLike[str]) -> Path:
    """Draw one run, or several side by side, into one file.

    Args:
        runs: a run folder or a Run, or a list of them; they become the columns, in this order.
        output: the file to write. `.html`: a self-contained page that needs no network (about 5 MB, most of
            it plotly.js): heat maps and curves of every measure, the training curve, the sites. `.png`,
            `.pdf`, `.svg`: the heat maps of [A], figure 1, for paper. An existing file is replaced at the
            end, in one go; missing folders are made.

    Returns:
        The path of the file.

    Raises:
        ExportError: another suffix, no run, or nothing to draw.
        RunNotFoundError, RunSchemaError, RunCorruptError: a folder that cannot be read as a run.
    """
    output = Path(output)
    suffix = output.suffix.lower()
    if suffix != ".html" and suffix not in _FIGURES:
        raise ExportError(
            f'a report was asked for as "{output.name}", with the suffix "{suffix}"; known are .html (a '
            f"page) and {', '.join(_FIGURES)} (a figure). Name the file report.html, for example."
        )
    if output.is_dir():
        raise ExportError(f'a report was asked for as "{output}", which is a folder; name a file in it.')
    views = views_of(runs)
    _replace(output, _page(views) if suffix == ".html" else _picture(views, suffix))
    return output


def _page(views: list[RunView]) -> bytes:
    from reluscope.report.page import render_page  # plotly loads only where a page is written

    return render_page(views).encode("utf-8")


def _picture(views: list[RunView], suffix: str) -> bytes:
    import matplotlib

    from reluscope.report.figures import heatmaps

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "reluscope", "pdf.fonttype": 42}):
        heatmaps(views).savefig(buffer, format=suffix[1:], metadata=_METADATA[suffix])
    return buffer.getvalue()


def _replace(output: Path, content: bytes) -> None:
    """Beside the target first, then renamed: a reader sees the old file or the new one, whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, output)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's mask: mkstemp's files are for their owner only, and a report is made to be shown."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
