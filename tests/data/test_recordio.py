"""RecordIO against its definition: the bytes are spelled out here, or cut by a parser that goes word by word."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmargin.data.recordio import (
    MAGIC,
    RecordError,
    RecordReader,
    RecordWriter,
    check_index,
    read_index,
    split_at_magic,
)

# Few different words, so that the magic one is met at every remainder of 4, twice in a row and at the ends.
PAYLOADS = st.lists(st.sampled_from([MAGIC, b"abcd", b"x", b"\n", MAGIC[:2]]), max_size=6).map(b"".join)


def written(folder: Path, *payloads: bytes) -> RecordReader:
    with RecordWriter(folder / "x.rec") as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)
    return RecordReader(folder / "x.rec")


def parsed(data: bytes) -> list[bytes]:
    """The payloads of a file, by the definition and nothing else."""
    payloads, place = [], 0
    while place < len(data):
        assert data[place : place + 4] == bytes.fromhex("0a23d7ce")
        word = struct.unpack("<I", data[place + 4 : place + 8])[0]
        flag, length = word // 2**29, word % 2**29
        part = data[place + 8 : place + 8 + length]
        place += 8 + length
        while place % 4:
            assert data[place] == 0
            place += 1
        if flag in (0, 1):
            payloads.append(part)
        else:
            payloads[-1] += bytes.fromhex("0a23d7ce") + part
    return payloads


def test_the_bytes_are_those_of_the_definition(tmp_path: Path) -> None:
    written(tmp_path, b"one", b"", b"four" + MAGIC + MAGIC + b"x")
    assert (tmp_path / "x.rec").read_bytes().hex(" ", 4) == (
        "0a23d7ce 03000000 6f6e6500 "  # "one" and a byte of padding
        "0a23d7ce 00000000 "  # nothing
        "0a23d7ce 04000020 666f7572 "  # flag 1: "four"
        "0a23d7ce 00000040 "  # flag 2: nothing between two magic words
        "0a23d7ce 01000060 78000000"  # flag 3: "x"
    )
    assert (tmp_path / "x.idx").read_text() == "0\t0\n1\t12\n2\t20\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=5))
def test_what_is_written_is_read_in_any_order(tmp_path: Path, payloads: list[bytes]) -> None:
    reader = written(tmp_path, *payloads)
    keys, offsets = read_index(tmp_path / "x.idx")
    assert keys.tolist() == list(range(len(payloads)))
    assert [bytes(reader.read(offset)) for offset in offsets[::-1]] == payloads[::-1]
    assert parsed((tmp_path / "x.rec").read_bytes()) == payloads
    assert list(reader.offsets()) == offsets.tolist()
    check_index(reader, tmp_path / "x.idx", offsets)


@given(payload=PAYLOADS)
def test_no_part_holds_a_magic_word_that_a_reader_would_take_for_a_record(payload: bytes) -> None:
    parts = split_at_magic(payload)
    assert MAGIC.join(parts) == payload
    assert all(part[place : place + 4] != MAGIC for part in parts for place in range(0, len(part), 4))
    assert all(len(part) % 4 == 0 for part in parts[:-1])


def test_a_reader_is_sent_to_other_processes_as_a_path(tmp_path: Path) -> None:
    reader = written(tmp_path, b"one", bytes(1000))
    assert bytes(reader.read(0)) == b"one"
    sent = pickle.dumps(reader)
    assert len(sent) < 300
    assert bytes(pickle.loads(sent).read(0)) == b"one"  # noqa: S301 - our own bytes
    with (tmp_path / "x.rec").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"x.rec had 1,020 bytes when its index was read and has 1,024 now"):
        pickle.loads(sent).read(0)  # noqa: S301


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError), RecordWriter(tmp_path / "x.rec") as writer:
        writer.write(0, None)  # type: ignore[arg-type] # as a fault of the caller's
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"must end in .rec, got .*x.dat"):
        RecordWriter(tmp_path / "x.dat")
    with pytest.raises(ValueError, match=r"cannot write .*nowhere/x.idx"), RecordWriter(tmp_path / "nowhere/x.rec"):
        pass


def test_a_payload_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 29

    message = r"a record holds at most 536,870,911 bytes, record 7 has 536,870,912"
    with pytest.raises(ValueError, match=message), RecordWriter(tmp_path / "x.rec") as writer:
        writer.write(7, Huge())


@pytest.mark.parametrize(
    ("place", "value", "offset", "message"),
    [
        (12, b"X", 12, r"record at byte 12 of .*x.rec has not the magic word at its start: is the file, or its index"),
        (19, b"\x80", 12, r"record at byte 12 of .* is damaged: its flag is 4, not 0 to 3"),
        (16, b"\xff\xff", 12, r"record at byte 12 of .* is cut off: it needs 65,556 bytes, the file has 56"),
        (19, b"\x40", 12, r"record at byte 12 of .* is the continuation of another"),
        (32, b"X", 20, r"record at byte 20 of .* is damaged: is the file"),
        (39, b"\x20", 20, r"record at byte 20 of .* is damaged: part 2 begins another record"),
    ],
)
def test_a_damaged_record_is_named_by_its_offset(
    tmp_path: Path, place: int, value: bytes, offset: int, message: str
) -> None:
    written(tmp_path, b"one", b"", b"four" + MAGIC + b"more" + MAGIC + b"x")
    data = bytearray((tmp_path / "x.rec").read_bytes())
    data[place : place + len(value)] = value
    (tmp_path / "x.rec").write_bytes(data)
    reader = RecordReader(tmp_path / "x.rec")
    with pytest.raises(RecordError, match=message) as caught:
        reader.read(offset)
    assert caught.value.offset == offset
    assert bytes(reader.read(0)) == b"one"  # the others can still be read


@pytest.mark.parametrize("offset", [-8, 1000, 52])
def test_an_offset_that_is_no_record_is_refused(tmp_path: Path, offset: int) -> None:
    reader = written(tmp_path, b"one", b"x" * 40)
    with pytest.raises(RecordError, match=rf"the record at byte {offset:,} of"):
        reader.read(offset)


def test_a_file_cut_off_anywhere_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    payloads = [bytes([key]) * (7 + key) for key in range(20)]
    written(tmp_path, *payloads)
    whole = (tmp_path / "x.rec").read_bytes()
    _, offsets = read_index(tmp_path / "x.idx")
    for size in range(1, len(whole)):
        (tmp_path / "x.rec").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut off.*; copy both again"):
            check_index(RecordReader(tmp_path / "x.rec"), tmp_path / "x.idx", offsets)


def test_an_index_of_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    written(tmp_path / "other", *[b"abcd" * (key % 7) for key in range(50)])
    reader = written(tmp_path, *[b"abcd" * (key % 5) for key in range(50)])
    index = tmp_path / "other" / "x.idx"
    with pytest.raises(ValueError, match=r"other/x.idx .*(is not the index of|the index is of another file)"):
        check_index(reader, index, read_index(index)[1])
    _, own = read_index(tmp_path / "x.idx")
    for part, message in (
        (own[1:], "from byte 8"),
        (own[:-1], "is not the index of .*: .*ends at .*, the file ends at"),
    ):
        with pytest.raises(ValueError, match=message):
            check_index(reader, index, part)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: was it copied whole"),
        ("0\t0\n1 12\n", r"is not an index of records: every line must be key<tab>offset"),
        ("0\t0\n1\n", "is not an index of records"),
        ("0\t0\n1\t1\t2\n", "is not an index of records"),
        ("0\t0\n1\t12.5\n", "is not an index of records"),
        ("0\t\n1\t12\n", "is not an index of records"),
        ("a\t0\n", "is not an index of records"),
        ("0\t0\n0\t12\n", "lists the key 0 twice"),
        ("0\t12\n1\t12\n", "lists the offset 12 twice"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.idx").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_index(tmp_path / "x.idx")


def test_an_index_is_sorted_by_key_whatever_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "x.idx").write_bytes(b"5\t12\r\n0\t40\r\n12\t0")
    keys, offsets = read_index(tmp_path / "x.idx")
    assert (keys.tolist(), offsets.tolist()) == ([0, 5, 12], [40, 12, 0])
    assert keys.dtype == offsets.dtype == np.int64


def test_files_that_are_not_there_or_empty_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the record file .*x.rec: No such file"):
        RecordReader(tmp_path / "x.rec")
    with pytest.raises(ValueError, match=r"cannot read the index .*x.idx: No such file .*needs its .idx"):
        read_index(tmp_path / "x.idx")
    (tmp_path / "x.rec").touch()
    with pytest.raises(ValueError, match=r"x.rec is empty: it holds no record"):
        RecordReader(tmp_path / "x.rec")
