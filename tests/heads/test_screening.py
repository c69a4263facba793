"""The certificate of screening: low precision loses no class of any support."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin import AlphaLoss, DenseHead, StreamingHead
from qmargin.divergence.threshold import threshold
from qmargin.heads import screening
from qmargin.heads.chunks import chunks_of
from qmargin.heads.contract import unit_rows
from qmargin.heads.gathered import pair_cosines
from qmargin.heads.screening import Query, Survivors, _Scorer, _Stream, screen
from qmargin.heads.shadow import Shadow

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}
every_precision = pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)


class Case:
    """A batch and its prototypes, with what screening is asked and what is true in float64."""

    def __init__(
        self,
        embeddings: Tensor,
        weight: Tensor,
        labels: Tensor,
        *,
        dtype: torch.dtype | None = torch.bfloat16,
        alpha: float = 1.5,
        scale: float = 16.0,
        base: Tensor | None = None,
        chunk: int = 32,
    ) -> None:
        self.labels, self.weight, self.scale, self.alpha = labels, weight, scale, alpha
        self.shadow = Shadow(dtype)
        self.shadow.follow(weight)
        directions = unit_rows(embeddings, "")
        rows = torch.arange(len(labels))
        own = pair_cosines(directions, weight, self.shadow.inverse_norm, rows, labels)
        log_base = None if base is None else base.log()
        log_q = torch.zeros_like(own) if log_base is None else log_base[labels]
        self.query = Query(directions, scale * own, log_q, log_base, scale, alpha)
        self.chunks = chunks_of(labels, len(weight), chunk)
        exact = unit_rows(embeddings.double(), "") @ unit_rows(weight.double(), "").T
        self.cosines = exact  # (batch, classes)
        self.tau = threshold(scale * exact, None if log_base is None else log_base.double(), alpha)

    def screen(self, limit: int = 10**9, capacity: int | None = None) -> Survivors:
        return screen(self.query, self.shadow, self.weight, self.chunks, limit=limit, capacity=capacity)

    def support(self, least: float = 0.0) -> set[tuple[int, int]]:
        """Pairs other than the labels with x > least."""
        x = 1.0 + (self.alpha - 1.0) * (self.scale * self.cosines - self.tau.unsqueeze(1))
        x[torch.arange(len(self.labels)), self.labels] = -1.0
        return {(i, j) for i, j in (x > least).nonzero().tolist()}


def pairs(survivors: Survivors) -> set[tuple[int, int]]:
    found = list(zip(survivors.row.tolist(), survivors.column.tolist(), strict=True))
    assert len(found) == len(set(found))  # a pair counted twice would raise the bound above tau
    return set(found)


def random_case(**options: Any) -> Case:
    return Case(torch.randn(6, 24), torch.randn(300, 24), torch.randint(300, (6,)), **options)


# --- adversaries -----------------------------------------------------------------------------------------------------


def against_the_cosine(dtype: torch.dtype, dim: int) -> tuple[Tensor, Tensor]:
    """An embedding (1, dim) and a prototype (1, dim) whose shared entries all lose the most that rounding takes.

    They share dim - 2 entries just below the middle between a power of two and its neighbour in `dtype`, which round
    down, by eps / 2 each: their product loses eps, relatively. What is left of their norms lies apart.
    """
    shared = dim - 2
    power = 2.0 ** -math.ceil(math.log2(2.0 * math.sqrt(shared)))  # shared power^2 <= 1/4
    entry = power * (1.0 + 0.499 * torch.finfo(dtype).eps)
    rows = torch.full((2, dim), entry, dtype=torch.float64)
    rows[:, -2:] = math.sqrt(1.0 - shared * entry**2) * torch.eye(2, dtype=torch.float64)
    return rows[:1].float(), rows[1:].float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_slack_keeps_the_class_that_rounding_would_drop(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cosine lies above the edge of the support by a tenth of what rounding takes from it.

    alpha = 2: of two classes the second is in the support iff its logit is less than 1 below the label's.
    """
    embedding, adversary = against_the_cosine(dtype, dim=258)
    label = torch.zeros(1, 258).index_fill(1, torch.tensor([256]), 1.0)
    lost = 0.25 * torch.finfo(dtype).eps  # of a cosine of 1/4
    prototypes, labels = torch.cat([label, adversary]), torch.tensor([0])
    own, other = Case(embedding, prototypes, labels).cosines[0].tolist()
    case = Case(embedding, prototypes, labels, dtype=dtype, alpha=2.0, scale=1.0 / (own - other + 0.1 * lost))
    assert case.support() == {(0, 1)}
    assert pairs(case.screen()) == {(0, 1)}

    set_level = _Stream._set_level

    def without_slack(stream: _Stream) -> None:
        stream.slack = torch.zeros_like(stream.slack)
        set_level(stream)

    monkeypatch.setattr(_Stream, "_set_level", without_slack)
    assert pairs(case.screen()) == set()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [3, 64, 258, 1024])
