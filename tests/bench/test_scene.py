"""The scene is what its docstring says: cosines of the trained state, seeds, shared prototypes."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from qmargin.bench.scene import BATCHES, HARD_COSINES, TARGET_COSINE, Sizes, make_scene

SIZES = Sizes(classes=2000, dim=256, batch=64)


def test_trained_embeddings_have_the_stated_cosines() -> None:
    scene = make_scene(SIZES)
    directions = F.normalize(scene.weight)
    for batch in scene.batches["trained"]:
        cosines = F.normalize(batch.embeddings.detach()) @ directions.T  # (batch, classes)
        torch.testing.assert_close(batch.embeddings.detach().norm(dim=1).mean().item(), 1.0, atol=0.05, rtol=0.0)
        own = cosines.gather(1, batch.labels.unsqueeze(1))
        assert own.mean().item() == pytest.approx(TARGET_COSINE, abs=0.03)
        hard = cosines.scatter(1, batch.labels.unsqueeze(1), -1.0).topk(len(HARD_COSINES)).values.mean(0)
        # the least of them competes with 2000 cosines of noise, whose largest is about 3.3/sqrt(256)
        torch.testing.assert_close(hard[:3], torch.tensor(HARD_COSINES[:3]), atol=0.06, rtol=0.0)


def test_untrained_embeddings_are_noise() -> None:
    scene = make_scene(SIZES)
    batch = scene.batches["untrained"][0]
    cosines = batch.embeddings.detach() @ F.normalize(scene.weight).T
    assert cosines.std().item() == pytest.approx(SIZES.dim**-0.5, rel=0.03)
    assert cosines.gather(1, batch.labels.unsqueeze(1)).mean().abs().item() < 0.03


def test_a_scene_is_a_function_of_its_seed() -> None:
    first, again, other = make_scene(SIZES), make_scene(SIZES), make_scene(SIZES, seed=1)
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.batches["trained"][3].embeddings, again.batches["trained"][3].embeddings)
    assert not torch.equal(first.weight, other.weight)


def test_batches_differ_and_want_their_gradient() -> None:
    batches = [batch for state in make_scene(SIZES).batches.values() for batch in state]
    assert len(batches) == 2 * BATCHES
    assert len({tuple(batch.labels.tolist()) for batch in batches}) == 2 * BATCHES
    assert all(batch.embeddings.requires_grad and batch.embeddings.is_leaf for batch in batches)


def test_one_class_has_a_scene_too() -> None:
    assert make_scene(Sizes(classes=1, dim=8, batch=2)).batches["trained"][0].embeddings.isfinite().all()
