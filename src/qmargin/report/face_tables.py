"""The face protocols as tables in the layouts that papers use."""

from collections.abc import Sequence
from typing import TypedDict, get_args

from qmargin.metrics import Interval, PairAccuracy, TarAtFar
from qmargin.metrics.tar import Rule
from qmargin.protocols.identification import IdentificationReport
from qmargin.protocols.pair_verification import PairReport
from qmargin.protocols.template_verification import TemplateReport
from qmargin.protocols.verification import tar_name
from qmargin.report._amount import Amount, cost, share, whole
from qmargin.report.anchors import Anchor, anchor_notes, anchor_sources
from qmargin.report.table import COUNT, SHARE, Cell, Column, Row, Table, few_notes


def pair_table(reports: Sequence[PairReport], title: str) -> Table:
    """One row a list of pairs: accuracy with its spread over folds, by both choices of the threshold; EER; TAR."""
    fars = sorted({point.far_target for report in reports for point in report.points}, reverse=True)
    columns = (
        Column(name="Set", left=True),
        Column(name="Pairs", unit=COUNT),
        *(_shares(name) for name in ("Accuracy", "Accuracy (grid)", "EER", *map(_tar, fars))),
    )
    rows = tuple(
        Row(
            cells=(
                report.set_name,
                whole(report.genuine + report.impostor),
                _accuracy(report.accuracy, report.intervals.get("accuracy")),
                _accuracy(report.grid_accuracy, report.intervals.get("accuracy (grid)")),
                share(
                    report.eer, false_accepts=round(report.eer * report.impostor), **_ends(report.intervals.get("EER"))
                ),
                *(_tar_at(report.points, far, report.intervals.get(tar_name(far))) for far in fars),
            )
        )
        for report in reports
    )
    flips = " and ".join(sorted({"image + mirror" if report.flip else "image alone" for report in reports}))
    notes = (
        "Accuracy: mean over folds ± their standard deviation, the threshold chosen on the other folds, among their "
        "scores; (grid): among squared distances 0, 0.01, ..., as public training scripts do.",
        f"Features: {flips}. TAR at the lowest threshold whose FAR is at most the one asked.",
        *_resampled(reports),
        *few_notes(rows),
    )
    sources = tuple(f"{report.set_name}: SHA-256 {report.sha256}" for report in reports)
    return Table(title=title, columns=columns, rows=rows, notes=notes, sources=sources)


def template_table(reports: Sequence[TemplateReport], system: str, anchors: Sequence[Anchor] = ()) -> Table:
    """One row a preset and read-out rule, TAR at rising FAR: the layout of IJB-B and IJB-C tables.

    Args:
        reports: of one set and one system, one a preset.
        system: what made the features: a run, or a file.
        anchors: published rows of that set, from `anchors_of`.
    """
    first = reports[0]
    fars = sorted({point.far_target for point in first.points})
    names = [Column(name=name, left=True) for name in ("System", "Preset", "Pooling", "Read-out")]
    rows = [
        Row(cells=(system, report.preset, report.pooling, rule, *(_tar_at(report.of_rule(rule), far) for far in fars)))
        for report in reports
        for rule in get_args(Rule)
    ]
    rows += [
        Row(cells=(anchor.system, *anchor.scoring, *(_quoted(anchor, far) for far in fars)), published=True)
        for anchor in anchors
    ]
    notes = [
        f"{first.images:,} images, {first.templates:,} templates, {first.genuine:,} genuine and "
        f"{first.impostor:,} impostor pairs: the set is named by these counts.",
        "N norm kept, D detector score, F mirror added. conservative: FAR at most the one asked; nearest: the ROC "
        "point nearest to it, as public scripts read it.",
        *_left_out(first),
        *few_notes(rows),
        *anchor_notes(anchors),
    ]
    lists = [f"{name}: SHA-256 {digest}" for name, digest in first.sha256.items()]
    return Table(
        title=f"{first.set_name} 1:1",
        columns=(*names, *(_shares(_tar(far)) for far in fars)),
        rows=tuple(rows),
        notes=tuple(notes),
        sources=(*lists, *anchor_sources(anchors)),
    )


