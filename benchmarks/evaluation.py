"""Both benchmarks at full size: time and peak memory from files to figures, beside the public formulas, same numbers.

    python benchmarks/evaluation.py [--rows NAME ...] [--data DIR] [--scale 1.0] [--out FILE]

IJB-C's counts (469,375 images, 23,124 templates, 15,658,489 pairs; 512 dimensions, 2.2 GB of invented features) and
VoxCeleb1-H's (550,894 trials of 130,000 utterances and 1,190 speakers, AS-norm cohort 5,994, 256 dimensions), both
written to DIR (a temporary folder unless given) and reused where they are there. Every row is measured in a process of
its own, because the peak of a process never falls: `seconds` wall time, `cpu_seconds` processor time, `peak_mb` the
peak resident memory of the whole process, memory-mapped features where they are touched. Loops over pairs do the first
`--loop` trials; `whole_list` is their time times (trials / those), extrapolated. Results of ours and of the peer are
compared, and a difference is an error. `--rows` measures some, rows of others in the CSV stay.
"""

import argparse
import csv
import datetime as dt
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrics import cpu_name, peak_mb
from qmargin._files import make_folder, write_text
from qmargin.metrics import eer, min_dcf
from qmargin.protocols import read_identification, read_ijb, template_subjects, verify_templates
from qmargin.protocols.ijb_synthetic import SyntheticIjb
from qmargin.protocols.speaker import judge
from qmargin.protocols.trial_lists import TrialList, read_trials, speakers_of, write_trials
from qmargin.report.verification_tables import speaker_cell
from qmargin.scoring import Features
from qmargin.scoring.directions import unit_vectors
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import VectorSet, read_vectors

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
RESAMPLES = 1000
ROUNDING = 1e-5  # between float32 matrix products and a loop
SPEAKERS, UTTERANCES, TRIALS, COHORT, DIM, NOISE = 1190, 130_000, 550_894, 5_994, 256, 1.6
NORM = ScoreNorm(variant="as-norm1", top_n=300)
COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "before_mb", "whole_list", "result")
Scores = NDArray[np.float32]


def templates(data: Path) -> str:
    """Ours: lists and features to TAR, preset insightface, read at the nearest FAR."""
    features = Features.load(data / "features.npy", data / "mirrors.npy")
    report = verify_templates(read_ijb(data / "meta"), features, "insightface", resamples=0)
    return " ".join(f"{point.tar:.6f}" for point in reversed(report.of_rule("nearest")))


def templates_resampled(data: Path) -> str:
    """Ours with intervals: also the 1:N lists, which say whose the templates are."""
    lists = read_ijb(data / "meta")
    galleries, probes = read_identification(data / "meta")
    known = template_subjects(lists, [*galleries, probes])
    features = Features.load(data / "features.npy", data / "mirrors.npy")
    report = verify_templates(lists, features, "insightface", resamples=RESAMPLES, known=known)
    ends = [report.interval(point) for point in reversed(report.of_rule("nearest"))]
    text = " ".join(f"{one.estimate:.6f} [{one.low:.4f}, {one.high:.4f}]" for one in ends if one is not None)
    return f"{text}; {report.resampled}"


