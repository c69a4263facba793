from typing import Any

import pytest
import torch

from qmargin import DenseHead, QMargin, StreamingHead
from qmargin.heads import HeadConfig


@pytest.mark.parametrize(
    ("config", "classes", "kind"),
    [
        (HeadConfig(), 9_999, DenseHead),
        (HeadConfig(), 10_000, StreamingHead),
        (HeadConfig(kind="dense"), 10_000, DenseHead),
        (HeadConfig(kind="streaming"), 5, StreamingHead),
    ],
)
def test_auto_streams_from_ten_thousand_classes_on(config: HeadConfig, classes: int, kind: type) -> None:
    assert type(config.build(classes, 4, QMargin())) is kind


def test_update_and_precision_reach_the_streaming_head() -> None:
    head = HeadConfig(kind="streaming", update="lazy", precision="float32").build(5, 4, QMargin())
    assert isinstance(head, StreamingHead)
    assert (head.update, head.precision) == ("lazy", "float32")


def test_every_kind_starts_from_the_same_prototypes() -> None:
    weights = []
    for kind in ("dense", "streaming"):
        torch.manual_seed(3)
        weights.append(HeadConfig(kind=kind).build(7, 4, QMargin()).weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"kind": "sharded"}, r"head.kind must be one of auto, dense, streaming, got 'sharded'"),
        ({"update": "late"}, r"head.update must be one of dense, lazy, got 'late'"),
        ({"precision": "int8"}, r"head.precision must be one of auto, bfloat16, float16, float32, got 'int8'"),
        ({"kind": "dense", "update": "lazy"}, r"the dense head has no lazy updates: set head.kind to streaming"),
    ],
)
def test_a_config_refuses_what_no_head_has(change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        HeadConfig(**change)


def test_lazy_updates_are_refused_where_auto_chooses_the_dense_head() -> None:
    with pytest.raises(ValueError, match=r"is dense below 10,000 identities \(here are 30\): set head.kind"):
        HeadConfig(update="lazy").build(30, 4, QMargin())
