"""CSV as RFC 4180 has it, but with LF: comma, quotes where they are needed, UTF-8."""

import csv
import io
from collections.abc import Sequence


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows of fields as text."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
