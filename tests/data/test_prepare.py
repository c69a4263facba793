"""From every layout to every other, and what is refused or left out on the way."""

import csv
import json
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmargin.data import (
    FACE_TEMPLATE,
    Manifest,
    PackedSamples,
    align_face,
    check_prepared,
    decode_rgb,
    pack_face,
    prepare_faces,
    read_face_records,
    read_image_folder,
    read_manifest,
    read_shards,
)
from qmargin.data.landmarks import read_landmarks
from qmargin.data.prepare_source import Goal, Kind
from qmargin.data.recordio import RecordWriter, read_index

Save = Callable[..., Path]
TEMPLATE_ROW = ",".join(f"{value}" for value in FACE_TEMPLATE.ravel())
READERS: dict[str, Callable[[Path], Manifest | PackedSamples]] = {
    "folder": lambda folder: read_manifest(folder / "manifest.csv"),
    "rec": lambda folder: read_face_records(folder / "train.rec"),
    "tar": read_shards,
}


@pytest.fixture
def faces(save_image: Save, tmp_path: Path) -> Path:
    """Three people; one has a single image, one in another format."""
    for seed, name in enumerate(("bo/1.jpg", "bo/2.png", "al/7.jpg", "cy/1.webp", "cy/2.bmp", "cy/3.ppm")):
        save_image(f"faces/{name}", seed=seed)
    return tmp_path / "faces"


def contents(samples: Manifest | PackedSamples) -> list[tuple[int, bytes]]:
    """Label and bytes of every image, in a fixed order."""
    labels = samples.labels.tolist()
    return sorted((labels[row], bytes(samples.encoded(row).content)) for row in range(len(samples)))


