"""The machine that reads pickles as data: what it reads, and that it imports and calls nothing.

QMARGIN_FUZZ=100000 pytest tests/data/test_unpickle.py -k mutation   tries as many mutations as the variable says.
"""

import builtins
import codecs
import functools
import operator
import os
import pickle
import pickletools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qmargin.data import unpickle
from qmargin.data._pickled_numpy import CALLS, PickledArray

MUTATIONS = int(os.environ.get("QMARGIN_FUZZ", "3000"))
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def plain(value: object) -> object:
    """Views as bytes, arrays as arrays."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, PickledArray):
        return value.values
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_and_labels_are_read_in_every_protocol(protocol: int) -> None:
    document = ([b"\xff\xd8 one\n", b"", b"x" * 300], [True, False, True], None, -7, 70_000, 2**40, -(2**40), "täxt")
    if protocol < 3:  # Python 3 writes b"" by calling bytes()
        document = (document[0][::2], *document[1:])
    assert plain(unpickle(pickle.dumps(document, protocol), "x")) == document


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(256, dtype=np.uint8),
        np.arange(6, dtype=np.uint8).reshape(-1, 1),
        np.array([True, False]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    ],
    ids=["bytes", "column", "booleans", "big endian", "Fortran order"],
)
def test_arrays_are_read_in_every_protocol(protocol: int, array: NDArray[Any]) -> None:
    read = unpickle(pickle.dumps(array, protocol), "x")
    assert isinstance(read, PickledArray)
    assert_array_equal(read.values, array)
    assert read.values.dtype == array.dtype


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_become_python_numbers(protocol: int) -> None:
    read = unpickle(pickle.dumps([np.bool_(True), np.int64(-3)], protocol), "x")
    assert read == [True, -3]
    assert isinstance(read, list)
    assert isinstance(read[0], bool)


def test_what_python_2_wrote_is_read() -> None:
    """Protocol 2 with byte strings and the old names of numpy, written opcode by opcode."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03abctb"
    )
    read = unpickle(b"\x80\x02](U\x03jpgT\x02\x00\x00\x00hi" + array + b"e.", "x")
    assert isinstance(read, list)
    assert [plain(item) for item in read[:2]] == [b"jpg", b"hi"]
    assert bytes(read[2].values) == b"abc"


def test_payloads_are_views_of_the_file() -> None:
    data = pickle.dumps([b"x" * 10_000])
    images = unpickle(data, "x")
    assert isinstance(images, list)
    assert isinstance(images[0], memoryview)
    assert images[0].obj is data


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.called


