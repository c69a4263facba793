"""Both benchmarks at full size: time and peak memory from files to figures, beside the public formulas, same numbers.

    python benchmarks/evaluation.py [--rows NAME ...] [--data DIR] [--scale 1.0] [--out FILE]

IJB-C's counts (469,375 images, 23,124 templates, 15,658,489 pairs; 512 dimensions, 2.2 GB of invented features) and
VoxCeleb1-H's (550,894 trials of 130,000 utterances and 1,190 speakers, AS-norm cohort 5,994, 256 dimensions), both
written to DIR (a temporary folder unless given) and reused where they are there. Every row is measured in a process of
its own, because the peak of a process never falls: `seconds` wall time, `cpu_seconds` processor time, `peak_mb` the
peak resident memory of the whole process, memory-mapped features where they are touched. Loops over pairs do the first
`--loop` trials; `whole_list` is their time times (trials / those), extrapolated. Results of ours and of the peer are
compared, and a difference is an error. `--rows` measures some, rows of others in the CSV stay.
"""

import argparse
import csv
import datetime as dt
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from evaluation_lists import Corpus, write_part
from evaluation_ways import RESAMPLES, call_of
from metrics import cpu_name, peak_mb
from qmargin._files import make_folder, write_text

ROUNDING = 1e-5  # between float32 matrix products and a loop
COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "before_mb", "whole_list", "result")


@dataclass(frozen=True)
class Row:
    """One measurement, as it is named on the command line."""

    of: str  # which list
    what: str
    by: str
    peer: str = ""  # the row whose result must be the same
    loop: bool = False  # over the first trials only


ROWS = {
    "ijb": Row("IJB-C", "files to TAR at FAR 1e-6 to 1e-1", "qmargin"),
    "ijb-peer": Row("IJB-C", "files to TAR at FAR 1e-6 to 1e-1", "public steps, scikit-learn roc_curve", "ijb"),
    "ijb-resampled": Row("IJB-C", f"the same with intervals, {RESAMPLES} resamples of subjects", "qmargin"),
    "vox": Row("Vox1-H", "files to EER and minDCF, AS-norm", "qmargin"),
    "vox-resampled": Row("Vox1-H", f"the same with intervals, {RESAMPLES} resamples of speakers", "qmargin"),
    "cosine": Row("Vox1-H", "cosines of embeddings in memory", "qmargin"),
    "cosine-loop": Row("Vox1-H", "cosines of embeddings in memory", "loop over pairs", loop=True),
    "as-norm": Row("Vox1-H", "AS-norm of scores in memory", "qmargin"),
    "as-norm-loop": Row("Vox1-H", "AS-norm of scores in memory", "loop over pairs", loop=True),
    "figures": Row("Vox1-H", "EER and minDCF of scores in memory", "qmargin"),
    "figures-peer": Row("Vox1-H", "EER and minDCF of scores in memory", "scikit-learn roc_curve", "figures"),
}


def measure(name: str, data: Path, loop: int) -> dict[str, str]:
    """One row, in this process."""
    call = call_of(name, data, loop)
    trials = len(Corpus(data / "vox", loop).trials()) if ROWS[name].loop else 0
    before, wall, processor = peak_mb(), time.perf_counter(), time.process_time()
    result = call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    extrapolated = f"{wall * trials / loop:.0f}" if trials else ""
    values = (f"{wall:.2f}", f"{processor:.2f}", f"{peak_mb():.0f}", f"{before:.0f}", extrapolated, result)
    return dict(zip(COLUMNS, values, strict=True))


def check(rows: dict[str, dict[str, str]]) -> None:
    """The same numbers by every way that was measured."""
    for name, row in rows.items():
        peer = rows.get(ROWS[name].peer) if name in ROWS else None
        if peer is not None and row["result"] != peer["result"]:
            raise ValueError(f"{name} gives {row['result']}, {ROWS[name].peer} {peer['result']}: not the same numbers")
        if name in ROWS and ROWS[name].loop and float(row["result"].split()[-1]) > ROUNDING:
            raise ValueError(f"{name}: scores differ from ours, {row['result']}")


def run_child(*words: str) -> str:
    """This script in another process; what it prints."""
    command = [sys.executable, __file__, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves


def machine() -> dict[str, str]:
    """Where the rows were measured."""
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average": f"{os.getloadavg()[0]:.1f}",  # a machine shared with others measures slower
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows measured before, by name."""
    if not path.exists():
        return {}
    return {row["row"]: row for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))}


def run_rows(arguments: argparse.Namespace, data: Path) -> None:
    """Write the lists where they are not, measure, compare, print, and write the CSV."""
    for part, there in (("ijb", data / "ijb" / "features.npy"), ("vox", data / "vox" / "scores.npy")):
        if not there.exists():  # in a process of its own: the peak of a child begins at what its parent holds
            run_child("--write", part, "--data", str(data), "--scale", str(arguments.scale))
    rows, where = read_rows(arguments.out), machine()
    for name in arguments.rows:
        row = ROWS[name]
        output = run_child("--row", name, "--data", str(data), "--loop", str(arguments.loop))
        found = next(csv.DictReader(io.StringIO(output), COLUMNS))
        by = f"{row.by}, the first {arguments.loop:,}" if row.loop else row.by
        rows[name] = {"row": name, "list": row.of, "what": row.what, "by": by, **found, "scale": str(arguments.scale)}
        rows[name] |= where
        print(f"{name:14} {found['seconds']:>7} s (CPU {found['cpu_seconds']} s) {found['peak_mb']:>6} MB", flush=True)
        print(f"    {found['result']}", flush=True)
    check(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, next(iter(rows.values())), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in ROWS if name in rows)
    make_folder(arguments.out.parent)
    write_text(arguments.out, text.getvalue())


def main() -> None:
    """Measure rows, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="0.01 makes lists of a hundredth of the counts")
    parser.add_argument("--loop", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evaluation.csv")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--write", choices=("ijb", "vox"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        csv.DictWriter(sys.stdout, COLUMNS).writerow(measure(arguments.row, arguments.data, arguments.loop))
    elif arguments.write:
        write_part(arguments.write, arguments.data, arguments.scale)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run_rows(arguments, arguments.data or Path(temporary))


if __name__ == "__main__":
    main()
