"""The machine under `qmargin.data.unpickle`: stack, marks and memo, and the few steps that opcodes are made of."""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qmargin.data._pickled_numpy import CALLS, Name, State

LONGEST_LINE = 1 << 26  # bytes of a text argument: protocol 0 writes an image as one line
MAX_DIGITS = 19  # of an integer in text: int64
STOP = ord(".")
OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}


@dataclass
class Machine:
    """The state of one reading: the program, where it is, the stack, the marks in it and the memo.

    Every method either does its small step or raises the ValueError that names the byte.
    """

    data: memoryview
    source: str
    max_opcodes: int
    at: int = 0  # byte that is read next
    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # heights of the stack
    memo: dict[int, object] = field(default_factory=dict)
    copied: int = 0  # bytes

    def run(self, actions: Mapping[int, Callable[["Machine"], None]]) -> object:
        """Take opcodes until STOP; `actions` says what each one does."""
        for _ in range(self.max_opcodes):
            start = self.at
            code = self.take(1)[0]
            if code == STOP:
                return self._result()
            action = actions.get(code)
            if action is None:
                self.at = start
                raise self._unknown(code)
            action(self)
        raise self.fault(f"it has more than {self.max_opcodes:,} opcodes, far more than a list of images needs")

    def fault(self, reason: str) -> ValueError:
        """The error at the byte that is read next."""
        return ValueError(f"{self.source}, byte {self.at}: {reason}")

    def take(self, count: int) -> memoryview:
        """The next bytes, a view."""
        if count > len(self.data) - self.at:
            raise self.fault(f"{count:,} bytes should follow, {len(self.data) - self.at:,} do: the file is truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, size: int) -> int:
        """The next bytes as an integer, least byte first."""
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
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> object:
        """Take the top of the stack, not beyond the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fault("it takes from an empty stack: the file is damaged")
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        """Take what lies above the last mark, and the mark."""
        if not self.marks:
            raise self.fault("it looks for a mark that was never set: the file is damaged")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop_tuple(self, count: int) -> tuple[object, ...]:
        """Take the topmost values, in the order they were put."""
        return tuple([self.pop() for _ in range(count)][::-1])

    def text(self, encoded: memoryview | bytes) -> str:
        """Bytes of the program as text."""
        try:
            return str(encoded, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.fault(f"text is not UTF-8 ({error.reason})") from error

    def integer(self, digits: bytes) -> int:
        """Digits as an integer of int64."""
        body = digits.removeprefix(b"-").rstrip(b"L")
        if not body.isdigit() or len(body) > MAX_DIGITS:
            raise self.fault(f"{digits[:24]!r} is no integer of up to {MAX_DIGITS} digits")
        return -int(body) if digits.startswith(b"-") else int(body)

    def name(self, module: str, attribute: str) -> None:
        """Put a name on the stack if the table has it."""
        full = f"{module}.{attribute}"
        if full not in CALLS:
            raise self.fault(
                f"it names {_printable(full)}, which is no part of a list of images; nothing was imported or run. "
                "Do not open this file with pickle; get the set from its authors, or make one with qmargin pack"
            )
        self.push(Name(full))

    def call(self) -> None:
        """REDUCE: what the table's function makes of the arguments."""
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
        """BUILD: set the state of an array or a dtype."""
        state, target = self.pop(), self.stack[-1] if self.stack else None
        if not isinstance(target, State):
            raise self.fault(
                f"it changes the state of a {type(target).__name__}; only numpy arrays and dtypes have one"
            )
        self._checked(lambda: target.set(state))

    def append(self, items: list[object]) -> None:
        """Put values at the end of the list on the stack."""
        if not self.stack or not isinstance(self.stack[-1], list):
            raise self.fault("it appends to something that is no list: the file is damaged")
        self.stack[-1].extend(items)

    def put(self, key: int) -> None:
        """Remember the top of the stack."""
        if not self.stack:
            raise self.fault("it remembers the top of an empty stack: the file is damaged")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        """Recall what was remembered."""
        if key not in self.memo:
            raise self.fault(f"it recalls entry {key}, which was never stored: the file is damaged")
        self.push(self.memo[key])

    def stack_global(self) -> None:
        """STACK_GLOBAL: a name whose two parts are on the stack."""
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
        known = OPCODES.get(code)
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
