"""Damaged and contradictory face sets: whose each image is must be told by the set, or the image is listed."""

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmargin.data import pack_face, prepare_faces, read_face_records
from qmargin.data.recordio import RecordError, RecordWriter, read_index

Range = tuple[float, float]
LEAVE_OUT = "qmargin prepare faces --from rec --skip-bad leaves damaged records out"
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2]
RANGES = [(1, 4), (4, 7), (7, 10)]


def picture(key: int) -> bytes:
    """An image that tells its key."""
    file = BytesIO()
    Image.new("RGB", (6, 8), (key, 0, 0)).save(file, "PNG")
    return file.getvalue()


def face_set(folder: Path, labels: Sequence[float], ranges: Sequence[Range], damaged: Sequence[int] = ()) -> Path:
    """A set with these labels and identity records; the records of some keys have no magic word."""
    path, first = folder / "x.rec", len(labels) + 1
    with RecordWriter(path) as writer:
        writer.write(0, pack_face(b"", (first, first + len(ranges)), 0))
        for key, label in enumerate(labels, 1):
            writer.write(key, pack_face(picture(key), [label], key))
        for key, bounds in enumerate(ranges, first):
            writer.write(key, pack_face(b"", bounds, key))
    content = bytearray(path.read_bytes())
    for key in damaged:
        content[offset_of(path, key)] ^= 0xFF
    path.write_bytes(content)
    return path


def offset_of(path: Path, key: int) -> int:
    keys, offsets = read_index(path.with_suffix(".idx"))
    return int(offsets[keys == key][0])


def salvaged(path: Path, out: Path) -> tuple[dict[int, str], dict[int, str], list[str]]:
    """Identity of each key that is kept, reason of each that is not, and the identities in the order of labels."""
    result = prepare_faces(path, "rec", out, "folder", skip_bad=True)
    kept: dict[int, str] = {}
    for image in out.glob("*/*.png"):
        key = Image.open(image).convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
        assert int(image.stem) == key
        kept[key] = str(int(image.parent.name))
    keys, offsets = read_index(path.with_suffix(".idx"))
    key_at = {f"x.rec@{offset}": int(key) for key, offset in zip(keys, offsets, strict=True)}
    reasons = {key_at[name]: reason for name, reason in result.skipped}
    assert len(reasons) == len(result.skipped)
    with (out / "identities.csv").open() as file:
        names = [str(int(row["identity"])) for row in csv.DictReader(file)]
    return kept, reasons, names


@pytest.mark.parametrize("label", [2, 7, -1, 0.5, float("nan"), 2.0**24])
@pytest.mark.parametrize("key", [4, 5, 6])
def test_an_image_whose_label_contradicts_its_identity_record_is_listed(tmp_path: Path, key: int, label: float) -> None:
    labels = [*LABELS[: key - 1], label, *LABELS[key:]]
    kept, reasons, names = salvaged(face_set(tmp_path, labels, RANGES), tmp_path / "out")
    assert kept == {other: str(LABELS[other - 1]) for other in range(1, 10) if other != key}
    assert list(reasons) == [key]
    assert f"has label {label:g}, its identity record says 1: the set is damaged; {LEAVE_OUT}" in reasons[key]
    assert names == ["0", "1", "2"]


@pytest.mark.parametrize("label", [-1, 0.5, float("nan"), 2.0**24])
def test_a_bad_label_in_a_set_without_identity_records_is_listed(tmp_path: Path, label: float) -> None:
    path = face_set(tmp_path, [0, 0, label, 1], [])
    with pytest.raises(RecordError, match=rf"has label .* \(1 records have such\).*; {LEAVE_OUT}"):
        read_face_records(path)
    kept, reasons, _ = salvaged(path, tmp_path / "out")
    assert kept == {1: "0", 2: "0", 4: "1"}
    assert list(reasons) == [3]
    assert f"has label {label:g}: a label must be a whole number in [0, 16777216)" in reasons[3]


def test_an_identity_that_lost_all_images_keeps_its_label(tmp_path: Path) -> None:
    kept, reasons, names = salvaged(face_set(tmp_path, LABELS, RANGES, damaged=[4, 5, 6]), tmp_path / "out")
    assert kept == {key: str(LABELS[key - 1]) for key in (1, 2, 3, 7, 8, 9)}
    assert sorted(reasons) == [4, 5, 6]
    assert names == ["0", "1", "2"]


def test_a_label_that_no_record_tells_is_not_guessed(tmp_path: Path) -> None:
    """Between 0 and 5 there are four numbers."""
    labels = [0, 0, 0, 3, 5, 5, 5]
    kept, reasons, names = salvaged(face_set(tmp_path, labels, [(1, 4), (4, 5), (5, 8)], [4]), tmp_path / "out")
    assert kept == {1: "0", 2: "0", 3: "0", 5: "5", 6: "5", 7: "5"}
    assert list(reasons) == [4]
    assert names == ["0", "5"]


