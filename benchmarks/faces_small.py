"""The comparison of losses on real faces: tuned on held-out training identities, then judged on the test split once.

    python benchmarks/faces_small.py --manifest faces/manifest.csv [--out runs/faces-small]
    make study-faces MANIFEST=faces/manifest.csv

Three phases, one recipe (`faces-small`, 56x56, a network of 0.96 M parameters in float32, compiled, one thread), every
loss with the same budget:

    settings    four settings of each loss, at one learning rate, judged on 150 held-out training identities
    rate        the best setting of each loss at half and at twice the learning rate, judged likewise
    final       the best setting and rate of each loss, trained longer on all training identities, three seeds, judged
                on the test identities

"Best" is the highest TAR at FAR 1e-3. Each finished run is a row of the CSV file; a run that stands there is not
trained again, and a killed one goes on from its checkpoint, so the same command continues the study on any day.
"""

import argparse
import csv
import io
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import torch

from qmargin._files import write_text
from qmargin.data import Augmentation, ManifestFile
from qmargin.losses import A3M, AlphaLoss, ArcFace, CosFace, NormFace, QMargin, ScheduledLoss
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols import all_pairs
from qmargin.protocols.verification import FARS, tar_name
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.training import RunFolder, TrainConfig, train
from qmargin.training.log import read_log

CANDIDATES: dict[str, list[AlphaLoss]] = {
    "CosFace": [CosFace(0.2, 16.0), CosFace(0.1, 32.0), CosFace(0.2, 32.0), CosFace(0.35, 64.0)],
    "Q-Margin 1.5": [QMargin(1.5, 0.1, 6.0), QMargin(1.5, 0.2, 6.0), QMargin(1.5, 0.1, 4.0), QMargin(1.5, 0.1, 9.0)],
    "ArcFace": [ArcFace(0.2, 16.0), ArcFace(0.2, 32.0), ArcFace(0.3, 32.0), ArcFace(0.5, 64.0)],
    "Q-Margin 1.25": [
        QMargin(1.25, 0.1, 12.0), QMargin(1.25, 0.1, 16.0), QMargin(1.25, 0.2, 16.0), QMargin(1.25, 0.1, 22.0),
    ],
    "Q-Margin 1.1": [
        QMargin(1.1, 0.1, 24.0), QMargin(1.1, 0.1, 32.0), QMargin(1.1, 0.2, 32.0), QMargin(1.1, 0.1, 48.0),
    ],
    "Q-Margin 2": [QMargin(2.0, 0.1, 3.0), QMargin(2.0, 0.2, 3.0), QMargin(2.0, 0.1, 2.0), QMargin(2.0, 0.1, 4.5)],
    "entmax 1.5": [QMargin(1.5, 0.0, scale) for scale in (3.0, 4.0, 6.0, 9.0)],
    "A3M": [A3M(1.5, 0.1, 6.0), A3M(1.5, 0.2, 6.0), A3M(1.5, 0.1, 4.0), A3M(1.5, 0.1, 9.0)],
    "NormFace": [NormFace(scale) for scale in (8.0, 16.0, 24.0, 32.0)],
}  # fmt: skip
RATE, OTHER_RATES = 0.1, (0.05, 0.2)
HELD_OUT = 150  # training identities that judge settings
SEEDS = (0, 1, 2)
JUDGED_BY = tar_name(1e-3)
LOGGED = ("loss", "support_size", "p_target", "zero_loss", "target_cosine", "accuracy", "gradient_norm")
KEY = ("phase", "loss", "alpha", "scale", "margin", "learning rate", "seed", "epochs")
FIGURES = ("EER", *(tar_name(far) for far in FARS))
COLUMNS = (*KEY, "split", "subjects", "genuine", "impostor", *FIGURES, *LOGGED, "minutes", "machine", "date")
Row = dict[str, str]


