"""The fast parser of integer tables against `str.split`, on any cut into pieces, and its faults by line."""

from pathlib import Path

import numpy as np
import pytest

from qmargin.protocols import _integer_table
from qmargin.protocols._integer_table import read_integer_table


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1 << 22])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n", "\r\n"])
def test_any_cut_gives_the_same_table(tmp_path: Path, piece: int, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_integer_table, "PIECE", piece)
    rows = np.random.default_rng(0).integers(0, 10 ** np.arange(1, 10), size=(40, 9))[:, [0, 8, 3]]
    separators = (" ", "\t", "  ", " \t")
    lines = [separators[place % 4].join(map(str, row)) for place, row in enumerate(rows.tolist())]
    path = tmp_path / "pairs.txt"
    path.write_bytes(("\n".join(lines) + end).encode())
    table = read_integer_table(path, 3)
    assert table.dtype == np.int32
    assert table.tolist() == rows.tolist()


@pytest.mark.parametrize("piece", [1, 5, 1 << 22])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n4 5\n", r"pairs\.txt, line 2: 3 integers of up to 9 digits must stand here, got '4 5'"),
        ("1 2 3\n4 5 6 7\n", r"line 2: 3 integers"),
        ("1 2 3\n4 5 6\n7 -8 9\n", r"line 3: .* got '7 -8 9'"),
        ("1 2 3\n4 5 x\n", r"line 2: .* got '4 5 x'"),
        ("1 2 3.0\n", r"line 1: .* got '1 2 3\.0'"),
        ("1 2 3\n\n4 5 6\n", r"line 2: .* got ''"),
        ("\n1 2 3\n", r"line 1: .* got ''"),
        ("1 2 1234567890\n", r"line 1: .* got '1 2 1234567890'"),
        ("1 2\n3 4 5 6\n", r"line 1: .* got '1 2'"),
        ("1 2 3\n4 5 \xff\n", r"line 2: .*"),
        ("", r"pairs\.txt is empty: it must have lines of 3 integers"),
        (" \n\n", r"pairs\.txt is empty"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, text: str, message: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_integer_table, "PIECE", piece)
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_integer_table(path, 3)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.txt: No such file"):
        read_integer_table(tmp_path / "none.txt", 3)
