"""The threshold of a row by passes over all classes, against the solver that sees them all at once."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin.divergence.threshold import threshold
from qmargin.heads import passes
from qmargin.heads.chunks import chunks_of
from qmargin.heads.contract import unit_rows
from qmargin.heads.passes import Problem, find_thresholds, log_sum_exp, origin
from qmargin.heads.shadow import Shadow


def posed(
    alpha: float, scale: float, spread: float, *, classes: int, ties: bool, seed: int, log_q_label: float = 0.0
) -> tuple[Problem, Tensor, Tensor]:
    """A problem of 4 float64 rows, its logits and log measures (4, classes)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 8, generator=generator, dtype=torch.float64)
    weight = weight[:1].expand_as(weight).contiguous() if ties else weight
    directions = unit_rows(torch.randn(4, 8, generator=generator, dtype=torch.float64), "")
    labels = torch.randint(classes, (4,), generator=generator)
    log_base = 2.3 * spread * (2.0 * torch.rand(classes, generator=generator, dtype=torch.float64) - 1.0)
    shadow = Shadow(torch.bfloat16)
    shadow.follow(weight)
    theta = scale * directions @ unit_rows(weight, "").T
    log_q = log_base.expand_as(theta).clone()
    log_q[torch.arange(4), labels] += log_q_label
    at = torch.arange(4), labels
    chunks = chunks_of(labels, classes, 32)
    problem = Problem(
        directions, weight, shadow.rows, shadow.inverse_norm, chunks, theta[at], log_q[at], log_base, scale, alpha,
        classes,
    )  # fmt: skip
    return problem, theta, log_q


@given(
    st.sampled_from([1.05, 1.1, 1.25, 1.3, 1.4, 1.5, 1.75, 2.0]),
    st.sampled_from([1.0, 6.0, 64.0, 1000.0]),
    st.sampled_from([0.0, 1.0, 6.0]),
    st.sampled_from([0.0, -13.8, -30.0]),
    st.sampled_from([1, 2, 33, 500]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_thresholds_of_any_row(
    alpha: float, scale: float, spread: float, log_q_label: float, classes: int, ties: bool, seed: int
) -> None:
    """In float64: 1e-9 of the size of the logits, of tau and of the window."""
    problem, theta, log_q = posed(alpha, scale, spread, classes=classes, ties=ties, seed=seed, log_q_label=log_q_label)
    count = [0]
    real = passes._sum_up

    def counted(*arguments: Any, low: bool) -> Any:
        count[0] += 1
        return real(*arguments, low=low)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_sum_up", counted)
        solved = find_thresholds(problem)
    tau = solved.reference + solved.step + origin(alpha)
    exact = threshold(theta, log_q, alpha)
    size = scale + 1.0 / (alpha - 1.0) + float(exact.abs().max())
    torch.testing.assert_close(tau, exact, rtol=0.0, atol=1e-9 * size)
    assert count[0] < passes.PASSES  # it converged


def test_log_sum_exp() -> None:
    problem, theta, log_q = posed(1.0, 16.0, 1.0, classes=100, ties=False, seed=0)
    solved = log_sum_exp(problem)
    torch.testing.assert_close(solved.reference + solved.step, (theta + log_q).logsumexp(dim=1))
    p_label = (problem.theta_target + problem.log_q_target - (theta + log_q).logsumexp(dim=1)).exp()
    torch.testing.assert_close(solved.others, 1.0 - p_label)
