"""`qmargin evaluate RUN --trials LIST --audio DIR`: a run on speech, judged on trial lists.

The cohort of a score normalisation is the run's training speakers; calibration is learned on its validation speakers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.console import Console

from qmargin._files import make_folder
from qmargin.calibration import calibrate
from qmargin.cli import score
from qmargin.cli._resamples import check_resamples
from qmargin.cli._strangers import doubts_of
from qmargin.cli._weights import said_of
from qmargin.cli.embed import check_kind
from qmargin.data.columns import Indices
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech.kaldi import read_recording_list
from qmargin.metrics.tar import check_far
from qmargin.protocols.trial_lists import TrialList, read_trials
from qmargin.scoring import Embeddings, embed_files
from qmargin.scoring.directions import speaker_means, unit_vectors
from qmargin.scoring.runs import Trained, Weights, trained_samples
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.speech import distinct_files
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import VectorSet
from qmargin.training import RunFolder
from qmargin.training.people import people_of

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
    weights: Weights


def evaluate_trials(folder: RunFolder, asked: RunTrials, scoring: score.Arguments) -> None:
    """Embed the utterances of the lists into `scoring.out`, and score the lists as `qmargin score` does.

    Args:
        folder: of the run.
        asked: what to embed, and whether to calibrate.
        scoring: the lists and how they are scored; the cohort and the calibration are made here, where asked for.
    """
    if not scoring.trials or (asked.audio is None) == (asked.audio_list is None):
        raise ValueError("--trials LIST goes with --audio DIR or --audio-list FILE, and each of these with it")
    check_kind(folder.read_config(), audio=True)
    if scoring.norm != "none":
        scoring = replace(scoring, cohort=scoring.out / "cohort.npz")
    if asked.calibrate:
        scoring = replace(scoring, calibration=scoring.out / "calibration.json")
    norm = score.norm_of(scoring)
    lists = _lists(scoring)  # embedding takes hours: all that can be refused is refused before it
    recordings = _recordings(asked, lists)
    table = score.table_of(scoring)
    doubts = doubts_of(folder, lists, table, norm=norm is not None, calibrate=asked.calibrate)
    if norm is not None or asked.calibrate:
        _use_own_speakers(folder, asked, scoring, norm)
    make_folder(scoring.out)
    files, rows = distinct_files(list(recordings.values()))
    vectors = embed_files(folder, files, asked.device, weights=asked.weights).vectors[rows]
    VectorSet(np.array(list(recordings)), vectors).save(scoring.embeddings)
    score.score(scoring, score.Origin(said_of(asked.weights), doubts))


def _lists(scoring: score.Arguments) -> list[TrialList]:
    """The lists; what `score` would refuse of them is refused here."""
    check_resamples(scoring.resamples)
    score.score_files(scoring)  # two lists of one name
    lists = [read_trials(path) for path in scoring.trials]
    for trials in lists:
        if scoring.intervals:
            score.sides_of(scoring, trials)
        if scoring.worst:
            check_far(scoring.worst_far, np.count_nonzero(~trials.labels))
    return lists


def _recordings(asked: RunTrials, lists: Sequence[TrialList]) -> dict[str, Path]:
    """The recording of each utterance of the lists."""
    ids = sorted({name for trials in lists for name in trials.utterances.tolist()})
    files = [asked.audio / name for name in ids] if asked.audio is not None else _listed(asked.audio_list, ids)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"cannot read {missing[0]}: there is no such file; {len(missing)} of the {len(ids)} utterances of the "
            "trials are missing (--audio, --audio-list)"
        )
    return dict(zip(ids, files, strict=True))


def _use_own_speakers(folder: RunFolder, asked: RunTrials, scoring: score.Arguments, norm: ScoreNorm | None) -> None:
    """Make the cohort and the calibration of the run's own speakers, once there are known to be enough of each."""
    model, samples = trained_samples(folder, asked.device, weights=asked.weights)
    train = None if norm is None else _training_speakers(samples, norm)
    held_out = _held_out_speakers(folder, samples) if asked.calibrate else None
    if asked.cohort_utterances < 1:
        raise ValueError(f"--cohort-utterances must be at least 1, got {asked.cohort_utterances}")
    make_folder(scoring.out)
    if train is not None:
        assert scoring.cohort is not None, "norm_of has looked"
        _cohort(model, train, asked.cohort_utterances).save(scoring.cohort)
    if held_out is not None:
        people = model.embed(held_out)
        people.save(scoring.out / "embeddings-validation.npz")
        run = f"{folder.path}{said_of(asked.weights)}"
        _learn_calibration(people, run, scoring, norm)


def _training_speakers(samples: SampleTable, norm: ScoreNorm) -> "Utterances":
    train = cast("Utterances", samples.subset("train"))  # the run is one on speech
    needed = norm.top_n or 2
    if train.num_classes < needed:
        raise ValueError(
            f"the cohort must hold at least {needed} members, got {train.num_classes}, the training speakers: give a "
            "smaller --top-n"
        )
    return train


def _held_out_speakers(folder: RunFolder, samples: SampleTable) -> "Utterances":
    counts = people_of(folder).get("validation", Counter())
    if len(counts) < 2 or counts.total() == len(counts):
        raise ValueError(
            "--calibrate learns on genuine and impostor pairs of the validation speakers, got "
            f"{counts.total()} utterances of {len(counts)} speakers, which have no pair of one kind: train with "
            "more (--data.validation-identities)"
        )
    return cast("Utterances", samples.subset("validation"))


def _cohort(model: Trained, train: "Utterances", most: int) -> VectorSet:
    """The mean raw embedding of each training speaker, of some of their utterances."""
    some = train.take(evenly(train.labels, most))
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


def _learn_calibration(people: Embeddings, run: str, scoring: score.Arguments, norm: ScoreNorm | None) -> None:
    """Learn log-likelihood ratios on all pairs of the validation speakers, scored as the lists will be."""
    unit = unit_vectors(people.vectors)
    first, second = np.triu_indices(len(unit), k=1)
    scores = trial_cosines(unit, first, second)
    if norm is not None:
        scores = normalise_scores(scores, unit, first, second, unit_vectors(score.cohort_of(scoring)), norm)
    labels = people.identities[first] == people.identities[second]
    speakers = len(np.unique(people.identities))
    source = f"all pairs of the {speakers} validation speakers of {run}"
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
