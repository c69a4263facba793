"""How often the 95 % intervals of the subject bootstrap hold the truth, by simulation.

    python benchmarks/bootstrap_coverage.py [--sets 200] [--out benchmarks/results/bootstrap_coverage.csv]

A person is a random direction, an image that direction plus noise, a score a cosine; two systems see the same images
with other noise. The truth is the figure on a population of 400 people (mean of 5); a data set has 40. Counted is
the share of data sets whose interval holds the truth: of each figure of system A, and of the difference of A and B.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import Statistic, det_curve, eer_of, min_dcf_of, paired_subject_bootstrap, subject_bootstrap
from qmargin.metrics import tar_at_far_of as tar
from qmargin.scoring import pair_cosines

STATISTICS: Mapping[str, Statistic] = {
    "EER": eer_of,
    "TAR@FAR=1e-2": lambda det: tar(det, 1e-2).tar,
    "minDCF(0.01)": lambda det: min_dcf_of(det, 0.01),
}
HIGHER = {"EER": False, "TAR@FAR=1e-2": True, "minDCF(0.01)": False}
NOISE = {"hard": (1.3, 1.4), "easy": (0.65, 0.7)}  # of systems A and B
DIM, IMAGES, PEOPLE, POPULATION, RESAMPLES = 32, 5, 40, 400, 200

Scores = NDArray[np.float32]


def simulate(people: int, noise: tuple[float, ...], seed: int) -> tuple[list[Scores], NDArray[np.int64]]:
    """Scores of each system (trials,) and the subjects (trials, 2) of all pairs of images."""
    generator = np.random.default_rng(seed)
    directions = np.repeat(generator.normal(size=(people, DIM)), IMAGES, axis=0)
    shared = generator.normal(size=directions.shape)  # what makes an image hard is partly the same for both systems
    vectors = [directions + size * (shared + generator.normal(size=shared.shape)) / np.sqrt(2.0) for size in noise]
    subject = np.repeat(np.arange(people), IMAGES)
    subjects = subject[np.stack(np.triu_indices(len(subject), k=1), axis=1)]
    return [pair_cosines(vector.astype(np.float32)) for vector in vectors], subjects


def truth(noise: tuple[float, ...]) -> dict[str, NDArray[np.float64]]:
    """Each figure of each system (systems,) on the population."""
    values: dict[str, list[list[float]]] = {name: [] for name in STATISTICS}
    for seed in range(5):
        scores, subjects = simulate(POPULATION, noise, 10**6 + seed)
        curves = [det_curve(row, subjects[:, 0] == subjects[:, 1]) for row in scores]
        for name, statistic in STATISTICS.items():
            values[name].append([statistic(curve) for curve in curves])
    return {name: np.mean(rows, axis=0) for name, rows in values.items()}


def main() -> None:
    """Simulate, count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bootstrap_coverage.csv"))
    arguments = parser.parse_args()
    rows = []
    for difficulty, noise in NOISE.items():
        true = truth(noise)
        held = {name: np.zeros(2) for name in STATISTICS}  # of system A, of the difference
        for seed in range(arguments.sets):
            (a, b), subjects = simulate(PEOPLE, noise, seed)
            labels = subjects[:, 0] == subjects[:, 1]
            single = subject_bootstrap(a, labels, subjects, STATISTICS, resamples=RESAMPLES)
            paired = paired_subject_bootstrap(
                a, b, labels, subjects, STATISTICS, higher_is_better=HIGHER, resamples=RESAMPLES
            )
            for name, (of_a, of_b) in true.items():
                held[name] += [
                    single[name].low <= of_a <= single[name].high,
                    paired[name].low <= of_a - of_b <= paired[name].high,
                ]
        for name, counts in held.items():
            shares = [f"{share:.3f}" for share in counts / arguments.sets]
            rows.append([difficulty, name, f"{true[name][0]:.4f}", *shares, arguments.sets])
            print(*rows[-1], sep=" | ", flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        header = ["lists", "figure", "truth of A", "covered, single", "covered, difference", "data sets"]
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
