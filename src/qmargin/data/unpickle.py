"""Pickles read as data: a small machine of our own for the few opcodes that lists of images and labels need.

Python's unpickler imports what a file names and calls it. This machine imports nothing and calls nothing: a name in the
file is text, looked up in `qmargin.data._pickled_numpy.CALLS`, the table of what numpy arrays, numpy scalars and the
bytes of old protocols are made of. Any other name, opcode or type is refused by name. It holds no dict or set, follows
no nesting, and copies no payload: bytes are views of the file, so time and memory are linear in its size.
"""

import codecs
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from qmargin.data._pickled_numpy import CALLS, Name, State

MAX_OPCODES = 5_000_000  # LFW written by Python 2 as numpy arrays needs about 300,000
LONGEST_LINE = 1 << 26  # bytes of a text argument: protocol 0 writes an image as one line
MAX_DIGITS = 19  # of an integer in text: int64


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
    return _Machine(memoryview(data), source, max_opcodes).run()


@dataclass
class _Machine:
    data: memoryview
    source: str
    max_opcodes: int
    at: int = 0  # byte that is read next
    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # heights of the stack
    memo: dict[int, object] = field(default_factory=dict)
    copied: int = 0  # bytes

    def run(self) -> object:
        for _ in range(self.max_opcodes):
            start = self.at
            code = self.take(1)[0]
            if code == _STOP:
                return self._result()
            action = _ACTIONS.get(code)
            if action is None:
                self.at = start
                raise self._unknown(code)
            action(self)
        raise self.fault(f"it has more than {self.max_opcodes:,} opcodes, far more than a list of images needs")

    def fault(self, reason: str) -> ValueError:
        return ValueError(f"{self.source}, byte {self.at}: {reason}")

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise self.fault(f"{count:,} bytes should follow, {len(self.data) - self.at:,} do: the file is truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        """The bytes up to a line break, and past it."""
        piece = 1 << 8
        while piece <= LONGEST_LINE:
            text = bytes(self.data[self.at : self.at + piece])
            end = text.find(b"\n")
            if end >= 0:
                self.at += end + 1
                return text[:end]
            if self.at + piece >= len(self.data):
                raise self.fault("a line does not end: the file is truncated")
            piece *= 16
        raise self.fault(f"a line is longer than {LONGEST_LINE:,} bytes")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fault("it takes from an empty stack: the file is damaged")
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        if not self.marks:
            raise self.fault("it looks for a mark that was never set: the file is damaged")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop_tuple(self, count: int) -> tuple[object, ...]:
        return tuple([self.pop() for _ in range(count)][::-1])

    def text(self, encoded: memoryview | bytes) -> str:
        try:
            return str(encoded, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.fault(f"text is not UTF-8 ({error.reason})") from error

    def integer(self, digits: bytes) -> int:
        body = digits.removeprefix(b"-").rstrip(b"L")
        if not body.isdigit() or len(body) > MAX_DIGITS:
            raise self.fault(f"{digits[:24]!r} is no integer of up to {MAX_DIGITS} digits")
        return -int(body) if digits.startswith(b"-") else int(body)

    def name(self, module: str, attribute: str) -> None:
        full = f"{module}.{attribute}"
        if full not in CALLS:
            raise self.fault(
                f"it names {_printable(full)}, which is no part of a list of images; nothing was imported or run. "
                "Do not open this file with pickle; get the set from its authors, or make one with qmargin pack"
            )
        self.push(Name(full))

    def call(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise self.fault(f"it calls something that is no name ({type(name).__name__}); nothing was run")
        made = self._checked(lambda: CALLS[name.full](arguments))
        if isinstance(made, bytes):
            self.copied += len(made)
            if self.copied > len(self.data):  # each text is in the file and encoded once
                raise self.fault("it makes more bytes than the file has")
        self.push(made)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1] if self.stack else None
        if not isinstance(target, State):
            raise self.fault(
                f"it changes the state of a {type(target).__name__}; only numpy arrays and dtypes have one"
            )
        self._checked(lambda: target.set(state))

    def append(self, items: list[object]) -> None:
        if not self.stack or not isinstance(self.stack[-1], list):
            raise self.fault("it appends to something that is no list: the file is damaged")
        self.stack[-1].extend(items)

    def put(self, key: int) -> None:
        if not self.stack:
            raise self.fault("it remembers the top of an empty stack: the file is damaged")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise self.fault(f"it recalls entry {key}, which was never stored: the file is damaged")
        self.push(self.memo[key])

    def stack_global(self) -> None:
        module, attribute = self.pop_tuple(2)
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise self.fault("a name in it is no text")
        self.name(module, attribute)

    def _checked(self, function: Callable[[], object]) -> object:
        try:
            return function()
        except ValueError as error:
            raise self.fault(str(error)) from error

    def _result(self) -> object:
        if self.marks:
            raise self.fault("a mark is left at its end: the file is damaged")
        if len(self.stack) != 1:
            raise self.fault(f"it ends with {len(self.stack)} objects instead of one: the file is damaged")
        if self.at != len(self.data):
            raise self.fault(f"{len(self.data) - self.at:,} bytes follow the end of the pickle")
        return self.stack[0]

    def _unknown(self, code: int) -> ValueError:
        known = _KNOWN.get(code)
        if known is None:
            return self.fault(f"{code:#04x} is no opcode of a pickle: is this a .bin verification set?")
        what = f"the opcode {known.name}"
        if known.name == "INST":
            self.take(1)
            what += f" with {_printable(self.text(self.line()))}.{_printable(self.text(self.line()))}"
        return self.fault(f"{what} has no place in a list of images; nothing was imported or run")


def _printable(text: str) -> str:
    """The start of a hostile text, without what a terminal would obey."""
    return text[:100].encode("unicode_escape").decode()


def _literal(machine: _Machine) -> None:
    """STRING, the quoted and escaped bytes of protocol 0."""
    quoted = machine.line()
    if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
        raise machine.fault("a string in it is not quoted: the file is damaged")
    try:
        machine.push(codecs.escape_decode(quoted[1:-1])[0])
    except (ValueError, DeprecationWarning) as error:
        raise machine.fault(f"a string in it has a bad escape ({error})") from error


def _unicode_line(machine: _Machine) -> None:
    try:
        machine.push(str(machine.line(), "raw-unicode-escape"))
    except UnicodeDecodeError as error:
        raise machine.fault(f"text has a bad escape ({error.reason})") from error


def _integer_line(machine: _Machine) -> None:
    """INT; 00 and 01 are how protocols 0 and 1 write booleans."""
    line = machine.line()
    machine.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else machine.integer(line))


def _long(machine: _Machine) -> None:
    size = machine.unsigned(1)
    if size > 8:
        raise machine.fault(f"an integer of {size} bytes is no label and no size")
    machine.push(int.from_bytes(machine.take(size), "little", signed=True))


def _protocol(machine: _Machine) -> None:
    version = machine.unsigned(1)
    if version > 5:
        raise machine.fault(f"protocol {version} is unknown, the newest is 5")


def _frame(machine: _Machine) -> None:
    """A hint for buffered reading: the length of what follows, as it is."""
    machine.take(8)


def _sized(size: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.take(machine.unsigned(size)))


def _sized_text(size: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.text(machine.take(machine.unsigned(size))))


def _constant(value: object) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.pop_tuple(count))


def _global(machine: _Machine) -> None:
    machine.name(machine.text(machine.line()), machine.text(machine.line()))


def _list(machine: _Machine) -> None:
    machine.push(machine.pop_to_mark())


def _append(machine: _Machine) -> None:
    machine.append([machine.pop()])


def _appends(machine: _Machine) -> None:
    machine.append(machine.pop_to_mark())


_STOP = ord(".")
_KNOWN = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_BY_NAME: dict[str, Callable[[_Machine], None]] = {
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
_ACTIONS = {code: _BY_NAME[opcode.name] for code, opcode in _KNOWN.items() if opcode.name in _BY_NAME}
