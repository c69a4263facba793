"""How often 95 % intervals hold the truth, by several methods from the same resamples: single, paired and stratified.

    python benchmarks/interval_coverage.py [--lists NAME ...] [--sets 500] [--out FILE]
    python benchmarks/interval_coverage.py --table       # the table of docs/performance.md, from the rows of the file

Simulated people have a direction each, their images scatter around it, every pair of images is a trial; two systems
see the same images with other noise of their own. The truth is the mean figure of 20 populations of 400 people. Where
people are of two groups, half of each, one harder, draws are stratified and each data set has half of each.
Counted is the share of data sets whose interval holds the truth: of a figure of system A, and of the difference of B
and A. Rows of other lists in the CSV stay, so lists may be run one by one.

Methods: `shipped` is what qmargin.metrics does. From the same values: `percentile`, quantiles of the resamples;
`basic`, those mirrored at the estimate; `BCa`, bias-corrected and accelerated (jackknife over people); `t`, estimate
plus or minus Student's t on N - 1 times the deviation of the resamples; `wilson, plain`, Wilson's with that deviation;
`t, pairs`, as t with the variance that the resamples of pairs correct, nothing added for bias or few errors.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import Statistic, det_curve, eer_of, min_dcf_of
from qmargin.metrics import tar_at_far_of as tar
from qmargin.metrics._grid import GriddedSystems, SubjectWeights
from qmargin.metrics._intervals import difference_interval, interval, percentiles, student, wilson
from qmargin.metrics._resampling import Plan, Resamples, evaluate
from qmargin.metrics._subjects import Subjects
from qmargin.metrics._validate import Floats
from qmargin.metrics.bootstrap import reading
from qmargin.scoring import pair_cosines

DIM, OTHER = 32, 1.07  # dimensions of an image; how much noisier system B is
POPULATION, POPULATIONS, RESAMPLES, CONFIDENCE = 400, 20, 300, 0.95
METHODS = ("shipped", "percentile", "basic", "BCa", "t", "wilson, plain", "t, pairs")
HEADER = ["lists", "impostor trials", "kind", "figure", "truth", *METHODS, "width, shipped", "data sets", "resamples"]
Scores = list[NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of list: how many people, how noisy each group of them is, and the FAR of its TAR."""

    people: int
    noise: tuple[float, ...]
    far: float
    images: int = 5

    @property
    def statistics(self) -> dict[str, Statistic]:
        """The figures looked at."""
        return {
            "EER": eer_of,
            f"TAR@FAR={self.far:.0e}": lambda det: tar(det, self.far).tar,
            "minDCF(0.01)": lambda det: min_dcf_of(det, 0.01),
        }

    @property
    def impostors(self) -> int:
        """Impostor trials of a data set."""
        return self.images**2 * self.people * (self.people - 1) // 2

    def groups(self, people: int) -> NDArray[np.intp]:
        """Group of each of so many people, as many of each."""
        return np.arange(people) % len(self.noise)

    def simulate(self, people: int, seed: int) -> tuple[Scores, NDArray[np.int64]]:
        """Scores of each system (trials,) and the people (trials, 2) of all pairs of images."""
        generator = np.random.default_rng(seed)
        subject = np.repeat(np.arange(people), self.images)
        size = np.array(self.noise)[self.groups(people)][subject, np.newaxis]
        directions = generator.normal(size=(people, DIM))[subject]
        shared = generator.normal(size=directions.shape)  # what makes an image hard is partly the same for both systems
        own = [generator.normal(size=shared.shape) for _ in range(2)]
        vectors = [
            directions + more * size * (shared + noise) / np.sqrt(2.0)
            for more, noise in zip((1.0, OTHER), own, strict=True)
        ]
        sides = subject[np.stack(np.triu_indices(len(subject), k=1), axis=1)]
        return [pair_cosines(vector.astype(np.float32)) for vector in vectors], sides


CASES = {
    "hard, 40 people": Case(people=40, noise=(1.3,), far=1e-2),
    "easy, 40 people": Case(people=40, noise=(0.65,), far=1e-2),
    "middling, 100 people": Case(people=100, noise=(0.9,), far=1e-3),
    "easy, 100 people": Case(people=100, noise=(0.7,), far=1e-4),
    "middling, 200 people": Case(people=200, noise=(0.9,), far=1e-5, images=4),
    "two groups, 40 people": Case(people=40, noise=(0.7, 1.2), far=1e-2),
    "two groups, 100 people": Case(people=100, noise=(0.7, 1.2), far=1e-4),
}


def truth(case: Case) -> Floats:
    """Figures of A, and of B less A, (2, figures), on the population."""
    read = reading(case.statistics)
    found = np.zeros((2, len(case.statistics)))
    for seed in range(POPULATIONS):
        scores, sides = case.simulate(POPULATION, 10**6 + seed)
        found += [read(det_curve(row, sides[:, 0] == sides[:, 1])) / POPULATIONS for row in scores]
    return np.stack([found[0], found[1] - found[0]])


