"""How often 95 % intervals of single figures hold the truth, by percentiles and by Wilson's formula, also at low FAR.

    python benchmarks/interval_coverage.py [--sets 500] [--out benchmarks/results/interval_coverage.csv]

Simulated people have a direction each, their recordings scatter around it; every pair is a trial. The truth is the mean
figure of 20 populations of 400 people. Both intervals are made of the same 200 resamples of the same data sets.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bootstrap_coverage import IMAGES, simulate
from qmargin.metrics import Statistic, det_curve, eer_of, min_dcf_of
from qmargin.metrics import tar_at_far_of as tar
from qmargin.metrics._intervals import percentiles, wilson
from qmargin.metrics._resampling import evaluate

POPULATION, POPULATIONS, RESAMPLES, CONFIDENCE = 400, 20, 200, 0.95


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of list: how many people, how noisy, and the FAR of its TAR."""

    people: int
    noise: float
    far: float

    def statistics(self) -> dict[str, Statistic]:
        """The figures looked at."""
        return {
            "EER": eer_of,
            f"TAR@FAR={self.far:g}": lambda det: tar(det, self.far).tar,
            "minDCF(0.01)": lambda det: min_dcf_of(det, 0.01),
        }


CASES = {
    "hard, 40 people": Case(people=40, noise=1.3, far=1e-2),
    "easy, 40 people": Case(people=40, noise=0.65, far=1e-2),
    "middling, 100 people": Case(people=100, noise=0.9, far=1e-3),
    "easy, 100 people": Case(people=100, noise=0.7, far=1e-4),
}


def coverage(case: Case, sets: int) -> list[list[str]]:
    """For each figure: its name, truth, the shares of intervals that hold it, and their mean widths."""
    functions = list(case.statistics().values())
    truth = np.zeros(len(functions))
    for seed in range(POPULATIONS):
        (scores,), subjects = simulate(POPULATION, (case.noise,), 10**6 + seed)
        det = det_curve(scores, subjects[:, 0] == subjects[:, 1])
        truth += [function(det) / POPULATIONS for function in functions]
    held, width = np.zeros((2, 2, len(functions)))
    for seed in range(sets):
        (scores,), subjects = simulate(case.people, (case.noise,), seed)
        estimates, values = evaluate(
            [[scores]], subjects[:, 0] == subjects[:, 1], subjects, functions, RESAMPLES, seed=0
        )
        pairs = zip(estimates[0].tolist(), values[0], strict=True)
        of_wilson = np.array([wilson(figure, row, case.people, CONFIDENCE) for figure, row in pairs]).T
        for row, (low, high) in enumerate([percentiles(values[0], CONFIDENCE), (of_wilson[0], of_wilson[1])]):
            held[row] += (low <= truth) & (truth <= high)
            width[row] += high - low
    shares, widths = held / sets, width / sets
    return [
        [name, f"{truth[k]:.4f}", *(f"{x:.3f}" for x in shares[:, k]), *(f"{x:.4f}" for x in widths[:, k])]
        for k, name in enumerate(case.statistics())
    ]


def main() -> None:
    """Simulate, count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interval_coverage.csv"))
    arguments = parser.parse_args()
    rows = []
    for name, case in CASES.items():
        impostors = IMAGES**2 * case.people * (case.people - 1) // 2
        for row in coverage(case, arguments.sets):
            rows.append([name, str(impostors), *row, str(arguments.sets)])
            print(*rows[-1], sep=" | ", flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        header = ["lists", "impostor trials", "figure", "truth", "covered, percentile", "covered, wilson"]
        csv.writer(file).writerows([[*header, "width, percentile", "width, wilson", "data sets"], *rows])


if __name__ == "__main__":
    main()