def test_a_damaged_identity_record_is_listed_and_its_images_have_their_own_labels(tmp_path: Path) -> None:
    path = face_set(tmp_path, [0, 0, 0, 1, 1, 2, 2, 2, 2], RANGES, damaged=[11])
    with pytest.raises(ValueError, match=LEAVE_OUT):
        read_face_records(path)
    kept, reasons, _ = salvaged(path, tmp_path / "out")
    assert kept == {1: "0", 2: "0", 3: "0", 4: "1", 5: "1", 7: "2", 8: "2", 9: "2"}
    assert sorted(reasons) == [6, 11]
    assert "has label 2: no identity record bears it out: whose it is cannot be told" in reasons[6]
    assert "has not the magic word at its start" in reasons[11]


@pytest.mark.parametrize("bounds", [(0, 4), (7, 14), (3, 7), (4, float("nan")), (4, 6.5), (-3, -1)])
def test_a_range_that_cannot_be_is_listed(tmp_path: Path, bounds: Range) -> None:
    path = face_set(tmp_path, LABELS, [(1, 4), bounds, (7, 10)])
    with pytest.raises(ValueError, match=rf"it is damaged; {LEAVE_OUT}"):
        read_face_records(path)
    kept, reasons, _ = salvaged(path, tmp_path / "out")
    assert kept == {key: str(label) for key, label in enumerate(LABELS, 1)}
    assert set(reasons) <= {10, 11, 12}
    assert f"says that its images are {bounds[0]:g} to {bounds[1] - 1:g}: not among 9, or another's too" in reasons[11]


@pytest.mark.parametrize("bounds", [(1, 10), (2, 9), (3, 4)])
def test_ranges_that_overlap_are_all_set_aside(tmp_path: Path, bounds: Range) -> None:
    _, reasons, _ = salvaged(face_set(tmp_path, LABELS, [*RANGES, bounds]), tmp_path / "out")
    hit = [row for row, (low, high) in enumerate(RANGES) if low < bounds[1] and bounds[0] < high]
    assert sorted(reasons) == [*(row + 10 for row in hit), 13]


def test_a_lone_image_with_the_label_of_another_identity_is_not_filed_there(tmp_path: Path) -> None:
    labels, ranges = [0, 0, 0, 0, 2, 2], [(1, 4), (4, 5), (5, 7)]  # image 4 was of 1
    kept, reasons, names = salvaged(face_set(tmp_path, labels, ranges), tmp_path / "out")
    assert kept == {1: "0", 2: "0", 3: "0", 5: "2", 6: "2"}
    assert "has label 0, its identity record says 1" in reasons[4]
    assert names == ["0", "1", "2"]


def test_two_labels_of_one_range_are_told_apart_by_nothing(tmp_path: Path) -> None:
    kept, reasons, _ = salvaged(face_set(tmp_path, [0, 0, 3, 8], [(1, 3), (3, 5)]), tmp_path / "out")
    assert kept == {1: "0", 2: "0"}
    assert sorted(reasons) == [3, 4]


def test_identity_records_in_another_order_tell_no_label(tmp_path: Path) -> None:
    labels, ranges = [5, 5, 0, 0, 1, 2, 2], [(1, 3), (3, 5), (5, 6), (6, 8)]
    kept, reasons, names = salvaged(face_set(tmp_path, labels, ranges, damaged=[5]), tmp_path / "out")
    assert kept == {1: "5", 2: "5", 3: "0", 4: "0", 6: "2", 7: "2"}
    assert list(reasons) == [5]
    assert names == ["0", "2", "5"]


@pytest.mark.parametrize("ranges", [RANGES, []])
def test_a_damaged_record_0_is_listed(tmp_path: Path, ranges: list[Range]) -> None:
    path = face_set(tmp_path, LABELS, ranges, damaged=[0])
    with pytest.raises(ValueError, match=rf"record at byte 0 of .*{LEAVE_OUT}"):
        read_face_records(path)
    kept, reasons, names = salvaged(path, tmp_path / "out")
    assert kept == {key: str(label) for key, label in enumerate(LABELS, 1)}
    assert list(reasons) == [0]
    assert names == ["0", "1", "2"]


def test_a_damaged_record_0_and_an_identity_record_whose_length_is_damaged_are_listed(tmp_path: Path) -> None:
    path = face_set(tmp_path, LABELS, RANGES, damaged=[0])
    content = bytearray(path.read_bytes())
    content[offset_of(path, 11) + 7] = 0xFF
    path.write_bytes(content)
    kept, reasons, _ = salvaged(path, tmp_path / "out")
    assert kept == {key: str(label) for key, label in enumerate(LABELS, 1)}
    assert sorted(reasons) == [0, 11]


def test_a_set_of_images_only_keeps_its_keys(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        for key in (0, 4, 9):
            writer.write(key, pack_face(picture(key), [key % 2], key))
    kept, reasons, _ = salvaged(tmp_path / "x.rec", tmp_path / "out")
    assert (kept, reasons) == ({0: "0", 4: "0", 9: "1"}, {})
    samples = read_face_records(tmp_path / "x.rec")
    assert samples.take(np.array([2, 0])).stem(0) == "00000009"


def test_a_set_without_a_usable_image_says_why(tmp_path: Path) -> None:
    path = face_set(tmp_path, [-1, -1], [])
    with pytest.raises(ValueError, match=r"x.rec holds no image that can be used: the record at .* has label -1"):
        prepare_faces(path, "rec", tmp_path / "out", "rec", skip_bad=True)
