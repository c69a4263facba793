"""Embeddings as directions: a mean taken off, then length one; and the means of speakers that a cohort is made of."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit_vectors(embeddings: Vectors, mean: NDArray[np.floating] | None = None) -> Vectors:
    """Embeddings with `mean` taken off and length one, `(e - mean) / |e - mean|`.

    Args:
        embeddings: (items, dim), any norm but zero.
        mean: (dim,), of `mean_vector` on other people's recordings; None takes nothing off.

    Returns:
        (items, dim) float32.

    Raises:
        ValueError: an embedding is zero or not finite (the first is named), or the mean has another dimension.

    Example:
        >>> unit_vectors(np.array([[3, 4], [1, 0]], dtype=np.float32)).astype(float).round(2).tolist()
        [[0.6, 0.8], [1.0, 0.0]]

    See also `mean_vector`.
    """
    if mean is not None:
        if mean.shape != embeddings.shape[1:]:
            raise ValueError(
                f"the mean has shape {mean.shape}, the embeddings {embeddings.shape}: both must come from one model"
            )
        embeddings = (embeddings - mean).astype(np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if len(bad):
        raise ValueError(f"embedding {bad[0]} ({len(bad)} in all) is zero or not finite, so it has no direction")
    unit: Vectors = embeddings / norms
    return unit


def mean_vector(embeddings: Vectors) -> NDArray[np.float64]:
    """Mean (dim,) of raw embeddings (items, dim), added up in float64: of recordings of people who are not tested."""
    mean: NDArray[np.float64] = embeddings.mean(axis=0, dtype=np.float64)
    return mean


def speaker_means(embeddings: Vectors, speakers: NDArray[np.str_]) -> tuple[NDArray[np.str_], Vectors]:
    """Mean of the raw embeddings of each speaker: the cohort as WeSpeaker takes it.

    Args:
        embeddings: (items, dim), raw.
        speakers: (items,) names.

    Returns:
        Distinct names (speakers,), sorted, and the means (speakers, dim), float32, summed in float64.

    Example:
        >>> names, means = speaker_means(np.float32([[1, 0], [3, 0], [0, 2]]), np.array(["b", "b", "a"]))
        >>> names.tolist(), means.tolist()
        (['a', 'b'], [[0.0, 2.0], [2.0, 0.0]])

    See also `qmargin.scoring.score_norm.normalise_scores`, which takes them as its cohort.
    """
    if speakers.shape != (len(embeddings),):
        raise ValueError(f"one speaker for each of {len(embeddings)} embeddings is needed, got shape {speakers.shape}")
    names, index, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(embeddings[order].astype(np.float64), starts, axis=0)
    return names, (sums / counts[:, None]).astype(np.float32)