def hostile(marker: Path) -> dict[str, tuple[object, str]]:
    """Objects that do harm when unpickled, and the name that the refusal must say."""
    touch = f"touch '{marker}'"
    write = f"open({str(marker)!r}, 'w')"
    getter = Call(getattr, Call(__import__, "os"), "system")
    return {
        "os.system": (Call(os.system, touch), "posix.system"),
        "eval": (Call(eval, write), "builtins.eval"),
        "exec": (Call(exec, write), "builtins.exec"),
        "getattr chain": (getter, "builtins."),
        "import": (Call(__import__, "os"), "builtins.__import__"),
        "partial": (Call(functools.partial, os.system, touch), "functools.partial"),
        "attrgetter": (Call(operator.attrgetter("system"), os), "operator.attrgetter"),
        "numpy.load": (Call(np.load, str(marker)), "numpy.load"),
        "numpy.fromfile": (Call(np.memmap, str(marker), "u1", "w+", 0, (1,)), "numpy.memmap"),
        "numpy testing": (Call(np.testing.measure, write), "numpy.testing._private.utils.measure"),
        "codecs.open": (Call(codecs.open, str(marker), "w"), "codecs.open"),
        "a class": (Path("x"), "Path"),
        "a lambda's code": (Call(compile, "1", "x", "eval"), "builtins.compile"),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", sorted(set(hostile(Path("x"))) - {"attrgetter"}))
def test_hostile_pickles_are_refused_by_name_and_nothing_is_run(tmp_path: Path, kind: str, protocol: int) -> None:
    marker = tmp_path / "was-run"
    if kind == "numpy.load":
        marker = tmp_path / "absent"
    thing, name = hostile(marker)[kind]
    data = pickle.dumps(([b"image", thing], [True]), protocol, fix_imports=False)
    with pytest.raises(ValueError, match=rf"x, byte \d+: it names .*{name}.*nothing was imported or run"):
        unpickle(data, "x")
    assert not marker.exists()


def test_the_hostile_pickle_of_the_tests_works_on_the_ordinary_unpickler(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    pickle.loads(pickle.dumps(hostile(marker)["os.system"][0]))  # noqa: S301 - that it is dangerous is the point
    assert marker.exists()


def test_no_module_is_imported() -> None:
    absent = "this_is_no_module"
    before = set(sys.modules)
    for module in (absent, "antigravity", "turtle"):
        with pytest.raises(ValueError, match=rf"it names {module}\.x"):
            unpickle(b"c" + module.encode() + b"\nx\n.", "x")
    assert set(sys.modules) == before


def test_the_terminal_is_not_written_to_by_a_name() -> None:
    with pytest.raises(ValueError, match=r"it names \\x1b\[31mred\.x, which") as refusal:
        unpickle(b"c\x1b[31mred\nx\n.", "x")
    assert "\x1b" not in str(refusal.value)


def frombuffer(dtype: bytes, shape: bytes, payload: bytes = b"B\x04\x00\x00\x00abcd") -> bytes:
    start = b"\x80\x05cnumpy._core.numeric\n_frombuffer\n("
    return (
        start
        + payload
        + b"cnumpy\ndtype\nX"
        + len(dtype).to_bytes(4, "little")
        + dtype
        + b"\x85R"
        + shape
        + b"U\x01CtR."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"a": 1}), "the opcode EMPTY_DICT has no place in a list of images"),
        (pickle.dumps({1, 2}), "the opcode EMPTY_SET has no place"),
        (pickle.dumps(1.5), "the opcode BINFLOAT has no place"),
        (b"(ios\nsystem\n.", "the opcode INST with os.system has no place .* nothing was imported or run"),
        (b"\x80\x02)\x81.", "the opcode NEWOBJ has no place"),
        (b"\x82\x01.", "the opcode EXT1 has no place"),
        (b"Pid\n.", "the opcode PERSID has no place"),
        (b"\xff\xd8\xff", "0xff is no opcode of a pickle: is this a .bin verification set"),
        (b"", "1 bytes should follow, 0 do: the file is truncated"),
        (b"B\xff\xff\xff\x7fabc.", "2,147,483,647 bytes should follow, 4 do: the file is truncated"),
        (b"\x8e" + b"\xff" * 8 + b".", "18,446,744,073,709,551,615 bytes should follow"),
        (b"cos", "a line does not end: the file is truncated"),
        (b"\x80\x09.", "protocol 9 is unknown"),
        (b"\x8a\x09123456789.", "an integer of 9 bytes is no label"),
        (b"I" + b"9" * 5000 + b"\n.", "is no integer of up to 19 digits"),
        (b"e.", "a mark that was never set"),
        (b"0.", "the opcode POP has no place"),
        (b"K\x01a.", "appends to something"),
        (b"K\x01K\x02a.", "appends to something that is no list"),
        (b"(K\x01\x85.", "a mark is left"),
        (b"(\x85.", "takes from an empty stack"),
        (b"h\x05.", "recalls entry 5, which was never stored"),
        (b"q\x05.", "remembers the top of an empty stack"),
        (b".", "ends with 0 objects"),
        (b"K\x01K\x02.", "ends with 2 objects"),
        (b"K\x01.rest", "4 bytes follow the end of the pickle"),
        (b"K\x01)R.", "calls something that is no name"),
        (b"cnumpy\nndarray\n(K\x09tR.", "calls numpy.ndarray itself"),
        (b"]K\x01b.", "changes the state of a list"),
        (b"K\x01K\x02\x93.", "a name in it is no text"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.", "encodes text in another way"),
        (b"X\x02\x00\x00\x00\xff\xfe.", "text is not UTF-8"),
        (b"S'abc\n.", "a string in it is not quoted"),
        (b"S'\\x1'\n.", "bad escape"),
        (b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "numpy data of type 'O'"),
        (b"cnumpy\ndtype\n)R.", "a numpy dtype in it has no code"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "makes a numpy object that is no plain array"),
        (frombuffer(b"u1", b"K\x05\x85"), "has 4 bytes, its shape needs 5"),
        (frombuffer(b"u1", b"J\xff\xff\xff\xff\x85"), "or one that is no size"),
        (frombuffer(b"i4", b"\x8a\x07" + b"\xff" * 6 + b"\x7f" + b"\x85"), "has 4 bytes, its shape needs"),
        (frombuffer(b"u1", b"(K\x01K\x01K\x01K\x01K\x04t"), "has 5 dimensions"),
        (frombuffer(b"u1", b"K\x00\x8a\x07" + b"\xff" * 6 + b"\x7f\x86"), "has 4 bytes, its shape needs 0"),
        (frombuffer(b"u1", b"K\x00\x85", b"C\x00"), "a numpy array in it is empty"),
        (pickle.dumps(np.array([object()])), "numpy data of type 'O8'"),
        (pickle.dumps(np.array(["a"])), "numpy data of type 'U1'"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_strange_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^mine, byte \d+: .*({message})"):
        unpickle(data, "mine")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_refused(protocol: int) -> None:
    data = pickle.dumps(([b"image one", np.arange(3, dtype=np.uint8)], [True, np.bool_(False)]), protocol)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="mine, byte"):
            unpickle(data[:length], "mine")


def test_a_list_that_holds_itself_and_deep_nesting_do_not_recurse() -> None:
    own: list[object] = []
    own.append(own)
    read = unpickle(pickle.dumps(own), "x")
    assert isinstance(read, list)
    assert read[0] is read
    deep = unpickle(b")" + b"\x85" * 200_000 + b".", "x")
    assert isinstance(deep, tuple)
    doubled = unpickle(b")" + b"q\x00h\x00\x86" * 1000 + b".", "x")  # a tuple of 2^1000 leaves, if it were followed
    assert isinstance(doubled, tuple)


def test_the_number_of_opcodes_and_the_copied_bytes_are_limited() -> None:
    with pytest.raises(ValueError, match="it has more than 100 opcodes"):
        unpickle(b"N" * 200 + b".", "x", max_opcodes=100)
    text = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000
    once = b"h\x00h\x01h\x02\x86R"  # encodes the same text again
    start = b"c_codecs\nencode\nq\x00" + text + b"q\x01X\x06\x00\x00\x00latin1q\x02("
    with pytest.raises(ValueError, match="it makes more bytes than the file has"):
        unpickle(start + once * 50 + b"l.", "x")


def test_only_the_parts_of_arrays_have_names() -> None:
    """A new name is a decision: this list is the whole of what a file may say."""
    assert sorted(CALLS) == [
        "_codecs.encode",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
    ]


def seeds() -> list[bytes]:
    """Sound and hostile pickles to mutate."""
    sound = ([b"\xff\xd8image", np.arange(9, dtype=np.uint8)] * 3, [True, np.bool_(False), 1], np.array([True]))
    bad = [thing for kind, (thing, _) in hostile(Path("never")).items() if kind != "attrgetter"]
    return [pickle.dumps(thing, protocol) for thing in (*[sound] * len(bad), *bad) for protocol in PROTOCOLS]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, an opcode put in, a piece removed, doubled or swapped, or the end cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 6))):
        at = chance.randrange(len(changed) + 1)
        length = chance.randint(1, 12)
        action = chance.randrange(6)
        if action == 0 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif action == 1:
            changed[at:at] = chance.choice(pickletools.opcodes).code.encode("latin-1")
        elif action == 2:
            del changed[at : at + length]
        elif action == 3:
            changed[at:at] = changed[at : at + length] * chance.randint(1, 40)
        elif action == 4:
            changed[at : at + 8] = chance.choice((b"\xff" * 8, b"\x7f" * 4, b"\x00" * 8, b"\n", b"(((("))
        else:
            del changed[max(at, 1) :]
        changed = changed or bytearray(b".")
    return bytes(changed)


