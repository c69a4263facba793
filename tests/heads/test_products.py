"""Products of chunks: the same numbers whether the device multiplies low precision itself or by way of float32."""

import pytest
import torch

from qmargin import DenseHead, QMargin, StreamingHead
from qmargin.heads import products
from qmargin.heads.products import ChunkProducts, screening_precision

CPU = torch.device("cpu")
ways = pytest.mark.parametrize("native", [True, False])


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without half-precision units."""
    monkeypatch.setattr(products, "_cpu_multiplies", lambda _dtype: False)


@ways
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_products_are_those_of_the_rounded_rows(
    dtype: torch.dtype, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_cpu_multiplies", lambda _dtype: native)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 24, generator=generator).to(dtype)
    directions = torch.randn(6, 24, generator=generator)
    found = ChunkProducts(rows, directions, longest=20, spare=4)
    assert found.dtype == (dtype if native else torch.float32)
    assert found.buffer.shape == (24, 6)
    exact = rows.double() @ directions.to(dtype).double().T
    for first in range(0, 50, 20):
        last = min(first + 20, 50)
        part = found.into_buffer(first, last)
        assert part.data_ptr() == found.buffer.data_ptr()
        eps = torch.finfo(found.dtype).eps
        torch.testing.assert_close(part.double(), exact[first:last], rtol=eps, atol=24 * 2.0**-20)


@pytest.mark.usefixtures("pretend")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("scale", [4.0, 64.0])
def test_the_head_is_exact_by_way_of_float32_too(precision: str, scale: float) -> None:
    torch.manual_seed(0)
    head = StreamingHead(3000, 32, QMargin(scale=scale), precision=precision, chunk=48)  # type: ignore[arg-type] # one of two
    dense = DenseHead(3000, 32, QMargin(scale=scale))
    dense.load_state_dict(head.state_dict())
    embeddings, labels = torch.randn(16, 32), torch.randint(3000, (16,))
    losses = [each(embeddings, labels) for each in (head, dense)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), dense.weight.grad, rtol=1e-4, atol=1e-5)


def test_auto_is_what_the_device_is_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, name, copy in ((True, "bfloat16", torch.bfloat16), (False, "float32", None)):
        monkeypatch.setattr(products, "_cpu_multiplies", lambda _dtype, native=native: native)
        assert screening_precision("auto", CPU) == name
        assert screening_precision("float16", CPU) == "float16"
        assert screening_precision("auto", torch.device("cuda")) == "bfloat16"
        head = StreamingHead(100, 8, QMargin())
        head(torch.randn(2, 8), torch.tensor([0, 1]))
        assert head.precision == "auto"
        assert head.shadow.dtype == copy
        assert (head.shadow.rows is None) == (copy is None)


def test_a_copy_in_another_precision_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `.to()` to a device that is good at something else."""
    monkeypatch.setattr(products, "_cpu_multiplies", lambda _dtype: True)
    head = StreamingHead(100, 8, QMargin())
    batch = torch.randn(2, 8), torch.tensor([0, 1])
    before = head(*batch)
    monkeypatch.setattr(products, "_cpu_multiplies", lambda _dtype: False)
    torch.testing.assert_close(head(*batch), before)
    assert head.shadow.rows is None


def test_the_cpu_answers_and_wide_types_are_its_own() -> None:
    assert isinstance(products._cpu_multiplies(torch.bfloat16), bool)
    assert isinstance(products._cpu_multiplies(torch.float16), bool)
    assert products.multiplies(torch.float64, CPU)
