"""The meta files of IJB-B and IJB-C as the field passes them on: images, templates and the pairs of 1:1 verification.

| file | a line |
|---|---|
| `ijbX_face_tid_mid.txt` | image, template id, media id |
| `ijbX_name_5pts_score.txt` | the same image, x and y of 5 landmarks in pixels, detector score |
| `ijbX_template_pair_label.txt` | template id, template id, 1 (one person) or 0 |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qmargin.protocols._integer_table import MAX_DIGITS, read_integer_table
from qmargin.protocols.image_pairs import file_sha256

IMAGES, LANDMARKS, PAIRS = "face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt"
PREFIXES = ("ijbb", "ijbc")
COUNTS = {  # images, templates, pairs, genuine pairs
    "IJB-B": (227_630, 12_115, 8_010_270, 10_270),
    "IJB-C": (469_375, 23_124, 15_658_489, 19_557),
}
Row = TypeVar("Row")


@dataclass(frozen=True, eq=False)
class IjbLists:
    """Images, templates and pairs; templates are numbered by their place in `template_ids`."""

    name: str  # "IJB-B" or "IJB-C" where every count is that set's, else says that it is neither
    sha256: dict[str, str]  # file -> digest
    images: tuple[str, ...]  # (images,) names, each once
    templates: NDArray[np.int64]  # (images,) place in template_ids
    media: NDArray[np.int64]  # (images,)
    landmarks: NDArray[np.float64]  # (images, 5, 2) pixels
    detector_scores: NDArray[np.float64]  # (images,)
    template_ids: NDArray[np.int64]  # (templates,) rising
    first: NDArray[np.int32]  # (pairs,) place in template_ids
    second: NDArray[np.int32]
    same: NDArray[np.bool_]  # (pairs,) True = one person

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Images, templates, pairs, genuine pairs."""
        return len(self.images), len(self.template_ids), len(self.same), int(np.count_nonzero(self.same))


def read_ijb(folder: Path, expected: str | None = None) -> IjbLists:
    """Read the three lists of IJB-B or IJB-C from the folder `meta`, and say by their counts which set it is.

    Args:
        folder: holds `ijbb_...` or `ijbc_...` files; one set of them.
        expected: "IJB-B" or "IJB-C", where other counts shall be an error; else they are named in the result.

    Returns:
        The lists, with the SHA-256 of each file.

    Raises:
        ValueError: a file is missing or wrong (with file and line), the images of two files differ, an image is listed
            twice, a pair names a template without images, or the counts are not those of `expected`.

    Siblings: `qmargin.protocols.verify_templates`, which scores them; `read_gallery`, the lists of 1:N.
    """
    if expected is not None and expected not in COUNTS:
        raise ValueError(f"unknown set {expected!r}: it must be one of {', '.join(COUNTS)}")
    prefix = _prefix(folder)
    paths = {part: folder / f"{prefix}_{part}" for part in (IMAGES, LANDMARKS, PAIRS)}
    images, template_of, media = _read_images(paths[IMAGES])
    landmarks, scores = _read_landmarks(paths[LANDMARKS], images, paths[IMAGES])
    ids, templates = np.unique(template_of, return_inverse=True)
    table = read_integer_table(paths[PAIRS], 3)
    _check_labels(table[:, 2], paths[PAIRS])
    counts = (len(images), len(ids), len(table), int(np.count_nonzero(table[:, 2])))
    return IjbLists(
        name=_name(counts, expected, folder),
        sha256={path.name: file_sha256(path) for path in paths.values()},
        images=images,
        templates=templates.astype(np.int64),
        media=media,
        landmarks=landmarks,
        detector_scores=scores,
        template_ids=ids,
        first=_places(table[:, 0], ids, paths),
        second=_places(table[:, 1], ids, paths),
        same=table[:, 2] == 1,
    )


