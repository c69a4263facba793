"""Time and peak memory of the metrics on lists as long as the longest in use, beside scikit-learn where it has a peer.

    python benchmarks/metrics.py [--impostor 30900000] [--genuine 380000] [--out benchmarks/results/metrics.csv]

Each row is measured in its own process, because the peak of a process never falls. `seconds` is the wall time of the
call alone, `cpu_seconds` its processor time, which other users of the machine disturb less. `peak_mb` is the peak
resident memory of the whole process, `before_mb` that peak before the call: interpreter, numpy, torch (imported by the
package) and the trials (float32 scores, bool labels). `result` lets the reader see that both implementations compute
the same number; the peer's figures are read from scikit-learn's arrays.
"""

import argparse
import csv
import datetime as dt
import io
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import make_folder, write_text
from qmargin.metrics import (
    DetCurve,
    det_curve,
    eer,
    eer_hull,
    eer_of,
    min_dcf,
    min_dcf_of,
    subject_bootstrap,
    tar_at_far,
    tar_at_far_of,
)

Scores = NDArray[np.float32]
Labels = NDArray[np.bool_]
COLUMNS = (
    "figure",
    "implementation",
    "impostor",
    "genuine",
    "seconds",
    "cpu_seconds",
    "peak_mb",
    "before_mb",
    "result",
)


def make_trials(impostor: int, genuine: int) -> tuple[Scores, Labels]:
    """Cosine-like scores, genuine trials spread over the list."""
    generator = np.random.default_rng(0)
    labels = np.zeros(impostor + genuine, dtype=bool)
    labels[generator.choice(labels.size, genuine, replace=False, shuffle=False)] = True
    scores = generator.standard_normal(labels.size, dtype=np.float32)
    scores *= np.float32(0.09)
    scores[labels] = scores[labels] * np.float32(1.5) + np.float32(0.55)
    return scores, labels


def sklearn_det(scores: Scores, labels: Labels) -> str:
    """The peer's whole curve, in two numbers."""
    from sklearn.metrics import det_curve as peer  # noqa: PLC0415 - not to be in the memory of our own rows

    far, frr, _ = peer(labels, scores)
    return f"sum FAR + FRR {far.sum() + frr.sum():.6g} of {far.size} points"


def sklearn_roc(
    read: Callable[[NDArray[np.float64], NDArray[np.float64]], float], *, thinned: bool = True
) -> Callable[[Scores, Labels], str]:
    """A figure as `read` takes it from the peer's flipped arrays, the way public scripts do."""

    def figure(scores: Scores, labels: Labels) -> str:
        from sklearn.metrics import roc_curve  # noqa: PLC0415

        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=thinned)
        return f"{read(np.flipud(fpr), np.flipud(tpr)):.9f}"

    return figure


def our_det(scores: Scores, labels: Labels) -> str:
    """Our whole curve, in the peer's two numbers."""
    det = det_curve(scores, labels)
    peer = slice(int((det.frr == 0).sum()) - 1, int((det.far > 0).sum()) + 1)  # scikit-learn cuts the flat ends off
    return f"sum FAR + FRR {det.far[peer].sum() + det.frr[peer].sum():.6g} of {det.far[peer].size} points"


FIGURES: dict[tuple[str, str], Callable[[Scores, Labels], str]] = {
    ("det_curve", "qmargin"): our_det,
    ("det_curve", "scikit-learn"): sklearn_det,
    ("TAR at FAR 1e-4 (nearest)", "qmargin"): lambda s, y: f"{tar_at_far(s, y, 1e-4, 'nearest').tar:.9f}",
    ("TAR at FAR 1e-4 (nearest)", "scikit-learn"): sklearn_roc(lambda fpr, tpr: tpr[np.abs(fpr - 1e-4).argmin()]),
    ("TAR at FAR 1e-4", "qmargin"): lambda s, y: f"{tar_at_far(s, y, 1e-4).tar:.9f}",
    ("EER", "qmargin"): lambda s, y: f"{eer(s, y):.9f}",
    ("EER", "scikit-learn"): sklearn_roc(lambda fpr, tpr: _middle(fpr, 1 - tpr), thinned=False),
    ("EER (hull)", "qmargin"): lambda s, y: f"{eer_hull(s, y):.9f}",
    ("minDCF(0.01)", "qmargin"): lambda s, y: f"{min_dcf(s, y, 0.01):.9f}",
    ("minDCF(0.01)", "scikit-learn"): sklearn_roc(lambda fpr, tpr: (1 - tpr + 99 * fpr).min()),
}
BOOTSTRAPS = {
    "bootstrap x 1000, 4 figures, 9 runs": (9, 5_000, 100),
    "bootstrap x 1000, 4 figures, 1 run": (1, 10**6, 2000),
    "bootstrap x 1000, 4 figures, IJB-C": (1, 15_658_489, 3531),
}


