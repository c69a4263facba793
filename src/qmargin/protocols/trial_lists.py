"""Trial lists of speaker verification: VoxCeleb's `label path path` and Kaldi's `utt utt target|nontarget`.

Conventions:
    Label 1 or `target` is a genuine trial, 0 or `nontarget` an impostor. The layout is said, or follows from the
    columns; where both layouts fit, or none, that is an error. A list is identified by its number of trials and the
    SHA-256 of its canonical text, one line `1 first second` or `0 first second` a trial: a list that was converted
    from one layout to the other keeps its name.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_text
from qmargin.protocols._columns import Columns, Fields, index_ids, read_columns, text

Layout = Literal["voxceleb", "kaldi"]
LAYOUTS: dict[str, tuple[str, int, tuple[bytes, bytes]]] = {  # what a line is, column of the label, its words
    "voxceleb": ("1|0 path path", 0, (b"1", b"0")),
    "kaldi": ("utt utt target|nontarget", 2, (b"target", b"nontarget")),
}


@dataclass(frozen=True)
class KnownList:
    """A published list: how many trials, and the digest of its canonical text where that is on record."""

    name: str
    trials: int
    digest: str | None


KNOWN = (
    KnownList("VoxCeleb1-O (original)", 37_720, "303b2b657042a27bf465d4c8aa84e12765373cdc01046665241ccd5783bd5976"),
    KnownList("VoxCeleb1-O (cleaned)", 37_611, "0bc0a0fe3e557f1a75fb71e566d862d460709e80a4fe28e80e49bc0ab3a536ea"),
    KnownList("VoxCeleb1-E (original)", 581_480, None),
    KnownList("VoxCeleb1-E (cleaned)", 579_818, None),
    KnownList("VoxCeleb1-H (original)", 552_536, None),
    KnownList("VoxCeleb1-H (cleaned)", 550_894, None),
)


@dataclass(frozen=True, eq=False)
class TrialList:
    """Trials between utterances, in the order of the file."""

    utterances: NDArray[np.str_]  # (utterances,) distinct ids, sorted
    first: NDArray[np.int32]  # (trials,) index into utterances: the enrolment side
    second: NDArray[np.int32]  # (trials,) the test side
    labels: NDArray[np.bool_]  # (trials,) True = genuine
    path: str  # of the file
    digest: str  # SHA-256 of the file
    identity: str  # which published list this is, or why it is none
    published: str | None = None  # its name, where content, or else the only thing on record, the count, says so

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def genuine(self) -> int:
        """Number of genuine trials."""
        return int(np.count_nonzero(self.labels))

    def describe(self) -> str:
        """One line that names the list: counts, identity, digest."""
        counts = f"{len(self):,} trials ({self.genuine:,} genuine), {len(self.utterances):,} utterances"
        return f"{self.path}: {counts}; {self.identity}; sha256 {self.digest[:16]}"


def read_trials(path: Path, layout: Layout | None = None) -> TrialList:
    r"""Read a trial list, check every line, and say which published list it is.

    Args:
        path: of the file.
        layout: "voxceleb" (`1|0 path path`) or "kaldi" (`utt utt target|nontarget`); None reads it off the labels.

    Returns:
        The trials, as indices into the distinct ids.

    Raises:
        ValueError: naming file and line: a missing or empty file, a line with other than three columns, an unknown
            label, the same two utterances a second time; or a layout that is unknown or cannot be told.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "trials")
        ...     _ = path.write_text("anna-1 anna-2 target\nanna-1 ben-7 nontarget\n")
        ...     trials = read_trials(path)
        >>> trials.utterances.tolist(), trials.first, trials.second, trials.labels
        (['anna-1', 'anna-2', 'ben-7'], array([0, 0], dtype=int32), array([1, 2], dtype=int32), array([ True, False]))

    See also `qmargin.protocols.score_files.read_scores`, for lists that carry scores.
    """
    table = read_columns(path, (3,), " or ".join(line for line, _, _ in LAYOUTS.values()))
    _, column, words = LAYOUTS[_layout_of(table) if layout is None else check_layout(layout, LAYOUTS)]
    labels = table.labels(column, words)
    sides = [fields for number, fields in enumerate(table.columns) if number != column]
    ids, (first, second) = index_ids(*sides)
    refuse_repeats(table, first, second, len(ids))
    identity, published = _identify(labels, ids[first], ids[second])
    return TrialList(
        utterances=decode(ids, table),
        first=first,
        second=second,
        labels=labels,
        path=str(path),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        identity=identity,
        published=published,
    )


def read_utterance_table(path: Path) -> dict[str, str]:
    """Read `utt value` lines (Kaldi's utt2spk, utt2dur); a ValueError names the line of an id that comes twice."""
    table = read_columns(path, (2,), "utt value")
    ids, (index,) = index_ids(table.columns[0])
    if len(ids) < table.rows:
        row = first_repeat(index)
        raise table.refusal(row, f"{text(table.columns[0][row])!r} stands there a second time")
    return dict(zip(map(text, table.columns[0]), map(text, table.columns[1]), strict=True))


def speakers_of(trials: TrialList, table: dict[str, str] | None = None) -> NDArray[np.int32]:
    """Speaker on each side of each trial (trials, 2), numbered: what the bootstrap draws.

    Args:
        trials: the list.
        table: utterance -> speaker, as `read_utterance_table` reads utt2spk; None takes the first folder of each id,
            as VoxCeleb's `id10270/x6uYqmx31kE/00001.wav` has it.

    Raises:
        ValueError: an utterance without a speaker (the first is named, all are counted); a label that contradicts the
            speakers (the first such trial is named).
    """
    names = _speaker_of_each(trials, table)
    _, number = np.unique(np.array(names), return_inverse=True)
    sides = np.stack([number[trials.first], number[trials.second]], axis=1).astype(np.int32)
    if (wrong := (sides[:, 0] == sides[:, 1]) != trials.labels).any():
        row = int(wrong.argmax())
        pair = f"{trials.utterances[trials.first[row]]} {trials.utterances[trials.second[row]]}"
        raise ValueError(
            f"{trials.path}, line {row + 1}: labelled {'genuine' if trials.labels[row] else 'impostor'}, but the "
            f"speakers of {pair} say otherwise ({np.count_nonzero(wrong)} such trials)"
        )
    return sides


def speaker_names(trials: TrialList, table: dict[str, str] | None = None) -> list[str]:
    """Name of each speaker (speakers,), by the numbers of `speakers_of`; arguments and errors are its own."""
    return sorted(set(_speaker_of_each(trials, table)))


def _speaker_of_each(trials: TrialList, table: dict[str, str] | None) -> list[str]:
    """Speaker of each utterance (utterances,)."""
    if table is None:
        names = [utterance.partition("/")[0] for utterance in trials.utterances.tolist()]
        lost = [utterance for utterance in trials.utterances.tolist() if "/" not in utterance]
        where, way_out = "no folder in it that names the speaker", "give a file of `utt speaker` lines (utt2spk)"
    else:
        names = [table.get(utterance, "") for utterance in trials.utterances.tolist()]
        lost = [utterance for utterance in trials.utterances.tolist() if utterance not in table]
        where, way_out = "no speaker in the table", "add it"
    if lost:
        raise ValueError(f"{lost[0]!r} has {where} ({len(lost)} of {len(names)} utterances have none); {way_out}")
    return names


def write_trials(path: Path, trials: TrialList, layout: Layout) -> None:
    """Write a list in one of the layouts, atomically; `read_trials` reads it back.

    Raises:
        ValueError: an unknown layout; the file cannot be written.
    """
    _, column, words = LAYOUTS[check_layout(layout, LAYOUTS)]
    label = np.where(trials.labels, text(words[0]), text(words[1])).tolist()
    sides = [trials.utterances[side].tolist() for side in (trials.first, trials.second)]
    columns = [label, *sides] if column == 0 else [*sides, label]
    write_text(path, "".join(f"{a} {b} {c}\n" for a, b, c in zip(*columns, strict=True)))


def check_layout(layout: str, known: dict[str, tuple[str, int, tuple[bytes, bytes]]]) -> str:
    """`layout` if it is known, or a ValueError with all that are."""
    if layout not in known:
        lines = ", ".join(f"{name} (`{line}`)" for name, (line, _, _) in known.items())
        raise ValueError(f"unknown layout {layout!r}; known: {lines}")
    return layout


def decode(ids: Fields, table: Columns) -> NDArray[np.str_]:
    """Ids as text; a ValueError names the line of one that is not UTF-8."""
    try:
        return np.char.decode(ids, "utf-8")
    except UnicodeDecodeError as error:
        rows = [np.flatnonzero(column == error.object) for column in table.columns]
        raise table.refusal(min(int(row[0]) for row in rows if row.size), f"an id that is not UTF-8: {error}") from None


def refuse_repeats(table: Columns, first: NDArray[np.int32], second: NDArray[np.int32], ids: int) -> None:
    """A ValueError that names the first line on which the same two utterances, in that order, come again."""
    codes = first.astype(np.int64) * ids + second
    if np.unique(codes).size < codes.size:
        row = first_repeat(codes)
        before = int((codes == codes[row]).argmax())
        raise table.refusal(row, f"the same two utterances as on line {before + 1}; a trial counts once")


def first_repeat(codes: NDArray[np.integer]) -> int:
    """First position whose value stood there before."""
    order = np.argsort(codes, kind="stable")
    again = order[1:][codes[order[1:]] == codes[order[:-1]]]
    return int(again.min())


def _layout_of(table: Columns) -> str:
    """The one layout whose label words fill its label column."""
    fits = [name for name, (_, column, words) in LAYOUTS.items() if np.isin(table.columns[column], words).all()]
    if len(fits) == 1:
        return fits[0]
    assert get_args(Layout) == tuple(LAYOUTS)
    if fits:
        raise ValueError(f"{table.path} can be read as {' and as '.join(fits)}; say which")
    known = np.zeros(table.rows, dtype=bool)
    for _, column, words in LAYOUTS.values():
        known |= np.isin(table.columns[column], words)
    row = int((~known).argmax()) if not known.all() else 0
    lines = " or ".join(f"`{line}`" for line, _, _ in LAYOUTS.values())
    raise table.refusal(row, f"cannot tell the layout: expected lines of {lines}, got {_line(table, row)!r}")


def _line(table: Columns, row: int) -> str:
    return " ".join(text(column[row]) for column in table.columns)


def _identify(labels: NDArray[np.bool_], first: Fields, second: Fields) -> tuple[str, str | None]:
    """What to say of a list with this canonical text, and the name of the published list that it is."""
    alike = [known for known in KNOWN if known.trials == len(labels)]
    if not alike:
        return "not a published list known here", None
    (known,) = alike
    if known.digest is None:
        return f"as many trials as {known.name}, whose checksum is not on record here", known.name
    content = hashlib.sha256()
    for label, left, right in zip(labels.tolist(), first.tolist(), second.tolist(), strict=True):
        content.update(b"%d %s %s\n" % (label, left, right))
    if content.hexdigest() == known.digest:
        return known.name, known.name
    return f"as many trials as {known.name}, but NOT that list: its content differs", None
