"""The comparison of losses on real voices: tuned on held-out training speakers, then judged on the test split once.

    python benchmarks/speakers_small.py --manifest speech/manifest.csv [--out runs/speakers-small]
    make study-speakers MANIFEST=speech/manifest.csv

The manifest is a CSV file of recordings with the columns path, speaker, split, gender, age and seconds; its splits are
`train`, `test` and `extra`: speakers of a single recording, which is cut into segments of some four seconds; they are
classes of training and nothing else. Each speed of a voice is a class of its own.

One recipe (`speakers-small`), every loss with the same budget: four scales at one learning rate, softer ones for alpha
up to 1.25 than beyond, as the faces wanted them, then the best one at half and at twice that rate and with twice the
margin, judged on 30 held-out training speakers, half of them children; then three seeds on all training speakers,
judged on the test speakers; then schedules of Q-Margin 1.5; then two losses at the rate of 0.25 that others had.
"Best" is the lowest EER. `study.py` has the phases.

Features of whole recordings are computed once, by the first run that meets them, and kept in OUT/features for all
others (`data.feature_cache`): training sees neither noise nor dither.
"""

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from faces_small import CANDIDATES as OF_FACES
from faces_small import SHARP, SOFT, add_options, at_rates
from faces_small import study as study_of_faces
from qmargin._files import make_folder, write_text
from qmargin.data.speech import KaldiFolders
from qmargin.losses import AlphaLoss
from qmargin.metrics import det_curve, min_dcf_of
from qmargin.protocols import all_pairs
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import MIN_DCF, tar_name
from qmargin.recipes import find_recipe
from qmargin.scoring import Embeddings, embed_run
from qmargin.training import RunFolder, TrainConfig
from qmargin.training.config import Precision
from study import Run, Study
from study_rows import DONE, FIGURES, KEY, LOGGED, SIZES, SPREAD, VALUE, Row, figures, spread
from study_running import carry_on, trained

NAMES = {"CosFace": "AM", "ArcFace": "AAM"}  # as the speaker papers call them
SOFTER = 1.25  # alpha up to which the softer scales are tried
CANDIDATES: dict[str, Sequence[AlphaLoss]] = {
    NAMES.get(loss, loss): [replace(one, scale=scale) for scale in (SOFT if one.alpha <= SOFTER else SHARP)]
    for loss, (one, *_) in OF_FACES.items()
}
OF_ONE_RATE = ("AAM", "entmax 1.5")  # what Q-Margin 1.5 is beside: the usual margin, and its own loss without one
HELD_OUT = 30  # training speakers that judge settings, half of them children
PART = 4.0  # seconds of the segments that single recordings are cut into, about
ADULT = 18  # years
OF_COHORTS = ("EER", MIN_DCF, tar_name(1e-3))
COHORTS = ("children", "adults", "same gender")
COLUMNS = (
    *KEY, *SIZES, *FIGURES, *SPREAD, MIN_DCF, *(f"{name}, {cohort}" for cohort in COHORTS for name in OF_COHORTS),
    VALUE, *LOGGED, *DONE,
)  # fmt: skip
Utterance = Row  # of the manifest


def study(tuning_epochs: int = 10, final_epochs: int = 30) -> Study:
    """The whole plan: that of the faces, at half its learning rates, judged by EER."""
    plan = study_of_faces(tuning_epochs, final_epochs)
    return replace(
        plan,
        candidates=CANDIDATES,
        rate=0.5,
        other_rates=(0.25, 1.0),
        judged_by="EER",
        higher_is_better=False,
        lengths=(),
        one_rate=0.25,
        of_one_rate=OF_ONE_RATE,
    )


def config(run: Run, out: Path, precision: Precision = "float32") -> TrainConfig:
    """The recipe with a run's loss, rates and length, on the lists that `write_lists` left in `out`."""
    recipe = find_recipe("speakers-small").config(run.loss)
    lists = out / "lists"
    source = KaldiFolders(train=lists / "fewer", validation=lists / "held-out")
    if run.split == "test":
        source = KaldiFolders(train=lists / "train", test=lists / "test")
    data = recipe.speech_data
    data = replace(
        data,
        source=source,
        augmentation=replace(data.augmentation, noise=None),
        feature_cache=out / "features",
        workers=1,
    )
    return replace(at_rates(recipe, run), data=data, seed=run.seed, epochs=run.epochs, precision=precision)


