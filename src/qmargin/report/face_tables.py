"""The face protocols as tables in the layouts that papers use, for a terminal (rich) and as GitHub Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qmargin.metrics import PairAccuracy, TarAtFar
from qmargin.metrics.tar import Rule
from qmargin.protocols.identification import IdentificationReport
from qmargin.protocols.pair_verification import PairReport
from qmargin.protocols.template_verification import TemplateReport
from qmargin.protocols.verification import FEW_FALSE_ACCEPTS
from qmargin.report.table import _escaped, _grid

FEW = "*"  # marks a figure that rests on few false accepts
FEW_NOTE = f"{FEW} fewer than {FEW_FALSE_ACCEPTS} false accepts: that FAR is known to worse than about 30 % either way"


@dataclass(frozen=True, kw_only=True)
class FaceTable:
    """A table and what must be said under it; the first `left` columns are names."""

    title: str
    header: list[str]
    body: list[list[str]]
    notes: list[str]
    left: int = 1

    def markdown(self) -> str:
        """As GitHub Markdown, columns aligned in the source too."""
        body = [[_escaped(cell) for cell in row] for row in self.body]
        grid = _grid([_escaped(name) for name in self.header], body, left=self.left)
        notes = "\n".join(f"- {_escaped(note)}" for note in self.notes)
        return f"## {_escaped(self.title)}\n\n{grid}\n\n{notes}\n"

    def terminal(self) -> Group:
        """For `rich.print`."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for place, name in enumerate(self.header):
            table.add_column(Text(name), justify="left" if place < self.left else "right", overflow="fold")
        for row in self.body:
            table.add_row(*map(Text, row))
        notes = Text("\n".join(f"- {note}" for note in self.notes), style="dim")  # under it, not as wide as it
        return Group(Text(self.title, style="bold"), table, notes)


def pair_table(reports: Sequence[PairReport], title: str) -> FaceTable:
    """One row a list of pairs: accuracy with its spread over folds, by both choices of the threshold; EER; TAR."""
    fars = sorted({point.far_target for report in reports for point in report.points}, reverse=True)
    body = [
        [
            report.set_name,
            f"{report.genuine + report.impostor:,}",
            _accuracy(report.accuracy),
            _accuracy(report.grid_accuracy),
            f"{100 * report.eer:.2f}",
            *(_tar_at(report.points, far) for far in fars),
        ]
        for report in reports
    ]
    flips = " and ".join(sorted({"image + mirror" if report.flip else "image alone" for report in reports}))
    notes = [
        "Per cent. Accuracy: mean over folds ± their standard deviation, the threshold chosen on the other folds, "
        "among their scores; (grid): among squared distances 0, 0.01, ..., as public training scripts do.",
        f"Features: {flips}. TAR at the lowest threshold whose FAR is at most the one asked.",
        *_few([point for report in reports for point in report.points]),
        *(f"{report.set_name}: SHA-256 {report.sha256}" for report in reports),
    ]
    header = ["Set", "Pairs", "Accuracy", "Accuracy (grid)", "EER", *(f"TAR@{far:.0e}" for far in fars)]
    return FaceTable(title=title, header=header, body=body, notes=notes)


def template_table(reports: Sequence[TemplateReport]) -> FaceTable:
    """One row a preset and read-out rule, TAR at rising FAR: the layout of IJB-B and IJB-C tables."""
    first = reports[0]
    fars = sorted({point.far_target for point in first.points})
    body = [
        [report.preset, report.pooling, rule, *(_tar_at(report.of_rule(rule), far) for far in fars)]
        for report in reports
        for rule in get_args(Rule)
    ]
    notes = [
        f"{first.images:,} images, {first.templates:,} templates, {first.genuine:,} genuine and "
        f"{first.impostor:,} impostor pairs: the set is named by these counts. TAR in per cent.",
        "N norm kept, D detector score, F mirror added. conservative: FAR at most the one asked; nearest: the ROC "
        "point nearest to it, as public scripts read it.",
        *(
            [f"Left out, below 1 / impostors: FAR {', '.join(f'{far:g}' for far in first.left_out)}"]
            if first.left_out
            else []
        ),
        *_few([point for report in reports for point in report.points]),
        *(f"{name}: SHA-256 {digest}" for name, digest in first.sha256.items()),
    ]
    header = ["Preset", "Pooling", "Read-out", *(f"{far:.0e}" for far in fars)]
    return FaceTable(title=f"{first.set_name} 1:1", header=header, body=body, notes=notes, left=3)


def point_table(report: TemplateReport) -> FaceTable:
    """Where each figure of one preset stands: the FAR reached, the threshold, the false accepts."""
    body = [
        [
            point.rule,
            f"{point.far_target:.0e}",
            f"{100 * point.tar:.2f}",
            f"{point.far:.3e}",
            f"{point.threshold:.4f}",
            f"{point.false_accepts:,}{FEW if point.false_accepts < FEW_FALSE_ACCEPTS else ''}",
        ]
        for point in report.points
    ]
    header = ["Read-out", "FAR asked", "TAR (%)", "FAR reached", "Threshold", "False accepts"]
    title = f"{report.set_name} 1:1, {report.preset} ({report.pooling})"
    return FaceTable(title=title, header=header, body=body, notes=_few(report.points), left=1)


def identification_table(report: IdentificationReport, title: str) -> FaceTable:
    """One row a gallery and their mean: rank-k of the closed set, TPIR at FPIR of the open one."""
    rows = [(one.gallery, f"{one.mated:,}", f"{one.non_mated:,}", one.rank, one.tpir) for one in report.galleries]
    rows.append(("mean", "", "", report.rank, report.tpir))
    fpirs = sorted({fpir for one in report.galleries for fpir in one.tpir}, reverse=True)
    body = [
        [
            name,
            mated,
            non_mated,
            *(f"{100 * share:.2f}" for share in rank.values()),
            *(f"{100 * tpir[fpir]:.2f}" if fpir in tpir else "-" for fpir in fpirs),
        ]
        for name, mated, non_mated, rank, tpir in rows
    ]
    ranks = [f"Rank-{k}" for k in report.rank]
    header = ["Gallery", "Mated probes", "Others", *ranks, *(f"TPIR@{fpir:.0e}" for fpir in fpirs)]
    notes = ["Per cent of mated probes. Galleries are searched apart; TPIR asks for rank 1 and the threshold."]
    return FaceTable(title=title, header=header, body=body, notes=notes)


def _accuracy(accuracy: PairAccuracy) -> str:
    return f"{100 * accuracy.mean:.2f} ± {100 * accuracy.spread:.2f}"


def _tar_at(points: Sequence[TarAtFar], far: float) -> str:
    point = next((point for point in points if point.far_target == far), None)
    if point is None:
        return "-"
    return f"{100 * point.tar:.2f}{FEW if point.false_accepts < FEW_FALSE_ACCEPTS else ''}"


def _few(points: Sequence[TarAtFar]) -> list[str]:
    return [FEW_NOTE] if any(point.false_accepts < FEW_FALSE_ACCEPTS for point in points) else []
