"""Face sets in RecordIO, built here record by record; labels are compared with those in the image records."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qmargin.data import face_records, face_sets
from qmargin.data.face_records import pack_face, unpack_face
from qmargin.data.face_sets import read_face_records
from qmargin.data.recordio import MAGIC, RecordError, RecordWriter


def face_set(
    folder: Path,
    labels: Sequence[float],
    ranges: Sequence[tuple[int, int]] = (),
    head: tuple[float, float] | None = None,
    vectors: bool = False,
) -> Path:
    """A set of images with these labels, and identity records; `head` is what record 0 says, right unless given."""
    path = folder / "train.rec"
    first = len(labels) + 1
    with RecordWriter(path) as writer:
        writer.write(0, pack_face(b"", head or (first, first + len(ranges)), 0))
        for key, label in enumerate(labels, 1):
            content = b"image %d" % key + (MAGIC if key % 3 == 0 else b"")
            writer.write(key, pack_face(content, [label, 5.0] if vectors else [label], key))
        for key, bounds in enumerate(ranges, first):
            writer.write(key, pack_face(b"", bounds, key))
    return path


def test_a_payload_has_the_bytes_of_the_definition() -> None:
    assert pack_face(b"jpeg", [3], 17) == struct.pack("<IfQQ", 0, 3.0, 17, 0) + b"jpeg"
    assert pack_face(b"", [3, 4], 0) == struct.pack("<IfQQff", 2, 0.0, 0, 0, 3.0, 4.0)
    labels, key, content = unpack_face(pack_face(b"x", [1, 2, 3], 9))
    assert (labels.tolist(), key, bytes(content)) == ([1, 2, 3], 9, b"x")


@pytest.mark.parametrize("payload", [b"", bytes(23), pack_face(b"", [1, 2], 0)[:-1]])
def test_a_payload_too_short_for_its_header_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"has \d+ bytes, too few for its header of \d+"):
        unpack_face(payload)


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("ranges", [[(1, 4), (4, 5), (5, 7)], [(5, 7), (3, 3), (1, 4), (4, 5)], []])
def test_labels_of_identity_records_are_those_of_the_images(
    tmp_path: Path, ranges: list[tuple[int, int]], vectors: bool
) -> None:
    """Gaps in the labels, an identity with one image, one that lost all, records in another order, or none."""
    samples = read_face_records(face_set(tmp_path, [0, 0, 0, 7, 3, 3], ranges, vectors=vectors))
    assert samples.names == ("00000000", "00000003", "00000007")
    assert samples.labels.tolist() == [0, 0, 0, 2, 1, 1]
    assert set(samples.people.splits) == {"train"}
    contents = [bytes(samples.encoded(index).content) for index in range(6)]
    assert contents == [b"image %d" % key + (MAGIC if key % 3 == 0 else b"") for key in range(1, 7)]
    assert [samples.path(index) for index in range(2)] == ["train.rec@40", "train.rec@" + str(samples.places[1, 0])]
    assert str(samples.encoded(1)) == f"{tmp_path}/train.rec, record at byte {samples.places[1, 0]:,}"


def test_a_set_without_record_0_holds_images_only(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        for key in range(5):
            writer.write(key, pack_face(b"image", [key % 2], key))
    samples = read_face_records(tmp_path / "x.rec", "test")
    assert (len(samples), samples.labels.tolist()) == (5, [0, 1, 0, 1, 0])
    assert len(samples.subset("test")) == 5


def test_subsets_and_held_out_identities(tmp_path: Path) -> None:
    labels = [0, 1, 2, 3, 4, 0, 1, 2, 3]
    samples = read_face_records(face_set(tmp_path, labels))
    held = samples.hold_out(2, seed=0)
    parts = [held.subset(split) for split in ("train", "validation")]
    assert sorted(name for part in parts for name in part.names) == list(samples.names)
    assert [part.num_classes for part in parts] == [3, 2]
    for part in parts:
        for row, (_, name, _) in enumerate(part.rows()):
            key = int(bytes(part.encoded(row).content)[6:7])
            assert int(name) == labels[key - 1]
    with pytest.raises(ValueError, match=r"split 'test'; this manifest holds train 9, validation 0, test 0"):
        samples.subset("test")


def test_the_digest_changes_with_the_set_and_not_with_its_folder(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    first, same, other, longer = (
        read_face_records(face_set(tmp_path / name, labels)).digest
        for name, labels in zip("abcd", ([0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 1, 1, 1]), strict=True)
    )
    assert first == same
    assert len({first, other, longer}) == 3
    samples = read_face_records(tmp_path / "a" / "train.rec")
    assert read_face_records(tmp_path / "a" / "train.rec", "test").digest != first
    assert samples.take(np.array([0, 2])).digest != first


def test_more_images_than_float32_can_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Glint360K, with floats that count to 8: beyond, the numbers in the records are rounded to even ones."""
    for module in (face_records, face_sets):
        monkeypatch.setattr(module, "EXACT", 8)
    monkeypatch.setattr(np, "spacing", lambda _: 2.0)
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]
    rounded = [(1, 4), (4, 7), (7, 10), (10, 12), (12, 16)]  # 15 became 16: the last image would be one too far
    path = face_set(tmp_path, labels, rounded, head=(16, 20))
    assert [int(name) for _, name, _ in read_face_records(path).rows()] == labels


