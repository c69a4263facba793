"""What the configs of this stage check: numbers of pixels, threads and samples."""


def check_counts(owner: str, low: int, **counts: int) -> None:
    """Each count is an integer >= low; a ValueError names the owner and the field."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"{owner}.{name} must be an integer >= {low}, got {value!r}")


def first_few(items: list[str], shown: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    rest = f" and {len(items) - shown:,} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + rest
