"""The comparison of losses on real faces: tuned on held-out training identities, then judged on the test split once.

    python benchmarks/faces_small.py --manifest faces/manifest.csv [--out runs/faces-small]
    make study-faces MANIFEST=faces/manifest.csv
    python benchmarks/faces_small_report.py [--out runs/faces-small]

One recipe (`faces-small`, 40x40, 0.85 M parameters, compiled, one thread), one budget for every loss: four scales at
one learning rate, then the best one at half and at twice that rate and with twice the margin, all judged on 150
held-out training identities (a fifth scale where the best of four was at the end, and for losses without a margin);
then three seeds on all training identities, judged on the test identities; then schedules of Q-Margin 1.5, and two
losses trained twice as long. "Best" is the highest TAR at FAR 1e-3. `study.py` has the phases; the second script
writes docs/results/faces-small.md.

Scales, margins and learning rates mean the same for every loss, so all are tried at the same ones: the base measure is
a probability (`head.measure`) and the loss is taken over its scale (`optimizer.as_of_scale`); docs/losses.md says why.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from qmargin.data import Augmentation, ManifestFile
from qmargin.losses import A3M, AlphaLoss, ArcFace, CosFace, NormFace, QMargin, Ramp, SupportControl
from qmargin.protocols import all_pairs
from qmargin.protocols.verification import tar_name
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.training import RunFolder, TrainConfig
from qmargin.training.config import Precision
from study import Run, Study, Variation
from study_rows import DONE, FIGURES, KEY, LOGGED, SIZES, SPREAD, VALUE, Row, figures, spread
from study_running import carry_on, trained

SOFT, SHARP = (6.0, 12.0, 24.0, 48.0), (12.0, 24.0, 48.0, 96.0)
ALL = (6.0, *SHARP)  # a fifth one where the best of four was not between two others
CANDIDATES: dict[str, list[AlphaLoss]] = {
    "CosFace": [CosFace(0.2, scale) for scale in ALL],
    "Q-Margin 1.5": [QMargin(1.5, 0.2, scale) for scale in SHARP],
    "ArcFace": [ArcFace(0.2, scale) for scale in SOFT],
    "Q-Margin 1.1": [QMargin(1.1, 0.2, scale) for scale in SOFT],
    "Q-Margin 1.25": [QMargin(1.25, 0.2, scale) for scale in ALL],
    "Q-Margin 2": [QMargin(2.0, 0.2, scale) for scale in (*SHARP, 192.0)],
    "A3M": [A3M(1.5, 0.2, scale) for scale in SHARP],
    "entmax 1.5": [QMargin(1.5, 0.0, scale) for scale in ALL],  # no margin to vary: one scale more
    "NormFace": [NormFace(scale) for scale in ALL],
}
VARIATIONS = {
    "as chosen": Variation(),
    "alpha from 1": Variation(alpha=Ramp(start=1.0)),
    "scale to x4": Variation(sharper=4.0),
    "support 500 to 50": Variation(support=SupportControl(start=500.0, end=50.0, begin=0.02, high=1024.0)),
    "prototype rate x2": Variation(head_rate=2.0),
}
OF_LENGTHS = ("CosFace", "Q-Margin 1.5")
HELD_OUT = 150  # training identities that judge settings
COLUMNS = (*KEY, *SIZES, *FIGURES, *SPREAD, VALUE, *LOGGED, *DONE)


def study(tuning_epochs: int = 6, final_epochs: int = 8) -> Study:
    """The whole plan."""
    return Study(
        candidates=CANDIDATES,
        rate=1.0,
        other_rates=(0.5, 2.0),
        other_margins=(0.4,),
        seeds=(0, 1, 2),
        tuning_epochs=tuning_epochs,
        final_epochs=final_epochs,
        judged_by=tar_name(1e-3),
        higher_is_better=True,
        varied="Q-Margin 1.5",
        variations=VARIATIONS,
        lengths=(final_epochs, 2 * final_epochs),
        of_lengths=OF_LENGTHS,
    )


def config(run: Run, manifest: Path, precision: Precision = "float32") -> TrainConfig:
    """The recipe with a run's loss, rates and length; all but final runs hold identities out."""
    recipe = find_recipe("faces-small").config(run.loss)
    changes = Augmentation(shift=3.0, rotation=8.0, scale=0.1, brightness=0.2, contrast=0.2)
    data = replace(recipe.image_data, source=ManifestFile(path=manifest), augmentation=changes, keep_decoded=True)
    if run.split != "test":
        data = replace(data, validation_identities=HELD_OUT)
    return replace(
        at_rates(recipe, run),
        data=data,
        seed=run.seed,
        epochs=run.epochs,
        precision=precision,
        threads=1,
        compile=True,
    )


def at_rates(recipe: TrainConfig, run: Run) -> TrainConfig:
    """The recipe with a run's learning rates."""
    rates = replace(recipe.optimizer, learning_rate=run.rate, head_learning_rate_factor=run.head_rate)
    return replace(recipe, optimizer=rates)


def carry_out(run: Run, manifest: Path, out: Path, precision: Precision) -> Row:
    """Train, embed, score all pairs; the cells of the run."""

    def judge(folder: RunFolder) -> Row:
        embeddings = embed_run(folder, run.split)
        return {**figures(all_pairs(embeddings)), **spread(embeddings)}

    return trained(run, config(run, manifest, precision), out, judge)


def add_options(parser: argparse.ArgumentParser, name: str, plan: Study) -> None:
    """The options that the studies share: where runs and rows are, how long and in which precision runs are."""
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="folder of the runs")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results", f"{name.replace('-', '_')}.csv"))
    parser.add_argument("--tuning-epochs", type=int, default=plan.tuning_epochs)
    parser.add_argument("--final-epochs", type=int, default=plan.final_epochs)
    parser.add_argument(
        "--precision",
        choices=get_args(Precision)[:2],
        default="float32",
        help="of the backbone; bfloat16 is faster on a CPU with units for it (lscpu says avx512_bf16), the head stays "
        "in float32; the rows say which",
    )


def main() -> None:
    """Carry out what is missing, one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="CSV with path, identity, split")
    add_options(parser, "faces-small", study())
    arguments = parser.parse_args()
    plan, out = study(arguments.tuning_epochs, arguments.final_epochs), arguments.out
    act = partial(carry_out, manifest=arguments.manifest.resolve(), out=out, precision=arguments.precision)
    carry_on(plan, arguments.rows, COLUMNS, act, out / "claims")


if __name__ == "__main__":
    main()
