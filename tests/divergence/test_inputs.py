"""The checks of what arrives: the first bad row is named, the law is in the message."""

from typing import Any

import pytest
import torch

from qmargin.divergence.inputs import check_base, check_labels, check_rows, is_number, to_compute_dtype


@pytest.mark.parametrize(
    ("value", "expected"), [(1, True), (1.5, True), (float("nan"), True), (True, False), ("1", False), (None, False)]
)
def test_is_number(value: Any, expected: bool) -> None:
    assert is_number(value) is expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_compute_dtype_is_float32_or_float64(dtype: torch.dtype) -> None:
    assert to_compute_dtype(torch.ones(1, dtype=dtype)).dtype == torch.float32
    assert to_compute_dtype(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_check_rows_names_the_first_bad_row_and_counts_them() -> None:
    check_rows(torch.tensor([True, True]), "a law")
    with pytest.raises(ValueError, match=r"row 1 of 4 \(2 rows in all\): a law"):
        check_rows(torch.tensor([True, False, True, False]), "a law")


def test_check_labels_names_row_value_and_way_out() -> None:
    check_labels(torch.tensor([0, 4]), 2, 5)
    for bad in (-1, 5):
        with pytest.raises(ValueError, match=rf"row 1 of 2 .*labels must be in \[0, 5\), got {bad}; .*map the labels"):
            check_labels(torch.tensor([0, bad]), 2, 5)


def test_check_labels_refuses_shapes_and_dtypes() -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\).*got \(2, 1\)"):
        check_labels(torch.zeros(2, 1, dtype=torch.int64), 2, 5)
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ValueError, match="labels must be class indices of an integer dtype"):
            check_labels(torch.zeros(2, dtype=dtype), 2, 5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_check_base_refuses_measures_that_are_not_positive(bad: float) -> None:
    with pytest.raises(ValueError, match=r"row 2 of 3 .*base measure must be finite and > 0; give unseen classes"):
        check_base(torch.tensor([1.0, 2.0, bad]), 3)


def test_check_base_refuses_shapes_and_gradients() -> None:
    with pytest.raises(ValueError, match=r"base must have shape \(3,\), one measure for each class, got \(2,\)"):
        check_base(torch.ones(2), 3)
    with pytest.raises(ValueError, match=r"base is a constant .* pass base\.detach\(\)"):
        check_base(torch.ones(3, requires_grad=True), 3)