@dataclass(frozen=True)
class Run:
    """One training run of the study."""

    phase: str
    loss: str
    final: AlphaLoss
    rate: float
    seed: int
    epochs: int

    @property
    def key(self) -> Row:
        """What tells it from all others."""
        numbers = (self.final.alpha, self.final.scale, self.final.margin.m, self.rate)
        return dict(
            zip(
                KEY,
                [self.phase, self.loss, *map("{:g}".format, numbers), str(self.seed), str(self.epochs)],
                strict=True,
            )
        )

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "-".join(self.key.values()).replace(" ", "_")

    def config(self, manifest: Path) -> TrainConfig:
        """The recipe with this run's loss, rate and length; phases but the last hold identities out."""
        config = find_recipe("faces-small").config(ScheduledLoss(name=self.loss, final=self.final))
        changes = Augmentation(shift=3.0, rotation=8.0, scale=0.1, brightness=0.2, contrast=0.2)
        data = replace(config.image_data, source=ManifestFile(path=manifest), augmentation=changes)
        if self.phase != "final":
            data = replace(data, validation_identities=HELD_OUT)
        optimizer = replace(config.optimizer, learning_rate=self.rate)
        return replace(
            config, data=data, optimizer=optimizer, seed=self.seed, epochs=self.epochs, threads=1, compile=True
        )


def planned(rows: Sequence[Row], tuning_epochs: int, final_epochs: int) -> Iterator[Run]:
    """The runs of the study in their order; later phases rest on the rows of earlier ones, read as they are reached."""
    for loss, settings in CANDIDATES.items():
        for final in settings:
            yield Run("settings", loss, final, RATE, 0, tuning_epochs)
    for loss in CANDIDATES:
        best, _ = chosen(rows, loss, ("settings",))
        for rate in OTHER_RATES:
            yield Run("rate", loss, best, rate, 0, tuning_epochs)
    for seed in SEEDS:
        for loss in CANDIDATES:
            yield Run("final", loss, *chosen(rows, loss, ("settings", "rate")), seed, final_epochs)


def chosen(rows: Sequence[Row], loss: str, phases: Sequence[str]) -> tuple[AlphaLoss, float]:
    """The setting and learning rate of the best validation figure."""
    mine = [row for row in rows if row["loss"] == loss and row["phase"] in phases]
    best = max(mine, key=lambda row: float(row[JUDGED_BY]))
    wanted = tuple(best[name] for name in ("alpha", "scale", "margin"))
    for final in CANDIDATES[loss]:
        if tuple(f"{value:g}" for value in (final.alpha, final.scale, final.margin.m)) == wanted:
            return final, float(best["learning rate"])
    raise ValueError(f"{loss} with alpha, scale, margin {wanted} is in the CSV file, but no candidate any more")


def carry_out(run: Run, manifest: Path, out: Path) -> Row:
    """Train, embed, score all pairs; the row of the run. Seconds are those of this process, since its last start."""
    began = time.perf_counter()
    folder = train(run.config(manifest), out / run.folder, resume=True, title=f"{run.phase}: {run.folder}")
    split = "test" if run.phase == "final" else "validation"
    return {**run.key, **figures(folder, split), "minutes": f"{(time.perf_counter() - began) / 60:.1f}"}


def figures(folder: RunFolder, split: str) -> Row:
    """Error rates over all pairs of a split, and what the log says at the end."""
    trials = all_pairs(embed_run(folder, split))
    det = det_curve(trials.scores, trials.labels)
    last = read_log(folder.log)[-1]
    row = {"split": split, "subjects": str(trials.subjects.max() + 1)}
    row |= {"genuine": str(det.genuine), "impostor": str(det.impostor), "EER": f"{eer_of(det):.5f}"}
    row |= {tar_name(far): f"{tar_at_far_of(det, far).tar:.5f}" for far in FARS if far * det.impostor >= 1.0}
    row |= {name: f"{last[name]:.5g}" for name in LOGGED}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return row | {"machine": machine, "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}


def read_rows(path: Path) -> list[Row]:
    """The finished runs."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Carry out what is missing, one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with path, identity, split")
    parser.add_argument("--out", type=Path, default=Path("runs/faces-small"), help="folder of the runs")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/faces_small.csv"))
    parser.add_argument("--tuning-epochs", type=int, default=3)
    parser.add_argument("--final-epochs", type=int, default=10)
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    for run in planned(rows, arguments.tuning_epochs, arguments.final_epochs):
        if any(all(row[name] == value for name, value in run.key.items()) for row in rows):
            continue
        rows.append(carry_out(run, arguments.manifest.resolve(), arguments.out))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(arguments.rows, text.getvalue())
        print("  ".join(f"{name} {rows[-1].get(name, '')}" for name in (*KEY, "EER", JUDGED_BY, "minutes")), flush=True)


if __name__ == "__main__":
    main()
