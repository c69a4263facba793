"""Trial lists: both layouts, the same list under another layout, and every line that must be refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.protocols._columns import LONGEST_FIELD, index_ids
from qmargin.protocols.trial_lists import (
    KNOWN,
    KnownList,
    Layout,
    read_trials,
    read_utterance_table,
    speakers_of,
    write_trials,
)

VOXCELEB = "1 id1/a/1.wav id1/b/2.wav\n0 id1/a/1.wav id2/c/3.wav\n0 id2/c/3.wav id1/b/2.wav\n"
KALDI = "id1/a/1.wav id1/b/2.wav target\nid1/a/1.wav id2/c/3.wav nontarget\nid2/c/3.wav id1/b/2.wav nontarget\n"
OFFICIAL = Path(os.environ.get("QMARGIN_TRIALS", "data/trials"))

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(content: str | bytes) -> Path:
        path = tmp_path / "trials.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


@pytest.mark.parametrize("content", [VOXCELEB, KALDI, KALDI.replace("\n", "\r\n"), VOXCELEB.replace(" ", "\t ") + "\n"])
def test_both_layouts_read_the_same_trials(content: str, write: Write) -> None:
    trials = read_trials(write(content))
    assert trials.utterances.tolist() == ["id1/a/1.wav", "id1/b/2.wav", "id2/c/3.wav"]
    assert trials.first.tolist() == [0, 0, 2]
    assert trials.second.tolist() == [1, 2, 1]
    assert trials.labels.tolist() == [True, False, False]
    assert (len(trials), trials.genuine) == (3, 1)


def test_a_byte_order_mark_is_no_part_of_the_first_line(write: Write) -> None:
    for content in ("1 id1/a id1/b\n0 id1/a id2/c\n", "id1-a id1-b target\nid1-a id2-c nontarget\n"):
        plain, marked = read_trials(write(content)), read_trials(write(b"\xef\xbb\xbf" + content.encode()))
        assert marked.utterances.tolist() == plain.utterances.tolist()
        assert marked.labels.tolist() == [True, False]
    with pytest.raises(ValueError, match="is empty"):
        read_trials(write(b"\xef\xbb\xbf"))


@pytest.mark.parametrize("layout", ["voxceleb", "kaldi"])
def test_a_list_that_is_written_is_read_back(layout: Layout, write: Write, tmp_path: Path) -> None:
    trials = read_trials(write(VOXCELEB))
    write_trials(tmp_path / "again", trials, layout)
    assert (tmp_path / "again").read_text() == {"voxceleb": VOXCELEB, "kaldi": KALDI}[layout]
    again = read_trials(tmp_path / "again", layout)
    assert np.array_equal(again.first, trials.first)
    assert np.array_equal(again.labels, trials.labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"trials\.txt is empty: expected lines of"),
        ("\n \n", r"trials\.txt is empty"),
        ("1 a b\n1 a\n", r"line 2: expected 3 columns .*, got 2"),
        ("1 a b\n\n0 a c\n", r"line 2: expected 3 columns .*, got 0"),
        ("1 a b c\n", r"line 1: expected 3 columns .*, got 4"),
        ("1 a b\n2 a c\n", r"line 2: cannot tell the layout: expected lines of `1\|0 path path` or .*got '2 a c'"),
        ("a b target\na c impostor\n", r"line 2: cannot tell the layout"),
        ("1 a b\n0 a c\n1 b a\n0 a c\n", r"line 4: the same two utterances as on line 2"),
        ("1 a b\n0 a b\n", r"line 2: the same two utterances as on line 1"),
        ("1 a target\n0 b nontarget\n", r"can be read as voxceleb and as kaldi; say which"),
        (b"1 a b\n0 a \xff\xfe\n", r"line 2: an id that is not UTF-8"),
        (b"1 a b\n0 a \x00\n", r"line 2: a zero byte; this is not a text file"),
        (f"1 a b\n0 a {'x' * (LONGEST_FIELD + 1)}\n", r"line 2: a field of 1025 bytes, the longest may be 1024"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(content: str | bytes, message: str, write: Write) -> None:
    with pytest.raises(ValueError, match=message):
        read_trials(write(content))


def test_a_layout_that_is_said_settles_it(write: Write) -> None:
    path = write("1 a target\n0 b nontarget\n")
    assert read_trials(path, "kaldi").utterances.tolist() == ["0", "1", "a", "b"]
    assert read_trials(path, "voxceleb").utterances.tolist() == ["a", "b", "nontarget", "target"]
    with pytest.raises(ValueError, match=r"line 1: the label must be target or nontarget, got 'b'"):
        read_trials(write("1 a b\n"), "kaldi")
    with pytest.raises(ValueError, match=r"unknown layout 'voxseleb'; known: voxceleb .*, kaldi"):
        read_trials(path, "voxseleb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no file at"):
        read_trials(path.with_name("nothing"))


def test_a_published_list_is_named_in_either_layout_and_a_changed_one_is_not(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = "c5d8a2ee3c0d8ae4ab8d1a7f9bb9b1c5a1cf1d5ba9c0e0be7ee17ff6ab3a8e5a"
    monkeypatch.setattr("qmargin.protocols.trial_lists.KNOWN", (KnownList("Tiny", 3, digest),))
    trials = read_trials(write(VOXCELEB))
    assert trials.identity == "as many trials as Tiny, but NOT that list: its content differs"
    known = KnownList("Tiny", 3, trials.digest)  # a VoxCeleb list is its own canonical text
    monkeypatch.setattr("qmargin.protocols.trial_lists.KNOWN", (known,))
    write_trials(tmp_path / "kaldi", trials, "kaldi")
    again = read_trials(tmp_path / "kaldi")
    assert again.identity == "Tiny"
    assert again.digest != trials.digest
    assert "3 trials (1 genuine), 3 utterances; Tiny; sha256" in again.describe()
    monkeypatch.setattr("qmargin.protocols.trial_lists.KNOWN", (KnownList("Tiny", 3, None),))
    assert "whose checksum is not on record" in read_trials(tmp_path / "kaldi").identity
    monkeypatch.setattr("qmargin.protocols.trial_lists.KNOWN", ())
    assert read_trials(tmp_path / "kaldi").identity == "not a published list known here"


def test_published_lists_have_counts_of_their_own() -> None:
    assert len({known.trials for known in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize(
    ("file", "name", "count", "genuine", "utterances"),
    [
        ("veri_test.txt", "VoxCeleb1-O (original)", 37_720, 18_860, 4_715),
        ("veri_test2.txt", "VoxCeleb1-O (cleaned)", 37_611, 18_802, 4_708),
    ],
)
def test_the_official_lists(file: str, name: str, count: int, genuine: int, utterances: int) -> None:
    path = OFFICIAL / file
    if not path.is_file():
        pytest.skip(f"no {path}: set QMARGIN_TRIALS to the folder of the VoxCeleb1 lists")
    trials = read_trials(path)
    assert (trials.identity, len(trials), trials.genuine, len(trials.utterances)) == (name, count, genuine, utterances)
    assert len(np.unique(speakers_of(trials))) == 40


def test_speakers_from_the_folder_and_from_a_table(write: Write, tmp_path: Path) -> None:
    trials = read_trials(write(VOXCELEB))
    assert speakers_of(trials).tolist() == [[0, 0], [0, 1], [1, 0]]
    table = tmp_path / "utt2spk"
    table.write_text("id1/a/1.wav anna\nid1/b/2.wav anna\nid2/c/3.wav ben\n")
    assert speakers_of(trials, read_utterance_table(table)).tolist() == [[0, 0], [0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"'id2/c/3.wav' has no speaker in the table \(1 of 3 utterances have none\)"):
        speakers_of(trials, {"id1/a/1.wav": "anna", "id1/b/2.wav": "anna"})
    with pytest.raises(ValueError, match=r"line 2: labelled impostor, but the speakers .* \(2 such trials\)"):
        speakers_of(trials, dict.fromkeys(trials.utterances.tolist(), "anna"))
    with pytest.raises(ValueError, match=r"'a' has no folder in it that names the speaker \(2 of 2"):
        speakers_of(read_trials(write("1 a b\n")))
    table.write_text("u anna\nv ben\nu anna\n")
    with pytest.raises(ValueError, match=r"line 3: 'u' stands there a second time"):
        read_utterance_table(table)


@given(st.lists(st.text("ab/é", min_size=1, max_size=20), min_size=1, max_size=40))
def test_ids_are_indexed_as_numpy_does_it(words: list[str]) -> None:
    column = np.array([word.encode() for word in words])
    ids, (index, backwards) = index_ids(column, column[::-1])
    expected, which = np.unique(column, return_inverse=True)
    assert ids.tolist() == expected.tolist()
    assert index.tolist() == which.tolist()
    assert backwards.tolist() == which[::-1].tolist()


def test_ids_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.array([b"a", b"b", b"a"])
    unique: Any = np.unique

    def colliding(values: Any, **options: bool) -> Any:
        return unique(np.zeros_like(values) if values.dtype == np.uint64 else values, **options)

    monkeypatch.setattr(np, "unique", colliding)
    ids, (index,) = index_ids(column)
    assert ids.tolist() == [b"a", b"b"]
    assert index.tolist() == [0, 1, 0]
