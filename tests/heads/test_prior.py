from typing import Any

import pytest
import torch

from qmargin.divergence import softargmax
from qmargin.heads import HeadConfig
from qmargin.heads.prior import base_from_counts
from qmargin.losses import CosFace, NormFace, QMargin

COUNTS = torch.tensor([900, 50, 40, 9, 1])


def test_the_measure_is_a_power_of_the_counts_of_mean_one() -> None:
    torch.testing.assert_close(base_from_counts(COUNTS, 1.0), COUNTS / 200)
    torch.testing.assert_close(base_from_counts(COUNTS, 0.0), torch.ones(5))
    root = base_from_counts(COUNTS, 0.5)
    assert root.mean() == pytest.approx(1.0)
    torch.testing.assert_close(root[0] / root[4], torch.tensor(30.0))


@pytest.mark.parametrize("kind", ["dense", "streaming"])
def test_at_alpha_one_it_is_logit_adjustment(kind: Any) -> None:
    head = HeadConfig(kind=kind, prior_exponent=0.7).build(5, 4, NormFace(scale=8.0), counts=COUNTS)
    embeddings, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    cosines = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(head.weight).T
    expected = torch.nn.functional.cross_entropy(8.0 * cosines + 0.7 * COUNTS.log(), labels)
    torch.testing.assert_close(head(embeddings, labels), expected, rtol=1e-5, atol=1e-6)


def test_at_other_alphas_the_two_heads_agree_and_the_prior_matters() -> None:
    losses = []
    for kind, exponent in (("dense", 0.5), ("streaming", 0.5), ("dense", 0.0)):
        torch.manual_seed(3)
        config: Any = {"kind": kind, "prior_exponent": exponent}
        head = HeadConfig(**config).build(5, 4, QMargin(), counts=COUNTS)
        losses.append(head(torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])))
    torch.testing.assert_close(losses[0], losses[1])
    assert abs(losses[0] - losses[2]) > 0.01


@pytest.mark.parametrize("kind", ["dense", "streaming"])
@pytest.mark.parametrize("alpha", [1.0, 1.1, 1.5, 2.0])
def test_a_probability_is_another_scale_margin_and_size_of_the_loss(kind: Any, alpha: float) -> None:
    """L(theta; 1/C) = C^(alpha-1) L(theta / C^(alpha-1); 1), and q_y knows the margin by scale times margin."""
    classes, scale, margin, power = 9, 4.0, 0.2, 9 ** (alpha - 1.0)
    loss = QMargin(alpha, margin, scale) if alpha > 1.0 else CosFace(margin, scale)
    same = QMargin(alpha, margin * power, scale / power) if alpha > 1.0 else loss
    embeddings, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 8, 0])
    torch.manual_seed(1)
    head = HeadConfig(kind=kind, measure="probability").build(classes, 4, loss)
    torch.manual_seed(1)
    unit = HeadConfig(kind=kind).build(classes, 4, same)
    torch.testing.assert_close(head(embeddings, labels), power * unit(embeddings, labels), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.stats.support_size, unit.stats.support_size)


@pytest.mark.parametrize("alpha", [1.0, 1.1, 1.5, 2.0])
def test_near_even_posteriors_a_probability_gives_one_softness_to_every_alpha(alpha: float) -> None:
    """d log p_j / d cos_j = s (1 - 1/C) where all cosines are equal, at any alpha; with the unit measure it is not."""
    classes, scale, move = 200, 16.0, 1e-7
    cosines = torch.full((classes, classes), 0.1, dtype=torch.float64)
    cosines += move * torch.eye(classes, dtype=torch.float64)
    posterior = softargmax(scale * cosines, torch.full((classes,), 1.0 / classes, dtype=torch.float64), alpha)
    gained = posterior.diagonal().mul(classes).log() / move
    torch.testing.assert_close(gained, torch.full_like(gained, scale * (1.0 - 1.0 / classes)), rtol=1e-3, atol=0.0)
    sharp = softargmax(scale * cosines, None, alpha).diagonal().mul(classes).log() / move
    expected = scale * classes ** (alpha - 1.0) * (1.0 - 1.0 / classes)
    torch.testing.assert_close(sharp, torch.full_like(sharp, expected), rtol=1e-3, atol=0.0)


def test_a_prior_of_probability_sums_to_one() -> None:
    config = HeadConfig(prior_exponent=0.5, measure="probability")
    base = config.build(5, 4, QMargin(), counts=COUNTS).base
    torch.testing.assert_close(base, base_from_counts(COUNTS, 0.5) / 5)
    assert HeadConfig().build(5, 4, QMargin(), counts=COUNTS).base is None


def test_what_is_no_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"counts must be \(classes,\), each at least 1 image, got \(2,\)"):
        base_from_counts(torch.tensor([3, 0]), 1.0)
    with pytest.raises(ValueError, match=r"exponent of the class counts must be a number >= 0, got -1.0"):
        base_from_counts(COUNTS, -1.0)
    with pytest.raises(ValueError, match=r"head.prior_exponent must be a number >= 0, got inf"):
        HeadConfig(prior_exponent=float("inf"))
    with pytest.raises(ValueError, match=r"prior_exponent makes a measure of the images of each class: pass counts"):
        HeadConfig(prior_exponent=1.0).build(5, 4, QMargin())
    unknown: Any = "counting"
    with pytest.raises(ValueError, match=r"head.measure must be one of unit, probability, got 'counting'"):
        HeadConfig(measure=unknown)
