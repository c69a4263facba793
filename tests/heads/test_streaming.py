"""The streaming head is exact: loss, gradients and statistics of the dense head, whatever the classes look like."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from qmargin import AlphaLoss, ArcFace, DenseHead, QMargin, StreamingHead
from qmargin.heads import Head, streaming
from qmargin.losses import (
    AdditiveMargin,
    AngularMargin,
    LogPriorMargin,
    NoMargin,
    ReferenceAngularMargin,
    ReferenceMargin,
)

EPS = torch.finfo(torch.float32).eps
MARGINS = {
    "none": NoMargin(),
    "additive": AdditiveMargin(0.35),
    "angular": AngularMargin(0.5),
    "insightface": AngularMargin(0.5, insightface_compatible=True),
    "reference": ReferenceMargin(0.1),
    "reference-angular": ReferenceAngularMargin(0.3),
    "log-prior-1e-6": LogPriorMargin(13.8),
}
CASE = {
    "seed": st.integers(0, 2**31),
    "classes": st.sampled_from([1, 2, 15, 16, 17, 100, 333]),
    "dim": st.sampled_from([8, 64]),
    "batch": st.sampled_from([1, 2, 9]),
    "kind": st.sampled_from(["random", "trained", "clustered", "duplicates", "ties"]),
    "alpha": st.sampled_from([1.0, 1.05, 1.25, 1.5, 1.75, 2.0]),
    "scale": st.sampled_from([1.0, 6.0, 16.0, 64.0, 128.0]),
    "margin": st.sampled_from(sorted(MARGINS)),
    "precision": st.sampled_from(["bfloat16", "float16", "float32"]),
    "chunk": st.sampled_from([16, 48, None]),
    "wide": st.sampled_from([None, 0, 5]),
}


@pytest.fixture(autouse=True)
def _width_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples set them; every test gets the module's own back."""
    monkeypatch.setattr(streaming, "WIDE_LEAST", streaming.WIDE_LEAST)
    monkeypatch.setattr(streaming, "WIDE_SHARE", streaming.WIDE_SHARE)


def force_wide(least: int) -> None:
    """Rows with more than `least` survivors are streamed over all classes."""
    streaming.WIDE_LEAST, streaming.WIDE_SHARE = least, 10**9


