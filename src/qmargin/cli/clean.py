"""`qmargin clean RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import tyro
from rich.console import Console

from qmargin._files import make_folder, write_text
from qmargin.cli._results import say_saved, show
from qmargin.data.sample_table import SampleTable
from qmargin.protocols.cleaning import similar_pairs, suspects
from qmargin.report import Table
from qmargin.report.cleaning_tables import pairs_table, suspects_table
from qmargin.scoring.embed import embedding_batches
from qmargin.scoring.prototypes import read_prototypes
from qmargin.scoring.runs import trained_samples
from qmargin.training import RunFolder

if TYPE_CHECKING:
    from qmargin.data import Samples

SHOWN = 20  # rows on the terminal; the files have all


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List training identities that look like one, and training images that look like another identity's.

    Cosines with the prototypes that the run has learned: of pairs of identities, and of each training image (its
    embedding plus its mirror's) with its own and the nearest other one. Writes clean-identities.csv and
    clean-images.csv. Look at what is found: relatives and look-alikes are found too.

    Example: qmargin clean runs/first --cosine 0.6 --gap 0.1
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    cosine: float = 0.5
    """Pairs of identities whose prototypes have this cosine or more are listed, in [-1, 1]."""
    gap: float = 0.1
    """Images nearer to another prototype than to their own by this much cosine or more are listed, in [0, 2]."""
    most: int = 1000
    """Rows of each list at most, the most suspicious ones."""
    images: bool = True
    """Embed the training images; without, only pairs of identities are compared."""
    out: Path | None = None
    """Folder of the lists; that of the run unless given."""
    device: str | None = None
    """Where to compute: cpu, cuda, ...; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """List training identities that look like one, and images that look like another identity's."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin clean")
    folder = RunFolder(arguments.run)
    model, manifest = trained_samples(folder, arguments.device)
    data = model.config.image_data
    samples = manifest.subset("train")
    prototypes = read_prototypes(folder, model.device)
    names, counts = _names(samples), np.bincount(samples.labels)

    found = similar_pairs(prototypes, arguments.cosine, arguments.most)
    tables = [pairs_table(found, names, counts.tolist(), arguments.cosine)]
    if arguments.images:
        vectors = embedding_batches(
            model.backbone,
            cast("Samples", samples),
            data.image,
            device=model.device,
            workers=data.workers,
            processes=data.processes,
        )
        wrong = suspects(vectors, samples.labels, prototypes, arguments.gap, arguments.most)
        paths = [samples.path(int(image)) for image in wrong.image]
        owners = [names[label] for label in samples.labels[wrong.image]]
        tables.append(suspects_table(wrong, paths, owners, names, arguments.gap))
    _report(tables, arguments.run if arguments.out is None else arguments.out)


def _names(samples: SampleTable) -> list[str]:
    """Names of the identities in the order of their labels."""
    names = [""] * samples.num_classes
    for (_, name, _), label in zip(samples.rows(), samples.labels, strict=True):
        names[label] = name
    return names


def _report(tables: Sequence[Table], folder: Path) -> None:
    make_folder(folder)
    paths = [folder / f"clean-{table.slug}.csv" for table in tables]
    for table, path in zip(tables, paths, strict=True):
        write_text(path, table.csv())
    show([replace(table, rows=table.rows[:SHOWN]) for table in tables if table.rows])
    for table in tables:
        Console().print(f"{table.title}: {len(table.rows):,}", soft_wrap=True, markup=False, highlight=False)
    if not any(table.rows for table in tables):
        Console().print("Nothing is that suspicious: a lower --cosine or --gap lists more.", soft_wrap=True)
    say_saved(paths)
