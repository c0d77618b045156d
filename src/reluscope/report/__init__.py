"""Pictures of recorded runs: a self-contained page, and figures for paper. Reads runs, never a model.

The figures themselves are in `reluscope.report.figures`; they load matplotlib, and the page plotly, when
first used.
"""

from reluscope.report.view import RunView, view_of, views_of
from reluscope.report.writing import write_report

__all__ = ["RunView", "view_of", "views_of", "write_report"]