def jackknife(case: Case, scores: Scores, sides: NDArray[np.int64]) -> Floats:
    """Figures of each system without each person, (systems, figures, people)."""
    genuine = sides[:, 0] == sides[:, 1]
    systems = GriddedSystems.of([[row] for row in scores], genuine, Subjects.of(sides, genuine)).systems
    read, left_out = reading(case.statistics), 1 - np.eye(case.people, dtype=np.int64)
    parts = np.array_split(left_out, max(1, case.people // 16))
    curves = [[curve for part in parts for curve in runs[0].curves(SubjectWeights(part))] for runs in systems]
    return np.array([np.array([read(det) for det in row if det is not None]).T for row in curves])


def bca(estimates: Floats, values: Floats, without: Floats) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated percentiles (Efron 1987)."""
    normal = NormalDist()
    ends = []
    for estimate, row, left_out in zip(estimates.tolist(), values, without, strict=True):
        below = (np.count_nonzero(row < estimate) + 0.5 * np.count_nonzero(row == estimate)) / row.size
        shift = normal.inv_cdf(min(max(below, 0.5 / row.size), 1 - 0.5 / row.size))
        pull = left_out.mean() - left_out
        spread = float((pull**2).sum())
        acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        shares = []
        for tail in (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2):
            z = shift + normal.inv_cdf(tail)
            shares.append(normal.cdf(shift + z / (1 - acceleration * z)))
        ends.append(np.quantile(row, shares))
    both: Floats = np.array(ends)
    return both[:, 0], both[:, 1]


def by_method(found: Resamples, without: Floats, *, paired: bool) -> list[tuple[Floats, Floats]]:
    """Ends of the intervals of all figures by each of `METHODS`."""

    def taken(part: Floats) -> Floats:
        chosen: Floats = part[1] - part[0] if paired else part[0]
        return chosen

    estimates, values, of_pairs = taken(found.estimates), taken(found.values), taken(found.of_pairs)
    people, plain = found.subjects, values.var(axis=1, ddof=1)
    low, high = percentiles(values, CONFIDENCE)
    if paired:
        shipped = difference_interval(
            "t", found.estimates[::-1], found.values[::-1], found.of_pairs[::-1], people, CONFIDENCE
        )
    else:
        shipped = interval("wilson", estimates, values, of_pairs, people, CONFIDENCE)
    nothing = np.full(estimates.size, np.nan)
    pairs = of_pairs.var(axis=1, ddof=1)
    return [
        shipped,
        (low, high),
        (2 * estimates - high, 2 * estimates - low),
        bca(estimates, values, taken(without)),
        student(estimates, plain, people, CONFIDENCE),
        (nothing, nothing) if paired else wilson(estimates, plain, people, CONFIDENCE),
        student(estimates, np.maximum(plain - 2 * pairs, pairs), people, CONFIDENCE),
    ]


def coverage(name: str, case: Case, sets: int) -> list[list[str]]:
    """Rows of one kind of list."""
    true = truth(case)
    held, width = np.zeros((2, len(METHODS), 3)), np.zeros((2, 3))
    strata = dict(enumerate(case.groups(case.people).tolist())) if len(case.noise) > 1 else None
    plan = Plan(resamples=RESAMPLES, confidence=CONFIDENCE, strata=strata)
    read = reading(case.statistics)
    for seed in range(sets):
        scores, sides = case.simulate(case.people, seed)
        systems = {"A": scores[0], "B": scores[1]}
        found = evaluate(systems, sides[:, 0] == sides[:, 1], sides, read, plan)
        without = jackknife(case, scores, sides)
        for kind in (0, 1):
            ends = by_method(found, without, paired=kind == 1)
            held[kind] += [(low <= true[kind]) & (true[kind] <= high) for low, high in ends]
            width[kind] += (ends[0][1] - ends[0][0]) / sets
    rows = []
    for kind, word in enumerate(("single", "difference")):
        text = word + (", stratified" if strata else "")
        for k, figure in enumerate(case.statistics):
            shares = [f"{held[kind, m, k] / sets:.3f}" for m in range(len(METHODS))]
            if kind == 1:
                shares[METHODS.index("wilson, plain")] = ""
            numbers = [f"{true[kind, k]:.4f}", *shares, f"{width[kind, k]:.4f}", str(sets), str(RESAMPLES)]
            rows.append([name, str(case.impostors), text, figure, *numbers])
            print(*rows[-1], sep=" | ", flush=True)
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """Single figures and differences side by side, as Markdown."""
    methods = {"single": ("shipped", "percentile", "BCa", "t"), "difference": ("shipped", "percentile", "t")}
    heads = [f"{kind}: ours" if name == "shipped" else name for kind, names in methods.items() for name in names]
    lines = [["lists", "impostor trials", "sets", "figure", "truth", *heads]]
    lines.append(["---"] * len(lines[0]))
    by = {(row["lists"], row["figure"], row["kind"].split(",")[0]): row for row in rows}
    for (lists, figure, kind), row in by.items():
        if kind == "single":
            pair = {"single": row, "difference": by[lists, figure, "difference"]}
            cells = [f"{100 * float(pair[kind][name]):.1f} %" for kind, names in methods.items() for name in names]
            title = row["lists"] + ", ".join(["", *row["kind"].split(", ")[1:]])
            lines.append([title, f"{int(row['impostor trials']):,}", row["data sets"], figure, row["truth"], *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Simulate, count, print, and write beside the rows of other lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interval_coverage.csv"))
    parser.add_argument("--table", action="store_true", help="print the rows that are there, measure nothing")
    arguments = parser.parse_args()
    if arguments.table:
        with arguments.out.open(newline="", encoding="utf-8") as file:
            print(table(list(csv.DictReader(file))))
        return
    for name in arguments.lists:
        rows = coverage(name, CASES[name], arguments.sets)
        if arguments.out.exists():
            with arguments.out.open(newline="", encoding="utf-8") as file:
                rows += [row for row in list(csv.reader(file))[1:] if row[0] != name]
        rows.sort(key=lambda row: list(CASES).index(row[0]))
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])


if __name__ == "__main__":
    main()