def read_manifest(path: Path) -> list[Utterance]:
    """The recordings, with `path` from the root on."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {"path", "speaker", "split", "gender", "age"}
    if not rows or not wanted <= rows[0].keys():
        raise ValueError(f"{path} must have the columns {', '.join(sorted(wanted))}")
    return [{**row, "path": str(path.parent.resolve() / row["path"])} for row in rows]


def write_lists(rows: Sequence[Utterance], out: Path) -> None:
    """Kaldi directories `fewer` and `held-out` to tune on, `train` and `test` for the final runs."""
    split = {name: [row for row in rows if row["split"] == name] for name in ("train", "test", "extra")}
    held = held_out(split["train"])
    lists = {
        "fewer": [*(row for row in split["train"] if row["speaker"] not in held), *split["extra"]],
        "held-out": [row for row in split["train"] if row["speaker"] in held],
        "train": [*split["train"], *split["extra"]],
        "test": split["test"],
    }
    for name, own in lists.items():
        _write_kaldi(own, out / "lists" / name)


def held_out(train: Iterable[Utterance]) -> set[str]:
    """The speakers that judge settings: as many children as adults, the same for every run."""
    is_child = {row["speaker"]: float(row["age"]) < ADULT for row in train}
    draw = np.random.default_rng(0)
    groups = [sorted(name for name, child in is_child.items() if child is wanted) for wanted in (True, False)]
    return {str(name) for group in groups for name in draw.choice(group, HELD_OUT // 2, replace=False)}


def _write_kaldi(rows: Sequence[Utterance], folder: Path) -> None:
    make_folder(folder)
    recordings, speakers, segments = [], [], []
    for row in rows:
        key = f"{row['speaker']}/{Path(row['path']).stem}"
        recordings.append(f"{key} {row['path']}\n")
        for part, (first, last) in enumerate(_parts(row)):
            speakers.append(f"{key}-{part} {row['speaker']}\n")
            segments.append(f"{key}-{part} {key} {first!r} {last!r}\n")
    for name, lines in (("wav.scp", recordings), ("utt2spk", speakers), ("segments", segments)):
        write_text(folder / name, "".join(lines))


def _parts(row: Utterance) -> list[tuple[float, float]]:
    """First and last seconds of the utterances of a recording: one, or equal parts where its speaker has no other."""
    info = soundfile.info(row["path"])
    seconds = info.frames / info.samplerate
    count = max(round(seconds / PART), 1) if row["split"] == "extra" else 1
    edges = [seconds * part / count for part in range(count)] + [seconds]
    return list(pairwise(edges))


def cohorts(embeddings: Embeddings, people: Mapping[str, Utterance]) -> dict[str, Trials]:
    """All pairs, then those of children, of adults, and of people of one gender.

    Args:
        embeddings: of utterances.
        people: a row of the manifest by the speaker.
    """
    trials = all_pairs(embeddings)
    names = np.unique(embeddings.identities)  # by subject
    child = np.array([float(people[name]["age"]) < ADULT for name in names])
    genders = [people[name]["gender"] for name in names]
    first, second = trials.subjects.T
    kept = {
        "children": child[first] & child[second],
        "adults": ~child[first] & ~child[second],
        "same gender": trials.within(dict(enumerate(genders))),
    }
    return {"": trials, **{name: trials.where(kept[name], name) for name in COHORTS}}


def cells(embeddings: Embeddings, people: Mapping[str, Utterance]) -> Row:
    """Figures of all pairs, then those of the cohorts."""
    whole, *parts = cohorts(embeddings, people).items()
    row = {**figures(whole[1]), **spread(embeddings), MIN_DCF: _min_dcf(whole[1])}
    for name, trials in parts:
        own = {**figures(trials), MIN_DCF: _min_dcf(trials)}
        row |= {f"{figure}, {name}": own[figure] for figure in OF_COHORTS if figure in own}
    return row


def _min_dcf(trials: Trials) -> str:
    return f"{min_dcf_of(det_curve(trials.scores, trials.labels), 0.01):.5f}"


def carry_out(run: Run, out: Path, people: Mapping[str, Utterance], precision: Precision = "float32") -> Row:
    """Train, embed, score; the cells of the run."""

    def judge(folder: RunFolder) -> Row:
        return cells(embed_run(folder, run.split), people)

    return trained(run, config(run, out, precision), out, judge)


def main() -> None:
    """Carry out what is missing, one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with path, speaker, split, gender, age")
    add_options(parser, "speakers-small", study())
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    manifest = read_manifest(arguments.manifest)
    write_lists(manifest, out)
    plan = study(arguments.tuning_epochs, arguments.final_epochs)
    people = {row["speaker"]: row for row in manifest}
    act = partial(carry_out, out=out, people=people, precision=arguments.precision)
    carry_on(plan, arguments.rows, COLUMNS, act, out / "claims")


if __name__ == "__main__":
    main()
