"""Published figures, to stand beside one's own: quoted, never computed here, each with its source.

A figure belongs to one list, read in one way. Other training data, crops or read-outs make it another figure: what is
known of them stands in the row. `year` is that of the version of the source that was read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

NOTE = (
    "published: quoted from the source named below, not computed here, without intervals, of a network trained "
    "elsewhere: a difference to such a row is no finding."
)
ARCFACE_TORCH = "arcface_torch, github.com/deepinsight/insightface, recognition/arcface_torch/README.md at 7fadd420"
WESPEAKER = "WeSpeaker, github.com/wenet-e2e/wespeaker, examples/voxceleb/v2/README.md at dfa7419"


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """One published row on one list."""

    list_name: str  # as `IjbLists.name` or `TrialList.published` has it
    network: str
    training_set: str
    loss: str
    scoring: tuple[str, ...]  # how features became figures, as many cells as the table of that protocol has
    figures: dict[str, float]  # name of the figure -> value, shares in [0, 1]
    source: str
    year: int

    @property
    def system(self) -> str:
        """What the row is called: 'published: r100, Glint360K, CosFace'."""
        return f"published: {self.network}, {self.training_set}, {self.loss}"


def anchors_of(list_name: str | None) -> tuple[Anchor, ...]:
    """The published rows of a list, in the order of their sources; none for a list that no source has.

    Example:
        >>> [(anchor.network, anchor.figures["TAR@FAR=1e-04"]) for anchor in anchors_of("IJB-C")[-2:]]
        [('r50', 0.9716), ('r100', 0.9755)]
        >>> anchors_of("IJB-B")
        ()
    """
    return tuple(anchor for anchor in ANCHORS if anchor.list_name == list_name)


def anchor_notes(anchors: Sequence[Anchor]) -> tuple[str, ...]:
    """What must be said under a table with published rows."""
    return (NOTE,) if anchors else ()


def anchor_sources(anchors: Sequence[Anchor]) -> tuple[str, ...]:
    """Each source once, with its year."""
    return tuple(dict.fromkeys(f"published figures: {anchor.source}, {anchor.year}" for anchor in anchors))


def _ijbc(training_set: str, loss: str, network: str, at_1e4: float, at_1e5: float) -> Anchor:
    """Values in per cent, as printed."""
    return Anchor(
        list_name="IJB-C",
        network=network,
        training_set=training_set,
        loss=loss,
        scoring=("insightface", "N1D1F1", "nearest"),
        figures={"TAR@FAR=1e-04": round(at_1e4 / 100.0, 4), "TAR@FAR=1e-05": round(at_1e5 / 100.0, 4)},
        source=ARCFACE_TORCH,
        year=2026,
    )


def _voxceleb(network: str, scoring: str, *eers: float) -> tuple[Anchor, ...]:
    """EERs on O, E and H in per cent, as printed."""
    return tuple(
        Anchor(
            list_name=f"VoxCeleb1-{part} (cleaned)",
            network=network,
            training_set="VoxCeleb2 dev",
            loss="AAM",
            scoring=(scoring,),
            figures={"EER": round(eer / 100.0, 5)},
            source=WESPEAKER,
            year=2026,
        )
        for part, eer in zip("OEH", eers, strict=True)
    )


LM_NORM = "large-margin fine-tuning, as-norm1, top 300"
ANCHORS = (
    _ijbc("MS1MV2", "ArcFace", "r50", 95.97, 94.07),
    _ijbc("MS1MV2", "ArcFace", "r100", 96.37, 94.27),
    _ijbc("MS1MV3", "ArcFace", "r50", 96.37, 94.47),
    _ijbc("MS1MV3", "ArcFace", "r100", 96.85, 95.02),
    _ijbc("Glint360K", "CosFace", "r50", 97.16, 95.81),
    _ijbc("Glint360K", "CosFace", "r100", 97.55, 96.38),
    *_voxceleb("ResNet34", "cosine", 0.867, 1.049, 1.959),
    *_voxceleb("ResNet34", LM_NORM, 0.723, 0.867, 1.532),
    *_voxceleb("ECAPA c1024", "cosine", 0.856, 1.072, 2.059),
    *_voxceleb("ECAPA c1024", LM_NORM, 0.728, 0.929, 1.721),
)
