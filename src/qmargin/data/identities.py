"""Whose each sample is and the split of each person, in arrays; what every table of samples rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qmargin.data._checks import check_counts
from qmargin.data.columns import CategoryColumn, Indices

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Identities:
    """Identities of samples; every one has a sample, and stands in one split.

    Args:
        names: of the identities, in the order of Python's text comparison.
        codes: place of each sample's identity in `names`, (samples,) int32: its label.
        split: place of each identity's split in `SPLITS`, (identities,) uint8.

    Example:
        >>> people = Identities.of(("bo", "al", "bo"), ("test", "train", "test"))
        >>> people.names, people.codes.tolist(), people.in_split("test").tolist()
        (('al', 'bo'), [1, 0, 1], [0, 2])
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    split: NDArray[np.uint8]

    @classmethod
    def of(cls, identities: Sequence[str], split: Sequence[str]) -> "Identities":
        """Those of lawful rows; of an identity in two splits one is taken, so check that before."""
        home = dict(zip(identities, split, strict=True))
        numbers = {name: number for number, name in enumerate(home)}
        found = np.fromiter((numbers[name] for name in identities), np.int32, len(identities))
        return cls.sorted(tuple(home), found, [SPLITS.index(part) for part in home.values()])

    @classmethod
    def sorted(
        cls, names: tuple[str, ...], codes: NDArray[np.int32], split: Sequence[int] | NDArray[np.uint8]
    ) -> "Identities":
        """Names in any order, and codes and splits that go with it, put into the order of names."""
        order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        place = np.empty(len(names), dtype=np.int32)
        place[order] = np.arange(len(names), dtype=np.int32)
        return cls(tuple(names[old] for old in order), place[codes], np.asarray(split, np.uint8)[order])

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def of_samples(self) -> CategoryColumn:
        """Identity of each sample."""
        return CategoryColumn(self.names, self.codes)

    @property
    def splits(self) -> CategoryColumn:
        """Split of each sample."""
        return CategoryColumn(SPLITS, self.split[self.codes])

    def take(self, rows: Indices) -> "Identities":
        """Those of some samples, in their order; identities without a sample among them drop out."""
        codes = self.codes[rows]
        used = np.zeros(len(self.names), dtype=bool)
        used[codes] = True
        place = np.cumsum(used, dtype=np.int32) - 1
        kept = np.flatnonzero(used)
        return Identities(tuple(self.names[old] for old in kept), place[codes], self.split[kept])

    def in_split(self, split: str) -> Indices:
        """Samples of one split, in order.

        Raises:
            ValueError: an unknown split, or one without samples.
        """
        own = self.split[self.codes]  # (samples,)
        counts = dict(zip(SPLITS, np.bincount(own, minlength=len(SPLITS)).tolist(), strict=True))
        if not counts.get(split):
            raise ValueError(no_sample_in(split, counts))
        return np.flatnonzero(own == SPLITS.index(split))

    def hold_out(self, identities: int, seed: int) -> "Identities":
        """Move some train identities to the split "validation"; errors are those of `choose_held_out`."""
        candidates = np.flatnonzero(self.split == SPLITS.index("train"))
        samples = np.bincount(self.codes, minlength=len(self.names))[candidates]
        held = bool(np.any(self.split == SPLITS.index("validation")))
        split = self.split.copy()
        split[candidates[choose_held_out(samples, identities, seed, held=held)]] = SPLITS.index("validation")
        return replace(self, split=split)


def choose_held_out(samples: NDArray[np.int64], identities: int, seed: int, *, held: bool) -> NDArray[np.int64]:
    """Places of the identities to hold out, (identities,), among the train ones.

    One of a single sample has no genuine pair, so nothing can be chosen by it: where the draw has some, others that
    have two samples or more are drawn in their place.

    Args:
        samples: how many each train identity has (train identities,).
        identities: how many to hold out.
        seed: of the choice.
        held: whether some are held out already.

    Raises:
        ValueError: some are held out already, fewer have two samples, or fewer than 2 would be left to train on.
    """
    check_counts("hold_out", 1, identities=identities)
    check_counts("hold_out", 0, seed=seed)
    if held:
        raise ValueError(
            "this manifest has validation identities of its own: set validation_identities to 0 to use them"
        )
    train, paired = len(samples), int(np.count_nonzero(samples > 1))
    if train - identities < 2:
        raise ValueError(
            f"holding out {identities} of {train} train identities leaves fewer than 2 to train on: "
            f"set validation_identities to at most {min(max(train - 2, 0), paired)}"
        )
    if identities > paired:
        raise ValueError(
            f"{paired:,} of {train:,} train identities have 2 samples or more, and {identities:,} are to be held "
            "out: one of a single sample has no genuine pair; set validation_identities to at most "
            f"{paired:,}, or add samples"
        )
    generator = np.random.default_rng(seed)
    chosen = generator.choice(train, identities, replace=False)
    alone = samples[chosen] < 2
    if alone.any():
        others = np.setdiff1d(np.flatnonzero(samples > 1), chosen)
        chosen[alone] = generator.choice(others, int(alone.sum()), replace=False)
    return chosen


def no_sample_in(split: str, counts: Mapping[str, int]) -> str:
    """What to tell who asks for a split without samples."""
    held = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return (
        f"no sample is in the split {split!r}; this manifest holds {held}. Validation identities are held out of train "
        "by validation_identities"
    )


class OfPeople:
    """What every table of samples says of its identities; a subclass has `people`."""

    people: Identities

    @property
    def names(self) -> tuple[str, ...]:
        """Identities in the order of their labels, that of Python's text comparison; (classes,)."""
        return self.people.names

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self.names)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each sample (samples,), in [0, num_classes): the identity's place in `names`. A new array."""
        return self.people.codes.astype(np.int64)
