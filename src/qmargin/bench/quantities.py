"""Numbers as people write them: counts (`2e6`, `93_431`) and sizes of memory (`80GB`, `24GiB`)."""

import re
from decimal import Decimal, InvalidOperation

UNITS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", start=1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


def parse_count(text: str, name: str) -> int:
    """A whole number >= 1 from `text`; `name` is what it counts, for the error.

    Raises:
        ValueError: not a number, not whole, or below 1.

    Example:
        >>> parse_count("2e6", "--classes"), parse_count("93_431", "--classes")
        (2000000, 93431)
    """
    value = _decimal(text)
    if value is None or value < 1 or value != int(value):
        raise ValueError(f"{name} must be a whole number >= 1, written like 2e6, 93_431 or 512: got {text!r}")
    return int(value)


def parse_bytes(text: str, name: str) -> int:
    """Bytes from a number with a unit: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024.

    Raises:
        ValueError: no number, no unit or one that is not listed, or less than one byte.

    Example:
        >>> parse_bytes("80GB", "--device-memory"), parse_bytes("1.5 GiB", "--device-memory")
        (80000000000, 1610612736)
    """
    match = re.fullmatch(r"\s*([-+.\w]*?)\s*([KkMGT]?i?B)\s*", text)
    value = _decimal(match[1]) if match else None
    if match is None or value is None or match[2] not in UNITS or value * UNITS[match[2]] < 1:
        raise ValueError(
            f"{name} must be a size of memory with its unit, written like 80GB (80 * 1000**3 bytes) or 24GiB "
            f"(24 * 1024**3 bytes); units are {', '.join(UNITS)}: got {text!r}"
        )
    return int(value * UNITS[match[2]])


def bytes_text(size: float) -> str:
    """Bytes in the largest power of 1000 that leaves at least one: `2.05 GB`.

    Example:
        >>> bytes_text(2_048_000_000), bytes_text(512), bytes_text(0)
        ('2.05 GB', '512 B', '0 B')
    """
    return _scaled(size, "B")


def operations_text(operations: float) -> str:
    """Operations, likewise.

    Example:
        >>> operations_text(1.31e11)
        '131 GFLOP'
    """
    return _scaled(operations, "FLOP")


def _scaled(value: float, unit: str) -> str:
    for power, letter in enumerate(["", "k", "M", "G", "T"]):
        if abs(value) < 999.5 * 1000**power or letter == "T":
            return f"{value / 1000**power:.3g} {letter}{unit}"
    raise AssertionError("unreachable: T takes every number")


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
