"""What benchmarks/evaluation.py measures: our ways from files, or from memory, to figures, and those of peers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation_lists import Corpus
from qmargin.metrics import eer, min_dcf
from qmargin.protocols import read_identification, read_ijb, template_subjects, verify_templates
from qmargin.protocols.speaker import judge
from qmargin.protocols.trial_lists import speakers_of
from qmargin.report.verification_tables import speaker_cell
from qmargin.scoring import Features
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
RESAMPLES = 1000
NORM = ScoreNorm(variant="as-norm1", top_n=300)
Call = Callable[[], str]


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


def cosines(corpus: Corpus) -> tuple[Call, Call]:
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


def norms(corpus: Corpus) -> tuple[Call, Call]:
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


def figures(corpus: Corpus) -> tuple[Call, Call]:
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


def call_of(name: str, data: Path, loop: int) -> Call:
    """What a row measures; what it starts from is in memory."""
    corpus = Corpus(data / "vox", loop)
    whole_ways: dict[str, Call] = {
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
