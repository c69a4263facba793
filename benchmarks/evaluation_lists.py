"""The lists that benchmarks/evaluation.py judges: the counts of IJB-C and of VoxCeleb1-H, or a share of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import make_folder
from qmargin.protocols.ijb_synthetic import SyntheticIjb
from qmargin.protocols.trial_lists import TrialList, read_trials, write_trials
from qmargin.scoring.directions import unit_vectors
from qmargin.scoring.trial_cosine import trial_cosines
from qmargin.scoring.vector_files import VectorSet, read_vectors

SPEAKERS, UTTERANCES, TRIALS, COHORT, DIM, NOISE = 1190, 130_000, 550_894, 5_994, 256, 1.6
Scores = NDArray[np.float32]


def scaled(scale: float) -> SyntheticIjb:
    """The counts of IJB-C, or a share of them."""
    full = SyntheticIjb()
    if scale == 1.0:
        return full
    subjects = max(2, int(full.subjects * scale**0.5))
    probes = max(2, int(full.probes * scale**0.5))
    return SyntheticIjb(
        subjects=subjects,
        probes=probes,
        images=max(subjects + probes, int(full.images * scale**0.5)),
        genuine=int(probes * full.genuine / full.probes),
        impostor=int(full.impostor * scale),
    )


@dataclass(frozen=True)
class Corpus:
    """Files of one simulated list, and how many of its trials the loops do."""

    folder: Path
    loop: int

    def trials(self) -> TrialList:
        """The list, read."""
        return read_trials(self.folder / "trials")

    def unit(self, trials: TrialList) -> Scores:
        """Embeddings of its utterances, length one."""
        found = read_vectors(self.folder / "embeddings.npz")
        return unit_vectors(found.vectors[found.locate(trials.utterances, "embeddings.npz")])

    def cohort(self) -> Scores:
        """The cohort, length one."""
        return unit_vectors(read_vectors(self.folder / "cohort.npz").vectors)

    def scores(self) -> Scores:
        """Cosines of the whole list."""
        scores: Scores = np.load(self.folder / "scores.npy", allow_pickle=False)
        return scores


def make(folder: Path, trials: int, utterances: int, cohort: int) -> None:
    """Write a list of that many trials and the embeddings of its utterances and cohort."""
    generator = np.random.default_rng(0)
    speaker = np.sort(generator.integers(SPEAKERS, size=utterances))
    ids = np.array([f"id1{s:04d}/v{k:07d}/00001.wav" for k, s in enumerate(speaker)])
    directions = generator.standard_normal((SPEAKERS, DIM), dtype=np.float32)
    vectors = directions[speaker] + np.float32(NOISE) * generator.standard_normal((utterances, DIM), dtype=np.float32)
    VectorSet(ids, vectors).save(folder / "embeddings.npz")
    names = np.array([f"c{k}" for k in range(cohort)])
    VectorSet(names, generator.standard_normal((cohort, DIM), dtype=np.float32)).save(folder / "cohort.npz")
    starts, counts = np.searchsorted(speaker, np.arange(SPEAKERS)), np.bincount(speaker, minlength=SPEAKERS)
    first, second = generator.integers(utterances, size=(2, 2 * trials))
    half = trials  # the first half of the candidates becomes genuine
    second[:half] = starts[speaker[first[:half]]] + generator.integers(2**31, size=half) % counts[speaker[first[:half]]]
    labels = speaker[first] == speaker[second]
    useful = (first != second) & (labels == (np.arange(2 * trials) < half))
    _, once = np.unique(first * utterances + second, return_index=True)
    kept = np.intersect1d(np.flatnonzero(useful), once)
    genuine, impostor = kept[kept < half][: trials // 2], kept[kept >= half][: trials - trials // 2]
    chosen = generator.permutation(np.concatenate([genuine, impostor]))
    sides = first[chosen].astype(np.int32), second[chosen].astype(np.int32)
    made = TrialList(ids, *sides, labels[chosen], "simulated", "", "simulated")
    write_trials(folder / "trials", made, "voxceleb")
    listed = read_trials(folder / "trials")
    np.save(folder / "scores.npy", trial_cosines(Corpus(folder, 0).unit(listed), listed.first, listed.second))


def write_part(part: str, data: Path, scale: float) -> None:
    """Write one of the two lists, or a share of it."""
    if part == "ijb":
        scaled(scale).write(make_folder(data / "ijb"))
    else:
        make(make_folder(data / "vox"), int(TRIALS * scale), int(UTTERANCES * scale**0.5), COHORT)
