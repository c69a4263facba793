"""Template pooling: from features of images to one unit vector a template, by the convention that a preset names.

A **template** is a set of images of one person, a **medium** one photograph or one video in it. The steps, for a
preset's switches: an image's feature is that of the image, or image + mirror (**flip**); it is L2-normalised, or its
norm is **kept**; it is multiplied by the **detector score**, or not; the mean is taken over each medium; the media are
summed, as they are or each L2-normalised first; the sum is L2-normalised.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.integer[Any]]

BLOCK_IMAGES = 8192  # features pooled at a time: 34 MB in float64 at 512 dimensions


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One convention of pooling; `code` is its name in the tables of the field, e.g. N1D1F1."""

    keep_norm: bool = True
    """N1: features as they are. N0: each is L2-normalised, after its mirror was added."""
    detector_score: bool = True
    """D1: multiplied by the detector score."""
    flip: bool = True
    """F1: the raw feature of the mirror is added."""
    unit_media: bool = False
    """Each medium's mean is L2-normalised before the sum."""

    @property
    def code(self) -> str:
        """N, D and F with 1 or 0, and `, unit media` where these are normalised."""
        switches = f"N{self.keep_norm:d}D{self.detector_score:d}F{self.flip:d}"
        return f"{switches}, unit media" if self.unit_media else switches


POOLINGS: dict[str, Pooling] = {
    "insightface": Pooling(),
    "normalised": Pooling(keep_norm=False),
    "adaface": Pooling(detector_score=False),
    "magface": Pooling(detector_score=False, flip=False, unit_media=True),
    "tface": Pooling(keep_norm=False, detector_score=False, flip=False),
    "facex-zoo": Pooling(keep_norm=False, flip=False),
}
"""Presets by name; the eight codes N0D0F0 to N1D1F1 are names too, see `find_pooling`."""
_CODES = {
    pooling.code: pooling
    for pooling in (
        Pooling(keep_norm=bool(number & 4), detector_score=bool(number & 2), flip=bool(number & 1))
        for number in range(8)
    )
}


def find_pooling(name: str) -> Pooling:
    """The pooling of a preset, or of a code.

    Raises:
        ValueError: neither is called so.

    Example:
        >>> find_pooling("insightface") == find_pooling("N1D1F1")
        True
    """
    known = POOLINGS | _CODES
    if name not in known:
        raise ValueError(f"unknown preset {name!r}: it must be one of {', '.join(known)}")
    return known[name]


def pool_templates(
    features: Floats,
    templates: Indices,
    media: Indices,
    *,
    pooling: Pooling,
    mirror: Floats | None = None,
    detector_scores: Floats | None = None,
) -> NDArray[np.float64]:
    """One unit vector a template.

    With w the feature of an image after the preset's switches: `v_m = mean_{i in m} w_i`, `u_t = sum_{m in t} v_m`, and
    the result is `u_t / |u_t|`. A medium is a pair (template, medium id): one id in two templates is two media.
    Images are sorted once; sums run over blocks of whole templates, so memory is a block's beside the input, which may
    be memory-mapped. Sums are float64 whatever the features are.

    Args:
        features: (images, dim) raw, real.
        templates: (images,) place of each image's template, in [0, number of templates), none missing.
        media: (images,) medium id.
        pooling: the convention.
        mirror: (images, dim) raw features of the mirrored images; needed where `pooling.flip`.
        detector_scores: (images,) needed where `pooling.detector_score`.

    Returns:
        (templates, dim) float64, of norm 1.

    Raises:
        ValueError: something the pooling needs is absent, shapes that differ, a feature that is not finite, or zero
            where its norm is removed, a template whose sum is zero; the first such image or template is named.

    Example:
        >>> features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 5.0]])
        >>> bare = Pooling(detector_score=False, flip=False)
        >>> pool_templates(features, np.array([0, 0, 0, 1]), np.array([7, 7, 8, 7]), pooling=bare).round(4).tolist()
        [[0.7071, 0.7071], [0.0, 1.0]]

    Sibling: `pair_dots`, which scores pairs of templates.
    """
    _check(features, templates, media, pooling, mirror, detector_scores)
    order = np.lexsort((media, templates))
    by_template, by_medium = templates[order], media[order]
    starts = np.flatnonzero(np.diff(by_template, prepend=-1))  # (templates,)
    new = np.diff(by_template, prepend=-1) != 0
    new[1:] |= by_medium[1:] != by_medium[:-1]
    medium_starts = np.flatnonzero(new)  # (media,)
    ends = np.append(starts, len(order))
    pooled = np.empty((len(starts), features.shape[1]))
    for first, last in _blocks(ends):
        rows = order[ends[first] : ends[last]]
        weighted = _weighted(rows, features, pooling, mirror, detector_scores)
        low, high = np.searchsorted(medium_starts, (ends[first], ends[last]))
        inner = medium_starts[low:high] - ends[first]
        means = np.add.reduceat(weighted, inner) / np.diff(np.append(inner, len(rows)))[:, np.newaxis]
        if pooling.unit_media:
            means = _unit(means, rows[inner], "the mean of a medium, that of image")
        pooled[first:last] = np.add.reduceat(means, np.searchsorted(inner, starts[first:last] - ends[first]))
    return _unit(pooled, np.arange(len(pooled)), "template")


