"""Write docs/results/faces-small.md from the CSV files of the study; with --out, what its runs know goes there first.

    python benchmarks/faces_small_report.py --out runs/faces-small     after the study: intervals, curves, page
    python benchmarks/faces_small_report.py                            the page again, without any run

Intervals take a minute and a half a run of 31 million pairs, on one core; they are over the seeds that every loss has.
What was resampled stays in benchmarks/results/faces_small_resamples, so the runs may be gone the next time.
"""

import argparse
from pathlib import Path

from faces_small import study
from study_measured import CURVE_COLUMNS, INTERVALS, curve_rows, interval_rows
from study_report import write_report
from study_rows import read_rows, write_rows

BASELINES = ("CosFace", "ArcFace")
TITLE = "Losses compared on 1,520 people's faces"
ABOUT = """\
    make study-faces MANIFEST=faces/manifest.csv
    python benchmarks/faces_small_report.py --out runs/faces-small

One recipe (`faces-small`): crops made 40x40, a narrow IResNet-18 of 0.85 M parameters, batches of 128, SGD, the base
measure a probability and the loss over its scale, so that scales, margins and rates mean the same for all losses
(docs/losses.md). Each loss had the same budget: four scales at one learning rate, then the best at half and at twice
that rate and with twice the margin (a fifth scale where the best of four was at the end, and for losses without a
margin), judged on 150 held-out training identities by TAR at FAR 1e-3; then three seeds on all training identities,
judged once on the test identities, all pairs. `benchmarks/results/faces_small.csv` has a row for each run,
`faces_small_intervals.csv` and `faces_small_curves.csv` what tables and plots are made of."""


def main() -> None:
    """Measure where runs are given, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the runs; without it the CSV files are taken as they are")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of the CSV files")
    parser.add_argument("--page", type=Path, default=Path("docs/results/faces-small.md"))
    parser.add_argument("--tuning-epochs", type=int, default=study().tuning_epochs)
    parser.add_argument("--final-epochs", type=int, default=study().final_epochs)
    parser.add_argument("--resamples", type=int, default=400)
    arguments = parser.parse_args()
    plan = study(arguments.tuning_epochs, arguments.final_epochs)
    files = {name: arguments.results / f"faces_small{name}.csv" for name in ("", "_intervals", "_curves")}
    rows = read_rows(files[""])
    if arguments.out is not None:
        curves = curve_rows(plan, rows, arguments.out, read_rows(files["_curves"]))
        write_rows(files["_curves"], CURVE_COLUMNS, curves)
        kept = arguments.results / "faces_small_resamples"
        found = interval_rows(plan, rows, arguments.out, BASELINES, kept=kept, resamples=arguments.resamples)
        write_rows(files["_intervals"], INTERVALS, found)
    write_report(
        arguments.page,
        plan,
        rows,
        read_rows(files["_intervals"]),
        read_rows(files["_curves"]),
        title=TITLE,
        about=ABOUT,
        baselines=BASELINES,
    )
    print(arguments.page)


if __name__ == "__main__":
    main()
