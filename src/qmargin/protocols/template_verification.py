"""1:1 verification of templates, the protocol of IJB-B and IJB-C: pooled by a preset, read out at FAR 1e-6 to 1e-1."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_text
from qmargin.metrics import TarAtFar, det_curve, tar_at_far_of
from qmargin.metrics.tar import Rule
from qmargin.protocols.ijb_lists import IjbLists
from qmargin.protocols.verification import FARS
from qmargin.scoring.features import Features
from qmargin.scoring.templates import find_pooling, pair_dots, pool_templates


@dataclass(frozen=True, kw_only=True)
class TemplateReport:
    """TAR of one preset on one set, by read-out rule; FARs that the set cannot show are left out."""

    set_name: str
    sha256: dict[str, str]  # of the lists
    images: int
    templates: int
    genuine: int
    impostor: int
    preset: str
    pooling: str  # its code
    points: tuple[TarAtFar, ...]  # by rule, then by falling FAR
    left_out: tuple[float, ...]  # FARs below 1 / impostors

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def of_rule(self, rule: Rule) -> tuple[TarAtFar, ...]:
        """The points of one read-out rule."""
        return tuple(point for point in self.points if point.rule == rule)


def verify_templates(lists: IjbLists, features: Features, preset: str) -> TemplateReport:
    """Pool features into templates, score the pairs of a set and read TAR at FAR 1e-1 to 1e-6.

    Both read-outs are given: "conservative", the figure of this project, and "nearest", that of the public scripts;
    each point says at which FAR, threshold and number of false accepts it stands.

    Args:
        lists: of the set.
        features: of its images, in the order of `lists.images`.
        preset: how templates are pooled, e.g. "insightface"; see `qmargin.scoring.POOLINGS`.

    Returns:
        The report; write it with `save`.

    Raises:
        ValueError: an unknown preset, another number of features than images, a preset that needs the mirrored images
            where features have none, what `pool_templates` refuses, pairs of one kind only.

    Reference: Maze et al., "IARPA Janus Benchmark - C", 2018.

    Sibling: `identify_templates`, 1:N.
    """
    scores = pair_dots(pooled(lists, features, preset), lists.first, lists.second)
    det = det_curve(scores, lists.same)
    shown = [far for far in FARS if far * det.impostor >= 1.0]
    images, templates, pairs, genuine = lists.counts
    return TemplateReport(
        set_name=lists.name,
        sha256=lists.sha256,
        images=images,
        templates=templates,
        genuine=genuine,
        impostor=pairs - genuine,
        preset=preset,
        pooling=find_pooling(preset).code,
        points=tuple(tar_at_far_of(det, far, rule) for rule in get_args(Rule) for far in shown),
        left_out=tuple(far for far in FARS if far not in shown),
    )


def pooled(lists: IjbLists, features: Features, preset: str) -> NDArray[np.float64]:
    """Templates of a set (templates, dim), by the preset's convention; errors are those of `verify_templates`."""
    if len(features.images) != len(lists.images):
        raise ValueError(
            f"there are features of {len(features.images):,} images, the lists have {len(lists.images):,}: they must "
            "be in the order of the lists, one row an image"
        )
    return pool_templates(
        features.images,
        lists.templates,
        lists.media,
        pooling=find_pooling(preset),
        mirror=features.mirrors,
        detector_scores=lists.detector_scores,
    )
