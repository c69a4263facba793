"""Which quality measures a command was given, for each utterance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.calibration import quality_columns
from qmargin.protocols.trial_lists import read_utterance_table

Floats = NDArray[np.floating]


def read_durations(path: Path, utterances: NDArray[np.str_]) -> NDArray[np.float64]:
    """Seconds (utterances,) from `utt seconds` lines; a ValueError names the first missing or malformed one."""
    table = read_utterance_table(path)
    lost = [name for name in utterances.tolist() if name not in table]
    if lost:
        raise ValueError(f"{path} has no duration of {lost[0]!r}; {len(lost)} of {len(utterances)} are missing")
    try:
        return np.array([float(table[name]) for name in utterances.tolist()])
    except ValueError as error:
        raise ValueError(f"{path}: a duration is no number of seconds ({error})") from error


def measures(
    utterances: NDArray[np.str_], durations: Path | None, norms: Floats, columns: Sequence[str]
) -> dict[str, Floats]:
    """The measures (utterances,) that a calibration's columns name."""
    known: dict[str, Floats] = {}
    if any(name.endswith(" duration") for name in columns):
        if durations is None:
            raise ValueError("this calibration uses durations: give --durations, a file of `utt seconds` lines")
        known["duration"] = read_durations(durations, utterances)
    if any(name.endswith(" norm") for name in columns):
        known["norm"] = norms
    return known


def quality_of(
    known: Mapping[str, Floats], first: NDArray[np.integer], second: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """Columns (trials,) of all measures."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name, measure in known.items():
        columns |= quality_columns(name, measure, first, second)
    return columns
