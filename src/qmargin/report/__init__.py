"""Tables, plots and the HTML page of a comparison: draws what `qmargin.protocols` filled in, computes no metric."""

from qmargin.report.page import write_report as write_report
from qmargin.report.table import comparison_markdown as comparison_markdown
from qmargin.report.table import comparison_table as comparison_table

__all__ = ["comparison_markdown", "comparison_table", "write_report"]
