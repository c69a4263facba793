"""1:N identification of templates: probes against a gallery, closed set (rank-k) and open set (TPIR at FPIR).

Conventions: a gallery holds each subject once or more, a subject's score for a probe is its highest; the probe's rank
is 1 + the number of OTHER subjects with a score >= that of its own, so ties count against it. A probe is **mated**
where its subject is in the gallery. TPIR is the share of mated probes of rank 1 whose score reaches the threshold; the
threshold is the lowest at which at most a share FPIR of the probes that are not mated has any score >= it.
The two galleries of IJB-B and IJB-C are searched apart, because a probe is mated in one and not in the other; the
figure is the mean of both.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import TarAtFar, tar_at_far
from qmargin.protocols.few import few_false_accepts
from qmargin.protocols.ijb_lists import IjbLists
from qmargin.protocols.units import UNKNOWN

TEMPLATE, SUBJECT = "TEMPLATE_ID", "SUBJECT_ID"
RANKS = (1, 5, 10)
FPIRS = (1e-1, 1e-2, 1e-3)
BLOCK_PROBES = 1024  # probes at a time: 7 MB of scores against 1,772 templates
GALLERIES = {
    "ijbb": ("ijbb_1N_gallery_S1.csv", "ijbb_1N_gallery_S2.csv"),
    "ijbc": ("ijbc_1N_gallery_G1.csv", "ijbc_1N_gallery_G2.csv"),
}
PROBES = {"ijbb": "ijbb_1N_probe_mixed.csv", "ijbc": "ijbc_1N_probe_mixed.csv"}

Vectors = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TemplateList:
    """Templates of a gallery or of the probes, each once, and whose they are."""

    name: str  # of the file
    templates: NDArray[np.int64]  # (templates,) ids
    subjects: NDArray[np.int64]  # (templates,) ids


@dataclass(frozen=True, kw_only=True)
class GalleryReport:
    """Figures of one gallery."""

    gallery: str
    subjects: int
    mated: int  # probes
    non_mated: int
    rank: dict[int, float]  # k -> share of mated probes of rank <= k
    tpir: dict[float, float]  # FPIR -> TPIR, as far as the probes that are not mated go
    thresholds: dict[float, float]
    false_accepts: dict[float, int] = field(
        default_factory=dict
    )  # FPIR -> probes that are not mated with a score at the threshold or above
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IdentificationReport:
    """Figures of all galleries, and their means."""

    galleries: tuple[GalleryReport, ...]
    rank: dict[int, float]
    tpir: dict[float, float]  # FPIRs that every gallery can show


def read_template_list(path: Path) -> TemplateList:
    """Read the columns TEMPLATE_ID and SUBJECT_ID of a gallery or probe file; a template may have a line an image.

    Raises:
        ValueError: no such file, no such columns, a line without two integers, or a template of two subjects (with the
            line number).
    """
    subject_of: dict[int, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            if not {TEMPLATE, SUBJECT} <= set(columns):
                raise ValueError(
                    f"{path}, line 1: no columns {TEMPLATE} and {SUBJECT}, got {', '.join(columns) or 'none'}"
                )
            reader.fieldnames = columns
            for row in reader:
                template, subject = (_integer(row[name], path, reader.line_num) for name in (TEMPLATE, SUBJECT))
                if subject_of.setdefault(template, subject) != subject:
                    raise ValueError(
                        f"{path}, line {reader.line_num}: template {template} is of subject {subject} here and of "
                        f"{subject_of[template]} above"
                    )
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not subject_of:
        raise ValueError(f"{path} has a header but no template")
    return TemplateList(path.name, np.array(list(subject_of)), np.array(list(subject_of.values())))


def read_identification(folder: Path) -> tuple[list[TemplateList], TemplateList]:
    """The two galleries and the mixed probes of the set in a folder `meta`.

    Raises:
        ValueError: the files are missing, or wrong.
    """
    for prefix, names in GALLERIES.items():
        if (folder / names[0]).is_file():
            galleries = [read_template_list(folder / name) for name in names]
            return galleries, read_template_list(folder / PROBES[prefix])
    wanted = " or ".join(names[0] for names in GALLERIES.values())
    raise ValueError(f"{folder} has no gallery: {wanted} must be there, with the second gallery and the mixed probes")


def template_subjects(lists: IjbLists, known: Sequence[TemplateList]) -> NDArray[np.int64]:
    """Subject id of each template of a set (templates,), `UNKNOWN` where no gallery or probe list names it.

    Raises:
        ValueError: a template without images, or of two subjects in two lists.
    """
    subjects = np.full(len(lists.template_ids), UNKNOWN, dtype=np.int64)
    for one in known:
        rows = _rows(lists, one)
        wrong = (subjects[rows] != UNKNOWN) & (subjects[rows] != one.subjects)
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"template {one.templates[place]} is of subject {one.subjects[place]} in {one.name} and of "
                f"{subjects[rows[place]]} in another list"
            )
        subjects[rows] = one.subjects
    return subjects


def has_identification(folder: Path) -> bool:
    """Whether a folder `meta` holds the lists of 1:N."""
    return any((folder / names[0]).is_file() for names in GALLERIES.values())


def identify_templates(
    lists: IjbLists, vectors: Vectors, galleries: list[TemplateList], probes: TemplateList
) -> IdentificationReport:
    """Search every probe in every gallery, each gallery apart.

    Args:
        lists: of the set; say which template is which row of `vectors`.
        vectors: (templates, dim) unit vectors, of `pooled`.
        galleries: at least one.
        probes: the mixed probes of images and videos.

    Returns:
        The report; means over galleries.

    Raises:
        ValueError: a template without images, a gallery in which no probe is mated.

    Reference: Grother and Ngan, "Face recognition vendor test", NIST IR 8009, 2014, for rank, TPIR and FPIR.

    Sibling: `verify_templates`, 1:1.
    """
    reports = tuple(_search(lists, vectors, gallery, probes) for gallery in galleries)
    shown = [fpir for fpir in FPIRS if all(fpir in report.tpir for report in reports)]
    return IdentificationReport(
        galleries=reports,
        rank={k: float(np.mean([report.rank[k] for report in reports])) for k in RANKS},
        tpir={fpir: float(np.mean([report.tpir[fpir] for report in reports])) for fpir in shown},
    )


def _search(lists: IjbLists, vectors: Vectors, gallery: TemplateList, probes: TemplateList) -> GalleryReport:
    subjects, places = np.unique(gallery.subjects, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    held = vectors[_rows(lists, gallery)][order]  # (gallery templates, dim), by subject
    rows = _rows(lists, probes)
    own = np.searchsorted(subjects, probes.subjects)
    own[own == len(subjects)] = 0
    mated = subjects[own] == probes.subjects  # (probes,)
    if not mated.any():
        raise ValueError(f"no probe of {probes.name} is of a subject of {gallery.name}: are they of one set?")
    top, true, rank = np.empty(len(rows)), np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK_PROBES):
        block = slice(start, start + BLOCK_PROBES)
        scores = np.maximum.reduceat(vectors[rows[block]] @ held.T, starts, axis=1)  # (probes, subjects)
        top[block] = scores.max(axis=1)
        true[block] = np.take_along_axis(scores, own[block, np.newaxis], axis=1)[:, 0]
        rank[block] = (scores >= true[block, np.newaxis]).sum(axis=1)  # its own is one of them
    points = _open_set(top[~mated], true[mated], rank[mated])
    accepts = {fpir: point.false_accepts for fpir, point in points.items()}
    return GalleryReport(
        gallery=gallery.name,
        subjects=len(subjects),
        mated=int(mated.sum()),
        non_mated=int((~mated).sum()),
        rank={k: float(np.mean(rank[mated] <= k)) for k in RANKS},
        tpir={fpir: point.tar for fpir, point in points.items()},
        thresholds={fpir: point.threshold for fpir, point in points.items()},
        false_accepts=accepts,
        warnings=few_false_accepts({f"TPIR@FPIR={fpir:.0e} of {gallery.name}": n for fpir, n in accepts.items()}),
    )


def _open_set(non_mated: Vectors, mated: Vectors, rank: NDArray[np.int64]) -> dict[float, TarAtFar]:
    """TPIR by FPIR: TAR where a mated probe of another rank than 1 is never accepted."""
    shown = [fpir for fpir in FPIRS if fpir * len(non_mated) >= 1.0]
    if not shown:
        return {}
    never = min(float(non_mated.min()), float(mated.min())) - 1.0
    scores = np.concatenate([np.where(rank == 1, mated, never), non_mated])
    labels = np.arange(len(scores)) < len(mated)
    return {fpir: tar_at_far(scores, labels, fpir) for fpir in shown}


def _rows(lists: IjbLists, asked: TemplateList) -> NDArray[np.int64]:
    places = np.searchsorted(lists.template_ids, asked.templates)
    places[places == len(lists.template_ids)] = 0
    bad = lists.template_ids[places] != asked.templates
    if bad.any():
        raise ValueError(
            f"{int(bad.sum()):,} of the {len(bad):,} templates of {asked.name} have no image in the lists, the first "
            f"is {asked.templates[bad.argmax()]}"
        )
    return places


def _integer(text: str | None, path: Path, line: int) -> int:
    if text is None or not text.strip().isdigit() or len(text.strip()) > 9:
        raise ValueError(f"{path}, line {line}: template and subject ids must be integers, got {text!r}")
    return int(text)
