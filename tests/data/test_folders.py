import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qmargin.data import prepare_faces, read_face_records, read_image_folder

Save = Callable[..., Path]


def test_samples_are_sorted_by_identity_and_name(save_image: Save, tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.JPG", "a/x.webp", "c/1.pgm", "c/0.jpeg", "c/2.bmp", "c/3.ppm"):
        save_image(name)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "a" / ".hidden").touch()
    manifest = read_image_folder(tmp_path, "test")
    assert manifest.root == tmp_path
    assert manifest.paths == ("a/x.webp", "b/10.JPG", "b/2.png", "c/0.jpeg", "c/1.pgm", "c/2.bmp", "c/3.ppm")
    assert manifest.identities == ("a", "b", "b", "c", "c", "c", "c")
    assert set(manifest.split) == {"test"}


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*nowhere: give the folder that holds one folder of images"):
        read_image_folder(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="holds no identity: it must hold one folder of images for each"):
        read_image_folder(tmp_path, "train")


def test_files_beside_the_identities_are_named(save_image: Save, tmp_path: Path) -> None:
    for name in ("a/1.png", "1.png", "2.png", "3.png", "4.png", "5.png"):
        save_image(name)
    with pytest.raises(ValueError, match=r"5 files are beside them \(1.png, 2.png, 3.png and 2 more\); move them"):
        read_image_folder(tmp_path, "train")


def test_a_prepared_folder_is_read_as_any_other(save_image: Save, tmp_path: Path) -> None:
    for name in ("faces/a/1.png", "faces/b/1.png", "faces/b/2.png"):
        save_image(name)
    (tmp_path / "faces" / "a" / "bad.png").touch()
    out = tmp_path / "out"
    prepare_faces(tmp_path / "faces", "folder", out, "folder", skip_bad=True)
    assert {path.name for path in out.glob("*.*")} == {"identities.csv", "manifest.csv", "prepared.json", "skipped.csv"}
    assert read_image_folder(out, "train").paths == ("a/1.png", "b/1.png", "b/2.png")
    prepare_faces(out, "folder", tmp_path / "again", "rec")
    assert len(read_face_records(tmp_path / "again" / "train.rec")) == 3
    (out / "b" / "2.png").rename(out / "b" / "3.png")
    with pytest.raises(
        ValueError,
        match=r"2 images of .*out are not as its manifest.csv lists them, added or gone: b/2.png, b/3.png; copy .* "
        r"\(to use it as it is, remove identities.csv, manifest.csv, prepared.json, skipped.csv\)",
    ):
        read_image_folder(out, "train")
    (out / "b" / "3.png").rename(out / "b" / "2.png")
    (out / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"1 files are beside them \(notes.txt\); move them"):
        read_image_folder(out, "train")
    with pytest.raises(
        ValueError, match=r"4 files are beside them \(identities.csv, prepared.json, train.idx and 1 more"
    ):
        read_image_folder(tmp_path / "again", "train")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        (b"a/1\n.png", "train", r"^'.*/a': the path 'a/1\\n.png' has a line break or is not UTF-8: rename the file"),
        (b"a/1\xff.png", "train", r"^'.*/a': the path 'a/1\\udcff.png' has a line break or is not UTF-8"),
        (b"a\r/1.png", "train", r"^'.*/a\\r': the path 'a\\r/1.png' has a line break or is not UTF-8"),
        (b"a/1.png", "dev", r"the split must be one of train, validation, test, got 'dev'"),
    ],
)
def test_names_that_no_manifest_can_hold_are_refused(
    save_image: Save, tmp_path: Path, name: bytes, split: str, message: str
) -> None:
    save_image("a/0.png")
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(ValueError, match=message):
        read_image_folder(tmp_path, split)


def test_an_identity_without_an_image_is_named(save_image: Save, tmp_path: Path) -> None:
    save_image("a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"the identity 'b' has no image in .*b: add some or remove the folder"):
        read_image_folder(tmp_path, "train")


@pytest.mark.parametrize("name", ["a/notes.txt", "a/1.gif", "a/more/1.png", "a/folder.png/1.png"])
def test_what_is_no_image_by_its_name_is_refused_not_skipped(save_image: Save, tmp_path: Path, name: str) -> None:
    save_image("a/1.png")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    wrong = name.split("/")[1]
    with pytest.raises(ValueError, match=rf"must hold images only, .* 1 entries are not \({wrong}\); move them away"):
        read_image_folder(tmp_path, "train")
