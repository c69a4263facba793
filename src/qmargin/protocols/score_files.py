"""Score files: trials with a score each, in the column orders in use; and the text they are written as.

Conventions:
    "wespeaker": `enrol test score target|nontarget`; "speechbrain": `enrol test 1|0 score`; "kaldi": `utt utt score`,
    without labels, to be joined to a trial list by the pair of utterances. Higher scores are more alike. Scores are
    written with nine significant digits, so that a float32 comes back as it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qmargin._files import replacing
from qmargin.protocols._columns import Columns, Fields, index_ids, read_columns, text
from qmargin.protocols.trial_lists import TrialList, check_layout, refuse_repeats

ScoreLayout = Literal["wespeaker", "speechbrain", "kaldi"]
LABELLED: dict[str, tuple[str, int, tuple[bytes, bytes]]] = {
    "wespeaker": ("enrol test score target|nontarget", 3, (b"target", b"nontarget")),
    "speechbrain": ("enrol test 1|0 score", 2, (b"1", b"0")),
}
UNLABELLED: dict[str, tuple[str, int, tuple[bytes, bytes]]] = {"kaldi": ("utt utt score", 2, (b"", b""))}
WRITTEN = {
    "wespeaker": "{a} {b} {s:.9g} {word}\n",
    "speechbrain": "{a} {b} {y} {s:.9g}\n",
    "kaldi": "{a} {b} {s:.9g}\n",
}
WRITE_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class ScoredTrials:
    """Scores and labels of a score file, in its order."""

    scores: NDArray[np.float64]  # (trials,)
    labels: NDArray[np.bool_]  # (trials,) True = genuine
    first: Fields  # (trials,) ids, as bytes
    second: Fields


def read_scores(path: Path, layout: ScoreLayout | None = None) -> ScoredTrials:
    r"""Read a score file that carries its labels (four columns).

    Args:
        path: of the file.
        layout: "wespeaker" or "speechbrain"; None reads it off the label column.

    Returns:
        Scores and labels in the order of the file.

    Raises:
        ValueError: naming file and line: a line with other than four columns, an unknown label, a score that is no
            finite number, the same pair twice; or a layout that is unknown or cannot be told.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "scores")
        ...     _ = path.write_text("anna-1 anna-2 0.61234 target\nanna-1 ben-7 0.02 nontarget\n")
        ...     scored = read_scores(path)
        >>> scored.scores, scored.labels
        (array([0.61234, 0.02   ]), array([ True, False]))

    See also `join_scores`, for files without labels.
    """
    table = read_columns(path, (4,), " or ".join(line for line, _, _ in LABELLED.values()))
    _, column, words = LABELLED[_layout_of(table) if layout is None else check_layout(layout, LABELLED)]
    labels = table.labels(column, words)
    scores = table.numbers(5 - column, "the score")
    ids, (first, second) = index_ids(*table.columns[:2])
    refuse_repeats(table, first, second, len(ids))
    return ScoredTrials(scores, labels, *table.columns[:2])


def join_scores(path: Path, trials: TrialList) -> NDArray[np.float64]:
    """Scores (trials,) of a list from a file of `utt utt score` or of four columns, found by the pair of utterances.

    Args:
        path: of the score file, in any order.
        trials: the list that says which trials count; labels of a four-column file are compared with its own.

    Raises:
        ValueError: a trial without a score, a score without a trial (the first is named, all are counted), a pair
            twice, another label than the list's, or a malformed line.
    """
    table = read_columns(path, (3, 4), "utt utt score, or four columns with a label")
    labelled = len(table.columns) == 4
    scored = read_scores(path) if labelled else None
    scores = table.numbers(2, "the score") if scored is None else scored.scores
    wanted = np.char.encode(trials.utterances, "utf-8")
    ids, columns = index_ids(*table.columns[:2], wanted)
    first, second, known = columns
    refuse_repeats(table, first, second, len(ids))
    have = first.astype(np.int64) * len(ids) + second
    want = known[trials.first].astype(np.int64) * len(ids) + known[trials.second]
    _refuse_strangers(table, trials, have, want)
    order = np.argsort(have)
    found = order[np.searchsorted(have, want, sorter=order)]
    if scored is not None and (differing := scored.labels[found] != trials.labels).any():
        row = int(found[int(differing.argmax())])
        raise table.refusal(row, f"another label than in {trials.path} ({np.count_nonzero(differing)} such trials)")
    joined: NDArray[np.float64] = scores[found]
    return joined


def write_scores(path: Path, trials: TrialList, scores: NDArray[np.floating], layout: ScoreLayout) -> None:
    """Write the scores of a list in one of the layouts, atomically.

    Args:
        path: of the file.
        trials: the list.
        scores: (trials,), in its order.
        layout: "wespeaker", "speechbrain" or "kaldi".

    Raises:
        ValueError: an unknown layout, another number of scores, or a file that cannot be written.
    """
    check_layout(layout, LABELLED | UNLABELLED)
    if scores.shape != (len(trials),):
        raise ValueError(f"one score for each of {len(trials)} trials is needed, got shape {scores.shape}")
    line, words = WRITTEN[layout], {True: "target", False: "nontarget"}
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for start in range(0, len(trials), WRITE_ROWS):
            part = slice(start, start + WRITE_ROWS)
            sides = (trials.utterances[side[part]].tolist() for side in (trials.first, trials.second))
            rows = zip(*sides, scores[part].tolist(), trials.labels[part].tolist(), strict=True)
            file.writelines(line.format(a=a, b=b, s=s, y=int(y), word=words[y]) for a, b, s, y in rows)


def _layout_of(table: Columns) -> str:
    fits = [name for name, (_, column, words) in LABELLED.items() if np.isin(table.columns[column], words).all()]
    if len(fits) == 1:
        return fits[0]
    lines = " or ".join(f"`{line}`" for line, _, _ in LABELLED.values())
    known = np.zeros(table.rows, dtype=bool)
    for _, column, words in LABELLED.values():
        known |= np.isin(table.columns[column], words)
    row = int((~known).argmax()) if not known.all() else 0
    got = " ".join(text(column[row]) for column in table.columns)
    raise table.refusal(row, f"cannot tell the layout: expected lines of {lines}, got {got!r}")


def _refuse_strangers(table: Columns, trials: TrialList, have: NDArray[np.int64], want: NDArray[np.int64]) -> None:
    unscored, strange = ~np.isin(want, have), ~np.isin(have, want)
    if unscored.any():
        row = int(unscored.argmax())
        pair = f"{trials.utterances[trials.first[row]]} {trials.utterances[trials.second[row]]}"
        raise ValueError(
            f"{table.path} has no score for {pair} (line {row + 1} of {trials.path}); {np.count_nonzero(unscored)} of "
            f"{len(trials)} trials have none: score the whole list"
        )
    if strange.any():
        row = int(strange.argmax())
        raise table.refusal(
            row, f"a pair that is not in {trials.path} ({np.count_nonzero(strange)} such lines): is it another list?"
        )
