"""The reader of whole blocks against the one that goes row by row."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmargin.data import Manifest, columns, read_manifest, tables
from qmargin.data import _table_reader as module
from qmargin.data.manifest import SampleError

# Few letters, so that paths repeat, identities meet in two splits and parts are empty or dots.
PATHS = st.text(st.sampled_from("ab./é"), min_size=0, max_size=5)
NAMES = st.sampled_from(["al", "bo", "cy", "", "d\ne", "é"])
SPLITS = st.sampled_from(["train"] * 6 + ["test", "dev"])
ROWS = st.lists(st.tuples(PATHS, NAMES, SPLITS), min_size=1, max_size=9)
GOOD_NAMES = st.sampled_from(["al", "bo", "cy", "é"])
LAWFUL = st.lists(st.tuples(st.text("abé", min_size=1, max_size=4), GOOD_NAMES), min_size=1)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (columns, module):
        monkeypatch.setattr(place, "BLOCK", 3)


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "identity", "split"), *rows])
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(rows=ROWS)
def test_blocks_and_rows_accept_and_refuse_the_same_files(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    path = write(tmp_path / "list.csv", rows)
    try:
        expected: Manifest | SampleError = Manifest(tmp_path, *zip(*rows, strict=True))
    except SampleError as error:
        expected = error
    if isinstance(expected, SampleError):
        with pytest.raises(ValueError, match=r"list.csv, line \d+: ") as caught:
            read_manifest(path, check_files=False)
        assert str(caught.value).endswith(expected.fault)
    else:
        assert read_manifest(path, check_files=False) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=LAWFUL, seed=st.integers(0, 9))
def test_a_lawful_file_is_never_read_row_by_row(tmp_path: Path, rows: list[tuple[str, str]], seed: int) -> None:
    unique = {path: (path, name, "test" if name == "bo" else "train") for path, name in rows}
    path = write(tmp_path / "list.csv", list(unique.values()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_careful", None)
        manifest = read_manifest(path, check_files=False)
    slow = Manifest(tmp_path, *zip(*unique.values(), strict=True))
    assert manifest == slow
    assert manifest.names == slow.names == tuple(sorted(set(slow.identities)))
    assert manifest.labels.tolist() == slow.labels.tolist()
    assert manifest.digest == slow.digest
    rows_wanted = [(7 * seed + place) % len(manifest) for place in range(4)]
    taken = manifest.take(slow.labels.argsort()[rows_wanted])
    again = [list(slow.rows())[index] for index in slow.labels.argsort()[rows_wanted]]
    assert list(taken.rows()) == again
    assert [taken.names[label] for label in taken.labels] == [name for _, name, _ in again]


def test_paths_that_hash_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash", lambda _: 0, raising=False)
    path = write(tmp_path / "list.csv", [("1", "al", "train"), ("2", "bo", "train")])
    assert read_manifest(path, check_files=False).paths == ("1", "2")


def test_images_need_not_be_looked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", [("1", "al", "train")])
    assert len(read_manifest(path, check_files=False)) == 1
    with pytest.raises(ValueError, match="1 of the 1 images"):
        read_manifest(path)
