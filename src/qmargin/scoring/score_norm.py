"""Score normalisation: how a score stands among the scores of the same recordings with a cohort of strangers.

Conventions:
    S_e are the cosines of the enrolment side e with the whole cohort, S_t those of the test side t; mean and standard
    deviation run over a chosen subset of the cohort, the deviation with `ddof` taken off the count.
    z(s | A, e) = (s - mean of S_e over A) / (standard deviation of S_e over A), and likewise for t. The new score is
    (z of e + z of t) / 2.
    "s-norm": A is the whole cohort, on both sides.
    "as-norm1": A is, for each side, the `top_n` cohort members most like THAT side.
    "as-norm2": A is, for each side, the `top_n` cohort members most like the OTHER side.
    Of equally alike members it does not matter which is taken in as-norm1; in as-norm2 the earlier ones are.
    The cohort must hold nobody who is tested; the figures would look better than they are.
"""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qmargin.scoring.directions import Vectors
from qmargin.scoring.trial_cosine import Indices

Variant = Literal["s-norm", "as-norm1", "as-norm2"]
BLOCK_ROWS = 1024  # rows of the (utterances, cohort) matrix at a time: 25 MB for 5,994 members
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScoreNorm:
    """How scores are normalised: nothing of it has a default that another tool would share."""

    variant: Variant
    top_n: int | None = None  # members of the cohort; None exactly with s-norm
    ddof: int = 0  # 0: divide by n (WeSpeaker, Hyperion), 1: by n - 1 (SpeechBrain, ESPnet)

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {self.variant!r}")
        if self.ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 (divide by n) or 1 (by n - 1), got {self.ddof}")
        if (self.variant == "s-norm") != (self.top_n is None):
            raise ValueError(
                f"s-norm takes the whole cohort and no top_n, as-norm needs one (300 is usual); got {asdict(self)}"
            )
        if self.top_n is not None and self.top_n < 2:
            raise ValueError(f"top_n must be at least 2, to have a deviation, got {self.top_n}")


def normalise_scores(
    scores: NDArray[np.float32], unit: Vectors, first: Indices, second: Indices, cohort: Vectors, norm: ScoreNorm
) -> NDArray[np.float32]:
    """Scores of trials among the scores of their two sides with a cohort; see the conventions of this module.

    Args:
        scores: (trials,) cosines, of `trial_cosines`.
        unit: (utterances, dim), length one.
        first: (trials,) indices into `unit`, the enrolment side.
        second: (trials,) the test side.
        cohort: (members, dim), length one, the same mean taken off as of `unit`.
        norm: which normalisation.

    Returns:
        (trials,) float32; the same trials in another order get the same scores.

    Raises:
        ValueError: fewer members than `top_n` (or than two), another dimension, or an utterance whose cohort scores do
            not vary (its index is named).

    Example:
        >>> unit = np.float32([[1, 0], [0.6, 0.8]])
        >>> cohort = np.float32([[0, 1], [0.8, 0.6], [-1, 0]])
        >>> side = np.array([0]), np.array([1])
        >>> scores = normalise_scores(np.float32([0.6]), unit, *side, cohort, ScoreNorm(variant="s-norm"))
        >>> f"{scores[0]:.3f}"  # (0.6 + 0.067) / 0.736 = 0.905 and (0.6 - 0.387) / 0.701 = 0.304
        '0.605'

    Reference: Matejka et al., "Analysis of score normalization in multilingual speaker recognition", Interspeech 2017.

    See also `qmargin.scoring.directions.speaker_means`, which makes a cohort.
    """
    members = len(cohort)
    if cohort.ndim != 2 or cohort.shape[1] != unit.shape[1]:
        raise ValueError(f"cohort {cohort.shape} and embeddings {unit.shape} must share the dimension: one model?")
    if members < (norm.top_n or 2):
        raise ValueError(f"the cohort must hold at least {norm.top_n or 2} members, got {members}")
    if norm.variant == "as-norm2":
        sides = _of_the_other(unit, first, second, cohort, norm), _of_the_other(unit, second, first, cohort, norm)
    else:
        means, deviations = _own(unit, np.union1d(first, second), cohort, norm)
        sides = (means[first], deviations[first]), (means[second], deviations[second])
    (mean_e, deviation_e), (mean_t, deviation_t) = sides
    raw = scores.astype(np.float64)
    return (((raw - mean_e) / deviation_e + (raw - mean_t) / deviation_t) / 2.0).astype(np.float32)


