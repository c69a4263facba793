"""Published figures belong to a list that exists here, in the units of ours, each with where it was read."""

import pytest

from qmargin.protocols.ijb_lists import COUNTS
from qmargin.protocols.trial_lists import KNOWN
from qmargin.report.anchors import ANCHORS, anchors_of


def test_every_anchor_belongs_to_a_known_list_and_names_its_source() -> None:
    lists = {*COUNTS, *(known.name for known in KNOWN)}
    for anchor in ANCHORS:
        assert anchor.list_name in lists
        assert all(0.0 < value < 1.0 for value in anchor.figures.values())
        assert " at " in anchor.source
        assert anchor.year > 2020
        assert anchor.system.startswith("published: ")
        assert anchor.training_set in anchor.system
    assert len({(a.list_name, a.system, a.scoring) for a in ANCHORS}) == len(ANCHORS)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("IJB-C", 6),
        ("IJB-B", 0),
        ("VoxCeleb1-O (cleaned)", 4),
        ("VoxCeleb1-O (original)", 0),
        ("VoxCeleb1-H (cleaned)", 4),
        (None, 0),
    ],
)
def test_a_list_has_its_own_anchors_only(name: str | None, rows: int) -> None:
    assert len(anchors_of(name)) == rows


def test_figures_are_the_printed_per_cents() -> None:
    printed = {
        round(100 * value, 3) for anchor in anchors_of("VoxCeleb1-E (cleaned)") for value in anchor.figures.values()
    }
    assert printed == {1.049, 0.867, 1.072, 0.929}
    tars = {(a.network, a.training_set): [round(100 * v, 2) for v in a.figures.values()] for a in anchors_of("IJB-C")}
    assert tars["r100", "MS1MV3"] == [96.85, 95.02]
    assert tars["r50", "MS1MV2"] == [95.97, 94.07]
