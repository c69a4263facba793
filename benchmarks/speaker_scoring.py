"""Time and peak memory of a list as long as VoxCeleb1-H with AS-norm, beside pair loops and scikit-learn.

    python benchmarks/speaker_scoring.py [--trials 550894] [--utterances 130000] [--cohort 5994] [--resamples 1000]

The list is simulated: 1,190 speakers, half of the trials genuine, embeddings of 256 dimensions around a direction a
speaker. Rows of qmargin do the whole list. Rows of the loop do, one trial after the other, what the public formulas
say, on the first `--loop` trials; `seconds` is what they took, `result` compares their scores with ours on the same
trials. Each row is measured in its own process, the list and the scores it starts from read from files. The machine's
numbers of threads are left alone; OMP_NUM_THREADS sets them.
"""

import argparse
import csv
import datetime as dt
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrics import cpu_name, peak_mb
from qmargin._files import make_folder, write_text
from qmargin.metrics import eer, min_dcf
from qmargin.protocols.speaker import judge
from qmargin.protocols.trial_lists import TrialList, read_trials, speakers_of, write_trials
from qmargin.scoring.directions import unit_vectors
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import VectorSet, read_vectors

SPEAKERS, DIM, NOISE = 1190, 256, 1.6
NORMS = {
    "as-norm1": ScoreNorm(variant="as-norm1", top_n=300),
    "as-norm2": ScoreNorm(variant="as-norm2", top_n=300),
    "s-norm": ScoreNorm(variant="s-norm"),
}
MAKE = "make the list"
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """Files of one simulated list, and how many of its trials the loops do."""

    folder: Path
    loop: int

    def trials(self) -> TrialList:
        """The list, read."""
        return read_trials(self.folder / "trials")

    def unit(self, trials: TrialList) -> Scores:
        """Embeddings of its utterances, length one."""
        found = read_vectors(self.folder / "embeddings.npz")
        return unit_vectors(found.vectors[found.locate(trials.utterances, "embeddings.npz")])

    def cohort(self) -> Scores:
        """The cohort, length one."""
        return unit_vectors(read_vectors(self.folder / "cohort.npz").vectors)

    def scores(self) -> Scores:
        """Cosines of the whole list."""
        scores: Scores = np.load(self.folder / "scores.npy", allow_pickle=False)
        return scores