@pytest.mark.parametrize("kind", ["adversarial", "random", "spiked"])
def test_slack_bounds_what_low_precision_is_wrong_by(dtype: torch.dtype, dim: int, kind: str) -> None:
    """|e.u - fl(e'.u')| <= slack + the rounding of the result, for the scores as they are computed."""
    if kind == "adversarial":
        embeddings, weight = (x.expand(n, dim) for x, n in zip(against_the_cosine(dtype, dim), (3, 40), strict=True))
        weight = weight * 2.0 ** torch.randint(-3, 4, (40, 1))
    else:
        embeddings, weight = torch.randn(3, dim), torch.randn(40, dim)
        if kind == "spiked":  # most entries are subnormal in float16
            embeddings, weight = embeddings.sinh().pow(7), weight.sinh().pow(7)
    case = Case(embeddings, weight, torch.tensor([0, 5, 39]), dtype=dtype, chunk=48)
    scorer = _Scorer(case.query, case.shadow, case.weight, 48)
    scores = scorer.scores(case.chunks[0]._replace(own=None)).reshape(48, 3)[:40].T  # (batch, classes)
    low = case.shadow.rows
    assert low is not None
    stream = _Stream(case.query, case.shadow, scores.dtype, 10)
    error = (scores.double() - case.cosines).abs()
    allowed = stream.slack.double().unsqueeze(1) + stream.rounding * case.cosines.abs() * (1.0 + 1e-3)
    assert (error <= allowed).all()
    # and the same product with float32 accumulation, before the result is rounded, needs the slack alone
    exact = (case.query.directions.to(dtype).float() @ low.float().T).double()
    assert ((exact - case.cosines).abs() <= stream.slack.double().unsqueeze(1)).all()
    if kind == "adversarial":  # and all of the residuals is needed: they agree in sign
        assert (exact - case.cosines).abs().min() > 0.99 * 0.998 * torch.finfo(dtype).eps * case.cosines.max()


@given(st.floats(-1.5, 1.5), st.floats(0.0, 0.1), st.sampled_from([torch.bfloat16, torch.float16]))
def test_rounding_of_the_level_is_monotone(level: float, above: float, dtype: torch.dtype) -> None:
    """A score that reaches the level still reaches it when both are rounded: no term for the rounding of scores."""
    exact, score = torch.tensor(level), torch.tensor(level) + above
    assert score.to(dtype) >= exact.to(dtype)


# --- supersets and bounds --------------------------------------------------------------------------------------------

cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "classes": st.sampled_from([1, 2, 15, 16, 17, 100, 500]),
        "dim": st.sampled_from([2, 8, 48]),
        "kind": st.sampled_from(["random", "trained", "clustered", "duplicates", "ties"]),
        "alpha": st.sampled_from([1.05, 1.25, 1.5, 1.75, 2.0]),
        "scale": st.sampled_from([1.0, 6.0, 16.0, 64.0, 128.0]),
        "dtype": st.sampled_from(list(PRECISIONS.values())),
        "chunk": st.sampled_from([16, 48, 512]),
        "spread": st.sampled_from([0.0, 1.0, 6.0]),
    }
)


