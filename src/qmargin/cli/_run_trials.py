"""`qmargin evaluate RUN --trials LIST --audio DIR`: a run on speech, judged on trial lists.

The cohort of a score normalisation is the run's training speakers; calibration is learned on its validation speakers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.console import Console

from qmargin._files import make_folder
from qmargin.calibration import calibrate
from qmargin.cli import score
from qmargin.cli.embed import check_kind
from qmargin.data.columns import Indices
from qmargin.data.speech.kaldi import read_recording_list
from qmargin.protocols.trial_lists import read_trials
from qmargin.scoring import embed_files, embed_run
from qmargin.scoring.directions import speaker_means, unit_vectors
from qmargin.scoring.embed import trained_samples
from qmargin.scoring.score_norm import normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import VectorSet
from qmargin.training import RunFolder

if TYPE_CHECKING:
    from qmargin.data.speech import Utterances


@dataclass(frozen=True, kw_only=True)
class RunTrials:
    """How a run is judged, beside the options of `qmargin score`."""

    audio: Path | None
    audio_list: Path | None
    cohort_utterances: int
    """Of each training speaker, at most."""
    calibrate: bool
    device: str | None


def evaluate_trials(folder: RunFolder, asked: RunTrials, scoring: score.Arguments) -> None:
    """Embed the utterances of the lists into RUN/trials, and score the lists as `qmargin score` does.

    Args:
        folder: of the run.
        asked: what to embed, and whether to calibrate.
        scoring: the lists and how they are scored; the cohort and the calibration are made here, where asked for.
    """
    if not scoring.trials or (asked.audio is None) == (asked.audio_list is None):
        raise ValueError("--trials LIST goes with --audio DIR or --audio-list FILE, and each of these with it")
    check_kind(folder.read_config(), audio=True)
    ids = sorted({name for path in scoring.trials for name in read_trials(path).utterances.tolist()})
    files = [asked.audio / name for name in ids] if asked.audio is not None else _listed(asked.audio_list, ids)
    make_folder(scoring.out)
    if scoring.norm != "none":
        scoring = replace(scoring, cohort=scoring.out / "cohort.npz")
    if score.norm_of(scoring) is not None:  # what it refuses, it refuses before anything is embedded
        _cohort(folder, asked).save(scoring.out / "cohort.npz")
    if asked.calibrate:
        scoring = replace(scoring, calibration=scoring.out / "calibration.json")
        _learn_calibration(folder, asked, scoring)
    VectorSet(np.array(ids), embed_files(folder, files, asked.device).vectors).save(scoring.embeddings)
    score.score(scoring)


def _cohort(folder: RunFolder, asked: RunTrials) -> VectorSet:
    """The mean raw embedding of each training speaker, of some of their utterances."""
    if asked.cohort_utterances < 1:
        raise ValueError(f"--cohort-utterances must be at least 1, got {asked.cohort_utterances}")
    model, samples = trained_samples(folder, asked.device)
    train = cast("Utterances", samples.subset("train"))  # the run is one on speech
    some = train.take(evenly(train.labels, asked.cohort_utterances))
    embeddings = model.embed(some)
    Console().print(
        f"cohort: {some.num_classes:,} training speakers, {len(some):,} of their {len(train):,} utterances",
        soft_wrap=True,
        highlight=False,
    )
    return VectorSet(*speaker_means(embeddings.vectors, embeddings.identities))


def evenly(labels: Indices, most: int) -> Indices:
    """Rows of at most so many samples of each class, spread evenly over those it has; in order.

    Args:
        labels: class of each sample (samples,).
        most: samples of a class.
    """
    order = np.argsort(labels, kind="stable")  # classes one after the other
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    chosen = [
        start + np.arange(min(count, most)) * count // min(count, most)
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    rows: Indices = np.sort(order[np.concatenate(chosen)])
    return rows


def _learn_calibration(folder: RunFolder, asked: RunTrials, scoring: score.Arguments) -> None:
    """Learn log-likelihood ratios on all pairs of the validation speakers, scored as the lists will be."""
    people = embed_run(folder, "validation", asked.device)
    unit = unit_vectors(people.vectors)
    first, second = np.triu_indices(len(unit), k=1)
    scores = trial_cosines(unit, first, second)
    norm = score.norm_of(scoring)
    if norm is not None:
        scores = normalise_scores(scores, unit, first, second, unit_vectors(score.cohort_of(scoring)), norm)
    labels = people.identities[first] == people.identities[second]
    speakers = len(np.unique(people.identities))
    source = f"all pairs of the {speakers} validation speakers of {folder.path}"
    assert scoring.calibration is not None, "set by the caller"
    calibrate({"score": scores}, labels, source=source).save(scoring.calibration)


def _listed(audio_list: Path | None, ids: Sequence[str]) -> list[Path]:
    assert audio_list is not None, "one of the two is given"
    listed = read_recording_list(audio_list)
    missing = [name for name in ids if name not in listed]
    if missing:
        raise ValueError(
            f"{audio_list} has no recording of {missing[0]!r}; {len(missing)} of the {len(ids)} utterances of the "
            "trials are missing"
        )
    return [listed[name] for name in ids]