def make(folder: Path, trials: int, utterances: int, cohort: int) -> None:
    """Write a list of that many trials and the embeddings of its utterances and cohort."""
    generator = np.random.default_rng(0)
    speaker = np.sort(generator.integers(SPEAKERS, size=utterances))
    ids = np.array([f"id1{s:04d}/v{k:07d}/00001.wav" for k, s in enumerate(speaker)])
    directions = generator.standard_normal((SPEAKERS, DIM), dtype=np.float32)
    vectors = directions[speaker] + np.float32(NOISE) * generator.standard_normal((utterances, DIM), dtype=np.float32)
    VectorSet(ids, vectors).save(folder / "embeddings.npz")
    names = np.array([f"c{k}" for k in range(cohort)])
    VectorSet(names, generator.standard_normal((cohort, DIM), dtype=np.float32)).save(folder / "cohort.npz")
    starts, counts = np.searchsorted(speaker, np.arange(SPEAKERS)), np.bincount(speaker, minlength=SPEAKERS)
    first, second = generator.integers(utterances, size=(2, 2 * trials))
    half = trials  # the first half of the candidates becomes genuine
    second[:half] = starts[speaker[first[:half]]] + generator.integers(2**31, size=half) % counts[speaker[first[:half]]]
    labels = speaker[first] == speaker[second]
    useful = (first != second) & (labels == (np.arange(2 * trials) < half))
    _, once = np.unique(first * utterances + second, return_index=True)
    kept = np.intersect1d(np.flatnonzero(useful), once)
    genuine, impostor = kept[kept < half][: trials // 2], kept[kept >= half][: trials - trials // 2]
    chosen = generator.permutation(np.concatenate([genuine, impostor]))
    sides = first[chosen].astype(np.int32), second[chosen].astype(np.int32)
    made = TrialList(ids, *sides, labels[chosen], "simulated", "", "simulated")
    write_trials(folder / "trials", made, "voxceleb")
    listed = read_trials(folder / "trials")
    np.save(folder / "scores.npy", trial_cosines(Corpus(folder, 0).unit(listed), listed.first, listed.second))


def whole(corpus: Corpus, resamples: int) -> str:
    """Everything a user waits for: list, embeddings, cosines, AS-norm, figures with intervals."""
    trials = corpus.trials()
    unit = corpus.unit(trials)
    scores = trial_cosines(unit, trials.first, trials.second)
    normed = normalise_scores(scores, unit, trials.first, trials.second, corpus.cohort(), NORMS["as-norm1"])
    report = judge(normed, trials, speakers=speakers_of(trials), ratios=False, scoring={}, resamples=resamples)
    return ", ".join(f"{name} {report.cell(name)}" for name in report.figures)


def cosines(corpus: Corpus) -> tuple[Callable[[], str], Callable[[], str]]:
    """Ours on the whole list, and the loop."""
    trials = corpus.trials()
    unit = corpus.unit(trials)
    known = corpus.scores()

    def ours() -> str:
        return f"sum {trial_cosines(unit, trials.first, trials.second).sum(dtype=np.float64):.3f}"

    def loop() -> str:
        pairs = zip(trials.first[: corpus.loop], trials.second[: corpus.loop], strict=True)
        scores = [np.dot(unit[a], unit[b]) / np.linalg.norm(unit[a]) / np.linalg.norm(unit[b]) for a, b in pairs]
        return f"largest difference {np.abs(np.array(scores) - known[: corpus.loop]).max():.1e}"

    return ours, loop


def norms(corpus: Corpus, name: str) -> tuple[Callable[[], str], Callable[[], str]]:
    """Ours on the whole list, and the loop that asks the cohort anew for each trial."""
    trials = corpus.trials()
    unit, cohort, known = corpus.unit(trials), corpus.cohort(), corpus.scores()
    norm = NORMS[name]

    def ours() -> str:
        normed = normalise_scores(known, unit, trials.first, trials.second, cohort, norm)
        return f"EER {100 * eer(normed, trials.labels):.4f} %"

    def loop() -> str:
        some = slice(0, corpus.loop)
        scores = []
        for score, e, t in zip(known[some], trials.first[some], trials.second[some], strict=True):
            of_e, of_t = cohort @ unit[e], cohort @ unit[t]
            near_e, near_t = (np.argsort(-values)[: norm.top_n] for values in (of_e, of_t))
            if name == "as-norm2":
                near_e, near_t = near_t, near_e
            z = [(score - s[near].mean()) / s[near].std() for s, near in ((of_e, near_e), (of_t, near_t))]
            scores.append(sum(z) / 2)
        normed = normalise_scores(known[some], unit, trials.first[some], trials.second[some], cohort, norm)
        return f"largest difference {np.abs(np.array(scores) - normed).max():.1e}"

    return ours, loop


def figures(corpus: Corpus) -> tuple[Callable[[], str], Callable[[], str]]:
    """EER and minDCF(0.01), ours and read from scikit-learn's arrays."""
    trials, scores = corpus.trials(), corpus.scores()

    def ours() -> str:
        return f"EER {eer(scores, trials.labels):.9f}, minDCF(0.01) {min_dcf(scores, trials.labels, 0.01):.9f}"

    def peer() -> str:
        from sklearn.metrics import roc_curve  # noqa: PLC0415 - not to be in the memory of our own rows

        far, tpr, _ = roc_curve(trials.labels, scores, drop_intermediate=False)
        nearest = np.abs(far - (1 - tpr)).argmin()
        return f"EER {(far[nearest] + 1 - tpr[nearest]) / 2:.9f}, minDCF(0.01) {(1 - tpr + 99 * far).min():.9f}"

    return ours, peer


def measure(corpus: Corpus, row: str, peer: str, resamples: int) -> list[str]:
    """One row, in this process."""
    if row == "whole":
        call: Callable[[], str] = lambda: whole(corpus, resamples)  # noqa: E731 - as the other rows hand one over
    else:
        pair = {"cosine": cosines, "EER and minDCF": figures}
        ours, other = pair[row](corpus) if row in pair else norms(corpus, row)
        call = ours if peer == "qmargin" else other
    began, processor = time.perf_counter(), time.process_time()
    result = call()
    seconds = f"{time.perf_counter() - began:.2f}", f"{time.process_time() - processor:.2f}"
    return [row, peer, *seconds, f"{peak_mb():.0f}", result]


def main() -> None:
    """Make the list, measure every row in a process of its own, print them and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=550_894)
    parser.add_argument("--utterances", type=int, default=130_000)
    parser.add_argument("--cohort", type=int, default=5_994)
    parser.add_argument("--loop", type=int, default=2_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "speaker_scoring.csv")
    parser.add_argument("--row", nargs=3, metavar=("FOLDER", "ROW", "IMPLEMENTATION"))
    arguments = parser.parse_args()
    if arguments.row:
        folder, row, peer = arguments.row
        if row == MAKE:
            make(Path(folder), arguments.trials, arguments.utterances, arguments.cohort)
            return
        corpus = Corpus(Path(folder), arguments.loop)
        csv.writer(sys.stdout).writerow(measure(corpus, row, peer, arguments.resamples))
        return
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {threads} threads, {platform.system()}, numpy {np.__version__}"
    rows = []
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("trials", "utterances", "cohort", "loop", "resamples")]
    with tempfile.TemporaryDirectory() as folder:

        def apart(row: str, peer: str) -> str:
            command = [sys.executable, __file__, *sizes, "--row", folder, row, peer]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves

        apart(MAKE, "")  # in a process of its own too: a child's peak begins at its parent's
        loop = f"loop, first {arguments.loop}"
        pairs = [("whole", "qmargin"), *((name, peer) for name in ("cosine", *NORMS) for peer in ("qmargin", loop))]
        for row, peer in [*pairs, ("EER and minDCF", "qmargin"), ("EER and minDCF", "scikit-learn")]:
            found = next(csv.reader([apart(row, peer)]))
            rows.append([*found, str(arguments.trials), str(arguments.resamples), machine])
            print(*found, sep=" | ", flush=True)
    make_folder(arguments.out.parent)
    date = dt.datetime.now(dt.timezone.utc).date().isoformat()
    header = ["figure", "implementation", "seconds", "cpu_seconds", "peak_mb", "result", "trials", "resamples"]
    lines = [[*header, "machine", "date"], *([*row, date] for row in rows)]
    write_text(arguments.out, "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
