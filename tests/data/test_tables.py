from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmargin.data import Manifest, read_manifest, write_manifest

# Text that a CSV has to quote, or that spreadsheets mangle.
NAMES = st.text(st.sampled_from("ab ,;\"'é=\t\u3000ß"), min_size=1, max_size=6)


def csv_file(folder: Path, text: str, images: tuple[str, ...] = ("1.png", "2.png", "3.png")) -> Path:
    for image in images:
        (folder / image).touch()
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_three_columns_are_read_wherever_they_stand_and_others_ignored(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "age,split,identity,path\n7,train,bo,2.png\n,test,al,1.png\n")
    assert read_manifest(path) == Manifest(tmp_path, ("2.png", "1.png"), ("bo", "al"), ("train", "test"))


def test_other_names_of_columns_and_another_root(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    path = csv_file(folder, "file,speaker,split\n1.png,al,train\n").rename(tmp_path / "list.csv")
    manifest = read_manifest(path, "speaker", "file", root=folder)
    assert manifest == Manifest(folder, ("1.png",), ("al",), ("train",))


def test_a_default_split_serves_files_without_the_column_only(tmp_path: Path) -> None:
    without = csv_file(tmp_path, "path,identity\n1.png,al\n")
    assert read_manifest(without, default_split="test").split == ("test",)
    with_one = csv_file(tmp_path, "path,identity,split\n1.png,al,train\n")
    assert read_manifest(with_one, default_split="test").split == ("train",)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "")
    path.write_bytes("\ufeffpath,identity,split\r\n1.png,al,train\r\n".encode())
    assert read_manifest(path).identities == ("al",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_what_is_written_is_read(tmp_path: Path, names: list[str]) -> None:
    paths = tuple(f"x{name}" for name in names)
    for path in paths:
        (tmp_path / path).touch()
    manifest = Manifest(tmp_path, paths, tuple(names), ("train", "test", "validation", "train", "test")[: len(names)])
    write_manifest(manifest, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == manifest
    assert read_manifest(tmp_path / "manifest.csv").digest == manifest.digest


def test_writing_is_atomic_and_a_folder_that_is_not_there_is_named(people: Manifest, tmp_path: Path) -> None:
    write_manifest(people, tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text().splitlines()[:2] == ["path,identity,split", "al/0.png,al,train"]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match=r"cannot write .*nowhere/manifest.csv"):
        write_manifest(people, tmp_path / "nowhere" / "manifest.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"manifest.csv, line 1: no column path and no column identity and no column split, there are none"),
        ("path,split\n", r"manifest.csv, line 1: no column identity, there are path, split$"),
        ("path,identity\n1.png,al\n", r"no column split, there are path, identity; without a column split, pass"),
        ("path,path,identity,split\n", r"line 1: the column path is there twice; rename one"),
        ("path,identity,split\n", r"manifest.csv has a header but no sample"),
        ("path,identity,split\n1.png,al,train\n,bo,train\n", r"manifest.csv, line 3: the path is empty"),
        ("path,identity,split\n1.png,,train\n", r"manifest.csv, line 2: the identity is empty"),
        ("path,identity,split\n1.png,al,train\n1.png,bo,train\n", r"line 3: the path '1.png' is listed twice"),
        ("path,identity,split\n1.png,al,dev\n", r"line 2: the split must be one of train, validation, test, got 'dev'"),
        (
            "path,identity,split\n1.png,al,train\n2.png,bo,train\n3.png,al,test\n",
            r"line 4: identity 'al' is in the splits 'train' and 'test'",
        ),
        ("path,identity,split\n../1.png,al,train\n", r"line 2: the path '../1.png' must be relative to the root"),
        ("path,identity,split\n1.png,al\n", r"line 2: the header has 3 fields, this line has not; quote a field"),
        ("path,identity,split\n1.png,Doe, Jane,train\n", r"line 2: the header has 3 fields, this line has not"),
        ('path,identity,split\n"1.png,al,train\n', r"manifest.csv is not a CSV file in UTF-8: unexpected end of data"),
    ],
)
def test_a_faulty_file_is_refused_by_name_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_manifest(csv_file(tmp_path, text))


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'note,path,identity,split\n"two\nlines",1.png,al,train\n\n,2.png,bo,dev\n')
    with pytest.raises(ValueError, match="line 5: the split"):
        read_manifest(path)


def test_missing_images_are_counted_and_the_first_few_named(tmp_path: Path) -> None:
    rows = "".join(f"{image}.png,p{image},train\n" for image in range(8))
    path = csv_file(tmp_path, "path,identity,split\n" + rows)
    with pytest.raises(ValueError, match=r"5 of the 8 images .* not below .*: 0.png, 4.png, 5.png and 2 more; is that"):
        read_manifest(path)


def test_a_folder_in_the_place_of_an_image_is_missing(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,identity,split\nx,al,train\n")
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match="1 of the 1 images"):
        read_manifest(path)


def test_what_is_no_text_file_is_refused(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"cannot read the manifest .*nothing.csv: No such file"):
        read_manifest(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match=r"cannot read the manifest .*: Is a directory"):
        read_manifest(tmp_path)
    with pytest.raises(ValueError, match=r"1.png is not a CSV file in UTF-8"):
        read_manifest(save_image("1.png"))
