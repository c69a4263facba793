"""Thresholds for wanted FARs, learned on trials of held-out people and kept beside the model as JSON.

Conventions:
    The threshold for a FAR x is the lowest one whose FAR on the calibration trials is at most x (the conservative rule
    of `qmargin.metrics.tar_at_far`), so at least 1 / x impostor trials are needed; fewer are refused. On fewer than
    `FEW_FALSE_ACCEPTS` false accepts a threshold is marked: the FAR with other people may be far off.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_text
from qmargin.metrics import TarAtFar, det_curve, tar_at_far_of

FEW_FALSE_ACCEPTS = 30  # the rule of 30 (Doddington 1998), as for figures


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One operating point, with what it rests on."""

    far_wanted: float
    threshold: float  # accept where score >= threshold
    far: float  # realised on the calibration trials
    tar: float  # likewise
    false_accepts: int
    impostors: int  # trials

    @property
    def few(self) -> bool:
        """Whether it rests on too few false accepts to be trusted far."""
        return self.false_accepts < FEW_FALSE_ACCEPTS

    def describe(self) -> str:
        """One line for a reader: FAR, and the number of trials behind it."""
        rests = f"{self.false_accepts} of {self.impostors:,} impostor trials accepted"
        doubt = f"; fewer than {FEW_FALSE_ACCEPTS}: the FAR with other people may be far off" if self.few else ""
        return f"FAR {self.far_wanted:g} wanted, {self.far:.3g} on the calibration trials ({rests}{doubt})"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds of one model, by rising FAR."""

    points: tuple[Threshold, ...]
    step: int  # training step of the model whose scores they hold for
    split: str  # which people they were learned on
    subjects: int

    def at(self, far: float) -> Threshold:
        """The threshold learned for `far`; a ValueError says which FARs there are."""
        for point in self.points:
            if math.isclose(point.far_wanted, far, rel_tol=1e-9):
                return point
        known = ", ".join(f"{point.far_wanted:g}" for point in self.points)
        raise ValueError(
            f"no threshold was learned for FAR {far:g}, only for {known}: add it with qmargin threshold RUN --far "
            f"{far:g}, which refuses a FAR that the calibration trials cannot show"
        )

    def save(self, path: Path) -> None:
        """Write them as JSON, atomically; `load_thresholds` reads them."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def thresholds_for(
    scores: NDArray[np.floating],
    labels: NDArray[np.bool_],
    subjects: NDArray[np.integer],
    fars: Sequence[float],
    *,
    step: int,
    split: str,
) -> Thresholds:
    """Thresholds for wanted FARs on calibration trials.

    Args:
        scores: (trials,) higher = more alike.
        labels: (trials,) True = genuine.
        subjects: (trials, 2) on each side.
        fars: wanted, each in [1 / impostors, 1].
        step: training step of the scored model.
        split: which people the trials are of.

    Raises:
        ValueError: a FAR that the number of impostor trials cannot show (the message says how many it needs), none
            asked, or a FAR that no finite score keeps.

    Example:
        >>> scores, labels = np.arange(8.0), np.arange(8) > 5
        >>> subjects = np.array([[0, 0] if genuine else [0, 1] for genuine in labels])
        >>> found = thresholds_for(scores, labels, subjects, [0.5], step=1, split="validation")
        >>> found.at(0.5).threshold, found.at(0.5).false_accepts, found.at(0.5).impostors
        (3.0, 3, 6)

    See also `qmargin.metrics.tar_at_far`, whose rule this is.
    """
    if not fars:
        raise ValueError("no FAR was asked; 1e-3 is usual where a thousand impostor trials and more are there")
    det = det_curve(scores, labels)
    return Thresholds(
        points=tuple(_point(tar_at_far_of(det, far)) for far in sorted(set(fars))),
        step=step,
        split=split,
        subjects=len(np.unique(subjects)),
    )


def load_thresholds(path: Path) -> Thresholds:
    """Read what `Thresholds.save` wrote; a ValueError names a file that is missing or something else."""
    if not path.is_file():
        raise ValueError(f"no thresholds at {path}: learn them with qmargin threshold RUN --far 1e-2")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        loaded = Thresholds(**fields | {"points": tuple(Threshold(**point) for point in fields["points"])})
        whole = all(math.isfinite(number) for point in loaded.points for number in asdict(point).values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no thresholds ({error}): write them with qmargin threshold") from error
    if not whole:
        raise ValueError(f"{path} holds no thresholds: a number in it is not finite; write them again")
    return loaded


def _point(found: TarAtFar) -> Threshold:
    if not math.isfinite(found.threshold):
        raise ValueError(
            f"no score keeps FAR {found.far_target:g}: too many impostor trials share the highest score, so nothing "
            "could be accepted; is the model trained?"
        )
    return Threshold(
        far_wanted=found.far_target,
        threshold=found.threshold,
        far=found.far,
        tar=found.tar,
        false_accepts=found.false_accepts,
        impostors=int(found.impostors),
    )