def _prefix(folder: Path) -> str:
    found = [prefix for prefix in PREFIXES if (folder / f"{prefix}_{PAIRS}").is_file()]
    if len(found) != 1:
        what = "both sets" if found else "neither set"
        raise ValueError(
            f"{folder} holds the lists of {what}: it must hold one file of ijbb_{PAIRS} and ijbc_{PAIRS}; give the "
            "folder `meta` of one set"
        )
    return found[0]


def _name(counts: tuple[int, int, int, int], expected: str | None, folder: Path) -> str:
    name = next((name for name, known in COUNTS.items() if known == counts), None)
    text = "{:,} images, {:,} templates, {:,} pairs, {:,} of them genuine"
    if expected is not None and name != expected:
        raise ValueError(
            f"{folder} has {text.format(*counts)}; {expected} has {text.format(*COUNTS[expected])}: a file is cut, "
            "or of another set"
        )
    return name or "IJB-shaped set, neither IJB-B nor IJB-C"


def _read_images(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    def parse(words: Sequence[str]) -> tuple[str, int, int]:
        name, template, medium = words
        if not all(word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS for word in (template, medium)):
            raise ValueError(f"template and media ids must be integers of up to {MAX_DIGITS} digits")
        return name, int(template), int(medium)

    rows = _read_rows(path, parse)
    names, templates, media = zip(*rows, strict=True)
    seen: dict[str, int] = {}
    for line, name in enumerate(names, 1):
        if seen.setdefault(name, line) != line:
            raise ValueError(f"{path}, line {line}: the image {name} is listed in line {seen[name]} already")
    return names, np.array(templates), np.array(media)


def _read_landmarks(path: Path, images: Sequence[str], listed: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    def parse(words: Sequence[str]) -> tuple[str, list[float]]:
        if len(words) != 12:
            raise ValueError(f"an image, 10 coordinates and a score must stand here, got {len(words)} fields")
        return words[0], [float(word) for word in words[1:]]

    rows = _read_rows(path, parse)
    if len(rows) != len(images):
        raise ValueError(f"{path} has {len(rows):,} images, {listed} has {len(images):,}: one of them is cut")
    for line, (row, image) in enumerate(zip(rows, images, strict=True), 1):
        if row[0] != image:
            raise ValueError(
                f"{path}, line {line}: the image is {row[0]}, in the same line of {listed.name} it is {image}"
            )
    numbers = np.array([values for _, values in rows])
    if not np.isfinite(numbers).all():
        line = int((~np.isfinite(numbers).all(axis=1)).argmax()) + 1
        raise ValueError(f"{path}, line {line}: landmarks and score must be finite")
    return numbers[:, :10].reshape(-1, 5, 2), numbers[:, 10].copy()


def _read_rows(path: Path, parse: Callable[[Sequence[str]], Row]) -> list[Row]:
    """Parse each line; a ValueError names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason}") from error
    rows: list[Row] = []
    try:
        for line in lines:
            rows.append(parse(line.split()))  # noqa: PERF401 - its length is the number of the line that fails
    except ValueError as error:
        raise ValueError(f"{path}, line {len(rows) + 1}: {error}; got {lines[len(rows)][:80]!r}") from error
    return rows


def _check_labels(labels: NDArray[np.int32], path: Path) -> None:
    bad = labels > 1
    if bad.any():
        line = int(bad.argmax())
        raise ValueError(f"{path}, line {line + 1}: the label must be 0 or 1, got {labels[line]}")


def _places(asked: NDArray[np.int32], ids: NDArray[np.int64], paths: dict[str, Path]) -> NDArray[np.int32]:
    places = np.searchsorted(ids, asked)
    places[places == len(ids)] = 0
    bad = ids[places] != asked
    if bad.any():
        line = int(bad.argmax())
        raise ValueError(
            f"{paths[PAIRS]}, line {line + 1}: template {asked[line]} has no image in {paths[IMAGES]} "
            f"({len(np.unique(asked[bad])):,} templates have none)"
        )
    return places.astype(np.int32)
