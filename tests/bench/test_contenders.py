"""The sides compute what they are named after."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from qmargin import DenseHead, QMargin, StreamingHead
from qmargin.bench import contenders
from qmargin.bench.contenders import PartialFC, PlainArcFace, Product, WithHead, arcface, plain_arcface
from qmargin.bench.measure import Side
from qmargin.bench.scene import Scene, Sizes, make_scene
from qmargin.bench.sides import baseline_sides, streaming_side

SIZES = Sizes(classes=150, dim=16, batch=8)


@pytest.fixture
def scene() -> Scene:
    return make_scene(SIZES)


@pytest.fixture
def _visible_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that moves prototypes enough to compare them."""
    monkeypatch.setattr(contenders, "LEARNING_RATE", 0.01)


def test_plain_arcface_is_the_dense_head(scene: Scene) -> None:
    batch = scene.batches["trained"][0]
    head = DenseHead(SIZES.classes, SIZES.dim, arcface(64.0))
    head.load_state_dict({"weight": scene.weight})
    weight = scene.weight.clone().requires_grad_()
    plain = plain_arcface(batch.embeddings, weight, batch.labels, 64.0, autocast=False)
    torch.testing.assert_close(plain, head(*batch), rtol=1e-5, atol=1e-6)
    (expected,) = torch.autograd.grad(head(*batch), head.weight)
    torch.testing.assert_close(torch.autograd.grad(plain, weight)[0], expected, rtol=1e-4, atol=1e-5)


def test_autocast_rounds_the_cosines_alone(scene: Scene) -> None:
    batch = scene.batches["trained"][0]
    full, half = (
        plain_arcface(batch.embeddings, scene.weight, batch.labels, 64.0, autocast=autocast)
        for autocast in (False, True)
    )
    assert half.dtype == torch.float32
    assert half.item() != full.item()
    assert half.item() == pytest.approx(full.item(), rel=0.02)


@pytest.mark.usefixtures("_visible_steps")
def test_partial_fc_of_all_classes_is_sgd_with_momentum(scene: Scene) -> None:
    twin = Scene(SIZES, scene.weight.clone(), scene.batches)
    partial_fc = PartialFC(scene, 64.0, rate=1.0, autocast=False)
    plain = PlainArcFace(twin, 64.0, autocast=False)
    for batch in scene.batches["untrained"]:
        partial_fc.step(batch)
        plain.step(batch)
    torch.testing.assert_close(scene.weight, twin.weight, rtol=1e-4, atol=1e-6)
    assert not torch.equal(scene.weight, make_scene(SIZES).weight)


@pytest.mark.usefixtures("_visible_steps")
def test_partial_fc_moves_the_drawn_rows_alone(scene: Scene) -> None:
    before = scene.weight.clone()
    side = PartialFC(scene, 4.0, rate=0.2, autocast=False)  # no gradient so small that it is rounded away
    batch = scene.batches["untrained"][0]
    side.step(batch)
    moved = (scene.weight != before).any(dim=1).nonzero().squeeze(1)
    assert set(moved.tolist()) == set(side.index.tolist())
    assert set(batch.labels.tolist()) <= set(side.index.tolist())
    assert len(side.index) == 30
    kept = side.momentum.any(dim=1).nonzero().squeeze(1)
    assert set(kept.tolist()) == set(side.index.tolist())


def test_partial_fc_takes_every_label_even_above_its_rate(scene: Scene) -> None:
    labels = torch.arange(0, 100, 2)
    assert PartialFC(scene, 64.0, rate=0.01, autocast=False).draw(labels).tolist() == labels.tolist()


@pytest.mark.usefixtures("_visible_steps")
def test_a_streaming_side_moves_as_the_dense_one(scene: Scene) -> None:
    twin = Scene(SIZES, scene.weight.clone(), scene.batches)
    loss = QMargin(scale=16.0)
    sides = [WithHead(scene, StreamingHead, loss, update="dense"), WithHead(twin, DenseHead, loss)]
    for batch in scene.batches["untrained"]:
        for side in sides:
            side.step(batch)
    torch.testing.assert_close(scene.weight, twin.weight, rtol=1e-4, atol=1e-6)
    assert not torch.equal(scene.weight, make_scene(SIZES).weight)


def test_the_floor_is_the_product_whole_or_in_chunks(scene: Scene) -> None:
    batch = scene.batches["trained"][1]
    expected = F.normalize(batch.embeddings.detach()) @ F.normalize(scene.weight).T
    for dtype, tolerance in ((torch.bfloat16, 0.01), (torch.float32, 1e-6)):
        whole, chunks = (Product(scene, dtype, chunk).loss(batch) for chunk in (None, 149))
        assert whole.dtype == dtype
        assert whole.item() == pytest.approx(expected[0, 0].item(), abs=tolerance)
        assert chunks.item() == pytest.approx(expected[0, 149].item(), abs=tolerance)  # the first of the last chunk


@pytest.mark.parametrize(
    "side", [*baseline_sides(), streaming_side("Q", QMargin(), "lazy", "trained")], ids=lambda s: s.name
)
def test_every_side_steps_with_a_gradient_for_the_embeddings(scene: Scene, side: Side) -> None:
    contender = side.make(scene)
    batch = scene.batches[side.state][0]
    contender.step(batch)
    if isinstance(contender, Product):
        assert contender.optimizer_bytes() == 0
        return
    assert batch.embeddings.grad is not None
    assert batch.embeddings.grad.abs().sum() > 0
    assert contender.optimizer_bytes() == scene.weight.nbytes


def test_the_state_of_a_side_has_no_memory_of_its_own(scene: Scene) -> None:
    side = partial(WithHead, kind=DenseHead, loss=arcface(64.0))(scene)
    assert side.weight.data_ptr() == scene.weight.data_ptr()
    assert side.head is not None
    assert side.head.weight is side.weight
