"""`qmargin bench head` and `qmargin plan` as a user meets them."""

import pytest
import torch

from qmargin.bench import measure
from qmargin.bench.memory import Peak
from qmargin.cli import bench, main

SMALL = ["bench", "head", "--classes", "3e2", "--dim", "16", "--batch", "4", "--repeats", "1"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def rows(printed: str, *starts: str) -> list[list[str]]:
    """Cells of the table rows whose first cell begins with one of the words."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    return [row for row in cells if row[0].startswith(starts)]


def test_bench_prints_a_row_for_each_side_after_its_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "multiplies", lambda *_: True)
    monkeypatch.setattr(bench, "peak_of", lambda _side, _sizes, _threads: Peak(12_300_000, 1))
    main([*SMALL, "--state", "trained", "--scale", "64"])
    printed = capsys.readouterr().out
    assert printed.startswith("largest side: prototypes 19.2 kB + momentum 19.2 kB + ")
    assert "One step at 300 classes, dim 16, batch 4" in printed
    table = rows(printed, "dense", "partial", "bfloat16", "float32", "streaming")
    assert len(table) == 11
    assert table[0][:4] == ["dense float32", table[0][1], "1.000", "12.3 MB"]
    assert all(float(row[1]) > 0.0 for row in table)
    assert [row[0] for row in table[-2:]] == [
        f"streaming QMargin s=64 {update}, trained" for update in ("dense", "lazy")
    ]
    assert 1.0 <= float(table[-1][4]) < 50.0  # support


def test_bfloat16_is_left_out_where_the_cpu_has_no_units_for_it_unless_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "multiplies", lambda dtype, _device: dtype == torch.float32)
    main([*SMALL, "--no-memory"])
    printed = capsys.readouterr().out
    assert printed.startswith("left out: dense bfloat16 autocast, partial FC 0.1 bfloat16 autocast, bfloat16 product, ")
    assert "this CPU has no bfloat16 units" in printed
    assert len(rows(printed, "dense", "partial", "bfloat16", "float32", "streaming")) == 7
    main([*SMALL, "--no-memory", "--only", "bfloat16 product"])
    assert len(rows(capsys.readouterr().out, "bfloat16")) == 2


def test_only_some_sides_and_no_memory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(bench, "peak_of")  # must not be called
    main([*SMALL, "--only", "product", "QMargin", "--no-memory", "--threads", "1"])
    table = rows(capsys.readouterr().out, "dense", "partial", "bfloat16", "float32", "streaming")
    assert [row[0].split()[0] for row in table] == [*["bfloat16"] * 2, *["float32"] * 2, *["streaming"] * 2]
    assert {row[2] for row in table} == {""}  # nothing to compare with
    assert {row[3] for row in table} == {""}


def test_what_does_not_fit_is_refused_before_anything_is_allocated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "available_memory", lambda: 50_000)
    for name in ("make_scene", "peak_of"):
        monkeypatch.delattr(bench, name)  # a call would be a NameError
    with pytest.raises(SystemExit) as stopped:
        main(SMALL)
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "needs prototypes 19.2 kB + momentum 19.2 kB + " in error
    assert "available are 50 kB: take fewer classes, or leave that side out" in error


def test_plan_says_what_fits_and_how_far_it_would_go(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--classes", "2e6", "--dim", "512", "--batch", "1024", "--device-memory", "80GB"])
    printed = capsys.readouterr().out
    assert "2,000,000 classes, dim 512, batch 1024, on 80 GB" in printed
    table = rows(printed, "dense", "partial", "streaming")
    assert [row[:2] for row in table] == [["dense", "no"], ["partial FC", "yes"], ["streaming", "yes"]]
    assert table[0][-1] == "1,698,225"  # (8 D + 4 D + 40 B + 4) bytes a class
    assert "streaming: prototypes 4.1 GB + momentum 4.1 GB + bfloat16 directions 2.05 GB + " in printed


def test_plan_follows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "plan",
        "--classes",
        "1e6",
        "--device-memory",
        "24GiB",
        "--optimizer",
        "none",
        "--rate",
        "1",
        "--alpha",
        "1",
    ]
    main(words)
    printed = capsys.readouterr().out
    assert "momentum 2" not in printed
    assert "bfloat16 directions" not in printed
    table = rows(printed, "dense", "partial", "streaming")
    assert [row[2] for row in table] == ["12.3 GB", "14.4 GB", "4.12 GB"]
