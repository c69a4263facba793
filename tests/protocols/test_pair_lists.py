"""pairs.csv and LFW's pairs.txt: what is read, and every fault by file and line."""

from pathlib import Path

import pytest

from qmargin.protocols import read_lfw_pairs, read_pairs_csv

ROWS = [f"{place}.jpg,{place + 1}.jpg,{place % 2}" for place in range(12)]
LFW = "2\t3\n" + "".join(
    "".join(f"Ann_Bo\t{i}\t{i + 1}\n" for i in (1, 2, 3)) + "".join(f"Ann_Bo\t{i}\tCy\t{i + fold}\n" for i in (1, 2, 3))
    for fold in (0, 1)
)


def folder_with(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return folder_with(tmp_path, *(f"{place}.jpg" for place in range(13)))


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    names = [f"{name}/{name}_{n:04d}.jpg" for name in ("Ann_Bo", "Cy") for n in (1, 2, 3, 4)]
    return folder_with(tmp_path / "lfw", *names)


def csv_of(folder: Path, *rows: str, header: str = "path_a,path_b,same") -> Path:
    path = folder / "pairs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_csv_is_read_in_its_order_with_each_image_once(images: Path) -> None:
    pairs = read_pairs_csv(csv_of(images, *ROWS))
    assert [path.name for path in pairs.images if isinstance(path, Path)] == [f"{place}.jpg" for place in range(13)]
    assert pairs.sides.tolist() == [[place, place + 1] for place in range(12)]
    assert pairs.same.tolist() == [bool(place % 2) for place in range(12)]
    assert pairs.folds.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(pairs.sha256) == 64


def test_a_csv_may_number_its_folds_and_hold_other_columns(images: Path) -> None:
    rows = [f"{row},{place % 3},note" for place, row in enumerate(ROWS)]
    pairs = read_pairs_csv(csv_of(images, *rows, header="path_a,path_b,same,fold,remark"))
    assert pairs.folds.tolist() == [place % 3 for place in range(12)]


def test_the_folder_of_a_csv_may_be_another(images: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = csv_of(tmp_path / "lists", *ROWS)
    assert len(read_pairs_csv(path, images)) == 12
    with pytest.raises(ValueError, match=r"13 of the 13 images listed in .*pairs\.csv are not below .*lists: 0\.jpg, "):
        read_pairs_csv(path)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a.jpg,b.jpg"], "path_a,path_b", r"pairs\.csv, line 1: the columns must be path_a, path_b, same and"),
        (ROWS, "path_a,path_b,same,same", r"line 1: the columns must be .*each once; got path_a, path_b, same, same"),
        ([*ROWS, "0.jpg,1.jpg,yes"], "path_a,path_b,same", r"line 14: same must be 1 \(.*\) or 0 \(two\), got 'yes'"),
        ([*ROWS, "0.jpg,1.jpg"], "path_a,path_b,same", r"line 14: it has another number of fields"),
        ([*ROWS, "0.jpg,1.jpg,1,1"], "path_a,path_b,same", r"line 14: it has another number of fields"),
        ([*ROWS, ",1.jpg,1"], "path_a,path_b,same", r"line 14: a path is empty"),
        ([f"{row},-1" for row in ROWS], "path_a,path_b,same,fold", r"line 2: fold must be an integer >= 0, got '-1'"),
        ([f"{row},4" for row in ROWS], "path_a,path_b,same,fold", r"has one fold, 4: the threshold is chosen"),
        (ROWS[:4], "path_a,path_b,same", r"lists 2 pairs of one person and 2 of two: it needs .*10 pairs or more"),
        ([], "path_a,path_b,same", r"lists 0 pairs of one person and 0 of two"),
        ([*ROWS, "14.jpg,15.jpg,1"], "path_a,path_b,same", r"2 of the 15 images .* below .*: 14\.jpg, 15\.jpg;"),
    ],
)  # fmt: skip
def test_a_wrong_csv_is_refused_by_line(images: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs_csv(csv_of(images, *rows, header=header))


def test_files_that_are_not_there_or_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes(b"path_a,path_b,same\n\xff\xfe,b,1\n")
    with pytest.raises(ValueError, match=r"pairs\.csv is not a CSV file in UTF-8"):
        read_pairs_csv(tmp_path / "pairs.csv")
    with pytest.raises(ValueError, match=r"pairs\.txt: No such file"):
        read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)
    with pytest.raises(ValueError, match=r"none\.csv: No such file"):
        read_pairs_csv(tmp_path / "none.csv")


def test_the_official_format_of_lfw_is_read(tmp_path: Path, lfw: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(LFW)
    pairs = read_lfw_pairs(path, lfw)
    names = [str(image.relative_to(lfw)) for image in pairs.images if isinstance(image, Path)]
    read = [(names[a], names[b]) for a, b in pairs.sides]
    assert read[0] == ("Ann_Bo/Ann_Bo_0001.jpg", "Ann_Bo/Ann_Bo_0002.jpg")
    assert read[9] == ("Ann_Bo/Ann_Bo_0001.jpg", "Cy/Cy_0002.jpg")
    assert pairs.same.tolist() == 2 * ([True] * 3 + [False] * 3)
    assert pairs.folds.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\t3", "2", r"pairs\.txt, line 1: the numbers of folds and of pairs of each kind must stand here"),
        ("2\t3", "0\t3", r"line 1: the numbers"),
        ("2\t3", "3\t3", r"has 12 pairs, its first line announces 3 x 2 x 3 = 18: is it cut\?"),
        ("Ann_Bo\t1\t2", "Ann_Bo\t1\tCy\t2", r"line 2: fold 1 needs `name i j`, one person here, got 'Ann_Bo"),
        ("Ann_Bo\t2\tCy\t3", "Ann_Bo\t2\t3", r"line 12: fold 2 needs `name i name j`, two people here"),
        ("Ann_Bo\t2\tCy\t3", "Ann_Bo\t2\tAnn_Bo\t3", r"line 12: a pair of two people names Ann_Bo twice"),
        ("Ann_Bo\t1\t2", "Ann_Bo\tone\t2", r"line 2: fold 1 needs"),
        ("Cy\t4", "Di\t4", r"1 of the 8 images listed in .*pairs\.txt are not below .*lfw: Di/Di_0004\.jpg;"),
    ],
)
def test_a_wrong_lfw_list_is_refused_by_line(tmp_path: Path, lfw: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "pairs.txt"
    assert old in LFW
    path.write_text(LFW.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_lfw_pairs(path, lfw)


def test_aligned_copies_may_have_another_ending(tmp_path: Path, lfw: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(LFW)
    for image in lfw.rglob("*.jpg"):
        image.rename(image.with_suffix(".png"))
    assert len(read_lfw_pairs(path, lfw, ".png")) == 12
