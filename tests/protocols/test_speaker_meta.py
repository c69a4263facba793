"""Tables of speakers become strata, and every wrong line is named."""

import re
from pathlib import Path

import pytest

from qmargin.protocols.speaker_meta import read_strata

VOX = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA.J._Buckley\tm\tIreland\tdev\n"


def test_a_column_of_vox1_meta(tmp_path: Path) -> None:
    path = tmp_path / "vox1_meta.csv"
    path.write_text(VOX + "id10002\tA.R._Rahman\tf\tIndia\tdev\n\nid10003\tx\tm\tUSA\tdev\n")
    assert read_strata(path, "Gender", ["id10002", "id10003"]) == {0: "f", 1: "m"}
    assert read_strata(path, "nationality", ["id10001"]) == {0: "Ireland"}


def test_commas_do_too(tmp_path: Path) -> None:
    path = tmp_path / "meta.csv"
    path.write_text("speaker,age\nanna,old\nben,young\n")
    assert read_strata(path, "age", ["anna", "ben"]) == {0: "old", 1: "young"}


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", "Gender", "line 1: no column 'Gender' after the speaker's, got none"),
        (VOX, "VoxCeleb1 ID", "line 1: no column 'VoxCeleb1 ID' after the speaker's"),
        (VOX, "age", "line 1: no column 'age' after the speaker's, got voxceleb1 id, vggface1 id"),
        (VOX + "id10002\tm\n", "Gender", "line 3: 2 fields, the header has 5"),
        (VOX + VOX.splitlines()[1] + "\n", "Gender", "line 3: speaker 'id10001' stands there a second time"),
        (VOX, "Gender", "has no line of speaker 'id10009' (1 of 2 have none)"),
    ],
)
def test_refusals(tmp_path: Path, text: str, column: str, message: str) -> None:
    path = tmp_path / "meta.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_strata(path, column, ["id10001", "id10009"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*: No such file"):
        read_strata(tmp_path / "none", "Gender", ["a"])