def problem(seed: int, classes: int, dim: int, batch: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (batch, dim), prototypes (classes, dim) and labels (batch,), float64 numbers that float32 holds."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, dim, generator=generator)
    if kind == "clustered":
        weight = weight[torch.arange(classes) % (1 + classes // 20)] + 0.02 * weight
    if kind == "duplicates":
        weight = weight[torch.arange(classes) % (1 + classes // 7)]
    if kind == "ties":
        weight = weight[:1].expand(classes, dim)
    weight = weight * (0.25 + torch.rand(classes, 1, generator=generator))
    labels = torch.randint(classes, (batch,), generator=generator)
    embeddings = torch.randn(batch, dim, generator=generator)
    if kind == "trained":
        embeddings = weight[labels] / weight[labels].norm(dim=1, keepdim=True) * dim**0.5 + 0.3 * embeddings
    return embeddings.double(), weight.double(), labels


def results(head: Head, weight: Tensor, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each row, gradients of embeddings and (dense) of prototypes, all float64."""
    with torch.no_grad():
        head.weight.copy_(weight)
    leaf = embeddings.detach().clone().to(head.weight.dtype).requires_grad_()
    loss = head(leaf, labels)
    by_row, by_class = torch.autograd.grad(loss.sum(), (leaf, head.weight))
    return loss.detach().double(), by_row.double(), by_class.to_dense().double()


def compare(
    dtype: torch.dtype,
    case: dict[str, Any],
    *,
    base: Tensor | None = None,
) -> tuple[StreamingHead, DenseHead, DenseHead]:
    """Both heads on one problem; loss and gradients compared, with the float64 dense head as the truth.

    The scale of what is rounded: logits are of size s, so a loss is off by s eps times the roundings of a cosine; a
    gradient in an embedding is s / |e| times differences of posteriors, which a logit error of s eps changes by at most
    s eps (the slope of a posterior in its logit is at most p^(2-alpha) <= 1, of 2 rows' terms); the same over |w|,
    summed over the batch. 32: roundings of two norms, a product, a sum of up to 64 terms in blocks, tau, the power.
    The angular margin has slope up to 1/sin = 1/sqrt(4 eps) where the cosine is nearly 1. What a float32 dense head
    loses itself (a clustered row's condition) is allowed eight times.
    """
    names = ("alpha", "scale", "margin", "precision", "chunk", "wide")
    alpha, scale, margin, precision, chunk, wide = (case[name] for name in names)
    if wide is not None:
        force_wide(wide)
    embeddings, weight, labels = problem(*(case[name] for name in ("seed", "classes", "dim", "batch", "kind")))
    loss, sizes = AlphaLoss(alpha, scale, MARGINS[margin]), (case["classes"], case["dim"])
    options: dict[str, Any] = {"reduction": "none", "base": base}
    head = StreamingHead(*sizes, loss, precision=precision, chunk=chunk, dtype=dtype, **options)
    naive = DenseHead(*sizes, loss, dtype=dtype, **options)
    truth = DenseHead(*sizes, loss, dtype=torch.float64, **options)
    ours, theirs, exact = (results(h, weight, embeddings, labels) for h in (head, naive, truth))
    eps = torch.finfo(dtype).eps
    q = 1.0 if margin != "log-prior-1e-6" else 1e6 ** (alpha - 1.0)  # the loss is of size q^(1-alpha)
    units = (
        scale + q,
        scale * (scale + q) / float(embeddings.norm(dim=1).min()),
        scale * (scale + q) * len(labels) / float(weight.norm(dim=1).min()),
    )
    for a, b, c, unit in zip(ours, theirs, exact, units, strict=True):
        allowed = 32.0 * eps * unit + 8.0 * float((b - c).abs().max())
        assert float((a - c).abs().max()) <= allowed
    return head, naive, truth


def assert_same_statistics(head: Head, naive: Head, truth: Head, *, ties: bool) -> None:
    """Means of the batch. Where classes tie, which cosine is the largest is a matter of rounding in either head."""
    ours, theirs, exact = (h.stats.as_floats() for h in (head, naive, truth))
    for name in ("p_target", "target_cosine", "zero_loss", "target_dropped"):
        assert abs(ours[name] - exact[name]) <= 1e-3 + 4.0 * abs(theirs[name] - exact[name])
    if not ties:
        assert ours["accuracy"] == exact["accuracy"]
        # rows that left the fast path count their support before the last correction of the threshold; a float32
        # power underflows near alpha = 1, so float32 is the head to compare with
        allowed = (
            0.01 * theirs["support_size"]
            if ours["fallback_rows"]
            else 4.0 * abs(theirs["support_size"] - exact["support_size"])
        )
        assert abs(ours["support_size"] - theirs["support_size"]) <= allowed + 0.25
    assert ours["support_size"] <= ours["candidates"] <= exact["candidates"]


@given(st.fixed_dictionaries(CASE))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_dense_head(dtype: torch.dtype, case: dict[str, Any]) -> None:
    heads = compare(dtype, case)
    assert_same_statistics(*heads, ties=case["kind"] in ("duplicates", "ties") or case["classes"] == 1)


ROW: dict[str, Any] = {"seed": 1, "classes": 333, "dim": 64, "batch": 9, "kind": "random", "alpha": 1.5, "scale": 6.0}
ROW |= {"margin": "reference", "precision": "bfloat16", "chunk": 48, "wide": None}


@given(st.fixed_dictionaries(CASE | {"alpha": st.sampled_from([1.0, 1.25, 1.5, 2.0])}), st.sampled_from([1.0, 3.0]))
@example(ROW | {"kind": "ties", "wide": 0, "alpha": 2.0}, 6.0)
def test_a_base_measure_over_orders_of_magnitude(case: dict[str, Any], orders: float) -> None:
    """float64 prototypes: measures of 1e-3 to 1e3 amplify rounding by their own ratio."""
    generator = torch.Generator().manual_seed(case["seed"])
    base = 10.0 ** (orders * (2.0 * torch.rand(case["classes"], generator=generator, dtype=torch.float64) - 1.0))
    embeddings, weight, labels = problem(*(case[name] for name in ("seed", "classes", "dim", "batch", "kind")))
    if case["wide"] is not None:
        force_wide(case["wide"])
    loss = AlphaLoss(case["alpha"], case["scale"], MARGINS[case["margin"]])
    sizes = case["classes"], case["dim"]
    options: dict[str, Any] = {"reduction": "none", "base": base, "dtype": torch.float64}
    head = StreamingHead(*sizes, loss, precision=case["precision"], chunk=case["chunk"], **options)
    truth = DenseHead(*sizes, loss, **options)
    for a, b in zip(*(results(h, weight, embeddings, labels) for h in (head, truth)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * (case["scale"] + float(b.abs().max())))


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0])
@pytest.mark.parametrize("wide", [None, 0])
def test_thousands_of_ties(alpha: float, wide: int | None) -> None:
    """Every class in every support, p = 1/5000: x = p^(alpha-1) is far below the rounding of tau at alpha = 2."""
    case = ROW | {"kind": "ties", "classes": 5000, "alpha": alpha, "wide": wide, "margin": "none", "chunk": None}
    head, _, _ = compare(torch.float32, case)
    assert head.stats.support_size == 5000.0
    assert head.stats.p_target.item() == pytest.approx(1 / 5000, abs=4.0 * 6.0 * EPS)  # of a logit


@pytest.mark.parametrize("alpha", [1.25, 1.5, 1.75, 2.0])
def test_a_crowd_at_the_edge_of_the_support_does_not_slip_through_the_last_step(alpha: float) -> None:
    """3000 classes that enter the support together, just beside where the last pass of a wide row looked."""
    from qmargin.divergence.threshold import threshold  # noqa: PLC0415

    force_wide(0)
    scale, crowd = 64.0, 3000
    few = torch.tensor([[0.0, -0.3]], dtype=torch.float64)
    edge = float(threshold(few, None, alpha)) - 1.0 / (alpha - 1.0)
    for gap in torch.linspace(-3e-3, 3e-3, 31).tolist():
        theta = torch.cat([few[0], torch.full((crowd,), edge + gap, dtype=torch.float64)])
        cosine = theta / scale + 0.9
        weight = torch.stack([cosine, (1.0 - cosine.square()).sqrt()], dim=1).float().double()
        embeddings, labels = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([1])
        loss = AlphaLoss(alpha, scale)
        head, truth = StreamingHead(crowd + 2, 2, loss), DenseHead(crowd + 2, 2, loss, dtype=torch.float64)
        value, exact = (results(h, weight, embeddings, labels)[0] for h in (head, truth))
        assert head.stats.fallback_rows == 1.0
        # logits are rounded to 64 eps = 8e-6
        torch.testing.assert_close(value, exact, rtol=0.0, atol=2.0 * scale * EPS)
        assert head.stats.p_target.item() == pytest.approx(truth.stats.p_target.item(), abs=4.0 * scale * EPS)


def test_wide_and_narrow_rows_in_one_batch() -> None:
    """Half of the rows lie near their prototypes (few candidates), half anywhere."""
    embeddings, weight, labels = problem(3, 400, 32, 10, "trained")
    embeddings[::2] = torch.randn(5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    force_wide(4)
    head = StreamingHead(400, 32, QMargin(scale=8.0), reduction="none")
    truth = DenseHead(400, 32, QMargin(scale=8.0), reduction="none", dtype=torch.float64)
    for a, b in zip(*(results(h, weight, embeddings, labels) for h in (head, truth)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
    assert head.stats.fallback_rows == 5.0


def test_accuracy_where_a_margin_raises_its_target() -> None:
    """Past pi the compatible ArcFace value turns back up: a class that beats the plain cosine alone is still seen."""
    loss = AlphaLoss(1.5, 128.0, AngularMargin(0.5, insightface_compatible=True))
    heads = StreamingHead(2, 2, loss), DenseHead(2, 2, loss)
    for head in heads:
        results(head, torch.tensor([[-1.0, 0.02], [-0.98, 0.2]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        assert head.stats.accuracy == 0.0


# --- memory ----------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The largest floating point tensor that operations return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.numel: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, Tensor) and x.layout == torch.strided:
                held = x.untyped_storage().nbytes() // x.element_size()  # a view counts for what it holds
                self.numel[x.dtype] = max(self.numel.get(x.dtype, 0), held)
        return out


@pytest.mark.parametrize("wide", [None, 0])
def test_no_matrix_of_batch_and_classes_and_no_dense_gradient(wide: int | None) -> None:
    classes, dim, batch = 20_000, 16, 64
    if wide is not None:
        force_wide(2000)
    head = StreamingHead(classes, dim, QMargin(scale=32.0 if wide is None else 6.0), chunk=1024)
    embeddings, labels = torch.randn(batch, dim, requires_grad=True), torch.arange(batch)
    head(embeddings, labels)  # the low-precision copy
    with Largest() as largest:
        head(embeddings, labels).backward()
    own = head.weight.numel()
    assert own < batch * classes / 3
    for dtype, numel in largest.numel.items():
        assert numel <= max(own, batch * classes // 4), dtype
    assert head.weight.grad is not None
    assert head.weight.grad.is_sparse


# --- torch's own machinery -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_accumulated_micro_batches_equal_one_batch(loss: AlphaLoss) -> None:
    head = StreamingHead(50, 8, loss, reduction="sum")
    embeddings, labels = torch.randn(12, 8), torch.randint(50, (12,))
    (whole,) = torch.autograd.grad(head(embeddings, labels), head.weight)
    for part in range(0, 12, 4):
        head(embeddings[part : part + 4], labels[part : part + 4]).backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), whole.to_dense(), rtol=1e-5, atol=1e-5)


def test_checkpointing_of_the_backbone_changes_nothing() -> None:
    backbone, head = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh()), StreamingHead(50, 8, QMargin())
    images, labels = torch.randn(5, 6), torch.arange(5)
    plain = torch.autograd.grad(head(backbone(images), labels), [*backbone.parameters(), head.weight])
    features = checkpoint(backbone, images, use_reentrant=False)
    again = torch.autograd.grad(head(features, labels), [*backbone.parameters(), head.weight])
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a.to_dense(), b.to_dense())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # dynamo resumes
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_model_breaks_its_graph_at_the_head_and_equals_eager() -> None:
    torch.compiler.reset()
    backbone, head = torch.nn.Linear(6, 8), StreamingHead(50, 8, QMargin())
    images, labels = torch.randn(5, 6), torch.arange(5)

    def step(x: Tensor) -> Tensor:
        loss: Tensor = head(backbone(x), labels)
        return loss

    expected = torch.autograd.grad(step(images), backbone.weight)
    compiled = torch.compile(step, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(images), backbone.weight), expected)


def test_state_holds_weight_and_base_alone() -> None:
    head = StreamingHead(50, 8, QMargin(), base=torch.ones(50))
    head(torch.randn(2, 8), torch.arange(2))
    assert list(head.state_dict()) == ["weight", "base"]
