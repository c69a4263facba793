"""Tables of trial lists and of runs: the layout of the papers, what is doubtful marked, published rows apart."""

from dataclasses import replace

import numpy as np
import pytest

from qmargin.metrics import DetBand, Interval
from qmargin.protocols.speaker import SpeakerReport
from qmargin.protocols.verification import VerificationReport
from qmargin.report.anchors import anchors_of
from qmargin.report.verification_tables import run_tables, speaker_table

O_LIST = "VoxCeleb1-O (cleaned)"
ONE = np.array([1.0])
NAMES = ("EER", "minDCF(0.01)", "minDCF(0.05)")


def speakers(name: str | None, value: float = 0.00867) -> SpeakerReport:
    interval = Interval(value, value / 2, 2 * value, 0.95, 1000, 0.0, "wilson")
    return SpeakerReport(
        trials=f"list of {name}: 37,611 trials",
        identity=name or "not a published list known here",
        published=name,
        genuine=10,
        impostor=20,
        scoring={"score": "cosine", "mean taken off": "None"},
        figures=dict.fromkeys(NAMES, value),
        intervals=dict.fromkeys(NAMES, interval),
        speakers=40,
        false_accepts={"minDCF(0.01)": 3, "minDCF(0.05)": 300},
        thresholds={"minDCF(0.01)": 0.5, "minDCF(0.05)": 0.4},
        fars={"minDCF(0.01)": 0.1, "minDCF(0.05)": 0.2},
        strata={},
        band=None,
        warnings=("minDCF(0.01) rests on 3 false accepts, fewer than 30",),
    )


def rows(grid: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in grid.splitlines()]


def test_a_row_a_list_then_the_published_ones_of_the_same_list() -> None:
    table = speaker_table([speakers(O_LIST), speakers(None)], "vox1.npz", {O_LIST: anchors_of(O_LIST)})
    header, _, first, second, *quoted = rows(table.grid())
    assert header == ["List", "System", "Scoring", "EER (%)", "minDCF(0.01)", "minDCF(0.05)"]
    assert first == [
        O_LIST, "vox1.npz", "cosine", "0.867 [0.434, 1.734]", "0.0087 † [0.0043, 0.0173]", "0.0087 [0.0043, 0.0173]"
    ]  # fmt: skip
    assert second[0] == "not a published list known here"
    assert [row[3] for row in quoted] == ["0.867", "0.723", "0.856", "0.728"]
    assert quoted[0] == [O_LIST, "published: ResNet34, VoxCeleb2 dev, AAM", "cosine", "0.867", "-", "-"]
    assert "intervals over 40 speakers" in table.markdown()
    assert "minDCF(0.01) rests on 3 false accepts" in table.markdown()
    assert "37,611 trials" in table.latex().split(r"\begin{table}")[0]


def test_without_anchors_nothing_is_published() -> None:
    text = speaker_table([speakers(O_LIST)], "vox1.npz").markdown()
    assert "published" not in text


def test_a_run_is_one_row_and_each_point_says_where_it_stands() -> None:
    interval = Interval(0.9, 0.8, 0.95, 0.95, 1000, 0.01, "wilson")
    report = VerificationReport(
        subjects=10,
        genuine=450,
        impostor=4500,
        figures={"TAR@FAR=1e-02": interval, "EER": replace(interval, bias=-0.08), "minDCF(0.01)": interval},
        false_accepts={"TAR@FAR=1e-02": 29},
        thresholds={"TAR@FAR=1e-02": 0.51234},
        fars={"TAR@FAR=1e-02": 29 / 4500},
        warnings=(),
        band=DetBand(ONE, ONE, ONE, ONE, 0.95, 100, "wilson"),
    )
    table, points = run_tables(report, "runs/first", "test")
    assert rows(table.grid())[2] == [
        "runs/first", "90.00 † [80.00, 95.00]", "90.00 B [80.00, 95.00]", "0.9000 [0.8000, 0.9500]"
    ]  # fmt: skip
    assert "450 genuine and 4,500 impostor pairs" in table.markdown()
    assert "B the resamples lie far from the figure" in table.markdown()
    assert rows(points.grid())[2] == ["TAR@FAR=1e-02", "90.00", "6.444e-03", "0.5123", "29 †"]
    assert f"measured,TAR@FAR=1e-02,0.9,{29 / 4500!r},0.51234,29" in points.csv()
    calm = run_tables(replace(report, figures=report.figures | {"EER": interval}), "runs/first", "test")[0]
    assert "resamples lie far" not in calm.markdown()


@pytest.mark.parametrize("published", [O_LIST, None])
def test_the_csv_says_what_is_measured(published: str | None) -> None:
    text = speaker_table([speakers(published)], "vox1.npz", {O_LIST: anchors_of(O_LIST)}).csv()
    assert text.count("\nmeasured,") == 1
    assert text.count("\npublished,") == (4 if published else 0)
