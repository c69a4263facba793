"""`qmargin score TRIALS --embeddings FILE --out DIR`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from qmargin._files import make_folder
from qmargin.calibration import load_calibration
from qmargin.cli._quality import measures, quality_of
from qmargin.cli._resamples import check_resamples, resampling_bar
from qmargin.cli._results import show_and_write
from qmargin.metrics import Method, Strata
from qmargin.protocols.score_files import ScoreLayout, write_scores
from qmargin.protocols.speaker import SpeakerReport, judge
from qmargin.protocols.speaker_meta import read_strata
from qmargin.protocols.trial_lists import (
    Layout,
    TrialList,
    read_trials,
    read_utterance_table,
    speaker_names,
    speakers_of,
)
from qmargin.protocols.worst import worst_errors
from qmargin.report.anchors import anchors_of
from qmargin.report.curve_plots import Curve
from qmargin.report.gallery import Gallery
from qmargin.report.verification_tables import speaker_table
from qmargin.scoring.directions import Vectors, mean_vector, speaker_means, unit_vectors
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import read_vectors

Norm = Literal["none", "s-norm", "as-norm1", "as-norm2"]


@dataclass(frozen=True)
class Origin:
    """What a run says of the embeddings that are scored, beside the name of their file."""

    said: str = ""
    """Follows that name wherever it stands: whose weights made them."""
    doubts: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    """Of the figures of each list, by its path."""


OF_A_FILE = Origin()


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Score VoxCeleb or Kaldi trial lists with embeddings; print EER and minDCF; write scores and figures.

    Files written into --out: scores.txt (scores-LIST.txt of several lists), metrics.md, .tex, .csv and .json. Examples:

    qmargin score veri_test2.txt --embeddings vox1.npz --out exp/O

    qmargin score veri_test2.txt list_test_all2.txt list_test_hard2.txt --embeddings vox1.npz --out exp/OEH

    qmargin score veri_test2.txt --embeddings vox1.npz --mean vox2.npz --norm as-norm1 --cohort vox2.npz
    --cohort-speakers utt2spk --top-n 300 --out exp/O-asnorm
    """

    trials: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Trial lists, a row of the table each: `1|0 path path` a line (VoxCeleb) or `utt utt target|nontarget` (Kaldi)."""
    embeddings: Path
    """Raw embeddings: .npz (ids, embeddings), .npy with --ids, or Kaldi text .ark."""
    out: Path
    """Folder of the results."""
    ids: Path | None = None
    """Ids of a .npy, one a line."""
    layout: Layout | None = None
    """Layout of the trial list; read off its labels unless given."""
    mean: Path | None = None
    """Embeddings of other people; their mean is taken off every embedding, cohort included."""
    norm: Norm = "none"
    """Score normalisation; as-norm1 takes the members nearest to each side itself, as-norm2 to the other side."""
    cohort: Path | None = None
    """Embeddings of the cohort: nobody of the trial list."""
    cohort_speakers: Path | None = None
    """`utt speaker` lines: the cohort is then the mean raw embedding of each speaker (as WeSpeaker has it)."""
    top_n: int | None = None
    """Cohort members that as-norm uses; 300 is usual."""
    ddof: Literal[0, 1] = 0
    """Deviations of the cohort scores divide by n - ddof: 0 as WeSpeaker, 1 as SpeechBrain and ESPnet."""
    calibration: Path | None = None
    """JSON of qmargin calibrate: scores become log-likelihood ratios; Cllr and actDCF are reported too."""
    durations: Path | None = None
    """`utt seconds` lines (utt2dur), where the calibration uses durations."""
    speakers: Path | None = None
    """`utt speaker` lines (utt2spk) for the intervals; unless given, the first folder of each id."""
    intervals: bool = True
    """Whether to compute 95 % intervals over speakers."""
    resamples: int = 1000
    """Bootstrap draws over speakers."""
    interval: Method = "wilson"
    """How intervals are made of the draws; percentile ones are too narrow near 0 and 1."""
    meta: Path | None = None
    """Table of the speakers with a header (vox1_meta.csv), speaker id first, for --stratum."""
    stratum: str | None = None
    """Column of --meta, as Gender: speakers are then drawn within its values."""
    score_layout: ScoreLayout = "wespeaker"
    """Columns of scores.txt."""
    worst: int = 0
    """Show so many of the impostor trials that score highest, and of the genuine ones that score lowest."""
    worst_far: float = 1e-2
    """FAR whose threshold says which of them are errors."""
    anchors: bool = True
    """Show published figures of the same lists beside, where there are any."""


def run(words: Sequence[str]) -> None:
    """Score a speaker trial list: cosine, AS-norm, calibration; EER and minDCF with intervals over speakers."""
    score(tyro.cli(Arguments, args=list(words), prog="qmargin score"))


def score(arguments: Arguments, origin: Origin = OF_A_FILE) -> None:
    """Score the lists and leave all figures in `arguments.out`, with what `origin` says of the embeddings."""
    check_resamples(arguments.resamples)
    norm_of(arguments)
    files = score_files(arguments)
    lists = [read_trials(path, arguments.layout) for path in arguments.trials]
    for trials in lists:
        Console().print(trials.describe(), soft_wrap=True, markup=False, highlight=False)
    speakers = [sides_of(arguments, trials) if arguments.intervals else None for trials in lists]
    strata = [_strata(arguments, trials) for trials in lists]
    reports, galleries = [], []
    system = f"{arguments.embeddings}{origin.said}"
    for trials, people, groups, file in zip(lists, speakers, strata, files, strict=True):
        scores, scoring = _scores(arguments, trials)
        scoring = {"embeddings": system, **scoring}
        make_folder(arguments.out)
        write_scores(file, trials, scores, arguments.score_layout)
        report = _report(arguments, trials, scores, scoring, people, groups)
        doubts = origin.doubts.get(Path(trials.path), ())
        reports.append(replace(report, warnings=(*doubts, *report.warnings)))
        if arguments.worst:
            galleries.append(_gallery(arguments, trials, scores, file))
    names = [report.published for report in reports if report.published and arguments.anchors]
    quoted = {name: anchors_of(name) for name in names}
    record = {
        "system": system,
        "lists": [asdict(report) for report in reports],
        "published": [asdict(anchor) for anchors in quoted.values() for anchor in anchors],
    }
    curves = [
        Curve(name=path.stem, band=report.band, genuine=report.genuine, impostor=report.impostor)
        for path, report in zip(arguments.trials, reports, strict=True)
        if report.band is not None
    ]
    show_and_write(arguments.out, "metrics", [speaker_table(reports, system, quoted)], record, curves, galleries)


def _report(
    arguments: Arguments,
    trials: TrialList,
    scores: NDArray[np.floating],
    scoring: Mapping[str, str],
    people: NDArray[np.int32] | None,
    groups: Strata | None,
) -> SpeakerReport:
    ratios = arguments.calibration is not None
    with resampling_bar(arguments.resamples, passes=2 if ratios else 1) as progress:
        return judge(
            scores,
            trials,
            speakers=people,
            ratios=ratios,
            scoring=scoring,
            resamples=arguments.resamples,
            method=arguments.interval,
            strata=groups,
            progress=progress,
        )


def _strata(arguments: Arguments, trials: TrialList) -> Strata | None:
    if (arguments.meta is None) != (arguments.stratum is None):
        raise ValueError("--meta and --stratum go together: a table of speakers, and one of its columns")
    if arguments.meta is None or arguments.stratum is None:
        return None
    if not arguments.intervals:
        raise ValueError("--stratum says how speakers are drawn for the intervals: it cannot go with --no-intervals")
    return read_strata(arguments.meta, arguments.stratum, speaker_names(trials, table_of(arguments)))


def table_of(arguments: Arguments) -> dict[str, str] | None:
    """Speaker of each utterance, where a file says it."""
    return None if arguments.speakers is None else read_utterance_table(arguments.speakers)


def _gallery(arguments: Arguments, trials: TrialList, scores: NDArray[np.floating], file: Path) -> Gallery:
    table = table_of(arguments)
    names = trials.utterances.tolist()
    speakers = np.array([name.partition("/")[0] if table is None else table.get(name, "") for name in names])
    sides = (trials.first, trials.second)
    worst = worst_errors(
        scores, trials.labels, sides, trials.utterances, speakers, count=arguments.worst, far=arguments.worst_far
    )
    part = file.stem.removeprefix("scores")  # "" of a single list
    return Gallery(worst=worst, title=f"Worst errors of {Path(trials.path).name}", slug=f"worst{part}")


def score_files(arguments: Arguments) -> list[Path]:
    """Where the scores of each list go."""
    if not arguments.trials:
        raise ValueError("give at least one trial list")
    if arguments.worst < 0:
        raise ValueError(f"--worst must be at least 0, got {arguments.worst}")
    names = [path.stem for path in arguments.trials]
    if len(set(names)) < len(names):
        raise ValueError(f"two lists have one name ({', '.join(names)}): their scores would overwrite each other")
    if len(names) == 1:
        return [arguments.out / "scores.txt"]
    return [arguments.out / f"scores-{name}.txt" for name in names]


def sides_of(arguments: Arguments, trials: TrialList) -> NDArray[np.int32]:
    """Speaker on each side of each trial (trials, 2), numbered; errors are those of `speakers_of`, with a way out."""
    try:
        return speakers_of(trials, table_of(arguments))
    except ValueError as error:
        raise ValueError(f"{error} (--speakers); or leave the intervals out with --no-intervals") from error


def _scores(arguments: Arguments, trials: TrialList) -> tuple[NDArray[np.floating], dict[str, str]]:
    """Scores (trials,) and how they were made."""
    vectors = read_vectors(arguments.embeddings, arguments.ids)
    raw = vectors.vectors[vectors.locate(trials.utterances, str(arguments.embeddings))]
    mean = None if arguments.mean is None else mean_vector(read_vectors(arguments.mean).vectors)
    unit = unit_vectors(raw, mean)
    scores: NDArray[np.floating] = trial_cosines(unit, trials.first, trials.second)
    scoring = {"mean taken off": str(arguments.mean), "score": "cosine"}
    norm = norm_of(arguments)
    if norm is not None:
        members = cohort_of(arguments)
        scores = normalise_scores(
            trial_cosines(unit, trials.first, trials.second),
            unit,
            trials.first,
            trials.second,
            unit_vectors(members, mean),
            norm,
        )
        top = "all" if norm.top_n is None else f"the {norm.top_n} nearest"
        scoring["score"] = norm.variant if norm.top_n is None else f"{norm.variant}, top {norm.top_n}"
        scoring["normalisation"] = (
            f"{norm.variant}, {top} of {len(members)} cohort members ({arguments.cohort}), ddof {norm.ddof}"
        )
    if arguments.calibration is not None:
        calibration = load_calibration(arguments.calibration)
        known = measures(trials.utterances, arguments.durations, np.linalg.norm(raw, axis=1), calibration.columns)
        scores = calibration({"score": scores, **quality_of(known, trials.first, trials.second)})
        scoring["calibration"] = (
            f"{arguments.calibration}, learned on {calibration.source}, prior {calibration.prior:g}"
        )
    return scores, scoring


def cohort_of(arguments: Arguments) -> Vectors:
    """Raw embeddings of the cohort's members (members, dim): utterances, or means of speakers."""
    assert arguments.cohort is not None, "norm_of has looked"
    cohort = read_vectors(arguments.cohort)
    if arguments.cohort_speakers is None:
        return cohort.vectors
    table = read_utterance_table(arguments.cohort_speakers)
    lost = [name for name in cohort.ids.tolist() if name not in table]
    if lost:
        raise ValueError(f"{arguments.cohort_speakers} has no speaker of {lost[0]!r} ({len(lost)} such)")
    return speaker_means(cohort.vectors, np.array([table[name] for name in cohort.ids.tolist()]))[1]


def norm_of(arguments: Arguments) -> ScoreNorm | None:
    """The normalisation that was asked for; a ValueError where it and the cohort do not go together."""
    if (arguments.norm == "none") != (arguments.cohort is None):
        raise ValueError("--norm and --cohort go together: a normalisation needs a cohort, and a cohort a --norm")
    if arguments.norm == "none":
        if arguments.top_n is not None:
            raise ValueError(
                f"--top-n {arguments.top_n} is of as-norm: give --norm as-norm1 or as-norm2, or leave it out"
            )
        return None
    if arguments.norm == "s-norm" and arguments.top_n is not None:
        raise ValueError(
            f"--norm s-norm takes the whole cohort: leave --top-n {arguments.top_n} out, or give --norm as-norm1 or "
            "as-norm2"
        )
    if arguments.norm != "s-norm" and (arguments.top_n is None or arguments.top_n < 2):
        raise ValueError(
            f"--norm {arguments.norm} needs --top-n N, 2 or more (300 is usual; at most as many as the cohort has "
            f"members), got {'none' if arguments.top_n is None else arguments.top_n}"
        )
    return ScoreNorm(variant=arguments.norm, top_n=arguments.top_n, ddof=arguments.ddof)