def _own(unit: Vectors, used: Indices, cohort: Vectors, norm: ScoreNorm) -> tuple[Floats, Floats]:
    """Mean and deviation (utterances,) of each used utterance's (largest) cohort scores; nan elsewhere."""
    means, deviations = np.full((2, len(unit)), np.nan)
    for start in range(0, len(used), BLOCK_ROWS):
        rows = used[start : start + BLOCK_ROWS]
        block = unit[rows] @ cohort.T  # (rows, members)
        if norm.top_n is not None and norm.top_n < len(cohort):
            block.partition(len(cohort) - norm.top_n, axis=1)
            block = block[:, len(cohort) - norm.top_n :]
        means[rows], deviations[rows] = _moments(block, norm.ddof)
    _refuse_flat(deviations[used], used)
    return means, deviations


def _of_the_other(
    unit: Vectors, side: Indices, other: Indices, cohort: Vectors, norm: ScoreNorm
) -> tuple[Floats, Floats]:
    """Mean and deviation (trials,) of the side's cohort scores over the members nearest to the other side."""
    assert norm.top_n is not None
    nearest = _nearest(unit, np.unique(other), cohort, norm.top_n)  # (utterances, top_n)
    means, deviations = np.empty((2, len(side)))
    order = np.argsort(side, kind="stable")
    edges = np.flatnonzero(np.diff(side[order], prepend=-1))  # where a new utterance begins
    for start in range(0, len(edges), BLOCK_ROWS):
        stop = edges[start + BLOCK_ROWS] if start + BLOCK_ROWS < len(edges) else len(order)
        trials = order[edges[start] : stop]
        rows, row = np.unique(side[trials], return_inverse=True)
        block = unit[rows] @ cohort.T  # (rows, members)
        for part in range(0, len(trials), BLOCK_ROWS):
            taken = slice(part, part + BLOCK_ROWS)
            chosen = block[row[taken, None], nearest[other[trials[taken]]]]  # (trials of the part, top_n)
            means[trials[taken]], deviations[trials[taken]] = _moments(chosen, norm.ddof)
    _refuse_flat(deviations, side)
    return means, deviations


def _nearest(unit: Vectors, used: Indices, cohort: Vectors, top_n: int) -> NDArray[np.int32]:
    """The most alike members (utterances, top_n), by rising index; of equally alike ones the earlier."""
    nearest = np.zeros((len(unit), top_n), dtype=np.int32)
    for start in range(0, len(used), BLOCK_ROWS):
        rows = used[start : start + BLOCK_ROWS]
        block = unit[rows] @ cohort.T  # (rows, members)
        least = np.partition(block, len(cohort) - top_n, axis=1)[:, len(cohort) - top_n, None]
        taken = block >= least
        for row in np.flatnonzero(np.count_nonzero(taken, axis=1) > top_n):  # members tie for the last place
            above, ties = block[row] > least[row], block[row] == least[row]
            taken[row] = above | (ties & (np.cumsum(ties) <= top_n - np.count_nonzero(above)))
        nearest[rows] = np.nonzero(taken)[1].reshape(len(rows), top_n)
    return nearest


def _moments(values: Vectors, ddof: int) -> tuple[Floats, Floats]:
    """Mean and deviation of each row, in float64."""
    wide = values.astype(np.float64)
    return wide.mean(axis=1), wide.std(axis=1, ddof=ddof)


def _refuse_flat(deviations: Floats, utterances: Indices) -> None:
    flat = ~(deviations > 0)
    if flat.any():
        raise ValueError(
            f"the cohort scores of utterance {utterances[int(flat.argmax())]} do not vary, so nothing can be divided "
            "by their deviation: does the cohort repeat one recording?"
        )
