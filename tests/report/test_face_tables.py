"""Tables of the face protocols: every figure in its column, doubtful ones marked, both forms alike."""

import csv
from dataclasses import replace
from io import StringIO

import numpy as np
from rich.console import Console

from qmargin.metrics import Interval, PairAccuracy, TarAtFar
from qmargin.metrics.tar import Rule
from qmargin.protocols.identification import GalleryReport, IdentificationReport
from qmargin.protocols.pair_verification import PairReport
from qmargin.protocols.template_verification import TemplateReport
from qmargin.report.anchors import anchors_of
from qmargin.report.face_tables import identification_table, pair_table, point_table, template_table
from qmargin.report.table import Table


def point(far: float, tar: float, accepts: int, rule: Rule = "conservative") -> TarAtFar:
    return TarAtFar(tar, far, 0.9 * far, 0.4321, accepts, 1e5, rule)


def accuracy(mean: float) -> PairAccuracy:
    return PairAccuracy(mean, 0.0031, 0.001, np.array([mean]), np.array([0.3]))


def pairs(name: str, *points: TarAtFar) -> PairReport:
    return PairReport(
        set_name=name,
        sha256="ab" * 32,
        images=5,
        genuine=3000,
        impostor=3500,
        folds=10,
        flip=True,
        accuracy=accuracy(0.9912),
        grid_accuracy=accuracy(0.9905),
        eer=0.0123,
        points=points,
    )


def templates(preset: str) -> TemplateReport:
    return TemplateReport(
        set_name="IJB-C",
        sha256={"ijbc_face_tid_mid.txt": "cd" * 32},
        images=9,
        templates=4,
        genuine=10,
        impostor=100_000,
        preset=preset,
        pooling="N1D1F1",
        points=(
            point(1e-3, 0.9, 90),
            point(1e-5, 0.5, 1),
            point(1e-3, 0.91, 110, "nearest"),
            point(1e-5, 0.6, 2, "nearest"),
        ),
        left_out=(1e-6,),
    )


def rows(table: Table) -> list[list[str]]:
    """Cells of the Markdown."""
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def shown(table: Table) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table.terminal())
    return str(console.file.getvalue())  # type: ignore[attr-defined] # a StringIO


def test_a_row_a_list_of_pairs() -> None:
    table = pair_table(
        [pairs("lfw", point(1e-2, 0.97, 35), point(1e-3, 0.9, 3)), pairs("cfp_fp", point(1e-2, 0.95, 35))], "T"
    )
    header, _, lfw, cfp = rows(table)
    assert header == [
        "Set",
        "Pairs",
        "Accuracy (%)",
        "Accuracy (grid) (%)",
        "EER (%)",
        "TAR@1e-02 (%)",
        "TAR@1e-03 (%)",
    ]
    assert lfw == ["lfw", "6,500", "99.12 ± 0.31", "99.05 ± 0.31", "1.23", "97.00", "90.00 †"]
    assert cfp[-2:] == ["95.00", "-"]
    assert "image + mirror" in table.markdown()
    assert f"lfw: SHA-256 {'ab' * 32}" in table.markdown()
    assert "fewer than 30 false accepts" in table.markdown()


def test_nothing_is_marked_where_nothing_is_doubtful() -> None:
    text = pair_table([pairs("lfw", point(1e-2, 0.97, 30))], "T").markdown()
    assert "false accepts" not in text
    assert "97.00 |" in text


def test_a_row_a_preset_and_read_out_at_rising_far() -> None:
    table = template_table([templates("insightface"), templates("tface")], "f.npy")
    header, _, *body = rows(table)
    assert header == ["System", "Preset", "Pooling", "Read-out", "TAR@1e-05 (%)", "TAR@1e-03 (%)"]
    assert body[:2] == [
        ["f.npy", "insightface", "N1D1F1", "conservative", "50.00 †", "90.00"],
        ["f.npy", "insightface", "N1D1F1", "nearest", "60.00 †", "91.00"],
    ]
    assert [row[1] for row in body] == ["insightface", "insightface", "tface", "tface"]
    assert "Left out, below 1 / impostors: FAR 1e-06" in table.markdown()
    assert table.title == "IJB-C 1:1"


def test_each_point_says_where_it_stands() -> None:
    _, _, first, second, *_ = rows(point_table(templates("insightface")))
    assert first == ["conservative", "1e-03", "90.00", "9.000e-04", "0.4321", "90"]
    assert second[-1] == "1 †"


