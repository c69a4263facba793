"""Results as files: one name, one ending for each reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from qmargin._files import to_json, write_text
from qmargin.report.curve_plots import Curve, write_curves
from qmargin.report.gallery import Gallery
from qmargin.report.protocol_page import protocol_page
from qmargin.report.table import Table


def write_results(
    folder: Path,
    name: str,
    tables: Sequence[Table],
    record: Mapping[str, object],
    curves: Sequence[Curve] = (),
    worst: Sequence[Gallery] = (),
    *,
    page: bool = True,
) -> list[Path]:
    """Write tables for people and their numbers for programs, each file whole or not at all.

    `NAME.md` and `NAME.tex` hold all tables, rounded; `NAME.csv` the first with every digit, `NAME-SLUG.csv` each
    other; `NAME.json` everything the tables rest on; `NAME-det` and `NAME-roc` the curves, .svg and .png; `NAME.html`
    all of it on one page. Equal input gives equal bytes.

    Args:
        folder: must exist.
        name: of the files, as "ijb".
        tables: at least one; those after the first have a slug.
        record: of the JSON: figures that were computed here. Published ones belong under a key of their own.
        curves: to draw, of different names; without any there are no plots.
        worst: worst errors; the pairs go into `NAME-SLUG.csv` and, with their pictures, onto the page.
        page: whether to write `NAME.html`; a comparison has a page of its own.

    Returns:
        The paths, in the order written.

    Raises:
        ValueError: the folder cannot be written.
    """
    slugs = [table.slug for table in (*tables, *(one.table for one in worst))]
    assert len(set(slugs)) == len(slugs) > 0, slugs
    texts = {
        f"{name}.md": "\n".join(table.markdown() for table in tables),
        f"{name}.tex": "\n".join(table.latex() for table in tables),
        **{f"{name}{table.slug and '-' + table.slug}.csv": table.csv() for table in tables},
        **{f"{name}-{one.table.slug}.csv": one.table.csv() for one in worst},
        f"{name}.json": to_json(record),
        **({f"{name}.html": protocol_page(tables, curves, worst)} if page else {}),
    }
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts] + (write_curves(folder, name, curves) if curves else [])