@pytest.mark.parametrize("to", ["folder", "rec", "tar"])
@pytest.mark.parametrize("kind", ["folder", "rec"])
def test_every_image_arrives_byte_for_byte_under_its_label(faces: Path, tmp_path: Path, kind: Kind, to: Goal) -> None:
    source = faces
    if kind == "rec":
        prepare_faces(faces, "folder", tmp_path / "first", "rec")
        source = tmp_path / "first" / "train.rec"
    seen: list[tuple[int, int]] = []
    per_shard = 4 if to == "tar" else None
    result = prepare_faces(
        source, kind, tmp_path / "out", to, per_shard=per_shard, progress=lambda *count: seen.append(count)
    )
    assert (result.images, result.identities, result.skipped) == (6, 3, ())
    assert seen == [(done, 6) for done in range(1, 7)]
    samples = READERS[to](tmp_path / "out")
    assert contents(samples) == contents(read_image_folder(faces, "train"))
    assert set(samples.people.splits) == {"train"}
    with (tmp_path / "out" / "identities.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    names = ["al", "bo", "cy"] if kind == "folder" else ["00000000", "00000001", "00000002"]
    assert rows == [[str(label), name] for label, name in enumerate(names)]
    assert check_prepared(tmp_path / "out", contents=True)
    assert not list(tmp_path.glob(".*"))


def test_a_record_set_has_the_layout_of_insightface(faces: Path, tmp_path: Path) -> None:
    prepare_faces(faces, "folder", tmp_path / "out", "rec")
    samples = read_face_records(tmp_path / "out" / "train.rec")
    keys, offsets = read_index(tmp_path / "out" / "train.idx")
    assert keys.tolist() == list(range(10))
    labels = [samples.store.face(int(offset))[0].tolist() for offset in offsets]  # type: ignore[attr-defined]
    assert labels == [[7, 10], [0], [1], [1], [2], [2], [2], [1, 2], [2, 4], [4, 7]]


def test_shards_are_shuffled_by_the_seed(faces: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_faces(faces, "folder", tmp_path / name, "tar", seed=seed)
    shard = {name: (tmp_path / name / "000000.tar").read_bytes() for name in "abc"}
    assert shard["a"] == shard["b"] != shard["c"]
    assert read_shards(tmp_path / "a").labels.tolist() != sorted(read_shards(tmp_path / "a").labels.tolist())


def spoil(faces: Path) -> dict[str, str]:
    """Bad images among the good ones, and what is said of each."""
    (faces / "al" / "empty.jpg").touch()
    (faces / "bo" / "text.jpg").write_text("not an image")
    whole = (faces / "bo" / "2.png").read_bytes()
    (faces / "cy" / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(faces / "cy" / "deep.png")
    still = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(8, 6, 3))
    moving = [still, still.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    still.save(faces / "cy" / "moving.webp", save_all=True, append_images=moving[1:], duration=50, lossless=True)
    still.save(faces / "cy" / "moving.png", save_all=True, append_images=moving[1:])
    still.save(faces / "cy" / "series.jpg", format="MPO", save_all=True, append_images=moving[1:])  # as cameras write
    return {
        "al/empty.jpg": r"it is empty, 0 bytes",
        "bo/text.jpg": r"its content is none of BMP, JPEG",
        "cy/half.png": r"cannot decode .*half.png",
        "cy/deep.png": r"its pixels are I;16, not 8 bits a channel",
        "cy/moving.webp": r"it holds 2 images, as an animation or a series does",
        "cy/moving.png": r"it holds 2 images, as an animation or a series does",
        "cy/series.jpg": r"it holds 2 images, as an animation or a series does",
    }


@pytest.mark.parametrize("to", ["folder", "rec", "tar"])
def test_bad_images_are_left_out_on_request_counted_and_listed(faces: Path, tmp_path: Path, to: Goal) -> None:
    good = contents(read_image_folder(faces, "train"))
    reasons = spoil(faces)
    result = prepare_faces(faces, "folder", tmp_path / "out", to, skip_bad=True)
    assert (result.images, result.identities) == (6, 3)
    assert sorted(path for path, _ in result.skipped) == sorted(reasons)
    with (tmp_path / "out" / "skipped.csv").open() as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == list(result.skipped)
    for path, reason in result.skipped:
        assert re.search(reasons[path], reason)
    assert contents(READERS[to](tmp_path / "out")) == good
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["skipped"] == 7


@pytest.mark.parametrize(
    "name",
    ["al/empty.jpg", "bo/text.jpg", "cy/half.png", "cy/deep.png", "cy/moving.webp", "cy/moving.png", "cy/series.jpg"],
)
def test_a_bad_image_ends_the_preparation_and_nothing_is_left(faces: Path, tmp_path: Path, name: str) -> None:
    reasons = spoil(faces)
    for other in set(reasons) - {name}:
        (faces / other).unlink()
    with pytest.raises(ValueError, match=rf"{reasons[name]}.*; to leave bad images out .*: --skip-bad"):
        prepare_faces(faces, "folder", tmp_path / "out", "rec")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces"]


def test_cmyk_images_are_good(faces: Path, tmp_path: Path, save_image: Save) -> None:
    path = save_image("faces/al/9.jpg", mode="CMYK")
    prepare_faces(faces, "folder", tmp_path / "out", "tar")
    assert path.read_bytes() in [content for _, content in contents(read_shards(tmp_path / "out"))]


def test_an_identity_that_lost_all_images_leaves_a_gap(faces: Path, tmp_path: Path) -> None:
    (faces / "bo" / "1.jpg").write_text("x")
    (faces / "bo" / "2.png").write_text("x")
    result = prepare_faces(faces, "folder", tmp_path / "out", "rec", skip_bad=True)
    assert (result.images, result.identities, len(result.skipped)) == (4, 2, 2)
    assert read_face_records(tmp_path / "out" / "train.rec").names == ("00000000", "00000002")


def test_a_set_without_a_good_image_is_refused_with_the_most_frequent_reasons(faces: Path, tmp_path: Path) -> None:
    for path in faces.glob("*/*"):
        path.write_bytes(b"" if path.parent.name == "cy" else b"text")
    with pytest.raises(
        ValueError, match=r"no image of .*faces is good: 3 as in: .*al/7.jpg: its content is none.* \| 3 a"
    ):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", skip_bad=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [0, 7])
@pytest.mark.parametrize("row", [0, 3, 5])
def test_damaged_records_are_left_out_on_request(faces: Path, tmp_path: Path, row: int, damage: int) -> None:
    prepare_faces(faces, "folder", tmp_path / "first", "rec")
    path = tmp_path / "first" / "train.rec"
    samples = read_face_records(path)
    good = sorted(contents(samples.take(np.delete(np.arange(6), row))), key=lambda face: face[1])
    offset = int(samples.places[row, 0])
    data = bytearray(path.read_bytes())
    data[offset + damage] = 0xFF  # its magic word, or its flag
    path.write_bytes(data)
    (tmp_path / "first" / "prepared.json").unlink()  # as of a set that somebody else wrote
    with pytest.raises(ValueError, match=rf"record at byte {offset:,} of .*train.rec (has not the magic|is damaged)"):
        prepare_faces(path, "rec", tmp_path / "out", "rec")
    result = prepare_faces(path, "rec", tmp_path / "out", "rec", skip_bad=True)
    ((name, reason),) = result.skipped
    assert name == f"train.rec@{offset}"
    assert f"the record at byte {offset:,} of {path}" in reason
    kept = contents(read_face_records(tmp_path / "out" / "train.rec"))
    assert [content for _, content in sorted(kept, key=lambda face: face[1])] == [content for _, content in good]


def test_a_record_whose_image_is_empty_is_bad(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        writer.write(0, pack_face(b"", [3], 0))
    with pytest.raises(ValueError, match=r"cannot decode .*x.rec, record at byte 0: it is empty, 0 bytes"):
        prepare_faces(tmp_path / "x.rec", "rec", tmp_path / "out", "folder")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("to", ["folder", "rec", "tar"])
def test_a_full_disk_is_said_and_nothing_is_left(save_image: Save, tmp_path: Path, to: Goal) -> None:
    for seed in range(4):
        save_image(f"faces/al/{seed}.png", height=40, width=40, seed=seed)
    with largest_file(3000), pytest.raises(ValueError, match=r"cannot write .*: File too large; nothing was lost"):
        prepare_faces(tmp_path / "faces", "folder", tmp_path / "out", to)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("no tmpfs can be mounted here: that takes root")
    yield place
    subprocess.run([shutil.which("umount") or "umount", place], check=True)


@pytest.mark.parametrize("to", ["folder", "rec", "tar"])
def test_a_disk_that_fills_up_is_said_and_has_its_room_back(
    save_image: Save, tmp_path: Path, small_disk: Path, to: Goal
) -> None:
    for seed in range(30):
        save_image(f"faces/al/{seed}.png", height=40, width=40, seed=seed)
    free = shutil.disk_usage(small_disk).free
    with pytest.raises(ValueError, match=r"cannot write .*disk/.*: No space left on device; nothing was lost"):
        prepare_faces(tmp_path / "faces", "folder", small_disk / "out", to)
    assert list(small_disk.iterdir()) == []
    assert shutil.disk_usage(small_disk).free == free


def test_a_folder_that_exists_is_not_touched(faces: Path) -> None:
    with pytest.raises(ValueError, match=r"faces exists: give a folder that does not, or remove it first"):
        prepare_faces(faces, "folder", faces, "rec")
    assert len(read_image_folder(faces, "train")) == 6


def test_two_images_of_one_name_are_refused_before_an_image_is_decoded(
    faces: Path, tmp_path: Path, save_image: Save
) -> None:
    def refuse(_done: int, _total: int) -> None:
        raise AssertionError("an image was decoded")

    again = faces / "bo" / "1.png"
    again.write_bytes((faces / "bo" / "1.jpg").read_bytes())  # a JPEG by another name
    with pytest.raises(ValueError, match=r"two images would be written as bo/1.jpg: rename bo/1.jpg or bo/1.png"):
        prepare_faces(faces, "folder", tmp_path / "out", "folder", progress=refuse)
    again.unlink()
    save_image("faces/bo/1.png")  # another picture, in another format: aligned, both are JPEG
    table = landmarks(tmp_path, *(f"{path},{TEMPLATE_ROW}" for path in ("bo/1.jpg", "bo/1.png")))
    with pytest.raises(ValueError, match=r"two images would be written as bo/1.jpg: rename bo/1.jpg or bo/1.png"):
        prepare_faces(faces, "folder", tmp_path / "out", "folder", landmarks=table, progress=refuse)
    assert prepare_faces(faces, "folder", tmp_path / "out", "folder").images == 7
    again.write_bytes(b"")  # is left out, and takes no name
    assert prepare_faces(faces, "folder", tmp_path / "some", "folder", skip_bad=True).images == 6


def landmarks(folder: Path, *rows: str) -> Path:
    path = folder / "landmarks.csv"
    path.write_text("path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n" + "".join(f"{row}\n" for row in rows))
    return path


def test_faces_are_aligned_by_their_landmarks(faces: Path, tmp_path: Path, save_image: Save) -> None:
    for path in sorted(faces.glob("*/*"))[1:]:
        path.unlink()
    picture = save_image("faces/al/7.jpg", height=5, width=4, seed=3)
    Image.open(picture).resize((140, 150), Image.Resampling.BICUBIC).save(picture)
    points = FACE_TEMPLATE * 1.1 + 7.0
    for name in ("bo", "cy"):
        (faces / name).rmdir()
    table = landmarks(tmp_path, "al/7.jpg," + ",".join(f"{value:.4f}" for value in points.ravel()))
    prepare_faces(faces, "folder", tmp_path / "out", "folder", landmarks=table)
    crop = np.asarray(Image.open(tmp_path / "out" / "al" / "7.jpg")).astype(int)
    expected = align_face(decode_rgb(picture), points).astype(int)
    assert crop.shape == (112, 112, 3)
    assert np.abs(crop - expected).mean() < 1.0  # JPEG of quality 95
    assert np.abs(crop[:, ::-1] - expected).mean() > 20.0


def test_images_without_landmarks_are_bad(faces: Path, tmp_path: Path) -> None:
    table = landmarks(tmp_path, "al/7.jpg," + ",".join(["1"] * 10))
    with pytest.raises(ValueError, match=r"cannot align al/7.jpg: landmarks must be finite and not all one point"):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=table)
    table = landmarks(tmp_path, f"al/7.jpg,{TEMPLATE_ROW}")
    with pytest.raises(ValueError, match=r"bo/1.jpg has no landmarks; give a row for every image"):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=table)
    result = prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=table, skip_bad=True)
    assert (result.images, len(result.skipped), result.unused_landmarks) == (1, 5, 0)


def test_landmarks_of_other_paths_are_refused_and_unused_ones_counted(faces: Path, tmp_path: Path) -> None:
    rows = [f"photos/{name},{TEMPLATE_ROW}" for name in ("al/7.jpg", "bo/1.jpg")]
    other = r"no path of .*landmarks.csv is one of .*faces: they have 'photos/al/7.jpg', the source 'al/7.jpg'; write"
    with pytest.raises(ValueError, match=other):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=landmarks(tmp_path, *rows), skip_bad=True)
    with pytest.raises(ValueError, match=r"they have no row, the source 'al/7.jpg'"):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=landmarks(tmp_path), skip_bad=True)
    table = landmarks(tmp_path, *rows, f"al/7.jpg,{TEMPLATE_ROW}")
    result = prepare_faces(faces, "folder", tmp_path / "out", "rec", landmarks=table, skip_bad=True)
    assert (result.images, result.unused_landmarks) == (1, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,1,2,3,4,5,6,7,8,9"], r"line 2: 'a' has not ten finite numbers"),
        (["a,1,2,3,4,5,6,7,8,9,nan"], r"line 2: 'a' has not ten finite numbers"),
        (["a,1,2,3,4,5,6,7,8,9,x"], r"line 2: 'a' has not ten finite numbers"),
        (["a,1,2,3,4,5,6,7,8,9,10"] * 2, r"line 3: 'a' is listed twice"),
    ],
)
def test_faulty_landmarks_are_named_by_line(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_landmarks(landmarks(tmp_path, *rows))


def test_landmarks_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,x1,y1\n")
    with pytest.raises(ValueError, match=r"x.csv, line 1: no column x2, y2, x3, y3, x4, y4, x5, y5; landmarks are"):
        read_landmarks(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"cannot read the landmarks .*none.csv: .*No such file"):
        read_landmarks(tmp_path / "none.csv")


@pytest.mark.parametrize("to", ["folder", "rec", "tar"])
def test_a_byte_that_changed_is_found(faces: Path, tmp_path: Path, to: Goal) -> None:
    out = tmp_path / "out"
    prepare_faces(faces, "folder", out, to)
    victim = {"folder": out / "bo" / "1.jpg", "rec": out / "train.rec", "tar": out / "000000.tar"}[to]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ValueError, match=rf"1 files of .*out are not as they were written: .*{victim.name}"):
        check_prepared(out, contents=True)
    if to == "folder":
        assert check_prepared(out)  # images are compared only on request
    (out / "identities.csv").unlink()
    with pytest.raises(ValueError, match=r"files of .*out are not as they were written: .*identities.csv"):
        check_prepared(out)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text().replace("bytes", "bites", 1)),
        lambda path: path.write_text(re.sub(r",train,\d+,", ",train,many,", path.read_text())),
        lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_manifest_is_listed_among_what_changed(
    faces: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    prepare_faces(faces, "folder", tmp_path / "out", "folder")
    (tmp_path / "out" / "identities.csv").write_text("x")
    damage(tmp_path / "out" / "manifest.csv")
    with pytest.raises(ValueError, match=r"2 files of .* are not as they were written: identities.csv, manifest.csv;"):
        check_prepared(tmp_path / "out", contents=True)


def test_large_files_are_compared_by_size_unless_asked(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_faces(faces, "folder", tmp_path / "out", "rec")
    monkeypatch.setattr("qmargin.data.prepared.SMALL", 100)
    path = tmp_path / "out" / "train.rec"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert check_prepared(tmp_path / "out")
    with pytest.raises(ValueError, match="1 files of"):
        check_prepared(tmp_path / "out", contents=True)
    path.write_bytes(data[:-4])
    with pytest.raises(ValueError, match=r"1 files of .* are not as they were written: train.rec"):
        check_prepared(tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"prepared.json is damaged"),
        ("[]", r"prepared.json is damaged"),
        ('{"format": "qmargin prepared 1", "files": {"x": 1}}', r"prepared.json is damaged"),
        ('{"format": "qmargin prepared 9", "files": {}}', r"is of the format 'qmargin prepared 9', this version reads"),
    ],
)
def test_a_damaged_record_of_checksums_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert not check_prepared(tmp_path)
    (tmp_path / "prepared.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        check_prepared(tmp_path)


def test_an_unknown_split_is_refused_before_anything_is_written(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the split must be one of train, validation, test, got 'dev'"):
        prepare_faces(faces, "folder", tmp_path / "out", "tar", split="dev")
    assert not (tmp_path / "out").exists()


def test_a_split_that_would_be_lost_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a .rec file knows no splits.* takes the split train, got 'test'; --to folder"
    ):
        prepare_faces(faces, "folder", tmp_path / "out", "rec", split="test")
    prepare_faces(faces, "folder", tmp_path / "tested", "folder", split="test")
    prepare_faces(faces, "folder", tmp_path / "rec", "rec")
    with pytest.raises(ValueError, match=r"takes the split train, got 'test'"):
        prepare_faces(tmp_path / "tested", "folder", tmp_path / "out", "rec")
    with pytest.raises(ValueError, match=r"takes the split train, got 'validation'"):
        prepare_faces(tmp_path / "rec" / "train.rec", "rec", tmp_path / "out", "rec", split="validation")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "rec", "tested"]