def public_steps(data: Path) -> str:
    """The steps of the public scripts, one after the other: a loop over templates, pairs in chunks, `roc_curve`."""
    from sklearn.metrics import roc_curve  # noqa: PLC0415 - not to be in the memory of our own row

    meta = data / "meta"
    rows = [line.split() for line in (meta / "ijbc_face_tid_mid.txt").read_text().splitlines()]
    templates, media = (np.array([int(row[column]) for row in rows]) for column in (1, 2))
    lines = (meta / "ijbc_name_5pts_score.txt").read_text().splitlines()
    detector = np.array([float(line.split()[-1]) for line in lines])
    pairs = np.loadtxt(meta / "ijbc_template_pair_label.txt", dtype=np.int32)
    features = np.load(data / "features.npy") + np.load(data / "mirrors.npy")
    features = features * detector[:, np.newaxis]
    unique = np.unique(templates)
    pooled = np.zeros((len(unique), features.shape[1]))
    place = np.zeros(unique.max() + 1, dtype=int)
    for count, template in enumerate(unique):
        (chosen,) = np.where(templates == template)
        kinds, counts = np.unique(media[chosen], return_counts=True)
        vectors = [
            features[chosen[media[chosen] == kind]].mean(axis=0)
            if frames > 1
            else features[chosen][media[chosen] == kind][0]
            for kind, frames in zip(kinds, counts, strict=True)
        ]
        pooled[count] = np.sum(vectors, axis=0)
        place[template] = count
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), 100_000):
        first, second = place[pairs[start : start + 100_000, :2]].T
        scores[start : start + 100_000] = np.sum(pooled[first] * pooled[second], axis=1)
    fpr, tpr, _ = roc_curve(pairs[:, 2], scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    impostor = int((pairs[:, 2] == 0).sum())
    return " ".join(f"{tpr[np.abs(fpr - far).argmin()]:.6f}" for far in FARS if far * impostor >= 1)


def scaled(scale: float) -> SyntheticIjb:
    """The counts of IJB-C, or a share of them."""
    full = SyntheticIjb()
    if scale == 1.0:
        return full
    subjects = max(2, int(full.subjects * scale**0.5))
    probes = max(2, int(full.probes * scale**0.5))
    return SyntheticIjb(
        subjects=subjects,
        probes=probes,
        images=max(subjects + probes, int(full.images * scale**0.5)),
        genuine=int(probes * full.genuine / full.probes),
        impostor=int(full.impostor * scale),
    )


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
    """Everything a user waits for: list, embeddings, cosines, AS-norm, figures, with intervals where resampled."""
    trials = corpus.trials()
    unit = corpus.unit(trials)
    scores = trial_cosines(unit, trials.first, trials.second)
    normed = normalise_scores(scores, unit, trials.first, trials.second, corpus.cohort(), NORM)
    speakers = speakers_of(trials) if resamples else None
    report = judge(normed, trials, speakers=speakers, ratios=False, scoring={}, resamples=resamples or RESAMPLES)
    cells = {name: speaker_cell(report, name) for name in report.figures}
    return ", ".join(f"{name} {cell.value} {cell.interval}" for name, cell in cells.items())


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


def norms(corpus: Corpus) -> tuple[Callable[[], str], Callable[[], str]]:
    """Ours on the whole list, and the loop that asks the cohort anew for each trial."""
    trials = corpus.trials()
    unit, cohort, known = corpus.unit(trials), corpus.cohort(), corpus.scores()

    def ours() -> str:
        normed = normalise_scores(known, unit, trials.first, trials.second, cohort, NORM)
        return f"EER {100 * eer(normed, trials.labels):.4f} %"

    def loop() -> str:
        some = slice(0, corpus.loop)
        scores = []
        for score, e, t in zip(known[some], trials.first[some], trials.second[some], strict=True):
            of_e, of_t = cohort @ unit[e], cohort @ unit[t]
            near_e, near_t = (np.argsort(-values)[: NORM.top_n] for values in (of_e, of_t))
            z = [(score - s[near].mean()) / s[near].std() for s, near in ((of_e, near_e), (of_t, near_t))]
            scores.append(sum(z) / 2)
        normed = normalise_scores(known[some], unit, trials.first[some], trials.second[some], cohort, NORM)
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


@dataclass(frozen=True)
class Row:
    """One measurement, as it is named on the command line."""

    of: str  # which list
    what: str
    by: str
    peer: str = ""  # the row whose result must be the same
    loop: bool = False  # over the first trials only


ROWS = {
    "ijb": Row("IJB-C", "files to TAR at FAR 1e-6 to 1e-1", "qmargin"),
    "ijb-peer": Row("IJB-C", "files to TAR at FAR 1e-6 to 1e-1", "public steps, scikit-learn roc_curve", "ijb"),
    "ijb-resampled": Row("IJB-C", f"the same with intervals, {RESAMPLES} resamples of subjects", "qmargin"),
    "vox": Row("Vox1-H", "files to EER and minDCF, AS-norm", "qmargin"),
    "vox-resampled": Row("Vox1-H", f"the same with intervals, {RESAMPLES} resamples of speakers", "qmargin"),
    "cosine": Row("Vox1-H", "cosines of embeddings in memory", "qmargin"),
    "cosine-loop": Row("Vox1-H", "cosines of embeddings in memory", "loop over pairs", loop=True),
    "as-norm": Row("Vox1-H", "AS-norm of scores in memory", "qmargin"),
    "as-norm-loop": Row("Vox1-H", "AS-norm of scores in memory", "loop over pairs", loop=True),
    "figures": Row("Vox1-H", "EER and minDCF of scores in memory", "qmargin"),
    "figures-peer": Row("Vox1-H", "EER and minDCF of scores in memory", "scikit-learn roc_curve", "figures"),
}


def call_of(name: str, data: Path, loop: int) -> Callable[[], str]:
    """What a row measures; what it starts from is in memory."""
    corpus = Corpus(data / "vox", loop)
    whole_ways: dict[str, Callable[[], str]] = {
        "ijb": lambda: templates(data / "ijb"),
        "ijb-peer": lambda: public_steps(data / "ijb"),
        "ijb-resampled": lambda: templates_resampled(data / "ijb"),
        "vox": lambda: whole(corpus, 0),
        "vox-resampled": lambda: whole(corpus, RESAMPLES),
    }
    if name in whole_ways:
        return whole_ways[name]
    both = {"cosine": cosines, "as-norm": norms, "figures": figures}[name.removesuffix("-loop").removesuffix("-peer")]
    ours, other = both(corpus)
    return ours if name in ("cosine", "as-norm", "figures") else other


def measure(name: str, data: Path, loop: int) -> dict[str, str]:
    """One row, in this process."""
    call = call_of(name, data, loop)
    trials = len(Corpus(data / "vox", loop).trials()) if ROWS[name].loop else 0
    before, wall, processor = peak_mb(), time.perf_counter(), time.process_time()
    result = call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    extrapolated = f"{wall * trials / loop:.0f}" if trials else ""
    values = (f"{wall:.2f}", f"{processor:.2f}", f"{peak_mb():.0f}", f"{before:.0f}", extrapolated, result)
    return dict(zip(COLUMNS, values, strict=True))


def check(rows: dict[str, dict[str, str]]) -> None:
    """The same numbers by every way that was measured."""
    for name, row in rows.items():
        peer = rows.get(ROWS[name].peer) if name in ROWS else None
        if peer is not None and row["result"] != peer["result"]:
            raise ValueError(f"{name} gives {row['result']}, {ROWS[name].peer} {peer['result']}: not the same numbers")
        if name in ROWS and ROWS[name].loop and float(row["result"].split()[-1]) > ROUNDING:
            raise ValueError(f"{name}: scores differ from ours, {row['result']}")


def run_child(*words: str) -> str:
    """This script in another process; what it prints."""
    command = [sys.executable, __file__, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves


def machine() -> dict[str, str]:
    """Where the rows were measured."""
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average": f"{os.getloadavg()[0]:.1f}",  # a machine shared with others measures slower
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows measured before, by name."""
    if not path.exists():
        return {}
    return {row["row"]: row for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))}


def run_rows(arguments: argparse.Namespace, data: Path) -> None:
    """Write the lists where they are not, measure, compare, print, and write the CSV."""
    for part, there in (("ijb", data / "ijb" / "features.npy"), ("vox", data / "vox" / "scores.npy")):
        if not there.exists():  # in a process of its own: the peak of a child begins at what its parent holds
            run_child("--write", part, "--data", str(data), "--scale", str(arguments.scale))
    rows, where = read_rows(arguments.out), machine()
    for name in arguments.rows:
        row = ROWS[name]
        output = run_child("--row", name, "--data", str(data), "--loop", str(arguments.loop))
        found = next(csv.DictReader(io.StringIO(output), COLUMNS))
        by = f"{row.by}, the first {arguments.loop:,}" if row.loop else row.by
        rows[name] = {"row": name, "list": row.of, "what": row.what, "by": by, **found, "scale": str(arguments.scale)}
        rows[name] |= where
        print(f"{name:14} {found['seconds']:>7} s (CPU {found['cpu_seconds']} s) {found['peak_mb']:>6} MB", flush=True)
        print(f"    {found['result']}", flush=True)
    check(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, next(iter(rows.values())), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in ROWS if name in rows)
    make_folder(arguments.out.parent)
    write_text(arguments.out, text.getvalue())


def write_part(part: str, data: Path, scale: float) -> None:
    """Write one of the two lists, or a share of it."""
    if part == "ijb":
        scaled(scale).write(make_folder(data / "ijb"))
    else:
        make(make_folder(data / "vox"), int(TRIALS * scale), int(UTTERANCES * scale**0.5), COHORT)


def main() -> None:
    """Measure rows, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="0.01 makes lists of a hundredth of the counts")
    parser.add_argument("--loop", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evaluation.csv")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--write", choices=("ijb", "vox"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        csv.DictWriter(sys.stdout, COLUMNS).writerow(measure(arguments.row, arguments.data, arguments.loop))
    elif arguments.write:
        write_part(arguments.write, arguments.data, arguments.scale)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run_rows(arguments, arguments.data or Path(temporary))


if __name__ == "__main__":
    main()