def point_table(report: TemplateReport) -> Table:
    """Where each figure of one preset stands: the FAR reached, the threshold, the false accepts."""
    rows = tuple(
        Row(
            cells=(
                point.rule,
                f"{point.far_target:.0e}",
                share(point.tar, **_ends(report.interval(point))),
                Amount(number=point.far, write="{:.3e}".format),
                cost(point.threshold),
                whole(point.false_accepts, false_accepts=point.false_accepts),
            )
        )
        for point in report.points
    )
    columns = (
        Column(name="Read-out", left=True),
        Column(name="FAR asked"),
        _shares("TAR"),
        Column(name="FAR reached", unit=SHARE),
        Column(name="Threshold", unit="score"),
        Column(name="False accepts", unit=COUNT),
    )
    title = f"{report.set_name} 1:1, {report.preset} ({report.pooling})"
    notes = (*_resampled([report]), *few_notes(rows))
    return Table(title=title, columns=columns, rows=rows, notes=notes, slug=f"points-{report.preset}")


def identification_table(report: IdentificationReport, title: str, slug: str) -> Table:
    """One row a gallery and their mean: rank-k of the closed set, TPIR at FPIR of the open one."""
    fpirs = sorted({fpir for one in report.galleries for fpir in one.tpir}, reverse=True)
    rows = [
        Row(
            cells=(
                one.gallery,
                whole(one.mated),
                whole(one.non_mated),
                *_searched(one.rank, one.tpir, fpirs, one.false_accepts),
            )
        )
        for one in report.galleries
    ]
    known = [fpir for fpir in fpirs if all(fpir in one.false_accepts for one in report.galleries)]
    fewest = {fpir: min(one.false_accepts[fpir] for one in report.galleries) for fpir in known}
    rows.append(Row(cells=("mean", "", "", *_searched(report.rank, report.tpir, fpirs, fewest))))
    columns = (
        Column(name="Gallery", left=True),
        Column(name="Mated probes", unit=COUNT),
        Column(name="Others", unit=COUNT),
        *(_shares(f"Rank-{k}") for k in report.rank),
        *(_shares(f"TPIR@{fpir:.0e}") for fpir in fpirs),
    )
    lead = "Shares of mated probes. Galleries are searched apart; TPIR asks for rank 1 and the threshold."
    notes = (lead, *few_notes(rows))
    return Table(title=title, columns=columns, rows=tuple(rows), notes=notes, slug=slug)


def _shares(name: str) -> Column:
    return Column(name=name, shown="%", unit=SHARE)


def _tar(far: float) -> str:
    return f"TAR@{far:.0e}"


def _accuracy(accuracy: PairAccuracy, interval: Interval | None) -> Amount:
    return share(accuracy.mean, spread=accuracy.spread, **_ends(interval))


class _Ends(TypedDict, total=False):
    low: float
    high: float


def _ends(interval: Interval | None) -> _Ends:
    return {} if interval is None else {"low": interval.low, "high": interval.high}


def _resampled(reports: Sequence[PairReport] | Sequence[TemplateReport]) -> list[str]:
    """What the intervals are over, one note for reports that resampled alike."""
    units = dict.fromkeys(report.resampled for report in reports if report.resampled)
    return [f"In brackets: 95 % interval over {unit}." for unit in units]


def _tar_at(points: Sequence[TarAtFar], far: float, interval: Interval | None = None) -> Cell:
    point = next((point for point in points if point.far_target == far), None)
    return None if point is None else share(point.tar, false_accepts=point.false_accepts, **_ends(interval))


def _quoted(anchor: Anchor, far: float) -> Cell:
    tar = anchor.figures.get(tar_name(far))
    return None if tar is None else share(tar)


def _searched(
    rank: dict[int, float], tpir: dict[float, float], fpirs: Sequence[float], accepts: dict[float, int]
) -> list[Cell]:
    found: list[Cell] = [share(value) for value in rank.values()]
    return found + [share(tpir[fpir], false_accepts=accepts.get(fpir)) if fpir in tpir else None for fpir in fpirs]


def _left_out(report: TemplateReport) -> list[str]:
    fars = ", ".join(f"{far:g}" for far in report.left_out)
    return [f"Left out, below 1 / impostors: FAR {fars}."] if fars else []
