"""The parts of the page between its plots: tables, settings, notes, provenance. All text is escaped by `_markup`."""

from collections.abc import Mapping

from qmargin.protocols.comparison import Comparison
from qmargin.report._amount import Amount
from qmargin.report._markup import Safe, joined, tag
from qmargin.report._numbers import counted, plain
from qmargin.report._rows import SystemRow, difference_rows, heading, legend, others, system_rows
from qmargin.report._verdict import caveats


def facts(comparison: Comparison) -> Safe:
    """Size of the comparison in one line."""
    runs = sum(len(system.seeds) for system in comparison.systems)
    sizes = [
        counted(len(comparison.systems), "system"),
        counted(runs, "run"),
        counted(comparison.subjects, "test subject"),
        counted(comparison.genuine, "genuine trial"),
        counted(comparison.impostor, "impostor trial"),
    ]
    return joined(" · ".join(sizes))


def figure_table(comparison: Comparison) -> Safe:
    """One row a system: name and setting, each figure with its interval, the support."""
    columns = ["System", *(heading(figure) for figure in comparison.figures), "Support (classes)"]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in columns)))
    body = tag("tbody", *map(_system_row, system_rows(comparison)))
    return scrollable("Figures by system", "figures", head, body)


def _system_row(row: SystemRow) -> Safe:
    name = [tag("span", row.name, class_="name")]
    if row.is_baseline:
        name.extend([Safe(" "), tag("span", "baseline", class_="tag")])
    cells = (tag("td", _stacked(cell)) for cell in (*row.figures, row.support))
    return tag("tr", tag("th", *name, tag("span", row.setting, class_="setting"), scope="row"), *cells)


def _stacked(cell: Amount) -> Safe:
    return joined(
        tag("span", cell.value, tag("sup", cell.marks), class_="value"), tag("span", cell.interval, class_="interval")
    )


def difference_table(comparison: Comparison) -> Safe:
    """One group a figure, one row a system; nothing where there is only the baseline."""
    if not others(comparison):
        return Safe()
    columns = ("System", "Difference", "95 % interval", "Won", "Reading")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in columns)))
    groups, blank = [], [tag("td")] * 3
    for figure in comparison.figures:
        rows = [tag("tr", tag("th", heading(figure), scope="rowgroup", colspan=str(len(columns))))]
        for row in difference_rows(comparison, figure):
            name = tag("th", row.name, scope="row")
            if row.won is None:
                rows.append(tag("tr", name, tag("td", row.difference.value, class_="base"), *blank, class_="base"))
                continue
            value = joined(row.difference.value, tag("sup", row.difference.marks))
            reading = tag("td", row.reading, class_=row.reading.split()[0])
            rows.append(
                tag("tr", name, tag("td", value), tag("td", row.difference.interval), tag("td", row.won.value), reading)
            )
        groups.append(tag("tbody", *rows))
    caption = f"Differences to the baseline {plain(comparison.baseline)}, in percentage points"
    return scrollable(caption, "differences", head, *groups)


def legend_list(comparison: Comparison) -> Safe:
    """How to read both tables."""
    return tag("ul", *(tag("li", line) for line in legend(comparison)), class_="legend")


def differing(comparison: Comparison) -> Safe:
    """The one field in which the systems differ, its value for each, their seeds and run folders."""
    field = plain(comparison.differing_field)
    lead = tag("p", _what_differs(comparison, field))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("System", field or "Setting", "Seeds", "Runs")))
    rows = (
        tag(
            "tr",
            tag("th", system.name, scope="row"),
            tag("td", tag("code", system.setting)),
            tag("td", ", ".join(map(str, system.seeds))),
            tag("td", *(tag("code", run, class_="run") for run in system.runs)),
        )
        for system in comparison.systems
    )
    return joined(lead, scrollable("Setting by system", "settings", tag("thead", head), tag("tbody", *rows)))


def _what_differs(comparison: Comparison, field: str) -> Safe:
    if field:
        return joined("All runs share every setting but ", tag("code", field), " and the seed.")
    if not others(comparison):
        return joined("There is one system; its runs differ in nothing but the seed.")
    return joined("No single field of the settings tells these systems apart: they differ in several, or in none.")


def shared(comparison: Comparison) -> Safe:
    """The settings all runs share, folded."""
    if not comparison.shared_settings:
        return tag("p", "No shared settings were recorded.")
    summary = tag("summary", f"{counted(len(comparison.shared_settings), 'setting')} shared by all runs")
    return tag("details", summary, _definitions(comparison.shared_settings))


def notes(comparison: Comparison) -> Safe:
    """The caller's caveats and those that follow from the data."""
    items = [tag("li", note) for note in caveats(comparison)]
    return tag("ul", *items) if items else tag("p", "No notes were given.")


def notes_link(comparison: Comparison) -> Safe:
    """Where the notes are, for the head of the page: '3 notes limit what this shows'."""
    number = len(caveats(comparison))
    if number == 0:
        return Safe()
    text = f"{counted(number, 'note')} {'limits' if number == 1 else 'limit'} what this shows"
    return joined(" · ", tag("a", text, href="#notes"))


def provenance(comparison: Comparison) -> Safe:
    """Command, machine, date, versions."""
    return _definitions(comparison.provenance) if comparison.provenance else tag("p", "No provenance was recorded.")


def _definitions(pairs: Mapping[str, str]) -> Safe:
    rows = (tag("div", tag("dt", key), tag("dd", value or "(empty)")) for key, value in pairs.items())
    return tag("dl", *rows)


def scrollable(caption: str, name: str, *rows: str) -> Safe:
    """A table in a container that scrolls sideways on its own, reachable by keyboard."""
    table = tag("table", tag("caption", tag("span", caption)), *rows)
    return tag("div", table, class_=f"scroll {name}", role="region", aria_label=caption, tabindex="0")
