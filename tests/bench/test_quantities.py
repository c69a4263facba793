"""Numbers as people write them, and what is refused."""

import pytest

from qmargin.bench.quantities import bytes_text, operations_text, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e6", 2_000_000),
        ("93_431", 93_431),
        ("512", 512),
        (" 1.5e3 ", 1500),
        ("1e0", 1),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_counts(text: str, value: int) -> None:
    assert parse_count(text, "--classes") == value


@pytest.mark.parametrize("text", ["", "many", "0", "-3", "1.5", "inf", "nan", "80GB", "2e6 classes"])
def test_what_is_no_count_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(ValueError, match="--dim must be a whole number >= 1, written like 2e6, 93_431 or 512: got '"):
        parse_count(text, "--dim")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80GB", 80 * 1000**3),
        ("24GiB", 24 * 1024**3),
        ("24 GiB", 24 * 1024**3),
        ("1.5kB", 1500),
        ("1e2MB", 100_000_000),
        ("7B", 7),
        ("2TiB", 2 * 1024**4),
    ],
)
def test_sizes_of_memory(text: str, value: int) -> None:
    assert parse_bytes(text, "--device-memory") == value


@pytest.mark.parametrize(
    "text", ["80", "GB", "80gb", "80 Gb", "80KB", "-1GB", "0GB", "0.1B", "many GB", "infGB", "80GBs"]
)
def test_a_size_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--device-memory must be a size of memory with its unit, written like 80GB"):
        parse_bytes(text, "--device-memory")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1000, "1 kB"), (1_090_000_000, "1.09 GB"), (3e16, "3e+04 TB")],
)
def test_sizes_are_told_in_three_digits(size: float, text: str) -> None:
    assert bytes_text(size) == text


def test_operations_have_their_own_unit() -> None:
    assert operations_text(2.5e12) == "2.5 TFLOP"
