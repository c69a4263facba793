"""The tables of the streaming head in docs/performance.md, as Markdown, from the rows of the benchmarks.

python benchmarks/head_tables.py [--folder benchmarks/results]
"""

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Row = dict[str, str]
STEPS = (1, 10, 25, 100, 200, 500, 1000, 1500)  # of a training that are shown


def number(text: str, digits: int = 2) -> str:
    """A figure, or nothing where there is none."""
    return f"{float(text):.{digits}f}" if text else ""


def faster(text: str) -> str:
    """How many times faster, of a ratio of times."""
    return f"{1.0 / float(text):.1f} x" if text else ""


def seconds(text: str) -> str:
    """Three digits."""
    return number(text, 3 if float(text) < 1.0 else 2)


SIDES: dict[str, Callable[[Row], str]] = {
    "a step of": lambda row: row["side"],
    "s": lambda row: seconds(row["seconds"]),
    "faster than dense float32": lambda row: faster(row["times dense float32"]),
    "than dense bfloat16": lambda row: faster(row["times dense bfloat16"]),
    "than Partial FC 0.1": lambda row: faster(row["times partial FC 0.1"]),
    "of the product's time": lambda row: number(row["times product"]),
    "of streaming ArcFace's": lambda row: number(row["times streaming ArcFace"]),
    "memory / W": lambda row: number(row["times W resident"]),
    "support": lambda row: number(row["support"], 0),
    "candidates": lambda row: number(row["candidates"], 0),
    "wide rows": lambda row: number(row["fallback rows"], 0),
}
GROWTH: dict[str, Callable[[Row], str]] = {
    "varied": lambda row: row["varied"],
    "a step of": lambda row: row["side"],
    "threads": lambda row: row["threads"],
    "seconds": lambda row: row["seconds"],
    "time grows as": lambda row: f"{row['varied']}^{row['exponent of time']}",
    "memory as": lambda row: f"{row['varied']}^{row['exponent of memory']}" if row["exponent of memory"] else "",
}
TRAINING: dict[str, Callable[[Row], str]] = {
    "loss function": lambda row: row["loss function"],
    "step": lambda row: row["step"],
    "loss": lambda row: number(row["loss"]),
    "support": lambda row: number(row["support_size"], 1),
    "candidates": lambda row: number(row["candidates"], 1),
    "wide rows": lambda row: number(row["fallback_rows"], 0),
    "cosine with the own prototype": lambda row: number(row["target_cosine"]),
    "seconds of the head so far": lambda row: number(row["head seconds"], 1),
    "times ArcFace": lambda row: number(row["times ArcFace"]),
}


def table(rows: Iterable[Row], columns: dict[str, Callable[[Row], str]]) -> str:
    """Markdown, a line each row."""
    lines = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def heads(rows: Sequence[Row]) -> str:
    """Two tables for each number of classes: times and memory, and the split of the time."""
    parts = {name.removesuffix(" ms"): name for name in rows[0] if name.endswith(" ms")}
    split: dict[str, Callable[[Row], str]] = {"milliseconds of": lambda row: row["side"].removeprefix("streaming ")}
    split |= {part: lambda row, name=name: number(row[name], 0) for part, name in parts.items()}  # type: ignore[misc] # bound early
    text = []
    for classes in sorted({int(row["classes"]) for row in rows}):
        chosen = [row for row in rows if int(row["classes"]) == classes]
        text.append(f"### {classes:,} classes, {chosen[0]['dim']} dimensions\n")
        text += [table(chosen, SIDES), table((row for row in chosen if row["product ms"]), split)]
    return "\n".join(text)


def growth(rows: Sequence[Row]) -> str:
    """One line a side and varied size, with the seconds of its smallest and largest."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["varied"], row["side"], row["threads"]), []).append(row)
    lines = []
    for group in groups.values():
        ends = [
            f"{group[0]['varied']} {int(row[row['varied']]):,}: {seconds(row['seconds'])}"
            for row in group[:: len(group) - 1]
        ]
        lines.append({**group[0], "seconds": ", ".join(ends)})
    return table(lines, GROWTH)


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results"))
    folder = parser.parse_args().folder

    def read(name: str) -> list[Row]:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    print(heads(read("head.csv")))
    print(growth(read("head_growth.csv")))
    print(table((row for row in read("head_training.csv") if int(row["step"]) in STEPS), TRAINING))


if __name__ == "__main__":
    main()