@pytest.mark.parametrize(
    ("labels", "ranges", "message"),
    [
        ([0, 0, 1], [(1, 3), (2, 4)], r"identity records of .*train.rec overlap, or go beyond its 3 images"),
        ([0, 0, 1], [(1, 3), (3, 6)], r"overlap, or go beyond its 3 images"),
        ([0, 0, 1], [(1, 3)], r"1 of the 3 images of .* are of no identity record"),
        ([0, 0, 1], [(0, 3), (3, 4)], r"2 of the 3 images of .* are of no identity record"),
        ([0, 0, 1], [(1, 3), (3, float("nan"))], r"1 of the 3 images of .* are of no identity record"),
        ([0, 1, 1], [(1, 3), (3, 4)], r"says that images 1 to 2 are of one identity, their labels say they are not"),
        ([0, 1.5], [], r"has label 1.5 \(1 records have such\): a label must be a whole number"),
        ([-1, -1], [], r"has label -1 \(2 records have such\)"),
        ([0, float("nan")], [], r"has label nan"),
        ([0, 2.0**24], [], r"has label 1.67772e\+07"),
        ([], [], r"train.rec holds no image"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(
    tmp_path: Path, labels: list[float], ranges: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_face_records(face_set(tmp_path, labels, ranges))


@pytest.mark.parametrize("head", [(5, 5), (3, 3), (4, 9), (0, 0), (-3, 2), (float("nan"), 3), (float("inf"), 3)])
def test_a_record_0_that_does_not_fit_is_refused(tmp_path: Path, head: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"says that records 1 to|has labels \[(nan|inf), 3.0\]: it is damaged"):
        read_face_records(face_set(tmp_path, [0, 1, 1], head=head))


def test_a_label_between_the_ends_of_a_range_is_checked_when_it_is_read(tmp_path: Path) -> None:
    samples = read_face_records(face_set(tmp_path, [4, 9, 4], [(1, 4)]))
    assert samples.names == ("00000004",)
    with pytest.raises(RecordError, match=r"has label 9, its identity record says 4: the set is damaged"):
        samples.encoded(1)


def test_a_damaged_image_record_is_named_by_offset_and_the_others_are_read(tmp_path: Path) -> None:
    path = face_set(tmp_path, [0, 0, 0], [(1, 4)])
    offset = int(read_face_records(path).places[1, 0])
    data = bytearray(path.read_bytes())
    data[offset] = 0
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"record at byte {offset} of .*has not the magic word|ends at"):
        read_face_records(path)  # few records: each is looked at


def test_a_record_in_parts_has_its_head_put_together(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        writer.write(0, pack_face(b"image", [6], int.from_bytes(MAGIC, "little")))  # the magic word within the header
    assert read_face_records(tmp_path / "x.rec").names == ("00000006",)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_heads_are_gathered_in_chunks(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_records, "CHUNK", chunk)
    assert read_face_records(face_set(tmp_path, [2, 0, 1, 2, 0])).labels.tolist() == [2, 0, 1, 2, 0]