def _middle(far: NDArray[np.float64], frr: NDArray[np.float64]) -> float:
    nearest = np.abs(far - frr).argmin()
    return float(far[nearest] + frr[nearest]) / 2


def bootstrap(runs: int, trials: int, subjects: int) -> tuple[Callable[[], str], int]:
    """A call that makes an interval of four figures at once, and the number of genuine trials of its list."""
    generator = np.random.default_rng(0)
    sides = generator.integers(subjects, size=(trials, 2))
    sides[: trials // 5, 1] = sides[: trials // 5, 0]
    labels = sides[:, 0] == sides[:, 1]
    scores = generator.standard_normal((runs, trials), dtype=np.float32) + 2 * labels.astype(np.float32)

    def tar(det: DetCurve) -> float:
        return tar_at_far_of(det, 1e-2).tar

    def call() -> str:
        statistics = {"EER": eer_of, "TAR": tar, "c01": lambda det: min_dcf_of(det, 0.01), "c05": _cost}
        interval = subject_bootstrap(scores, labels, sides, statistics)["EER"]
        return f"EER {interval.estimate:.5f} in [{interval.low:.5f}, {interval.high:.5f}]"

    return call, int(labels.sum())


def _cost(det: DetCurve) -> float:
    return min_dcf_of(det, 0.05)


def measure(figure: str, implementation: str, impostor: int, genuine: int) -> dict[str, str]:
    """One row, in this process."""
    if figure in BOOTSTRAPS:
        runs, trials, subjects = BOOTSTRAPS[figure]
        call, genuine = bootstrap(runs, trials, subjects)
        impostor = trials - genuine
    else:
        scores, labels = make_trials(impostor, genuine)
        function = FIGURES[figure, implementation]
        warm_up = make_trials(20_000, 100)
        function(*warm_up)  # imports and first-call costs

        def call() -> str:
            return function(scores, labels)

    before, wall, processor = peak_mb(), time.perf_counter(), time.process_time()
    result = call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    costs = (f"{wall:.2f}", f"{processor:.2f}", f"{peak_mb():.0f}", f"{before:.0f}")
    values = (figure, implementation, impostor, genuine, *costs, result)
    return dict(zip(COLUMNS, map(str, values), strict=True))


def peak_mb() -> float:
    """Peak resident memory of this process in MB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure_apart(row: list[str]) -> dict[str, str]:
    """The same row in a process of its own."""
    command = [sys.executable, __file__, "--row", *row]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
    return next(csv.DictReader(io.StringIO(output), COLUMNS))


def cpu_name() -> str:
    """Processor as Linux names it, or what `platform` knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure every row in turn, print them and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impostor", type=int, default=30_900_000)
    parser.add_argument("--genuine", type=int, default=380_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metrics.csv")
    parser.add_argument("--row", nargs=4, metavar=("FIGURE", "IMPLEMENTATION", "IMPOSTOR", "GENUINE"))
    arguments = parser.parse_args()
    if arguments.row:
        figure, implementation, impostor, genuine = arguments.row
        csv.DictWriter(sys.stdout, COLUMNS).writerow(measure(figure, implementation, int(impostor), int(genuine)))
        return
    machine = {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "load_average": f"{os.getloadavg()[0]:.1f}",  # a machine shared with others measures slower
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *machine], lineterminator="\n")
    writer.writeheader()
    for figure, implementation in [*FIGURES, *((name, "qmargin") for name in BOOTSTRAPS)]:
        row = measure_apart([figure, implementation, str(arguments.impostor), str(arguments.genuine)])
        costs = f"{row['seconds']:>7} s (CPU {row['cpu_seconds']:>6} s) {row['peak_mb']:>6} MB"
        print(f"{figure:35} {implementation:12} {costs}  {row['result']}", flush=True)
        writer.writerow(row | machine)
    make_folder(arguments.out.parent)
    write_text(arguments.out, text.getvalue())


if __name__ == "__main__":
    main()
