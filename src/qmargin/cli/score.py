"""`qmargin score TRIALS --embeddings FILE --out DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from qmargin._files import make_folder
from qmargin.calibration import load_calibration
from qmargin.cli._quality import measures, quality_of
from qmargin.cli.evaluate import check_resamples
from qmargin.protocols.score_files import ScoreLayout, write_scores
from qmargin.protocols.speaker import SpeakerReport, judge
from qmargin.protocols.trial_lists import Layout, TrialList, read_trials, read_utterance_table, speakers_of
from qmargin.scoring.directions import mean_vector, speaker_means, unit_vectors
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import read_vectors


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Score a VoxCeleb or Kaldi trial list with embeddings; print EER and minDCF; write scores and figures.

    Files written into --out: scores.txt, metrics.json, metrics.md. Examples:

    qmargin score veri_test2.txt --embeddings vox1.npz --out exp/O

    qmargin score veri_test2.txt --embeddings vox1.npz --mean vox2.npz --norm as-norm1 --cohort vox2.npz
    --cohort-speakers utt2spk --top-n 300 --out exp/O-asnorm
    """

    trials: Annotated[Path, tyro.conf.Positional]
    """Trial list: `1|0 path path` a line (VoxCeleb) or `utt utt target|nontarget` (Kaldi)."""
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
    norm: Literal["none", "s-norm", "as-norm1", "as-norm2"] = "none"
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
    score_layout: ScoreLayout = "wespeaker"
    """Columns of scores.txt."""


def run(words: Sequence[str]) -> None:
    """Score a speaker trial list: cosine, AS-norm, calibration; EER and minDCF with intervals over speakers."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin score")
    check_resamples(arguments.resamples)
    trials = read_trials(arguments.trials, arguments.layout)
    Console().print(trials.describe(), soft_wrap=True, markup=False, highlight=False)
    speakers = _speakers(arguments, trials) if arguments.intervals else None
    scores, scoring = _scores(arguments, trials)
    make_folder(arguments.out)
    write_scores(arguments.out / "scores.txt", trials, scores, arguments.score_layout)
    ratios = arguments.calibration is not None
    report = judge(scores, trials, speakers=speakers, ratios=ratios, scoring=scoring, resamples=arguments.resamples)
    report.save(arguments.out)
    _show(report, arguments.out)


def _speakers(arguments: Arguments, trials: TrialList) -> NDArray[np.int32]:
    try:
        return speakers_of(trials, None if arguments.speakers is None else read_utterance_table(arguments.speakers))
    except ValueError as error:
        raise ValueError(f"{error}; or leave the intervals out with --no-intervals") from error


def _scores(arguments: Arguments, trials: TrialList) -> tuple[NDArray[np.floating], dict[str, str]]:
    """Scores (trials,) and how they were made."""
    vectors = read_vectors(arguments.embeddings, arguments.ids)
    raw = vectors.vectors[vectors.locate(trials.utterances, str(arguments.embeddings))]
    mean = None if arguments.mean is None else mean_vector(read_vectors(arguments.mean).vectors)
    unit = unit_vectors(raw, mean)
    scores: NDArray[np.floating] = trial_cosines(unit, trials.first, trials.second)
    scoring = {"embeddings": str(arguments.embeddings), "mean taken off": str(arguments.mean), "score": "cosine"}
    norm = _norm(arguments)
    if norm is not None:
        assert arguments.cohort is not None
        cohort = read_vectors(arguments.cohort)
        members = cohort.vectors
        if arguments.cohort_speakers is not None:
            table = read_utterance_table(arguments.cohort_speakers)
            lost = [name for name in cohort.ids.tolist() if name not in table]
            if lost:
                raise ValueError(f"{arguments.cohort_speakers} has no speaker of {lost[0]!r} ({len(lost)} such)")
            _, members = speaker_means(members, np.array([table[name] for name in cohort.ids.tolist()]))
        scores = normalise_scores(
            trial_cosines(unit, trials.first, trials.second),
            unit,
            trials.first,
            trials.second,
            unit_vectors(members, mean),
            norm,
        )
        top = "all" if norm.top_n is None else f"the {norm.top_n} nearest"
        scoring["score"] = (
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


def _norm(arguments: Arguments) -> ScoreNorm | None:
    if (arguments.norm == "none") != (arguments.cohort is None):
        raise ValueError("--norm and --cohort go together: a normalisation needs a cohort, and a cohort a --norm")
    if arguments.norm == "none":
        return None
    return ScoreNorm(variant=arguments.norm, top_n=arguments.top_n, ddof=arguments.ddof)


def _show(report: SpeakerReport, folder: Path) -> None:
    console = Console()
    table = Table(title=report.identity, title_justify="left")
    for name in report.figures:
        table.add_column(f"{name}{' (%)' if name == 'EER' else ''}", justify="right")
    table.add_row(*(report.cell(name) for name in report.figures))
    console.print(table)
    for warning in report.warnings:
        console.print(f"- {warning}", style="yellow", markup=False, highlight=False)
    console.print(f"saved: {folder}/scores.txt, metrics.json, metrics.md", soft_wrap=True, markup=False)