def test_galleries_and_their_mean() -> None:
    def gallery(name: str, tpir: dict[float, float]) -> GalleryReport:
        return GalleryReport(
            gallery=name, subjects=9, mated=1234, non_mated=56, rank={1: 0.5, 5: 0.75}, tpir=tpir, thresholds={}
        )

    galleries = (gallery("G1", {0.1: 0.4, 0.01: 0.3}), gallery("G2", {0.1: 0.2}))
    report = IdentificationReport(galleries=galleries, rank={1: 0.5, 5: 0.75}, tpir={0.1: 0.3})
    table = rows(identification_table(report, "1:N", "1N"))
    assert table[0] == [
        "Gallery",
        "Mated probes",
        "Others",
        "Rank-1 (%)",
        "Rank-5 (%)",
        "TPIR@1e-01 (%)",
        "TPIR@1e-02 (%)",
    ]
    assert table[2] == ["G1", "1,234", "56", "50.00", "75.00", "40.00", "30.00"]
    assert table[3][-1] == "-"
    assert table[4] == ["mean", "", "", "50.00", "75.00", "30.00", "-"]


def test_the_terminal_shows_what_the_markdown_says() -> None:
    table = template_table([templates("insightface")], "f.npy", anchors_of("IJB-C"))
    text = shown(table)
    for row in rows(table)[2:]:
        assert all(cell.strip() in text for cell in row), row
    assert all(note[:60] in text for note in table.notes)


def test_names_are_text_in_both_forms() -> None:
    table = pair_table([pairs("[red]a|b_c")], "T")
    assert "[red]a|b_c" in shown(table)
    assert r"\|b\_c" in table.markdown()


def test_published_rows_stand_apart_and_say_so() -> None:
    table = template_table([templates("insightface")], "f.npy", anchors_of("IJB-C"))
    _, _, *body = rows(table)
    quoted = [row for row in body if row[0].startswith("published: ")]
    assert body[2:] == quoted
    assert quoted[-1] == ["published: r100, Glint360K, CosFace", "insightface", "N1D1F1", "nearest", "96.38", "-"]
    assert "arcface\\_torch/README.md at 7fadd420, 2026" in table.markdown()
    lines = list(csv.reader(StringIO(table.csv())))
    assert [line[0] for line in lines] == ["Origin", *["measured"] * 2, *["published"] * 6]
    assert lines[-1][lines[0].index("TAR@1e-05 (share)")] == "0.9638"
    assert table.latex().count("\\midrule") == 2
    assert template_table([templates("insightface")], "f.npy").latex().count("\\midrule") == 1


def test_intervals_stand_in_brackets_and_say_over_what() -> None:
    interval = Interval(0.9, 0.85, 0.9321, 0.95, 1000, 0.0, "wilson")
    names = ("accuracy", "accuracy (grid)", "EER", "TAR@FAR=1e-02")
    report = replace(
        pairs("lfw", point(1e-2, 0.97, 35)), intervals=dict.fromkeys(names, interval), resampled="7 subjects: images"
    )
    table = pair_table([report], "T")
    assert rows(table)[2][2:] == [
        "99.12 ± 0.31 [85.00, 93.21]",
        "99.05 ± 0.31 [85.00, 93.21]",
        "1.23 [85.00, 93.21]",
        "97.00 [85.00, 93.21]",
    ]
    assert "In brackets: 95 % interval over 7 subjects: images." in table.markdown()
    ijb = replace(templates("tface"), intervals=(interval,) * 4, resampled="9 subjects: templates")
    assert rows(point_table(ijb))[2][2] == "90.00 [85.00, 93.21]"
    assert "over 9 subjects: templates." in point_table(ijb).markdown()


def test_few_errors_behind_an_eer_are_marked() -> None:
    table = pair_table([replace(pairs("lfw", point(1e-2, 0.97, 35)), eer=0.001)], "T")
    assert rows(table)[2][4] == "0.10 †"
    assert "fewer than 30 false accepts" in table.markdown()


def test_few_false_accepts_behind_a_tpir_are_marked() -> None:
    gallery = GalleryReport(
        gallery="G1",
        subjects=9,
        mated=1234,
        non_mated=560,
        rank={1: 0.5},
        tpir={0.1: 0.4, 0.01: 0.3},
        thresholds={},
        false_accepts={0.1: 56, 0.01: 5},
    )
    report = IdentificationReport(galleries=(gallery,), rank={1: 0.5}, tpir={0.1: 0.4, 0.01: 0.3})
    table = identification_table(report, "1:N", "1N")
    assert rows(table)[2][-2:] == ["40.00", "30.00 †"]
    assert "fewer than 30 false accepts" in table.markdown()