def test_mutations_are_read_or_refused_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, sources, imported = random.Random(0), seeds(), builtins.__import__  # noqa: S311 - to be repeated
    allowed = {"_codecs", "codecs", "encodings", "numpy"}

    def watched(name: str, *rest: object, **named: object) -> object:
        assert name.partition(".")[0] in allowed, name
        return imported(name, *rest, **named)  # type: ignore[arg-type] # passed on as it came

    for data in sources:  # Python loads the codecs that we name ourselves
        outcome(unpickle, data)
    outcomes = {"read": 0, "refused": 0}
    slowest = 0.0
    for _ in range(MUTATIONS):
        data = mutate(chance.choice(sources), chance)
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", watched)
            began = time.process_time()
            result = outcome(unpickle, data)
            outcomes[result] = outcomes.get(result, 0) + 1
            slowest = max(slowest, time.process_time() - began)
    assert set(outcomes) == {"read", "refused"}, outcomes
    assert min(outcomes.values()) > MUTATIONS / 1000, outcomes
    assert slowest < 1.0
    assert not Path("never").exists()


def outcome(read: Callable[[bytes, str], object], data: bytes) -> str:
    try:
        read(data, "mutated")
    except ValueError as error:
        return "refused" if str(error).startswith("mutated, byte ") else "refused without a place"
    return "read"
