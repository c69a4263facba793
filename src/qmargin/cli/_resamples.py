"""What the commands that resample subjects share: the check of `--resamples`, and a bar that shows how far it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qmargin.metrics import Progress as Advance
from qmargin.metrics import resample_steps

FEWEST_RESAMPLES = 40  # so that each tail of a 95 % interval holds one


def check_resamples(resamples: int, *, may_be_none: bool = False) -> None:
    """Refuse too few draws before hours of work, not after; 0, no intervals, passes where there may be none."""
    if resamples < FEWEST_RESAMPLES and not (may_be_none and resamples == 0):
        or_none = ", or 0 for none" if may_be_none else ""
        raise ValueError(
            f"--resamples must be at least {FEWEST_RESAMPLES} for a 95 % interval{or_none}, got {resamples}"
        )


@contextmanager
def resampling_bar(resamples: int, passes: int = 1) -> Iterator[Advance]:
    """Yield what advances a bar on standard error; it vanishes when done.

    Args:
        resamples: as given to the bootstrap.
        passes: how many bootstraps share the bar.
    """
    columns = (TextColumn("resampling subjects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=passes * resample_steps(resamples))
        yield lambda done: bar.advance(task, done)