def pair_dots(vectors: Floats, first: Indices, second: Indices) -> Floats:
    """Dot products of pairs of rows: `vectors[first] . vectors[second]`, in the precision of the vectors.

    For figures that others shall find again that is float64: 16 million scores in float32 have many ties, and a tie is
    one point of the curve.

    Pairs are taken in blocks of their first sides. Where a block's pairs fill much of a matrix (each of a gallery's
    templates against thousands of probes, as in IJB), one matrix product serves them all; where they do not, the rows
    of each pair are gathered.

    Args:
        vectors: (templates, dim).
        first: (pairs,) rows.
        second: (pairs,) rows.

    Returns:
        (pairs,) of the dtype of the vectors, in the order of the pairs.

    Raises:
        ValueError: sides of different lengths, or rows that are not there.

    Example:
        >>> pair_dots(np.eye(3), np.array([0, 1]), np.array([0, 2])).tolist()
        [1.0, 0.0]

    See also `qmargin.scoring.pair_cosines`, for all pairs of a set.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"each pair needs two sides, got {first.shape} first and {second.shape} second ones")
    for rows in (first, second):
        if rows.size and not (rows.min() >= 0 and rows.max() < len(vectors)):
            raise ValueError(f"pairs name rows {rows.min()} to {rows.max()}, there are {len(vectors)}")
    scores = np.empty(len(first), vectors.dtype)
    order = np.argsort(first, kind="stable")
    falls = np.flatnonzero(np.diff(first[order], prepend=-1))  # where a new first side begins
    for start in range(0, len(falls), BLOCK_FIRST):
        stop = falls[start + BLOCK_FIRST] if start + BLOCK_FIRST < len(falls) else len(order)
        places = order[falls[start] : stop]
        _score_block(vectors, first, second, places, scores)
    return scores


BLOCK_FIRST = 128  # first sides at a time: 24 MB of products with 23,124 templates
GATHER = 4096  # pairs whose rows are gathered at a time: 34 MB at 512 dimensions
DENSE = 1 / 16  # share of a block's matrix from which the product is the faster way


def _score_block(vectors: Floats, first: Indices, second: Indices, places: Indices, scores: Floats) -> None:
    left, row = np.unique(first[places], return_inverse=True)
    if len(places) >= DENSE * len(left) * len(vectors):
        scores[places] = (vectors[left] @ vectors.T)[row, second[places]]
        return
    for start in range(0, len(places), GATHER):
        chosen = places[start : start + GATHER]
        scores[chosen] = np.einsum("pd,pd->p", vectors[first[chosen]], vectors[second[chosen]])


def _blocks(ends: Indices) -> list[tuple[int, int]]:
    """Ranges of templates with about BLOCK_IMAGES images each, one template at least."""
    blocks, first, count = [], 0, len(ends) - 1
    while first < count:
        last = int(np.searchsorted(ends, ends[first] + BLOCK_IMAGES, side="right")) - 1
        last = min(max(last, first + 1), count)
        blocks.append((first, last))
        first = last
    return blocks


def _weighted(
    rows: Indices, features: Floats, pooling: Pooling, mirror: Floats | None, detector_scores: Floats | None
) -> NDArray[np.float64]:
    """Features of some images after the preset's switches: (rows, dim) float64."""
    chosen = features[rows].astype(np.float64)
    if pooling.flip:
        assert mirror is not None
        chosen += mirror[rows]
    if not np.isfinite(chosen).all():
        bad = rows[~np.isfinite(chosen).all(axis=1)]
        raise ValueError(f"features must be finite, those of image {bad.min()} are not ({len(bad)} in its block)")
    if not pooling.keep_norm:
        chosen = _unit(chosen, rows, "image")
    if pooling.detector_score:
        assert detector_scores is not None
        chosen *= detector_scores[rows, np.newaxis]
    return chosen


def _unit(vectors: NDArray[np.float64], names: Indices, what: str) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"{what} {names[norms.argmin()]} is a zero vector and has no direction; is its image broken?")
    unit: NDArray[np.float64] = vectors / norms
    return unit


def _check(
    features: Floats,
    templates: Indices,
    media: Indices,
    pooling: Pooling,
    mirror: Floats | None,
    detector_scores: Floats | None,
) -> None:
    if features.ndim != 2 or features.dtype.kind != "f" or not len(features):
        raise ValueError(f"features must be floats of shape (images, dim), got {features.dtype} {features.shape}")
    for name, given in (("templates", templates), ("media", media)):
        if given.shape != (len(features),) or given.dtype.kind not in "iu":
            raise ValueError(f"{name} must be {len(features)} integers, one an image, got {given.dtype} {given.shape}")
    present = np.bincount(templates) if templates.min() >= 0 else np.zeros(1)
    if not present.all():
        raise ValueError(
            "templates must be numbered 0, 1, ... with none missing: use numpy.unique(return_inverse=True)"
        )
    if pooling.flip and (mirror is None or mirror.shape != features.shape):
        got = "none" if mirror is None else mirror.shape
        raise ValueError(
            f"pooling {pooling.code} adds the features of the mirrored images: give them in shape {features.shape}, "
            f"got {got}; or choose a preset with F0"
        )
    if pooling.detector_score and (detector_scores is None or detector_scores.shape != (len(features),)):
        raise ValueError(f"pooling {pooling.code} needs a detector score for each of the {len(features)} images")
