"""Write docs/results/speakers-small.md from the CSV files of the study; --out puts what its runs know there first.

    python benchmarks/speakers_small_report.py --manifest speech/manifest.csv --out runs/speakers-small
    python benchmarks/speakers_small_report.py                         the page again, without any run

Intervals are over the seeds that every loss has. What was resampled stays in
benchmarks/results/speakers_small_resamples, so the runs may be gone the next time.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from qmargin._files import write_text
from qmargin.metrics import Statistic, min_dcf_of
from qmargin.protocols.comparison import Figure
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import MIN_DCF, figures_for
from qmargin.report._markdown import grid, markdown_text
from qmargin.scoring import Embeddings
from qmargin.training import RunFolder
from speakers_small import COHORTS, OF_COHORTS, Utterance, cohorts, read_manifest, study
from study import Study
from study_measured import CURVE_COLUMNS, INTERVALS, curve_rows, interval_rows
from study_report import write_report
from study_rows import Row, read_rows, write_rows

BASELINES = ("AAM", "AM")
ALL = "all pairs"
COLUMNS = ("cohort", *INTERVALS)
TITLE = "Losses compared on 125 people's voices"
ABOUT = """\
    make study-speakers MANIFEST=speech/manifest.csv
    python benchmarks/speakers_small_report.py --manifest speech/manifest.csv --out runs/speakers-small

One recipe (`speakers-small`), each speed of a voice a class of its own, the base measure a probability and the loss
over its scale, so that scales, margins and rates mean the same for all losses (docs/losses.md). Each loss had the same
budget: four scales at one learning rate, softer ones for alpha up to 1.25 than beyond, then the best at half and at
twice that rate and with twice the margin, judged on 30 held-out training speakers by EER; then three seeds on all
training speakers, judged once on the test speakers, all pairs of whole recordings by plain cosines.
`benchmarks/results/speakers_small.csv` has a row for each run, `speakers_small_intervals.csv` and
`speakers_small_curves.csv` what tables and plots are made of."""
COHORT_TEXT = (
    "Mean over the seeds; below, the difference to {baseline} with the 95 % interval of the paired bootstrap over "
    "subjects. EER in percent; minDCF is a cost, 1 is a system that knows nothing. Children are under 18; pairs of one "
    "gender have impostors of the speaker's own gender alone."
)


def cohort_of(folder: RunFolder, name: str, people: Mapping[str, Utterance]) -> Trials:
    """The test trials of a cohort, from the embeddings that the study left."""
    return cohorts(Embeddings.load(folder.embeddings("test")), people)["" if name == ALL else name]


def with_min_dcf(trials: Trials) -> dict[Figure, Statistic]:
    """The figures of faces, and minDCF(0.01)."""
    return {**figures_for(trials), Figure(name=MIN_DCF, higher_is_better=False): lambda det: min_dcf_of(det, 0.01)}


def measured(
    plan: Study, rows: Sequence[Row], out: Path, people: Mapping[str, Utterance], kept: Path, resamples: int
) -> list[Row]:
    """Intervals of every cohort, of figures and of differences to the baselines."""
    found: list[Row] = []
    for name in (ALL, *COHORTS):
        read = partial(cohort_of, name=name, people=people)
        of_cohort = kept / name.replace(" ", "-")
        told = interval_rows(
            plan, rows, out, BASELINES, kept=of_cohort, read=read, figures=with_min_dcf, resamples=resamples
        )
        found += [{"cohort": name, **row} for row in told]
    return found


def cohort_section(plan: Study, intervals: Sequence[Row], baseline: str) -> str:
    """EER and minDCF of all pairs and of each cohort: value, and difference to the baseline."""
    wanted = [(cohort, name) for cohort in (ALL, *COHORTS) for name in OF_COHORTS[:2]]
    cells = {(row["loss"], row["baseline"], (row["cohort"], row["figure"])): row for row in intervals}
    body = []
    for loss in plan.candidates:
        body.append([loss, *(_number(cells[loss, "", one], "{:.3f}") for one in wanted)])
        if loss != baseline:
            body.append(["", *(_interval(cells[loss, baseline, one]) for one in wanted)])
    header = ["loss", *(f"{name}, {cohort}" for cohort, name in wanted)]
    table = grid(
        list(map(markdown_text, header)), [list(map(markdown_text, line)) for line in body], [True] + [False] * 8
    )
    return f"## Cohorts, against {baseline}\n\n{COHORT_TEXT.format(baseline=baseline)}\n\n{table}\n"


def _interval(row: Row) -> str:
    difference, low, high = (_number({**row, "value": row[name]}, "{:+.3f}") for name in ("value", "low", "high"))
    return f"{difference} [{low}, {high}]"


def _number(row: Row, form: str) -> str:
    return form.format(np.float64(row["value"]) * (100.0 if row["figure"] == "EER" else 1.0))


def main() -> None:
    """Measure where runs are given, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the runs; without it the CSV files are taken as they are")
    parser.add_argument("--manifest", type=Path, help="of the study, for who is a child; goes with --out")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of the CSV files")
    parser.add_argument("--page", type=Path, default=Path("docs/results/speakers-small.md"))
    parser.add_argument("--tuning-epochs", type=int, default=study().tuning_epochs)
    parser.add_argument("--final-epochs", type=int, default=study().final_epochs)
    parser.add_argument("--resamples", type=int, default=400)
    arguments = parser.parse_args()
    if (arguments.out is None) != (arguments.manifest is None):
        raise ValueError("--out and --manifest go together")
    plan = study(arguments.tuning_epochs, arguments.final_epochs)
    files = {name: arguments.results / f"speakers_small{name}.csv" for name in ("", "_intervals", "_curves")}
    rows = read_rows(files[""])
    if arguments.out is not None:
        curves = curve_rows(plan, rows, arguments.out, read_rows(files["_curves"]))
        write_rows(files["_curves"], CURVE_COLUMNS, curves)
        people = {row["speaker"]: row for row in read_manifest(arguments.manifest)}
        kept = arguments.results / "speakers_small_resamples"
        found = measured(plan, rows, arguments.out, people, kept, arguments.resamples)
        write_rows(files["_intervals"], COLUMNS, found)
    intervals = read_rows(files["_intervals"])
    of_page = [row for row in intervals if row["cohort"] == ALL and row["figure"] != MIN_DCF]
    curves = read_rows(files["_curves"])
    write_report(arguments.page, plan, rows, of_page, curves, title=TITLE, about=ABOUT, baselines=BASELINES)
    if intervals:
        page = arguments.page.read_text(encoding="utf-8")
        write_text(arguments.page, f"{page}\n{cohort_section(plan, intervals, BASELINES[0])}")
    print(arguments.page)


if __name__ == "__main__":
    main()