def drawn(seed: int, classes: int, dim: int, kind: str, spread: float, **options: Any) -> Case:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, dim, generator=generator)
    if kind == "clustered":
        weight = weight[torch.arange(classes) % (1 + classes // 20)] + 0.02 * weight
    if kind == "duplicates":
        weight = weight[torch.arange(classes) % (1 + classes // 7)]
    if kind == "ties":
        weight = weight[:1].expand(classes, dim)
    weight = weight * (0.1 + torch.rand(classes, 1, generator=generator))
    labels = torch.randint(classes, (5,), generator=generator)
    embeddings = torch.randn(5, dim, generator=generator)
    if kind == "trained":
        embeddings = weight[labels] / weight[labels].norm(dim=1, keepdim=True) + 0.3 * embeddings / dim**0.5
    base = None if spread == 0.0 else 10.0 ** (spread * (2.0 * torch.rand(classes, generator=generator) - 1.0))
    return Case(embeddings, weight, labels, base=base, **options)


@given(cases)
def test_survivors_hold_every_support(case: dict[str, Any]) -> None:
    """Every class whose x exceeds the rounding of float32 logits: theta is of size scale, x moves by (alpha-1) of it.

    64 eps: roundings of two norms, of a product and a sum of 48 terms, of tau, all at the size of the logits.
    """
    problem = drawn(**case)
    logits = problem.scale + float(problem.tau.abs().max()) + 1.0 / (problem.alpha - 1.0)
    least = 64 * torch.finfo(torch.float32).eps * (problem.alpha - 1.0) * logits
    assert problem.support(least) <= pairs(problem.screen())


@given(cases)
def test_bounds_never_exceed_the_threshold(case: dict[str, Any]) -> None:
    problem = drawn(**case)
    scorer = _Scorer(problem.query, problem.shadow, problem.weight, max(chunk.size for chunk in problem.chunks))
    stream = _Stream(problem.query, problem.shadow, scorer.products.dtype, 10**9)
    # what `_set_level` allows for: the roundings of Newton steps and logits
    reach = 1.0 / (problem.alpha - 1.0)
    doubt = 1e-5 * (1.0 + reach) + 1e-6 * (problem.tau.abs() + problem.scale)
    before = stream.tau
    for chunk in problem.chunks:
        stream.add(chunk, scorer.scores(chunk), None)
        stream.tighten()
        assert (stream.tau >= before).all()
        assert (stream.tau.double() <= problem.tau + doubt).all()
        before = stream.tau
    stream.rescore(problem.weight, problem.shadow.inverse_norm)
    assert (stream.tau.double() <= problem.tau + doubt).all()


@every_precision
def test_survivors_are_few_and_their_cosines_exact(dtype: torch.dtype | None) -> None:
    """Of 20,000 random classes at scale 64 a row keeps tens, with float32 cosines: 128 eps, of a sum of 64 products."""
    case = Case(torch.randn(8, 64), torch.randn(20_000, 64), torch.arange(8), dtype=dtype, scale=64.0, chunk=2048)
    found = case.screen()
    assert len(found.row) < 8 * 100
    torch.testing.assert_close(
        found.cosine.double(), case.cosines[found.row, found.column], rtol=0.0, atol=128 * 1.2e-7
    )


def test_a_label_is_never_its_own_survivor() -> None:
    case = random_case(scale=1.0)
    found = pairs(case.screen())
    assert len(found) > 0
    assert found.isdisjoint(enumerate(case.labels.tolist()))


def test_a_level_below_every_float16_keeps_no_padding_and_no_label() -> None:
    """1/(alpha-1) = 1e5 overflows float16; -inf is the score of labels and of what pads the last block."""
    case = random_case(dtype=torch.float16, alpha=1.00001, scale=1.0)
    everything = {(i, j) for i in range(6) for j in range(300)} - set(enumerate(case.labels.tolist()))
    assert pairs(case.screen()) == everything


# --- wide rows and capacity ------------------------------------------------------------------------------------------


def test_rows_over_the_limit_are_given_up_and_keep_no_pairs() -> None:
    case = random_case()
    counts = torch.bincount(case.screen().row, minlength=6)
    limit = int(counts.sort().values[2])
    found = case.screen(limit=limit)
    assert found.wide.any()
    assert (counts[~found.wide] <= limit).all()
    assert not found.wide[found.row].any()
    assert {p for p in case.support() if not found.wide[p[0]]} <= pairs(found)


@every_precision
@pytest.mark.parametrize("capacity", [0, 1, 3, 7, 40, 10_000])
def test_overflow_of_capacity_loses_nothing(dtype: torch.dtype | None, capacity: int, monkeypatch: Any) -> None:
    """The same pairs of a support as without, and each chunk that overflowed is visited once more, no other."""
    case = random_case(dtype=dtype, scale=6.0)
    visits: list[int] = []
    counted: dict[int, int] = {}
    original, score = _Stream.add, _Scorer.scores

    def add(stream: _Stream, chunk: Any, scores: Tensor, room: int | None) -> None:
        if room is not None:
            if chunk.first == 0:  # the seed comes first, and raises the level of this chunk already
                stream._seed(scores.amax(dim=1))
            counted[chunk.first] = int((scores.amax(dim=1) >= stream.level).sum())
        original(stream, chunk, scores, room)

    def scores(scorer: _Scorer, chunk: Any) -> Tensor:
        visits.append(chunk.first)
        return score(scorer, chunk)

    monkeypatch.setattr(_Stream, "add", add)
    monkeypatch.setattr(_Scorer, "scores", scores)
    found = case.screen(capacity=capacity)
    blocks = -(-32 // screening.BLOCK) * 6  # a capacity of all of them cannot overflow
    overflowed = [first for first, hits in counted.items() if hits > capacity] if capacity < blocks else []
    assert visits[len(case.chunks) :] == overflowed
    assert (len(overflowed) > 0) == (capacity < 10)
    assert case.support(1e-5) <= pairs(found)
    exact = case.cosines[found.row, found.column]
    torch.testing.assert_close(found.cosine.double(), exact, rtol=0.0, atol=1e-6)


def test_a_head_without_host_reads_equals_the_dense_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of other devices, forced: capacity of a few blocks, most chunks overflow."""
    real = screening.screen

    def small(*arguments: Any, capacity: int | None, **others: Any) -> Survivors:
        assert capacity is None
        return real(*arguments, capacity=5, **others)

    monkeypatch.setattr("qmargin.heads.streaming.screen", small)
    loss = AlphaLoss(1.5, 6.0)
    head, dense = StreamingHead(200, 16, loss, chunk=32), DenseHead(200, 16, loss)
    dense.load_state_dict(head.state_dict())
    embeddings, labels = torch.randn(6, 16), torch.arange(6)
    for a, b in zip(*(torch.autograd.grad(h(embeddings, labels), h.weight) for h in (head, dense)), strict=True):
        torch.testing.assert_close(a.to_dense(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
    assert head.stats.support_size == dense.stats.support_size
