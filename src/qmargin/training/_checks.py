"""What every config of a training checks of its numbers."""


def at_least(name: str, value: int, low: int) -> None:
    """An integer >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")


def above(name: str, value: float, low: float) -> None:
    """A finite number > low."""
    if not low < value < float("inf"):
        raise ValueError(f"{name} must be a finite number > {low:g}, got {value!r}")


def in_range(name: str, value: float, low: float, high: float) -> None:
    """A number in [low, high)."""
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")