def test_a_prepared_folder_keeps_its_split(faces: Path, tmp_path: Path) -> None:
    prepare_faces(faces, "folder", tmp_path / "tested", "folder", split="test")
    for name, asked in (("a", None), ("b", "test")):
        prepare_faces(tmp_path / "tested", "folder", tmp_path / name, "tar", split=asked)
        assert set(read_shards(tmp_path / name).people.splits) == {"test"}
    with pytest.raises(
        ValueError, match=r"tested was prepared with the split test, asked was train: leave --split out"
    ):
        prepare_faces(tmp_path / "tested", "folder", tmp_path / "out", "tar", split="train")


def test_options_of_tar_shards_are_refused_elsewhere(faces: Path, tmp_path: Path) -> None:
    for to in ("folder", "rec"):
        for options, flags in (({"seed": 0}, "--seed"), ({"per_shard": 5, "seed": 1}, "--per-shard, --seed")):
            with pytest.raises(ValueError, match=rf"{flags} is of tar shards alone, got --to {to}: leave it out"):
                prepare_faces(faces, "folder", tmp_path / "out", to, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"prepare_faces.seed must be an integer >= 0, got -1"):
        prepare_faces(faces, "folder", tmp_path / "out", "tar", seed=-1)


def test_a_folder_within_the_source_is_refused_and_parents_are_made(faces: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.symlink_to(faces)
    for source, inside in ((faces, "rec"), (faces, "al/rec"), (faces, "al/../rec"), (linked, "rec")):
        with pytest.raises(ValueError, match=rf"--out .*rec lies in the source .*{source.name}, and would be read as"):
            prepare_faces(source, "folder", faces / inside, "rec")
    assert sorted(path.name for path in faces.iterdir()) == ["al", "bo", "cy"]
    prepare_faces(faces, "folder", tmp_path / "no" / "such" / "out", "rec")
    assert check_prepared(tmp_path / "no" / "such" / "out", contents=True)


def test_a_folder_in_place_of_a_record_file_is_named(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"faces is a folder, --from rec takes a file and its .idx: give .*faces/train.rec"
    ):
        prepare_faces(faces, "rec", tmp_path / "out", "tar")


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_prepared_record_file_is_verified_when_it_is_converted_again(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, skip_bad: bool
) -> None:
    prepare_faces(faces, "folder", tmp_path / "rec", "rec")
    monkeypatch.setattr("qmargin.data.prepared.SMALL", 100)  # so that opening it compares sizes alone
    path = tmp_path / "rec" / "train.rec"
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 40] ^= 1  # within an image that is decoded nevertheless
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"1 files of .*rec are not as they were written: train.rec; copy or prepare"):
        prepare_faces(path, "rec", tmp_path / "out", "tar", skip_bad=skip_bad)
    assert not (tmp_path / "out").exists()


