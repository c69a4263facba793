"""`qmargin prepare faces SOURCE --from folder|rec --to folder|rec|tar --out DIR` and `qmargin prepare check DIR`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qmargin.data import check_prepared, prepare_faces
from qmargin.data.prepare_source import Goal, Kind
from qmargin.data.skips import describe_skips
from qmargin.recipes.registry import nearest


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Convert a face set between image folders, insightface's .rec and WebDataset's tar shards.

    Every image is decoded once, to see that it can be; files are copied as they are. The folder --out appears when all
    of it is written, with checksums that are compared when the set is opened, and all of them when it is converted
    again.

    Example: qmargin prepare faces ms1m/train.rec --from rec --to tar --out ms1m-shards
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Folder with one folder of images for each identity, or a .rec file with its .idx beside it."""
    kind: Annotated[Kind, tyro.conf.arg(name="from")]
    """What SOURCE is."""
    to: Goal
    """folder: identity/name and manifest.csv; rec: train.rec and train.idx; tar: shards in shuffled order."""
    out: Path
    """Folder to write; it must not exist, and its parents are made where missing."""
    split: str | None = None
    """Split that all samples get: train, validation or test; None is that of a folder that qmargin prepare wrote, else
    train. A .rec knows train alone."""
    align: Path | None = None
    """CSV file with path, x1, y1, ..., x5, y5 (eyes, nose, corners of the mouth, as seen): crop to 112x112."""
    skip_bad: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave bad images out, and list them in skipped.csv; otherwise the first one is an error."""
    per_shard: int | None = None
    """Samples of a tar shard; None is 10,000. For --to tar."""
    seed: int | None = None
    """Of the order in tar shards; None is 0. For --to tar."""
    workers: int = 2
    """Threads that look at images."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare every file of a prepared set with its checksum: as long as reading the whole set.

    Example: qmargin prepare check ms1m-shards
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder that qmargin prepare wrote."""


USAGE = """\
usage: qmargin prepare faces SOURCE --from folder|rec --to folder|rec|tar --out DIR
       qmargin prepare check DIR

Convert face sets between image folders, RecordIO and tar shards, or compare a prepared set with its checksums.

Examples:
  qmargin prepare faces ms1mv3/train.rec --from rec --to tar --out ms1mv3-shards
  qmargin prepare faces crops/ --from folder --to rec --out crops-rec --align landmarks.csv
  qmargin prepare check ms1mv3-shards

`qmargin prepare faces --help` and `qmargin prepare check --help` list every option."""


def run(words: Sequence[str]) -> None:
    """Convert face sets between folders, .rec and tar shards (faces), or compare one with its checksums (check)."""
    if not words or words[0] in ("-h", "--help"):
        Console().print(USAGE, markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(0)
    WHAT[nearest(words[0], WHAT, "thing to prepare")](words[1:])


def _faces(words: Sequence[str]) -> None:
    arguments = tyro.cli(Faces, args=list(words), prog="qmargin prepare faces")
    columns = (TextColumn("preparing faces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        result = prepare_faces(
            arguments.source,
            arguments.kind,
            arguments.out,
            arguments.to,
            split=arguments.split,
            landmarks=arguments.align,
            skip_bad=arguments.skip_bad,
            per_shard=arguments.per_shard,
            seed=arguments.seed,
            workers=arguments.workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    counts = f"{result.images:,} images of {result.identities:,} identities"
    if result.unused_landmarks:
        counts += f"; {result.unused_landmarks:,} rows of {arguments.align} are of no image"
    skips = f"; {describe_skips(result.skipped)} (all in skipped.csv)" if result.skipped else ""
    Console().print(f"saved: {result.folder}, {counts}{skips}", soft_wrap=True, markup=False)


def _check(words: Sequence[str]) -> None:
    folder = tyro.cli(Check, args=list(words), prog="qmargin prepare check").folder
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give one that qmargin prepare wrote")
    if not check_prepared(folder, contents=True):
        raise ValueError(f"{folder} has no prepared.json: only sets that qmargin prepare wrote can be checked")
    Console().print(f"{folder}: every file is as it was written", soft_wrap=True, markup=False)


WHAT: dict[str, Callable[[Sequence[str]], None]] = {"faces": _faces, "check": _check}
