"""Verification of trials, of speakers or of all pairs of a run's test people: one row a system or a list."""

from collections.abc import Mapping, Sequence

from qmargin.metrics import Interval
from qmargin.protocols.speaker import SpeakerReport
from qmargin.protocols.verification import MIN_DCF, VerificationReport
from qmargin.report._amount import Amount, cost, share, whole
from qmargin.report.anchors import Anchor, anchor_notes, anchor_sources
from qmargin.report.table import COUNT, SHARE, Cell, Column, Row, Table, few_notes

MUCH_BIAS = 0.25  # of an interval's width: how far resamples may lie from the figure before the table says so
BIASED = "B"
EER_DECIMALS = 3  # as speaker papers print it


def speaker_table(
    reports: Sequence[SpeakerReport], system: str, anchors: Mapping[str, Sequence[Anchor]] | None = None
) -> Table:
    """One row a list: EER, minDCF(0.01) and minDCF(0.05), the layout of VoxCeleb tables; of ratios Cllr and actDCF too.

    Args:
        reports: of one system, one a list.
        system: what made the embeddings.
        anchors: published rows by list, from `anchors_of`.
    """
    names = list(reports[0].figures)
    rows = [
        Row(cells=(report.identity, system, report.scoring["score"], *(speaker_cell(report, name) for name in names)))
        for report in reports
    ]
    quoted = [anchor for report in reports for anchor in (anchors or {}).get(report.published or "", ())]
    rows += [
        Row(
            cells=(anchor.list_name, anchor.system, *anchor.scoring, *(_quoted(anchor, n) for n in names)),
            published=True,
        )
        for anchor in quoted
    ]
    columns = (
        *(Column(name=name, left=True) for name in ("List", "System", "Scoring")),
        *(_speaker_column(name) for name in names),
    )
    return Table(
        title="Speaker verification",
        columns=columns,
        rows=tuple(rows),
        notes=(*_speaker_notes(reports), *few_notes(rows), *anchor_notes(quoted)),
        sources=(*_speaker_sources(reports), *anchor_sources(quoted)),
    )


def run_tables(report: VerificationReport, system: str, split: str) -> list[Table]:
    """All pairs of a run's people: the figures as one row, then where each TAR stands."""
    columns = (Column(name="System", left=True), *(_run_column(name) for name in report.figures))
    cells = (_run_cell(report, name, interval) for name, interval in report.figures.items())
    rows = (Row(cells=(system, *cells)),)
    notes = [
        f"{report.subjects} subjects, {report.genuine:,} genuine and {report.impostor:,} impostor pairs; in brackets: "
        "95 % intervals over subjects.",
        *few_notes(rows),
    ]
    if any(_biased(interval) for interval in report.figures.values()):
        notes.append(f"{BIASED} the resamples lie far from the figure: do not trust its interval.")
    table = Table(title=f"All pairs, split {split}", columns=columns, rows=rows, notes=tuple(notes))
    return [table, _run_points(report, split)]


def _run_points(report: VerificationReport, split: str) -> Table:
    columns = (
        Column(name="Figure", left=True),
        Column(name="TAR", shown="%", unit=SHARE),
        Column(name="FAR reached", unit=SHARE),
        Column(name="Threshold", unit="score"),
        Column(name="False accepts", unit=COUNT),
    )
    rows = tuple(
        Row(
            cells=(
                name,
                share(report.figures[name].estimate),
                Amount(number=report.fars[name], write="{:.3e}".format),
                cost(threshold),
                whole(report.false_accepts[name], false_accepts=report.false_accepts[name]),
            )
        )
        for name, threshold in report.thresholds.items()
    )
    return Table(title=f"Operating points, split {split}", columns=columns, rows=rows, slug="points")


def _run_column(name: str) -> Column:
    if name == MIN_DCF:
        return Column(name=name, unit="cost")
    return Column(name=name.replace("TAR@FAR=", "TAR@"), shown="%", unit=SHARE)


def _run_cell(report: VerificationReport, name: str, interval: Interval) -> Amount:
    own_marks, accepts = BIASED if _biased(interval) else "", report.false_accepts.get(name)
    if name == MIN_DCF:
        return cost(interval.estimate, low=interval.low, high=interval.high, false_accepts=accepts, own_marks=own_marks)
    return share(interval.estimate, low=interval.low, high=interval.high, false_accepts=accepts, own_marks=own_marks)


def _biased(interval: Interval) -> bool:
    return abs(interval.bias) > MUCH_BIAS * (interval.high - interval.low)


def _speaker_column(name: str) -> Column:
    if name == "EER":
        return Column(name=name, shown="%", unit=SHARE)
    return Column(name=name, unit="bits" if name.endswith("Cllr") else "cost")


def speaker_cell(report: SpeakerReport, name: str) -> Amount:
    """One figure of a list with its interval."""
    value, interval = report.figures[name], report.intervals.get(name)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    if name == "EER":
        return share(value, EER_DECIMALS, low=low, high=high, false_accepts=report.false_accepts.get(name))
    return cost(value, low=low, high=high, false_accepts=report.false_accepts.get(name))


def _quoted(anchor: Anchor, name: str) -> Cell:
    value = anchor.figures.get(name)
    if value is None:
        return None
    return share(value, EER_DECIMALS) if name == "EER" else cost(value)


def _speaker_notes(reports: Sequence[SpeakerReport]) -> list[str]:
    notes = [
        f"{report.identity}, in brackets: 95 % intervals over {report.speakers} speakers{_strata(report)}."
        for report in reports
        if report.speakers is not None
    ]
    return notes + [f"{report.identity}: {warning}." for report in reports for warning in report.warnings]


def _strata(report: SpeakerReport) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in report.strata.items())
    return f", drawn within strata ({counts})" if counts else ""


def _speaker_sources(reports: Sequence[SpeakerReport]) -> list[str]:
    scoring = [f"{name}: {value}" for name, value in reports[0].scoring.items()]
    return [report.trials for report in reports] + scoring
