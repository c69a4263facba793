"""Verification of a list of image pairs: ten-fold accuracy as LFW and the sets after it report it, EER, and TAR."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import (
    DetBand,
    Draws,
    Interval,
    Method,
    PairAccuracy,
    Progress,
    Statistic,
    TarAtFar,
    det_curve,
    eer_of,
    figures_and_band,
    grid_pair_accuracy,
    pair_accuracy,
    pair_accuracy_bootstrap,
    tar_at_far_of,
)
from qmargin.protocols.few import eer_false_accepts, few_false_accepts
from qmargin.protocols.image_pairs import ImagePairs
from qmargin.protocols.units import units_of
from qmargin.protocols.verification import FARS, tar_name, tar_statistic
from qmargin.scoring.features import Embedder, Features


@dataclass(frozen=True, kw_only=True)
class PairReport:
    """Figures of one backbone on one list of pairs."""

    set_name: str
    sha256: str  # of the list, or of the .bin set
    images: int  # distinct
    genuine: int
    impostor: int
    folds: int
    flip: bool  # features of image and mirror were added
    accuracy: PairAccuracy  # threshold among the scores of the other folds
    grid_accuracy: PairAccuracy  # threshold on the grid of the public scripts
    eer: float
    points: tuple[TarAtFar, ...]  # TAR by falling FAR, as far as the impostors go
    intervals: dict[str, Interval] = field(default_factory=dict)  # "accuracy", "accuracy (grid)", "EER", TAR; or empty
    resampled: str = ""  # which units, and how many; "" where nothing was resampled
    warnings: tuple[str, ...] = ()
    band: DetBand | None = None  # of the DET curve


def verify_pairs(
    pairs: ImagePairs,
    features: Features,
    *,
    flip: bool,
    resamples: int = 1000,
    seed: int = 0,
    method: Method = "wilson",
    progress: Progress | None = None,
) -> PairReport:
    """Cosines of the pairs, and their figures, with intervals over the subjects that the pairs show.

    Args:
        pairs: the list.
        features: of `pairs.images`, in their order; with mirrors where `flip`.
        flip: add the raw features of image and mirror, as the public scripts do; else the image's alone.
        resamples: bootstrap draws; 0 leaves the intervals out. A list of pairs does not name its people: images are
            joined into subjects by genuine pairs (`qmargin.protocols.units`).
        seed: of the draws.
        method: of the intervals, "wilson" or "percentile".
        progress: called with the number of resamples just done.

    Returns:
        The report; `qmargin.report.pair_table` lays it out.

    Raises:
        ValueError: another number of features than images, no mirrors to flip, a feature that is zero or not finite,
            labels that contradict each other where subjects are resampled.

    Sibling: `qmargin.protocols.verify`, all pairs of a split, whose people are known.
    """
    scores = _cosines(pairs, features, flip=flip)
    det = det_curve(scores, pairs.same)
    points = tuple(tar_at_far_of(det, far) for far in FARS if far * det.impostor >= 1.0)
    intervals: dict[str, Interval] = {}
    text, band = "", None
    if resamples:
        units = units_of(pairs.sides[:, 0], pairs.sides[:, 1], pairs.same, len(pairs.images), "images")
        draws: Draws = {"resamples": resamples, "seed": seed, "progress": progress}
        figures: dict[str, Statistic] = {"EER": eer_of}
        figures |= {tar_name(point.far_target): tar_statistic(point.far_target) for point in points}
        text = units.text
        intervals, band = figures_and_band(scores, pairs.same, units.sides, figures, method=method, **draws)
        intervals |= pair_accuracy_bootstrap(scores, pairs.same, units.sides, pairs.folds, method=method, **draws)
    accepts = {"EER": eer_false_accepts(det)} | {tar_name(p.far_target): p.false_accepts for p in points}
    return PairReport(
        set_name=pairs.name,
        sha256=pairs.sha256,
        images=len(pairs.images),
        genuine=int(det.genuine),
        impostor=int(det.impostor),
        folds=len(np.unique(pairs.folds)),
        flip=flip,
        accuracy=pair_accuracy(scores, pairs.same, pairs.folds),
        grid_accuracy=grid_pair_accuracy(scores, pairs.same, pairs.folds),
        eer=eer_of(det),
        points=points,
        intervals=intervals,
        resampled=text,
        warnings=few_false_accepts(accepts),
        band=band,
    )


def embed_pairs(pairs: ImagePairs, embedder: Embedder, *, flip: bool, batch_size: int = 128) -> Features:
    """Embed every image of a list once; a ValueError names an image that cannot be decoded."""

    def decode(place: int) -> NDArray[np.uint8]:
        return embedder.image.decode(pairs.images[place])

    return embedder.embed(decode, len(pairs.images), mirrors=flip, batch_size=batch_size)


def _cosines(pairs: ImagePairs, features: Features, *, flip: bool) -> NDArray[np.float64]:
    if len(features.images) != len(pairs.images):
        raise ValueError(f"there are features of {len(features.images)} images, the list has {len(pairs.images)}")
    if flip and features.mirrors is None:
        raise ValueError("flip adds the features of the mirrored images, which were not computed: turn it off")
    vectors = np.asarray(features.images, np.float64)
    if flip and features.mirrors is not None:
        vectors = vectors + features.mirrors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if len(bad):
        raise ValueError(f"the feature of {pairs.images[bad[0]]} ({len(bad)} in all) is zero or not finite")
    unit = vectors / norms
    cosines: NDArray[np.float64] = np.einsum("pd,pd->p", unit[pairs.sides[:, 0]], unit[pairs.sides[:, 1]])
    return cosines