def damage(folder: Path, how: str) -> None:
    if how == "gone":
        shutil.rmtree(folder / "cy")
    elif how == "moved":
        (folder / "al" / "7.jpg").rename(folder / "bo" / "7.jpg")
        shutil.copy(folder / "bo" / "1.jpg", folder / "al" / "7.jpg")
    elif how == "copied":
        shutil.copy(folder / "al" / "7.jpg", folder / "bo" / "7.jpg")
    else:
        shutil.copytree(folder / "al", folder / "di")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("gone", "3 files of .* cy/1.webp, cy/2.bmp, cy/3.ppm;"),
        ("moved", r"2 files of .* al/7.jpg, bo \(1 more than manifest.csv lists\);"),
        ("copied", r"1 files of .* bo \(1 more than manifest.csv lists\);"),
        ("another", r"1 files of .* di \(1 more than manifest.csv lists\);"),
    ],
)
def test_a_prepared_folder_is_verified_when_it_is_converted_again(
    faces: Path, tmp_path: Path, how: str, what: str
) -> None:
    prepare_faces(faces, "folder", tmp_path / "set", "folder")
    damage(tmp_path / "set", how)
    for check in (
        lambda: prepare_faces(tmp_path / "set", "folder", tmp_path / "out", "rec", skip_bad=True),
        lambda: check_prepared(tmp_path / "set", contents=True),
    ):
        with pytest.raises(ValueError, match=what):
            check()
