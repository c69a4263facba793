from pathlib import Path

import pytest

from qmargin.training.log import COLUMNS, append_row, keep_rows_until, peak_memory_mib, read_log


def row(step: int) -> dict[str, float]:
    return {name: step + index / 4 for index, name in enumerate(COLUMNS)} | {"step": float(step)}


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    for step in (1, 2):
        append_row(tmp_path / "log.csv", row(step))
    assert read_log(tmp_path / "log.csv") == [row(1), row(2)]


def test_rows_of_steps_done_again_are_dropped(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        append_row(tmp_path / "log.csv", row(step))
    keep_rows_until(tmp_path / "log.csv", 10)
    append_row(tmp_path / "log.csv", row(12))
    assert [line["step"] for line in read_log(tmp_path / "log.csv")] == [5, 10, 12]


def test_a_log_of_before_gets_the_columns_of_now(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step in (5, 10):
        append_row(path, {"step": step, "loss": 0.5})
    keep_rows_until(path, 5, COLUMNS)
    append_row(path, row(6))
    old, new = read_log(path)
    assert (old["step"], old["loss"]) == (5, 0.5)
    assert old["accuracy"] != old["accuracy"]  # nan
    assert new == row(6)


@pytest.mark.parametrize("text", ["", "step,lo", "step,loss\r\n1,0.5\r\n2,0."])
def test_a_table_cut_short_anywhere_can_be_gone_on_with(tmp_path: Path, text: str) -> None:
    path = tmp_path / "validation.csv"
    path.write_text(text, newline="")
    keep_rows_until(path, 5)
    append_row(path, {"step": 3, "loss": 0.25})
    rows = read_log(path)
    assert rows[-1] == {"step": 3, "loss": 0.25}
    assert [row["step"] for row in rows] == ([1, 3] if "0.5" in text else [3])


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step in (1, 2):
        append_row(path, row(step))
    whole = path.read_text()
    for lost in (1, 3, 60):
        path.write_text(whole[:-lost])
        assert read_log(path) == [row(1)]


def test_peak_memory_is_that_of_a_process_with_torch_in_it() -> None:
    assert 50 < peak_memory_mib() < 100_000
