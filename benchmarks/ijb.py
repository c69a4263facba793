"""IJB-C's size from lists and features to TAR: time and peak memory, beside the steps of the public scripts.

    python benchmarks/ijb.py [--data DIR] [--scale 1.0] [--out benchmarks/results/ijb.csv]

An invented set (`qmargin.protocols.ijb_synthetic`) with the counts of IJB-C is written to DIR (a temporary folder
unless given; 2.2 GB), then each implementation reads and evaluates it in a process of its own, because the peak of a
process never falls. `seconds` is wall time from opening the lists to the last figure, `cpu_seconds` processor time,
`peak_mb` the peak resident memory of the whole process; the features are memory-mapped by ours, so their pages count
where they are touched. `result` is TAR at FAR 1e-6 to 1e-1, read at the nearest FAR: both must print the same.
`--scale 0.01` makes a set of a hundredth of the counts.
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
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from metrics import cpu_name
from qmargin._files import make_folder, write_text
from qmargin.protocols import read_ijb, verify_templates
from qmargin.protocols.ijb_synthetic import SyntheticIjb
from qmargin.scoring import Features

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
COLUMNS = ("implementation", "images", "templates", "pairs", "seconds", "cpu_seconds", "peak_mb", "before_mb", "result")


def ours(data: Path) -> dict[float, float]:
    """The project's way, preset insightface."""
    features = Features.load(data / "features.npy", data / "mirrors.npy")
    report = verify_templates(read_ijb(data / "meta"), features, "insightface")
    return {point.far_target: point.tar for point in report.of_rule("nearest")}


def public_steps(data: Path) -> dict[float, float]:
    """The steps of the public scripts, one after the other: a loop over templates, pairs in chunks, `roc_curve`."""
    from sklearn.metrics import roc_curve  # noqa: PLC0415 - not to be in the memory of our own row

    meta = data / "meta"
    rows = [line.split() for line in (meta / "ijbc_face_tid_mid.txt").read_text().splitlines()]
    templates, media = (np.array([int(row[column]) for row in rows]) for column in (1, 2))
    lines = (meta / "ijbc_name_5pts_score.txt").read_text().splitlines()
    detector = np.array([float(line.split()[-1]) for line in lines])
    pairs = np.loadtxt(meta / "ijbc_template_pair_label.txt", dtype=np.int32)
    features = np.load(data / "features.npy") + np.load(data / "mirrors.npy")
    features = features * detector[:, np.newaxis]
    unique = np.unique(templates)
    pooled = np.zeros((len(unique), features.shape[1]))
    place = np.zeros(unique.max() + 1, dtype=int)
    for count, template in enumerate(unique):
        (chosen,) = np.where(templates == template)
        kinds, counts = np.unique(media[chosen], return_counts=True)
        vectors = [
            features[chosen[media[chosen] == kind]].mean(axis=0)
            if frames > 1
            else features[chosen][media[chosen] == kind][0]
            for kind, frames in zip(kinds, counts, strict=True)
        ]
        pooled[count] = np.sum(vectors, axis=0)
        place[template] = count
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), 100_000):
        first, second = place[pairs[start : start + 100_000, :2]].T
        scores[start : start + 100_000] = np.sum(pooled[first] * pooled[second], axis=1)
    fpr, tpr, _ = roc_curve(pairs[:, 2], scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    impostor = int((pairs[:, 2] == 0).sum())
    return {far: float(tpr[np.abs(fpr - far).argmin()]) for far in FARS if far * impostor >= 1}


WAYS: dict[str, Callable[[Path], dict[float, float]]] = {"qmargin": ours, "public steps": public_steps}


def measure(way: str, data: Path) -> dict[str, str]:
    """One row, in this process."""
    before, wall, processor = peak_mb(), time.perf_counter(), time.process_time()
    tar = WAYS[way](data)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    result = " ".join(f"{tar[far]:.6f}" for far in FARS if far in tar)
    values = (f"{wall:.1f}", f"{processor:.1f}", f"{peak_mb():.0f}", f"{before:.0f}", result)
    return dict(zip(COLUMNS[4:], values, strict=True)) | {"implementation": way}


def peak_mb() -> float:
    """Peak resident memory of this process in MB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def scaled(scale: float) -> SyntheticIjb:
    """The counts of IJB-C, or a share of them."""
    full = SyntheticIjb()
    if scale == 1.0:
        return full
    subjects = max(2, int(full.subjects * scale**0.5))
    probes = max(2, int(full.probes * scale**0.5))
    return SyntheticIjb(
        subjects=subjects,
        probes=probes,
        images=max(subjects + probes, int(full.images * scale**0.5)),
        genuine=int(probes * full.genuine / full.probes),
        impostor=int(full.impostor * scale),
    )


def run_rows(data: Path, spec: SyntheticIjb, out: Path) -> None:
    """Measure both ways, print them and write the CSV."""
    machine = {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average": f"{os.getloadavg()[0]:.1f}",  # a machine shared with others measures slower
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }
    counts = {
        "images": str(spec.images),
        "templates": str(spec.templates),
        "pairs": str(spec.genuine + spec.impostor),
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *machine], lineterminator="\n")
    writer.writeheader()
    for way in WAYS:
        output = run_child("--data", str(data), "--row", way)
        row = next(csv.DictReader(io.StringIO(output), COLUMNS)) | counts
        print(f"{way:14} {row['seconds']:>7} s (CPU {row['cpu_seconds']} s) {row['peak_mb']:>6} MB  {row['result']}")
        writer.writerow(row | machine)
    make_folder(out.parent)
    write_text(out, text.getvalue())


def run_child(*words: str) -> str:
    """This script in another process; what it prints."""
    command = [sys.executable, __file__, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves


def main() -> None:
    """Write the set, measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ijb.csv")
    parser.add_argument("--row", choices=WAYS, help="measure one row, in this process")
    parser.add_argument("--write", action="store_true", help="write the set only")
    arguments = parser.parse_args()
    if arguments.row:
        csv.DictWriter(sys.stdout, COLUMNS).writerow(measure(arguments.row, arguments.data))
        return
    spec = scaled(arguments.scale)
    if arguments.write:
        spec.write(arguments.data)
        return
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or Path(temporary)
        if not (data / "features.npy").exists():
            # in a process of its own: the peak of a child begins at what its parent holds
            run_child("--write", "--data", str(data), "--scale", str(arguments.scale))
        run_rows(data, spec, arguments.out)


if __name__ == "__main__":
    main()
