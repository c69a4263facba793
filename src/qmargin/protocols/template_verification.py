"""1:1 verification of templates, the protocol of IJB-B and IJB-C: pooled by a preset, read out at FAR 1e-6 to 1e-1."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import (
    DetBand,
    Interval,
    Method,
    Progress,
    TarAtFar,
    det_curve,
    figures_and_band,
    tar_at_far_of,
)
from qmargin.metrics.tar import Rule
from qmargin.protocols.few import few_false_accepts
from qmargin.protocols.ijb_lists import IjbLists
from qmargin.protocols.units import units_of
from qmargin.protocols.verification import FARS, tar_name, tar_statistic
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
    intervals: tuple[Interval, ...] = ()  # of TAR, one for each of `points`; empty where nothing was resampled
    resampled: str = ""  # which units, and how many; "" where nothing was resampled
    warnings: tuple[str, ...] = ()
    band: DetBand | None = None  # of the DET curve

    def interval(self, point: TarAtFar) -> Interval | None:
        """The interval of one of `points`."""
        return self.intervals[self.points.index(point)] if self.intervals else None

    def of_rule(self, rule: Rule) -> tuple[TarAtFar, ...]:
        """The points of one read-out rule."""
        return tuple(point for point in self.points if point.rule == rule)


def verify_templates(
    lists: IjbLists,
    features: Features,
    preset: str,
    *,
    resamples: int = 1000,
    seed: int = 0,
    method: Method = "wilson",
    known: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> TemplateReport:
    """Pool features into templates, score the pairs of a set and read TAR at FAR 1e-1 to 1e-6.

    Both read-outs are given: "conservative", the figure of this project, and "nearest", that of the public scripts;
    each point says at which FAR, threshold and number of false accepts it stands.

    Args:
        lists: of the set.
        features: of its images, in the order of `lists.images`.
        preset: how templates are pooled, e.g. "insightface"; see `qmargin.scoring.POOLINGS`.
        resamples: bootstrap draws over subjects; 0 leaves the intervals out.
        seed: of the draws.
        method: of the intervals, "wilson" or "percentile".
        known: (templates,) subject of each template, of `template_subjects`; None where there are no 1:N lists. Without
            them templates are joined into subjects by genuine pairs (`qmargin.protocols.units`).
        progress: called with the number of resamples just done.

    Returns:
        The report; `qmargin.report.template_table` lays it out.

    Raises:
        ValueError: an unknown preset, another number of features than images, a preset that needs the mirrored images
            where features have none, what `pool_templates` refuses, pairs of one kind only, labels that contradict
            each other or `known` where subjects are resampled.

    Reference: Maze et al., "IARPA Janus Benchmark - C", 2018.

    Sibling: `identify_templates`, 1:N.
    """
    scores = pair_dots(pooled(lists, features, preset), lists.first, lists.second)
    det = det_curve(scores, lists.same)
    shown = [far for far in FARS if far * det.impostor >= 1.0]
    images, templates, pairs, genuine = lists.counts
    points = tuple(tar_at_far_of(det, far, rule) for rule in get_args(Rule) for far in shown)
    del det  # 16 million pairs make 400 MB of it
    intervals: dict[str, Interval] = {}
    text, band = "", None
    if resamples:
        units = units_of(lists.first, lists.second, lists.same, templates, "templates", known)
        text, figures = units.text, {_name(point): tar_statistic(point.far_target, point.rule) for point in points}
        intervals, band = figures_and_band(
            scores,
            lists.same,
            units.sides,
            figures,
            resamples=resamples,
            seed=seed,
            method=method,
            progress=progress,
        )
    return TemplateReport(
        set_name=lists.name,
        sha256=lists.sha256,
        images=images,
        templates=templates,
        genuine=genuine,
        impostor=pairs - genuine,
        preset=preset,
        pooling=find_pooling(preset).code,
        points=points,
        left_out=tuple(far for far in FARS if far not in shown),
        intervals=tuple(intervals.values()),
        resampled=text,
        warnings=few_false_accepts({_name(point): point.false_accepts for point in points}),
        band=band,
    )


def _name(point: TarAtFar) -> str:
    return f"{tar_name(point.far_target)} ({point.rule})"


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
