"""An invented set in the files and the shape of IJB-C, to try the whole way without data that is hard to get.

Its figures say nothing about faces: features are a direction for each subject, noise for each image, and a norm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmargin._files import make_folder, replacing, write_text
from qmargin.protocols.identification import GALLERIES, PROBES, SUBJECT, TEMPLATE
from qmargin.protocols.ijb_lists import IMAGES, LANDMARKS, PAIRS

PREFIX = "ijbc"
BLOCK = 1 << 16  # images or pairs written at a time
FRAMES = 4  # a medium has 1 to FRAMES images of a template
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SyntheticIjb:
    """Counts of an invented set; the defaults are those of IJB-C.

    Example:
        >>> small = SyntheticIjb(subjects=8, probes=20, images=90, genuine=15, impostor=100, dim=16)
        >>> small.templates
        28
    """

    subjects: int = 3_531
    """Each with one gallery template; the first half is gallery G1, the rest G2."""
    probes: int = 19_593
    """Probe templates."""
    images: int = 469_375
    """At least one a template."""
    genuine: int = 19_557
    """Pairs of a gallery template and a probe of its subject, at most one a probe."""
    impostor: int = 15_638_932
    """Pairs of a gallery template and a probe of another subject."""
    dim: int = 512
    """Of the features."""
    noise: float = 8.0
    """Length of an image's noise beside the subject's direction of length 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that contradict each other."""
        if not (self.subjects >= 2 and 1 <= self.genuine <= self.probes and self.templates <= self.images):
            raise ValueError(
                "a synthetic set needs 2 subjects, 1 to `probes` genuine pairs and an image for each template, got "
                f"{self.subjects} subjects, {self.genuine} genuine pairs of {self.probes} probes and {self.images} "
                f"images for {self.templates} templates"
            )
        if not 1 <= self.impostor <= self.probes * (self.subjects - 1):
            raise ValueError(
                f"{self.probes} probes and {self.subjects} subjects make 1 to {self.probes * (self.subjects - 1):,} "
                f"impostor pairs, asked were {self.impostor:,}"
            )

    @property
    def templates(self) -> int:
        """Gallery and probe templates."""
        return self.subjects + self.probes

    def write(self, folder: Path) -> None:
        """Write `meta/` with the lists of 1:1 and 1:N, `features.npy` and `mirrors.npy` (float32).

        Raises:
            ValueError: the folder cannot be written.
        """
        meta = make_folder(folder / "meta")
        generator = np.random.default_rng(self.seed)
        ids = 1 + generator.permutation(2 * self.templates)[: self.templates]  # neither in order nor without gaps
        subject_of = np.concatenate(
            [np.arange(self.subjects), generator.integers(self.subjects, size=self.probes)]
        )  # (templates,)
        extra = generator.integers(self.templates, size=self.images - self.templates)
        template_of = np.sort(np.concatenate([np.arange(self.templates), extra]))  # (images,)
        self._write_images(meta, ids[template_of], generator)
        self._write_pairs(meta, ids, subject_of, generator)
        self._write_search(meta, ids, subject_of)
        self._write_features(folder, subject_of[template_of], generator)

    def _write_images(self, meta: Path, templates: Rows, generator: np.random.Generator) -> None:
        media = np.cumsum(generator.integers(FRAMES, size=self.images) == 0)
        points = generator.normal(60, 15, size=(self.images, 10)).round(3)
        scores = generator.uniform(0.5, 1.0, size=self.images).round(3)
        names = [f"{number}.jpg" for number in range(1, self.images + 1)]
        rows = zip(names, templates.tolist(), media.tolist(), strict=True)
        write_text(meta / f"{PREFIX}_{IMAGES}", "".join(f"{name} {t} {m}\n" for name, t, m in rows))
        lines = zip(names, points.tolist(), scores.tolist(), strict=True)
        text = "".join(f"{name} {' '.join(map(str, xy))} {score}\n" for name, xy, score in lines)
        write_text(meta / f"{PREFIX}_{LANDMARKS}", text)

    def _write_pairs(self, meta: Path, ids: Rows, subject_of: Rows, generator: np.random.Generator) -> None:
        probes = generator.permutation(self.probes)[: self.genuine] + self.subjects
        genuine = np.stack([ids[subject_of[probes]], ids[probes], np.ones_like(probes)], axis=1)
        with replacing(meta / f"{PREFIX}_{PAIRS}") as temporary, temporary.open("w", encoding="ascii") as file:
            for rows in (genuine, *self._impostors(ids, subject_of)):
                file.write("".join(f"{first} {second} {label}\n" for first, second, label in rows.tolist()))

    def _impostors(self, ids: Rows, subject_of: Rows) -> Iterator[Rows]:
        """Evenly over gallery x probes, pairs of one subject left out."""
        own = np.sort(subject_of[self.subjects :] * self.probes + np.arange(self.probes))  # cells of one subject
        count = self.probes * (self.subjects - 1)  # the others, numbered in order
        offsets = own - np.arange(self.probes)  # how many others lie before each of them
        for start in range(0, self.impostor, BLOCK):
            number = np.arange(start, min(start + BLOCK, self.impostor)) * count // self.impostor
            cell = number + np.searchsorted(offsets, number, side="right")
            gallery, probe = np.divmod(cell, self.probes)
            yield np.stack([ids[gallery], ids[probe + self.subjects], np.zeros_like(cell)], axis=1)

    def _write_search(self, meta: Path, ids: Rows, subject_of: Rows) -> None:
        half = (self.subjects + 1) // 2
        parts = (*GALLERIES[PREFIX], PROBES[PREFIX])
        ranges = (range(half), range(half, self.subjects), range(self.subjects, self.templates))
        for name, templates in zip(parts, ranges, strict=True):
            rows = "".join(f"{ids[place]},{subject_of[place] + 1}\n" for place in templates)
            write_text(meta / name, f"{TEMPLATE},{SUBJECT}\n{rows}")

    def _write_features(self, folder: Path, subjects: Rows, generator: np.random.Generator) -> None:
        directions = generator.normal(size=(self.subjects, self.dim)) / np.sqrt(self.dim)
        shape = (self.images, self.dim)
        with replacing(folder / "features.npy") as one, replacing(folder / "mirrors.npy") as other:
            files = [_mapped(path, shape) for path in (one, other)]
            for start in range(0, self.images, BLOCK):
                place = slice(start, start + BLOCK)
                base = directions[subjects[place]] + self._noise(self.noise, subjects[place], generator)
                base *= generator.uniform(10, 30, size=(len(base), 1))  # the norm, large for a clear image
                for file in files:
                    file[place] = base + self._noise(5.0, subjects[place], generator)

    def _noise(self, length: float, like: Rows, generator: np.random.Generator) -> NDArray[Any]:
        scale = np.float32(length / np.sqrt(self.dim))
        return scale * generator.standard_normal((len(like), self.dim), dtype=np.float32)


def _mapped(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A .npy file that is written through memory, not held in it."""
    array: NDArray[np.float32] = np.lib.format.open_memmap(path, "w+", np.float32, shape)  # type: ignore[no-untyped-call]
    return array
