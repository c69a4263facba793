"""Choose the demo's loss settings on held-out TRAINING people of the ORL faces; its test people are never looked at.

    python benchmarks/orl_settings.py [--folds 3] [--out benchmarks/results/orl_settings.csv]

Each setting trains the recipe `faces-orl` on 20 of the 30 training people and verifies the other 10, once for each fold
(three choices of the 10 people, which overlap by chance). Prints and writes mean and standard deviation over folds.
"""

import argparse
import csv
import platform
import tempfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from qmargin.losses import AlphaLoss, ArcFace, CosFace, QMargin, ScheduledLoss
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols import all_pairs
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.training import train
from qmargin.training.log import read_log

SETTINGS: dict[str, AlphaLoss] = {
    "CosFace(0.35, 64)": CosFace(0.35, 64.0),
    "CosFace(0.2, 32)": CosFace(0.2, 32.0),
    "CosFace(0.2, 16)": CosFace(0.2, 16.0),
    "ArcFace(0.5, 64)": ArcFace(0.5, 64.0),
    "ArcFace(0.3, 32)": ArcFace(0.3, 32.0),
    "ArcFace(0.3, 16)": ArcFace(0.3, 16.0),
    "QMargin(1.5, 0.1, 12)": QMargin(1.5, 0.1, 12.0),
    "QMargin(1.5, 0.1, 6)": QMargin(1.5, 0.1, 6.0),
    "QMargin(1.5, 0.2, 4)": QMargin(1.5, 0.2, 4.0),
    "QMargin(1.5, 0.2, 3)": QMargin(1.5, 0.2, 3.0),
    "QMargin(1.25, 0.2, 8)": QMargin(1.25, 0.2, 8.0),
}


def measure(loss: AlphaLoss, fold: int) -> list[float]:
    """TAR at FAR 1e-1 and 1e-2, EER and final support size of one run, on its validation people."""
    config = find_recipe("faces-orl").config(ScheduledLoss(name="candidate", final=loss))
    config = replace(config, data=replace(config.data, validation_identities=10, validation_seed=fold))
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run")
        trials = all_pairs(embed_run(run, "validation"))
        support = read_log(run.log)[-1]["support_size"]
    det = det_curve(trials.scores, trials.labels)
    return [tar_at_far_of(det, 1e-1).tar, tar_at_far_of(det, 1e-2).tar, eer_of(det), support]


def main() -> None:
    """Measure every setting on every fold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/orl_settings.csv"))
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, torch {torch.__version__}, {datetime.now(timezone.utc):%Y-%m-%d}"
    rows = []
    for name, loss in SETTINGS.items():
        values = np.array([measure(loss, fold) for fold in range(arguments.folds)])  # (folds, figures)
        cells = [
            f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(values.mean(0), values.std(0, ddof=1), strict=True)
        ]
        rows.append([name, *cells, machine])
        print(" | ".join(rows[-1]), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["loss", "TAR@FAR=1e-1", "TAR@FAR=1e-2", "EER", "support", "machine"], *rows])


if __name__ == "__main__":
    main()
