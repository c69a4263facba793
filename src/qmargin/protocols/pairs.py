"""The all-pairs protocol: every image of the held-out identities against every other, once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import read_arrays, write_arrays
from qmargin.scoring import Embeddings, pair_cosines


@dataclass(frozen=True)
class Trials:
    """Scored trials: which subjects, genuine or not, and how alike."""

    scores: NDArray[np.float32]  # (trials,) higher = more alike
    labels: NDArray[np.bool_]  # (trials,) True = genuine
    subjects: NDArray[np.int32]  # (trials, 2) subject on each side
    digest: str  # of labels, subjects and what was compared: equal digests may be compared pair by pair
    step: int = 0  # training step of the scored backbone; 0 where that is not known

    def save(self, path: Path) -> None:
        """Write them as .npz, atomically."""
        known = {"digest": np.array(self.digest), "step": np.array(self.step)}
        write_arrays(path, scores=self.scores, labels=self.labels, subjects=self.subjects, **known)

    def where(self, kept: NDArray[np.bool_], name: str) -> "Trials":
        """Some of the trials.

        Args:
            kept: (trials,) which ones.
            name: what they are called in their digest: trials of the same pairs and name may be compared.
        """
        return Trials(self.scores[kept], self.labels[kept], self.subjects[kept], f"{self.digest} {name}", self.step)

    def within(self, strata: Mapping[int, str]) -> NDArray[np.bool_]:
        """Which trials are of two subjects of one stratum, as people of one gender; all genuine ones are.

        Args:
            strata: subject -> stratum, of every subject, as of `qmargin.protocols.read_strata`.

        Returns:
            (trials,) True where both subjects have the same value.

        Raises:
            ValueError: all impostor pairs are of two strata.
        """
        _, numbers = np.unique([strata[subject] for subject in range(len(strata))], return_inverse=True)
        first, second = numbers[self.subjects].T  # (trials,) each
        kept: NDArray[np.bool_] = first == second
        if not np.any(kept & ~self.labels):
            raise ValueError(
                f"no impostor pair is of two people with the same value: the {len(strata)} people have "
                f"{len(set(strata.values()))} values; take a column with fewer"
            )
        return kept

    @classmethod
    def load(cls, path: Path) -> "Trials":
        """Read what `save` wrote; a ValueError names a file that is missing, damaged or something else."""
        names = ("scores", "labels", "subjects", "digest", "step")
        scores, labels, subjects, digest, step = read_arrays(path, *names, what="scores")
        if not len(scores) == len(labels) == len(subjects):
            raise ValueError(f"{path}: {len(scores)} scores, {len(labels)} labels, {len(subjects)} pairs: not one each")
        return cls(scores, labels, subjects, str(digest), int(step))


def all_pairs(embeddings: Embeddings) -> Trials:
    """Score every unordered pair of images by its cosine.

    Args:
        embeddings: of at least two identities, one of them with two images.

    Returns:
        `images * (images - 1) / 2` trials, in the order of numpy.triu_indices.

    Raises:
        ValueError: no genuine or no impostor pair can be made.
    """
    names, subject = np.unique(embeddings.identities, return_inverse=True)
    if len(names) < 2 or len(names) == len(subject):
        raise ValueError(
            f"verification needs genuine and impostor pairs, got {len(subject)} images of {len(names)} identities: "
            "give at least two identities, and two images of one of them"
        )
    first, second = np.triu_indices(len(subject), k=1)
    subjects = np.stack([subject[first], subject[second]], axis=1).astype(np.int32)
    content = hashlib.sha256("\n".join([*embeddings.paths, *embeddings.identities]).encode())
    return Trials(
        scores=pair_cosines(embeddings.vectors),
        labels=subjects[:, 0] == subjects[:, 1],
        subjects=subjects,
        digest=content.hexdigest(),
        step=embeddings.step,
    )
