"""Tables, plots and the HTML page of a comparison: draws what `qmargin.protocols` filled in, computes no metric."""

from qmargin.report.comparison_table import comparison_markdown as comparison_markdown
from qmargin.report.comparison_table import comparison_table as comparison_table
from qmargin.report.comparison_table import comparison_tables as comparison_tables
from qmargin.report.page import write_report as write_report
from qmargin.report.results import write_results as write_results
from qmargin.report.table import Table as Table

__all__ = ["Table", "comparison_markdown", "comparison_table", "comparison_tables", "write_report", "write_results"]
