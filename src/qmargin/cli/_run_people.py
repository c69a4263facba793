"""`qmargin evaluate RUN`: a run's own held-out people, every pair of them."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from qmargin.cli._resamples import check_resamples, resampling_bar
from qmargin.cli._splits import check_split
from qmargin.cli._thumbnails import thumbnails_of
from qmargin.cli._weights import said_of
from qmargin.metrics import Method
from qmargin.protocols import Trials, all_pairs, verify
from qmargin.protocols.speaker_meta import read_strata
from qmargin.protocols.worst import worst_errors
from qmargin.report import Table, write_results
from qmargin.report.curve_plots import Curve
from qmargin.report.gallery import Gallery
from qmargin.report.verification_tables import run_tables
from qmargin.scoring import Embeddings, embed_run
from qmargin.scoring.runs import Weights
from qmargin.training import RunFolder
from qmargin.training.manifest import read_samples

if TYPE_CHECKING:
    from qmargin.data import Samples

WORST_FAR = 1e-2
Kept = NDArray[np.bool_]  # (trials,)


@dataclass(frozen=True)
class Shown:
    """Which worst errors to show."""

    count: int = 0
    far: float = WORST_FAR
    thumbnails: bool = False


NONE = Shown()


class Matched(NamedTuple):
    """Impostors are people who have the same value in a column of a table."""

    meta: Path
    column: str

    def strata(self, people: NDArray[np.str_]) -> dict[int, str]:
        """Value of each identity, by its number among the sorted ones; errors are those of `read_strata`."""
        return read_strata(self.meta, self.column, np.unique(people).tolist())

    @property
    def words(self) -> str:
        """What the pairs are called."""
        return f"impostors of the same {self.column}"

    @property
    def slug(self) -> str:
        """That, as a part of a file's name."""
        return "same-" + re.sub(r"[^a-z0-9]+", "-", self.column.lower()).strip("-")


def evaluate(
    folder: RunFolder,
    split: str,
    resamples: int,
    *,
    device: str | None = None,
    weights: Weights = "newest",
    method: Method = "wilson",
    shown: Shown = NONE,
    matched: Matched | None = None,
) -> tuple[list[Table], list[Path]]:
    """Embeddings, scores and figures of a run, each left in its folder; the tables and the files they are in."""
    check_resamples(resamples)
    check_split(folder, split)
    strata = None if matched is None else matched.strata(_people(folder, split))  # refused before the embedding
    embeddings = embed_run(folder, split, device, weights=weights)
    trials = all_pairs(embeddings)
    kept, words, file = None, split, split
    if matched is not None and strata is not None:
        kept, words, file = trials.within(strata), f"{split}, {matched.words}", f"{split}-{matched.slug}"
        trials = trials.where(kept, matched.words)
    words += said_of(weights)
    trials.save(folder.scores(file))
    galleries = [_gallery(folder, split, embeddings, trials, kept, shown)] if shown.count else []
    with resampling_bar(resamples) as progress:
        report = verify(trials, resamples=resamples, method=method, progress=progress)
    tables = run_tables(report, str(folder.path), words)
    name = folder.path.resolve().name
    curve = Curve(name=name, band=report.band, genuine=report.genuine, impostor=report.impostor)
    stem = folder.metrics(file).stem
    return tables, write_results(folder.path, stem, tables, asdict(report), [curve], galleries)


def _people(folder: RunFolder, split: str) -> NDArray[np.str_]:
    return np.array([identity for _, identity, _ in read_samples(folder.read_config()).subset(split).rows()])


def _gallery(
    folder: RunFolder, split: str, embeddings: Embeddings, trials: Trials, kept: Kept | None, shown: Shown
) -> Gallery:
    first, second = np.triu_indices(len(embeddings.paths), k=1)  # the order of `all_pairs`
    sides = (first, second) if kept is None else (first[kept], second[kept])
    names = (embeddings.paths, embeddings.identities)
    worst = worst_errors(trials.scores, trials.labels, sides, *names, count=shown.count, far=shown.far)
    if not shown.thumbnails:
        return Gallery(worst=worst)
    config = folder.read_config()
    image = config.image_data.image
    samples = cast("Samples", read_samples(config).subset(split))  # they have pixels: `image_data` let them through
    return Gallery(worst=worst, thumbnails=thumbnails_of(worst, samples, image))
