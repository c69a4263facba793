"""`qmargin prepare` as a user calls it."""

from pathlib import Path

import pytest
from PIL import Image

from qmargin.cli import main
from qmargin.data import read_face_records


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for name in ("al", "bo"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        Image.new("RGB", (6, 8), (9, 9, 9)).save(tmp_path / "faces" / name / "1.jpg")
    return tmp_path / "faces"


def test_a_set_is_prepared_and_checked(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (faces / "al" / "2.jpg").touch()
    out = tmp_path / "out"
    main(["prepare", "faces", str(faces), "--from", "folder", "--to", "rec", "--out", str(out), "--skip-bad"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"saved: {out}, 2 images of 2 identities; 1 left out: al/2.jpg (all in skipped.csv)" in said
    assert len(read_face_records(out / "train.rec")) == 2
    main(["prepare", "check", str(out)])
    assert "every file is as it was written" in capsys.readouterr().out


def test_bad_input_is_one_line_and_status_2(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (faces / "al" / "2.jpg").touch()
    for words, message in (
        (
            ["faces", str(faces), "--from", "folder", "--to", "tar", "--out", str(tmp_path / "out")],
            "it is empty, 0 bytes",
        ),
        (["check", str(faces)], "has no prepared.json"),
        (["check", str(tmp_path / "nothere")], "nothere: give one that qmargin prepare wrote"),
        (
            ["faces", str(faces), "--from", "folder", "--to", "rec", "--out", str(tmp_path / "out"), "--seed", "3"],
            "--seed is of tar shards alone",
        ),
        (["face"], "did you mean 'faces'?"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["prepare", *words])
        assert stopped.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_unused_landmarks_are_counted(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = "1,2,5,2,3,4,1,6,5,6"
    table = tmp_path / "landmarks.csv"
    paths = ("al/1.jpg", "bo/1.jpg", "cy/1.jpg")
    table.write_text("path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n" + "".join(f"{path},{row}\n" for path in paths))
    out = tmp_path / "out"
    main(["prepare", "faces", str(faces), "--from", "folder", "--to", "tar", "--out", str(out), "--align", str(table)])
    said = " ".join(capsys.readouterr().out.split())
    assert said == f"saved: {out}, 2 images of 2 identities; 1 rows of {table} are of no image"
