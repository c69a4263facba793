"""Who stands on each side of each trial, checked and numbered, and the draws of the bootstrap over them.

Conventions:
    A draw takes as many subjects as there are, with replacement; subject i comes w_i times. With strata (gender, age
    group, source) as many of each stratum as it has, from that stratum. A second kind of draw leaves the subjects as
    they are and takes each PAIR of subjects twice or not at all, by a coin: what it makes a figure vary by is the part
    of the variance that is each pair's own (`_intervals.py` needs it).
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin.metrics._validate import Mask
from qmargin.metrics.det import Indices

Counts = NDArray[np.int64]
Strata = Mapping[int, Hashable]
COINS = 16  # tossed at once for each pair: the bits of a uint16
MOST_SLOTS = (1 << 24) - 3  # a prime; beyond as many pairs of subjects some share a coin: more noise, no bias


@dataclass(frozen=True, eq=False)
class Subjects:
    """Subjects numbered 0..count - 1 by rising id, the two of each trial, and the strata they are drawn from."""

    count: int
    sides: NDArray[np.int32]  # (trials, 2)
    strata: tuple[Indices, ...]  # subjects of each stratum; one of all where none were given

    @classmethod
    def of(cls, subjects: ArrayLike, genuine: Mask, strata: Strata | None = None) -> "Subjects":
        """Number the subjects (trials, 2); a ValueError names the first trial or subject that contradicts itself."""
        names, sides = _numbered(_check_subjects(subjects, genuine))
        return cls(names.size, sides, _strata_of(names, strata))

    def draw(self, generator: np.random.Generator) -> Counts:
        """How often each subject is drawn, (subjects,)."""
        times = np.zeros(self.count, dtype=np.int64)
        for members in self.strata:
            drawn = members[generator.integers(members.size, size=members.size)]
            times += np.bincount(drawn, minlength=self.count)
        return times

    @property
    def slots(self) -> int:
        """Number of coins for pairs of subjects."""
        return min(self.count * self.count, MOST_SLOTS)

    def slot(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> Indices:
        """Which coin is a pair's, the same in either order."""
        low, high = np.minimum(left, right).astype(np.intp), np.maximum(left, right)
        slot: Indices = (low * self.count + high) % self.slots
        return slot

    def coins(self, generator: np.random.Generator) -> NDArray[np.uint16]:
        """Tosses (slots,) for the next `COINS` resamples, one a bit."""
        return generator.integers(1 << COINS, size=self.slots, dtype=np.uint16)


def strata_sizes(strata: Strata, subjects: ArrayLike) -> dict[str, int]:
    """Number of subjects in each stratum, among those of `subjects` (trials, 2).

    Example:
        >>> strata_sizes({1: "f", 2: "m", 3: "m", 4: "f"}, [[1, 2], [2, 3]])
        {'f': 1, 'm': 2}
    """
    return dict(Counter(str(strata[name]) for name in np.unique(np.asarray(subjects)).tolist()))


def _strata_of(names: NDArray[np.integer], strata: Strata | None) -> tuple[Indices, ...]:
    if strata is None:
        return (np.arange(names.size),)
    lost = [name for name in names.tolist() if name not in strata]
    if lost:
        raise ValueError(
            f"strata must name the stratum of every subject, got none for subject {lost[0]} ({len(lost)} of "
            f"{names.size} have none); give them one, if need be 'unknown'"
        )
    members: dict[Hashable, list[int]] = {}
    for number, name in enumerate(names.tolist()):
        members.setdefault(strata[name], []).append(number)
    alone = [stratum for stratum, numbers in members.items() if len(numbers) < 2]
    if alone:
        raise ValueError(
            f"each stratum must hold at least two subjects, got one in {alone[0]!r} ({len(alone)} such strata): drawn "
            "within its stratum it would never vary; merge small strata"
        )
    return tuple(np.array(numbers, dtype=np.intp) for numbers in members.values())


def _numbered(given: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Distinct ids, rising, and the place of each (trials, 2) among them."""
    low, high = int(given.min()), int(given.max())
    if high - low > 4 * given.size:
        names, index = np.unique(given, return_inverse=True)
        return names, index.reshape(-1, 2).astype(np.int32)
    present = np.zeros(high - low + 1, dtype=bool)  # small ids: a table instead of a sort of all trials
    for side in (0, 1):
        present[given[:, side].astype(np.int64) - low] = True
    place = np.cumsum(present, dtype=np.int32) - np.int32(1)
    sides = np.empty(given.shape, dtype=np.int32)
    for side in (0, 1):
        sides[:, side] = place[given[:, side].astype(np.int64) - low]
    return np.flatnonzero(present) + low, sides


def _check_subjects(subjects: ArrayLike, genuine: Mask) -> NDArray[np.integer]:
    given = np.asarray(subjects)
    if given.shape != (genuine.size, 2):
        raise ValueError(
            f"subjects must have shape ({genuine.size}, 2), the subject on each side of each trial, got {given.shape}"
        )
    if given.dtype.kind not in "iu":
        raise ValueError(
            f"subjects must be integers, got dtype {given.dtype}; "
            "number names by `np.unique(names, return_inverse=True)[1].reshape(-1, 2)`"
        )
    wrong = (given[:, 0] == given[:, 1]) != genuine
    if wrong.any():
        first = int(wrong.argmax())
        label, law = ("genuine", "one subject") if genuine[first] else ("impostor", "two different subjects")
        raise ValueError(
            f"a trial labelled {label} must have {law}, got {given[first, 0]} and {given[first, 1]} at trial {first} "
            f"({np.count_nonzero(wrong)} such trials); are subjects, not samples, numbered, and in the order of labels?"
        )
    return given
