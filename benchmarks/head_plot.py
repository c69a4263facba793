"""Seconds and memory of a step against the number of classes, from the rows of benchmarks/head.py.

    python benchmarks/head_plot.py [--rows benchmarks/results/head.csv] [--out benchmarks/results/head.svg]

Only rows of one batch, dimension and number of threads are drawn, those of --dim, --batch and --threads.
"""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

from qmargin._files import replacing

DRAWN = {  # side: colour, dashes
    "dense float32": ("#3f4853", "--"),
    "dense bfloat16 autocast": ("#59626d", ":"),
    "partial FC 0.1 bfloat16 autocast": ("#806300", "-."),
    "bfloat16 product": ("#b9c0c8", "-"),
    "streaming ArcFace s=64 dense, untrained": ("#94408a", "-"),
    "streaming QMargin s=6 dense, untrained": ("#0068a8", "--"),
    "streaming QMargin s=6 lazy, untrained": ("#0068a8", "-"),
    "streaming QMargin s=64 lazy, untrained": ("#00795a", "-"),
}
PANELS = (("seconds", 1.0, "Seconds a step"), ("peak resident MB", 1e-3, "GB beyond prototypes and momentum"))


def draw(rows: list[dict[str, str]], title: str) -> Figure:
    """Two panels over the number of classes, all axes logarithmic."""
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=10, x=0.01, horizontalalignment="left")
    for axes, (column, factor, label) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for side, (colour, dashes) in DRAWN.items():
            points = sorted((int(row["classes"]), factor * float(row[column])) for row in rows if row["side"] == side)
            # a peak at or below nothing is the resolution of the measurement: no place on a logarithmic axis
            points = [point for point in points if point[1] > 0.0]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, linestyle=dashes, marker="o", markersize=3, label=side
                )
        axes.set(xscale="log", yscale="log", xlabel="Classes", ylabel=label)
        axes.grid(visible=True, color="#d5dae0")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def main() -> None:
    """Read, choose, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/head.csv"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head.svg"))
    parser.add_argument("--dim", default="512")
    parser.add_argument("--batch", default="128")
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_args()
    with arguments.rows.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    asked = {name: getattr(arguments, name) for name in ("dim", "batch", "threads")}
    chosen = [row for row in rows if all(row[name] == value for name, value in asked.items())]
    if not chosen:
        present = sorted({tuple(row[name] for name in asked) for row in rows})
        raise SystemExit(f"no rows of {asked} in {arguments.rows}; it holds (dim, batch, threads) {present}")
    title = f"One training step of a head, {', '.join(f'{name} {value}' for name, value in asked.items())}, on the CPU"
    with replacing(arguments.out) as temporary:
        draw(chosen, title).savefig(temporary, format=arguments.out.suffix[1:])
    print(arguments.out)


if __name__ == "__main__":
    main()
