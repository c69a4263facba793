"""Pickles read as data: a small machine of our own for the few opcodes that lists of images and labels need.

Python's unpickler imports what a file names and calls it. This machine imports nothing and calls nothing: a name in the
file is text, looked up in `qmargin.data._pickled_numpy.CALLS`, the table of what numpy arrays, numpy scalars and the
bytes of old protocols are made of. Any other name, opcode or type is refused by name. It holds no dict or set, follows
no nesting, and copies no payload: bytes are views of the file, so time and memory are linear in its size.
"""

import codecs
import struct
from collections.abc import Callable

from qmargin.data._pickle_machine import OPCODES, Machine

MAX_OPCODES = 5_000_000  # LFW written by Python 2 as numpy arrays needs about 300,000


def unpickle(data: bytes, source: str, max_opcodes: int = MAX_OPCODES) -> object:
    """Read a pickle of lists, tuples, bytes, text, integers, booleans, None and numpy arrays of integers or booleans.

    Args:
        data: the whole file.
        source: what errors call it.
        max_opcodes: a longer program is refused.

    Returns:
        Lists and tuples; bytes as memoryviews of `data` (bytes where the file escapes them, as protocol 0 does); arrays
        as `PickledArray`; numpy scalars as Python numbers. A list may hold itself: do not follow nesting blindly.

    Raises:
        ValueError: the file names anything else (`module.name` is in the message), uses an opcode that such data does
            not need, is truncated, or is longer than a limit. Nothing it names was imported or called.

    Example:
        >>> import os, pickle
        >>> unpickle(pickle.dumps(([1, None], True)), "mine")
        ([1, None], True)
        >>> unpickle(pickle.dumps(os.system), "theirs")
        Traceback (most recent call last):
        ValueError: theirs, byte ...: it names posix.system, which is no part of a list of images; ...
    """
    return Machine(memoryview(data), source, max_opcodes).run(_ACTIONS)


def _literal(machine: Machine) -> None:
    """STRING, the quoted and escaped bytes of protocol 0."""
    quoted = machine.line()
    if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
        raise machine.fault("a string in it is not quoted: the file is damaged")
    try:
        machine.push(codecs.escape_decode(quoted[1:-1])[0])
    except (ValueError, DeprecationWarning) as error:
        raise machine.fault(f"a string in it has a bad escape ({error})") from error


def _unicode_line(machine: Machine) -> None:
    try:
        machine.push(str(machine.line(), "raw-unicode-escape"))
    except UnicodeDecodeError as error:
        raise machine.fault(f"text has a bad escape ({error.reason})") from error


def _integer_line(machine: Machine) -> None:
    """INT; 00 and 01 are how protocols 0 and 1 write booleans."""
    line = machine.line()
    machine.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else machine.integer(line))


def _long(machine: Machine) -> None:
    size = machine.unsigned(1)
    if size > 8:
        raise machine.fault(f"an integer of {size} bytes is no label and no size")
    machine.push(int.from_bytes(machine.take(size), "little", signed=True))


def _protocol(machine: Machine) -> None:
    version = machine.unsigned(1)
    if version > 5:
        raise machine.fault(f"protocol {version} is unknown, the newest is 5")


def _frame(machine: Machine) -> None:
    """A hint for buffered reading: the length of what follows, as it is."""
    machine.take(8)


def _sized(size: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.take(machine.unsigned(size)))


def _sized_text(size: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.text(machine.take(machine.unsigned(size))))


def _constant(value: object) -> Callable[[Machine], None]:
    return lambda machine: machine.push(value)


def _tuple_of(count: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.pop_tuple(count))


def _global(machine: Machine) -> None:
    machine.name(machine.text(machine.line()), machine.text(machine.line()))


def _list(machine: Machine) -> None:
    machine.push(machine.pop_to_mark())


def _append(machine: Machine) -> None:
    machine.append([machine.pop()])


def _appends(machine: Machine) -> None:
    machine.append(machine.pop_to_mark())


_BY_NAME: dict[str, Callable[[Machine], None]] = {
    "PROTO": _protocol,
    "FRAME": _frame,
    "MARK": lambda machine: machine.marks.append(len(machine.stack)),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "INT": _integer_line,
    "LONG": lambda machine: machine.push(machine.integer(machine.line())),
    "LONG1": _long,
    "BININT": lambda machine: machine.push(struct.unpack("<i", machine.take(4))[0]),
    "BININT1": lambda machine: machine.push(machine.unsigned(1)),
    "BININT2": lambda machine: machine.push(machine.unsigned(2)),
    "STRING": _literal,
    "SHORT_BINSTRING": _sized(1),
    "BINSTRING": _sized(4),
    "SHORT_BINBYTES": _sized(1),
    "BINBYTES": _sized(4),
    "BINBYTES8": _sized(8),
    "BYTEARRAY8": _sized(8),
    "UNICODE": _unicode_line,
    "SHORT_BINUNICODE": _sized_text(1),
    "BINUNICODE": _sized_text(4),
    "BINUNICODE8": _sized_text(8),
    "EMPTY_LIST": lambda machine: machine.push([]),
    "LIST": _list,
    "APPEND": _append,
    "APPENDS": _appends,
    "EMPTY_TUPLE": _constant(()),
    "TUPLE": lambda machine: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "PUT": lambda machine: machine.put(machine.integer(machine.line())),
    "BINPUT": lambda machine: machine.put(machine.unsigned(1)),
    "LONG_BINPUT": lambda machine: machine.put(machine.unsigned(4)),
    "MEMOIZE": lambda machine: machine.put(len(machine.memo)),
    "GET": lambda machine: machine.get(machine.integer(machine.line())),
    "BINGET": lambda machine: machine.get(machine.unsigned(1)),
    "LONG_BINGET": lambda machine: machine.get(machine.unsigned(4)),
    "GLOBAL": _global,
    "STACK_GLOBAL": lambda machine: machine.stack_global(),
    "REDUCE": lambda machine: machine.call(),
    "BUILD": lambda machine: machine.build(),
}
_ACTIONS = {code: _BY_NAME[opcode.name] for code, opcode in OPCODES.items() if opcode.name in _BY_NAME}
