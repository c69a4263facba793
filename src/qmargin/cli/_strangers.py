"""Whether the speakers of trial lists are strangers to the run that is judged on them.

Conventions:
    Speakers are compared by name, as the list and the run's manifest have them; another name is another person.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from qmargin.protocols.trial_lists import TrialList, speaker_names
from qmargin.training import RunFolder
from qmargin.training.people import people_of

Names = set[str]
UNKNOWN = (
    "the speakers are not known (--speakers), so nobody can say whether the run was trained on them: if it was, the "
    "figures are better than those of strangers"
)


def doubts_of(
    folder: RunFolder, lists: Sequence[TrialList], table: Mapping[str, str] | None, *, norm: bool, calibrate: bool
) -> dict[Path, tuple[str, ...]]:
    """What the figures of each list must say of speakers that the run knows, by the path of the list.

    Args:
        folder: of the run.
        lists: the trials.
        table: speaker of each utterance; None takes the first folder of each id.
        norm: whether the training speakers are a cohort.
        calibrate: whether calibration is learned on the validation speakers.

    Raises:
        ValueError: speakers of the lists are in the cohort, or calibration would be of or on people the run knows; an
            utterance that `table` does not hold.
    """
    train, held_out = (set(people_of(folder).get(split, ())) for split in ("train", "validation"))
    found = {}
    for trials in lists:
        names = _names(trials, table)
        if names is not None:
            _refuse_known(folder, trials, names & train, "training", norm=norm, calibrate=calibrate)
            _refuse_known(folder, trials, names & held_out, "validation", norm=False, calibrate=calibrate)
        found[Path(trials.path)] = (UNKNOWN,) if names is None else _doubts(names, train, held_out)
    return found


def _names(trials: TrialList, table: Mapping[str, str] | None) -> Names | None:
    """Speakers of a list; None where neither a table nor a folder in each id names them."""
    if table is None and not all("/" in name for name in trials.utterances.tolist()):
        return None
    return set(speaker_names(trials, None if table is None else dict(table)))


def _refuse_known(folder: RunFolder, trials: TrialList, known: Names, who: str, *, norm: bool, calibrate: bool) -> None:
    if known and (norm or calibrate):
        options = " and ".join(name for name, given in (("--norm", norm), ("--calibrate", calibrate)) if given)
        law = (
            "the cohort, the training speakers, must hold nobody of the trial list"
            if norm
            else "calibration is learned for strangers, on people who are not tested"
        )
        raise ValueError(
            f"{law}, and {trials.path} has {len(known):,} {who} speakers of {folder.path}, {min(known)!r} for one: "
            f"take their trials out of the list, or leave {options} out (the table then says that they are no "
            "strangers)"
        )


def _doubts(names: Names, train: Names, held_out: Names) -> tuple[str, ...]:
    told = []
    for known, who, so in (
        (names & train, "TRAINED ON", "the figures are better than those of strangers"),
        (names & held_out, "VALIDATED ON", "settings that were chosen on them flatter the figures"),
    ):
        if known:
            told.append(f"{who} {len(known):,} of the {len(names):,} speakers ({min(known)!r} for one): {so}")
    return tuple(told)
