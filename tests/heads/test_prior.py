from typing import Any

import pytest
import torch

from qmargin.heads import HeadConfig
from qmargin.heads.prior import base_from_counts
from qmargin.losses import NormFace, QMargin

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


def test_what_is_no_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"counts must be \(classes,\), each at least 1 image, got \(2,\)"):
        base_from_counts(torch.tensor([3, 0]), 1.0)
    with pytest.raises(ValueError, match=r"exponent of the class counts must be a number >= 0, got -1.0"):
        base_from_counts(COUNTS, -1.0)
    with pytest.raises(ValueError, match=r"head.prior_exponent must be a number >= 0, got inf"):
        HeadConfig(prior_exponent=float("inf"))
    with pytest.raises(ValueError, match=r"prior_exponent makes a measure of the images of each class: pass counts"):
        HeadConfig(prior_exponent=1.0).build(5, 4, QMargin())
