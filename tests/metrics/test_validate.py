"""Everything that is refused, by its text, through the public doors."""

import re
from typing import Any

import numpy as np
import pytest

from qmargin.metrics import det_curve, eer, min_dcf, tar_at_far

SCORES, LABELS = [0.1, 0.2, 0.3], [0, 1, 1]

REFUSED: list[tuple[Any, Any, str]] = [
    ([], [], "labels must hold genuine and impostor trials, got none; is the trial list empty?"),
    (SCORES, [[0, 1, 1]], "labels must have shape (trials,), one for each score, got (1, 3)"),
    ([0.1, 0.2], LABELS, "scores must have shape (3,), one for each label, got (2,)"),
    ([SCORES], LABELS, "scores must have shape (3,), one for each label, got (1, 3)"),
    (SCORES, [0, 2, 1], "labels must be 0 (impostor) or 1 (genuine), got 2 at trial 1"),
    (SCORES, [1, 1, -1], "got -1 at trial 2; map them first, e.g. `labels > 0`"),
    (
        SCORES,
        [0.0, 1.0, 1.0],
        "integers 0 (impostor) and 1 (genuine), got dtype float64; were scores and labels swapped?",
    ),
    (LABELS, SCORES, "were scores and labels swapped?"),
    (SCORES, [True, True, True], "labels must hold both classes, got 3 genuine and 0 impostor trials"),
    (SCORES, [0, 0, 0], "labels must hold both classes, got 0 genuine and 3 impostor trials"),
    (
        [0.1, np.nan, np.nan],
        LABELS,
        "scores must be finite, but trial 1 is nan (2 of 3 trials are such); the embedding",
    ),
    ([np.inf, np.nan, 0.0], LABELS, "trial 1 is nan (1 of 3 trials are such)"),  # nan is the worse news
    ([0.1, 0.2, np.inf], LABELS, "scores must be finite, but trial 2 is inf (1 of 3 trials are such); to rank a trial"),
    ([-np.inf, 0.2, 0.3], LABELS, "trial 0 is -inf"),
    (["a", "b", "c"], LABELS, "scores must be real numbers, higher meaning more alike, got dtype <U1"),
    ([1j, 0, 1], LABELS, "got dtype complex128"),
]


@pytest.mark.parametrize(("scores", "labels", "message"), REFUSED)
def test_refusals_name_the_law_and_what_came(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        det_curve(scores, labels)


@pytest.mark.parametrize("figure", [eer, lambda s, y: min_dcf(s, y, 0.01), lambda s, y: tar_at_far(s, y, 0.5)])
def test_every_figure_refuses_nan(figure: Any) -> None:
    with pytest.raises(ValueError, match="trial 2 is nan"):
        figure([0.1, 0.2, np.nan, 0.3], [0, 1, 1, 0])


WEIGHTS: list[tuple[Any, str]] = [
    ([1, 1], "weights must have shape (3,), one for each trial, got (2,)"),
    ([1, -2, 1], "weights must be finite and >= 0, got -2 at trial 1"),
    ([1.0, 1.0, np.nan], "got nan at trial 2"),
    ([np.inf, 1.0, 1.0], "got inf at trial 0"),
    ([0, 1, 1], "got a total of 2 genuine and 0 impostor"),
    ([1.5, 0.0, 0.0], "got a total of 0.0 genuine and 1.5 impostor"),
    (["a", "b", "c"], "weights must be real numbers, got dtype <U1"),
]


@pytest.mark.parametrize(("weights", "message"), WEIGHTS)
def test_weights_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        det_curve(SCORES, LABELS, weights)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("label_dtype", [np.bool_, np.int64, np.uint8])
def test_every_real_dtype_is_taken(dtype: Any, label_dtype: Any) -> None:
    det = det_curve(np.array([0, 1, 1, 0], dtype), np.array([0, 1, 0, 1], label_dtype))
    assert det.thresholds.dtype == np.float64
    np.testing.assert_array_equal(det.thresholds, [0.0, 1.0, np.inf])
    np.testing.assert_array_equal(det.far, [1.0, 0.5, 0.0])


def test_inputs_are_not_changed() -> None:
    scores, labels, weights = np.array([0.3, 0.1, 0.2]), np.array([0, 1, 1]), np.array([1, 2, 3])
    for array in (scores, labels, weights):
        array.setflags(write=False)
    det_curve(scores, labels)
    det_curve(scores, labels, weights)
