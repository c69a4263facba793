"""`qmargin evaluate RUN [--split test|validation]`, or `qmargin evaluate RUN --trials LIST --audio DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from qmargin.cli import _run_trials, score
from qmargin.cli._results import say_saved, show
from qmargin.cli._run_people import WORST_FAR, Matched, Shown, evaluate
from qmargin.cli._weights import WeightsOption
from qmargin.cli.score import Norm
from qmargin.metrics import Method
from qmargin.training import RunFolder

Split = Literal["test", "validation", "train"]
T = TypeVar("T")
COHORT_UTTERANCES = 20


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed a run's held-out identities, score every pair of images or utterances, print and save the figures.

    With --trials, a run on speech is judged on trial lists instead: by plain cosines, or with score normalisation on a
    cohort of its training speakers and calibration on its validation speakers. Embeddings, scores and figures are left
    in RUN/trials/LIST, called after the list (lists of one name overwrite each other); qmargin score, which takes these
    embeddings and that cohort, has more options. Example:

    qmargin evaluate RUN --trials veri_test2.txt --audio voxceleb1/wav --norm as-norm1 --top-n 300 --calibrate
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    split: Split | None = None
    """Which identities: choose settings on validation, report test once; test unless given."""
    resamples: int = 1000
    """Bootstrap draws over subjects, for the 95 % intervals."""
    interval: Method = "wilson"
    """How intervals are made of the draws; percentile ones are too narrow near 0 and 1."""
    worst: int = 0
    """Show so many of the impostor pairs that score highest, and of the genuine pairs that score lowest."""
    worst_far: float | None = None
    """FAR whose threshold says which of them are errors; 0.01 unless given."""
    thumbnails: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Put small pictures of these pairs into the page: it then holds images of your data."""
    meta: Path | None = None
    """Table of the identities with a header, their name first, for --same."""
    same: str | None = None
    """Column of --meta, as gender: impostors are only people of the same value; figures stand in files of their own."""
    trials: tuple[Path, ...] = ()
    """Trial lists of VoxCeleb or Kaldi, to judge a run on speech."""
    audio: Path | None = None
    """Folder of their recordings: the utterance a/b.wav of a list is AUDIO/a/b.wav."""
    audio_list: Path | None = None
    """Or lines `id path` of their recordings, as Kaldi's wav.scp."""
    speakers: Path | None = None
    """`utt speaker` lines (utt2spk) for the intervals; unless given, the first folder of each id."""
    intervals: bool = True
    """Whether to compute 95 % intervals over speakers."""
    norm: Norm = "none"
    """Of the trials' scores, as in qmargin score; the cohort are the means of the training speakers."""
    top_n: int | None = None
    """Training speakers that as-norm uses; 300 is usual."""
    cohort_utterances: int | None = None
    """Utterances of each training speaker that are embedded for the cohort, at most; 20 unless given."""
    calibrate: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Make the trials' scores log-likelihood ratios, learned on all pairs of the run's validation speakers."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""
    weights: WeightsOption = "newest"


def run(words: Sequence[str]) -> None:
    """Judge a run on held-out identities: TAR at low FAR, EER and minDCF with intervals over subjects."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin evaluate")
    _check_worst(arguments)
    folder = RunFolder(arguments.run)
    if arguments.trials or arguments.audio or arguments.audio_list:
        _refuse_of_people(arguments)
        _evaluate_trials(folder, arguments)
        return
    _refuse_of_trials(arguments)
    shown = Shown(arguments.worst, _or(arguments.worst_far, WORST_FAR), thumbnails=arguments.thumbnails)
    tables, paths = evaluate(
        folder,
        _or(arguments.split, "test"),
        arguments.resamples,
        device=arguments.device,
        weights=arguments.weights,
        method=arguments.interval,
        shown=shown,
        matched=_matched(arguments),
    )
    show(tables)
    say_saved(paths)


def _matched(arguments: Arguments) -> Matched | None:
    if (arguments.meta is None) != (arguments.same is None):
        raise ValueError("--meta and --same go together: a table of identities, and one of its columns")
    return None if arguments.meta is None or arguments.same is None else Matched(arguments.meta, arguments.same)


def _check_worst(arguments: Arguments) -> None:
    if arguments.worst < 0:
        raise ValueError(f"--worst must be at least 0, got {arguments.worst}")
    if arguments.thumbnails and not arguments.worst:
        raise ValueError("--thumbnails are pictures of the worst errors: give --worst N too")
    if arguments.worst_far is not None and not arguments.worst:
        raise ValueError("--worst-far says which of the worst errors are errors: give --worst N too")


def _refuse_of_people(arguments: Arguments) -> None:
    """With trial lists, refuse what is of a run's own people, and what nothing would take."""
    given = (arguments.split, arguments.meta, arguments.same, arguments.thumbnails or None)
    if any(value is not None for value in given):
        raise ValueError(
            "--split, --meta, --same and --thumbnails are of a run's own people: leave them out, or leave --trials out"
        )
    if arguments.cohort_utterances is not None and arguments.norm == "none":
        raise ValueError(
            f"--cohort-utterances {arguments.cohort_utterances} is of score normalisation: give --norm s-norm, "
            "as-norm1 or as-norm2, or leave it out"
        )


def _refuse_of_trials(arguments: Arguments) -> None:
    """Without trial lists, refuse what is of them."""
    given = (arguments.top_n, arguments.cohort_utterances, arguments.calibrate or None, arguments.speakers)
    if arguments.norm != "none" or not arguments.intervals or any(value is not None for value in given):
        raise ValueError(
            "--norm, --top-n, --cohort-utterances, --calibrate, --speakers and --no-intervals are of trial lists: give "
            "--trials LIST and --audio DIR too"
        )


def _or(value: T | None, default: T) -> T:
    """What was given, or the default of an option whose mere presence says something."""
    return default if value is None else value


def _evaluate_trials(folder: RunFolder, arguments: Arguments) -> None:
    out = folder.path / "trials" / "+".join(path.stem for path in arguments.trials)  # no list overwrites another's
    scoring = score.Arguments(
        trials=arguments.trials,
        embeddings=out / "embeddings.npz",
        out=out,
        speakers=arguments.speakers,
        intervals=arguments.intervals,
        norm=arguments.norm,
        top_n=arguments.top_n,
        resamples=arguments.resamples,
        interval=arguments.interval,
        worst=arguments.worst,
        worst_far=_or(arguments.worst_far, WORST_FAR),
    )
    asked = _run_trials.RunTrials(
        audio=arguments.audio,
        audio_list=arguments.audio_list,
        cohort_utterances=_or(arguments.cohort_utterances, COHORT_UTTERANCES),
        calibrate=arguments.calibrate,
        device=arguments.device,
        weights=arguments.weights,
    )
    _run_trials.evaluate_trials(folder, asked, scoring)
