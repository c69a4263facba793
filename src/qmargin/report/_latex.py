r"""LaTeX from text: fragments to `\input`, every text escaped.

A fragment needs `\usepackage{booktabs}` and a LaTeX of 2020 or later, whose text symbols need no package. Letters
beyond Latin (a Greek or Chinese name) stay as they are: pdfLaTeX lacks them, XeLaTeX and LuaLaTeX have them with a font
that does.
"""

import re
from collections.abc import Sequence

from qmargin.report._numbers import MINUS, plain

SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # \textquotedbl is not in every font encoding
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": r"{[}",  # after the end of a row it would be an argument
    "]": r"{]}",
    "*": r"{*}",  # likewise
    MINUS: r"$-$",
    "±": r"\textpm{}",
    "\N{MULTIPLICATION SIGN}": r"\texttimes{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "…": r"\ldots{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
}
SPECIAL = re.compile("|".join(map(re.escape, SYMBOLS)))
LIGATURE = re.compile("([-,])(?=\\1)")  # two hyphens would become a dash, two commas a quotation mark


def latex_text(text: str) -> str:
    r"""Text that LaTeX sets as it is: no command, no alignment, no mathematics, no ligature.

    Example:
        >>> latex_text("cfp_fp & 50 % [a]")
        'cfp\\_fp \\& 50 \\% {[}a{]}'
    """
    return LIGATURE.sub(r"\1{}", SPECIAL.sub(lambda found: SYMBOLS[found[0]], plain(text)))


def fragment(
    *,
    caption: str,
    columns: str,
    header: Sequence[str],
    parts: Sequence[Sequence[Sequence[str]]],
    notes: Sequence[str],
    comments: Sequence[str],
) -> str:
    r"""A `table` with a `tabular` in it; all text escaped already, but that of the comments, which are one line each.

    Args:
        caption: over the table.
        columns: alignment of each, as "lrr".
        header: of the columns.
        parts: groups of rows, a rule before each.
        notes: under the table, in small print.
        comments: what a reader of the source should know and a reader of the paper need not.
    """
    assert all(len(row) == len(columns) == len(header) for part in parts for row in part), caption
    groups = [line for part in parts for line in (r"\midrule", *map(_row, part))]
    lines = [
        *(f"% {comment}" for comment in comments),
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(header),
        *groups,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
        lines += [rf"{note}\par" for note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"
