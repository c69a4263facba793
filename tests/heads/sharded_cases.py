"""What the ranks of tests/heads/test_sharded.py do: each case trains the sharded head beside one process' head.

    python tests/heads/sharded_cases.py RANKS FOLDER                # what the test runs: most cases on three ranks
    python tests/heads/sharded_cases.py RANKS FOLDER everywhere     # all trainings on 1 to RANKS ranks; minutes

A case is called on every rank of its group at the same time. It exchanges first and compares afterwards, so that a
failure of one rank leaves no other rank waiting.
"""

import json
import multiprocessing
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.parallel import DistributedDataParallel

from qmargin import A3M, AlphaLoss, ArcFace, CosFace, NormFace, QMargin
from qmargin.bench.cluster import sharded
from qmargin.bench.plan import Problem
from qmargin.heads import DenseHead, Head, ShardedHead, StreamingHead, streaming
from qmargin.optim import clip_grad_norm_

DIM = 8
FAMILY = {
    "normface": NormFace(scale=16.0),
    "cosface": CosFace(scale=16.0),
    "arcface": ArcFace(scale=16.0),
    "insightface": ArcFace(scale=16.0, insightface_compatible=True),
    "qmargin-1.1": QMargin(alpha=1.1, scale=16.0),
    "qmargin-1.5": QMargin(),
    "qmargin-2": QMargin(alpha=2.0, scale=4.0),
    "qmargin-angular": QMargin(angular=True),
    "a3m": A3M(),
}


class Place(NamedTuple):
    """Where a case runs."""

    group: distributed.ProcessGroup
    rank: int
    size: int


@dataclass(frozen=True)
class Training:
    """A training of one linear layer and a head: in one process, or by several ranks on the same global batches."""

    loss: AlphaLoss
    classes: int = 203
    steps: int = 4
    dtype: torch.dtype = torch.float64
    base: bool = False
    wide: int | None = None  # rows with more survivors are streamed
    options: tuple[tuple[str, Any], ...] = (("chunk", 32),)
    make_optimizer: Callable[[Any], torch.optim.Optimizer] = lambda head: head.make_optimizer(lr=0.05, momentum=0.9)
    clip: float | None = None
    micro_batches: int = 1

    def new_head(self, kind: type[Head], **more: Any) -> Head:
        base = torch.linspace(0.3, 2.0, self.classes) if self.base else None
        torch.manual_seed(5)
        return kind(self.classes, DIM, self.loss, base=base, dtype=self.dtype, **more)

    def batch(self, step: int, ranks: int) -> list[tuple[Tensor, Tensor]]:
        """Inputs (b, 6) and labels (b,) of every rank: repeated labels, another size for each rank and step."""
        generator = torch.Generator().manual_seed(step)
        sizes = [2 + (step + 2 * rank) % 4 for rank in range(ranks)]
        inputs = torch.randn(sum(sizes), 6, generator=generator, dtype=self.dtype)
        labels = torch.randint(self.classes, (sum(sizes),), generator=generator)
        labels[::3] = labels[0]
        labels[-1] = self.classes - 1  # of the last rank, which may own few
        return list(zip(inputs.split(sizes), labels.split(sizes), strict=True))


def new_backbone(dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(6)
    return nn.Linear(6, DIM, dtype=dtype)


@contextmanager
def width_limit(least: int | None) -> Iterator[None]:
    before = streaming.WIDE_LEAST, streaming.WIDE_SHARE
    if least is not None:
        streaming.WIDE_LEAST, streaming.WIDE_SHARE = least, 10**9
    try:
        yield
    finally:
        streaming.WIDE_LEAST, streaming.WIDE_SHARE = before


class Result(NamedTuple):
    """What a training left behind."""

    losses: list[float]
    stats: list[dict[str, float]]
    by_embedding: Tensor  # gradient of the first step's embeddings, of all rows
    prototypes: Tensor  # all of them
    backbone: Tensor


def train(training: Training, place: Place | None, kind: type[Head] = StreamingHead, ranks: int = 1) -> Result:
    """In one process (`place` None) on the batches of `ranks` ranks, or on this rank of them."""
    options = dict(training.options)
    backbone = new_backbone(training.dtype)
    if place is None:
        head = training.new_head(kind, **({} if kind is DenseHead else options))
        network: nn.Module = backbone
    else:
        head = training.new_head(ShardedHead, group=place.group, **options)
        network = DistributedDataParallel(backbone, process_group=place.group)
        ranks = place.size
    optimizers = [training.make_optimizer(head), torch.optim.SGD(backbone.parameters(), 0.05)]
    losses, stats, first = [], [], None
    for step in range(training.steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for micro in range(training.micro_batches):
            parts = training.batch(step * training.micro_batches + micro, ranks)
            if place is None:
                inputs, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            else:
                inputs, labels = parts[place.rank]
            embeddings = network(inputs)
            embeddings.retain_grad()
            loss = head(embeddings, labels)
            (loss / training.micro_batches).backward()
            losses.append(loss.item())
            stats.append(head.stats.as_floats())
            if first is None:
                assert embeddings.grad is not None
                first = embeddings.grad.clone()
        if training.clip is not None:
            total = head.ranks.total if isinstance(head, ShardedHead) else lambda square: square
            norm = clip_grad_norm_(backbone.parameters(), training.clip, shards=[head.weight], total=total)
            losses.append(float(norm))
        for optimizer in optimizers:
            optimizer.step()
    assert first is not None
    prototypes = head.full_weight() if isinstance(head, ShardedHead) else head.weight.detach()
    return Result(losses, stats, first, prototypes, backbone.weight.detach())


def compare(training: Training, place: Place, kind: type[Head] = StreamingHead) -> None:
    """The ranks' training is one process'."""
    with width_limit(training.wide):
        ours = train(training, place)
        theirs = train(training, None, kind, place.size)
    exact = training.dtype == torch.float64
    close: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10} if exact else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(ours.losses, theirs.losses, **close)
    for mine, one in zip(ours.stats, theirs.stats, strict=True):
        for name in one:
            if name not in ("candidates", "fallback_rows"):  # how a row is solved, not what comes out
                assert abs(mine[name] - one[name]) <= (1e-5 if exact else 1e-2) * (1 + abs(one[name])), (
                    name,
                    mine,
                    one,
                )
        assert mine["candidates"] >= mine["support_size"]
    if training.wide == 0:
        assert all(mine["fallback_rows"] > 0 for mine in ours.stats)
    sizes = [len(labels) for _, labels in training.batch(0, place.size)]
    own = theirs.by_embedding.split(sizes)[place.rank] * place.size  # DDP divides by it
    torch.testing.assert_close(ours.by_embedding, own, **close)
    # a prototype's gradient has s / |w| in front, 500 here: times its rounding, the rate, momentum and fifty steps
    moved = close if exact else {**close, "atol": 5e-6}
    torch.testing.assert_close(ours.prototypes, theirs.prototypes, **moved)
    torch.testing.assert_close(ours.backbone, theirs.backbone, **close)


def adamw(head: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = head.make_adamw(lr=0.01, weight_decay=0.1)
    return optimizer


def lazy_sgd(head: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = head.make_optimizer(lr=0.05, momentum=0.9, weight_decay=1e-3)
    return optimizer


TRAININGS = {
    **{name: Training(loss) for name, loss in FAMILY.items()},
    "wide": Training(QMargin(alpha=1.25, scale=4.0), wide=0),
    "some-rows-wide": Training(QMargin(alpha=1.5, scale=4.0), wide=6),
    "base-measure": Training(QMargin(), base=True),
    "base-measure-wide": Training(QMargin(alpha=1.25, scale=4.0), base=True, wide=0),
    "base-measure-alpha-1": Training(CosFace(scale=16.0), base=True),
    "lazy": Training(QMargin(), steps=6, make_optimizer=lazy_sgd, options=(("chunk", 32), ("update", "lazy"))),
    "adamw": Training(QMargin(), steps=6, make_optimizer=adamw),
    "clipped": Training(QMargin(), clip=0.05),
    "accumulated": Training(QMargin(), micro_batches=3),
    "bfloat16-screening": Training(QMargin(), options=(("precision", "bfloat16"),)),
    "float32-screening": Training(QMargin(), options=(("precision", "float32"),)),
}


def float32(loss: AlphaLoss) -> Training:
    """Fifty steps, small enough that rounding is not multiplied on the way."""
    return Training(
        loss, steps=50, dtype=torch.float32, make_optimizer=lambda head: head.make_optimizer(lr=2e-3, momentum=0.9)
    )


LONG = {
    **{name: float32(loss) for name, loss in FAMILY.items()},
    "some-rows-wide": replace(float32(QMargin()), wide=6, steps=20),
}


def against_dense(place: Place) -> None:
    """The specification itself, not the streaming head."""
    compare(Training(QMargin()), place, DenseHead)


def reductions(place: Place) -> None:
    """ "none" is the losses of the own rows, with a gradient for each; "sum" that of all."""
    training = Training(QMargin())
    parts = training.batch(0, place.size)
    generator = torch.Generator().manual_seed(1)
    sizes = [len(labels) for _, labels in parts]
    inputs, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    factors = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    embeddings = torch.cat([inputs, inputs[:, :2]], dim=1)
    found, expected = [], []
    for reduction in ("none", "sum"):
        one = training.new_head(StreamingHead, reduction=reduction)
        leaf = embeddings.clone().requires_grad_()
        loss = one(leaf, labels)
        (loss * factors if reduction == "none" else loss).sum().backward()
        assert leaf.grad is not None
        assert one.weight.grad is not None
        rows = loss.detach().split(sizes)[place.rank] if reduction == "none" else loss.detach()
        expected += [rows, leaf.grad.split(sizes)[place.rank], one.weight.grad.to_dense()]
        head = training.new_head(ShardedHead, group=place.group, reduction=reduction, backbone_gradients="summed")
        own = embeddings.split(sizes)[place.rank].clone().requires_grad_()
        loss = head(own, labels.split(sizes)[place.rank])
        (loss * factors.split(sizes)[place.rank] if reduction == "none" else loss).sum().backward()
        assert isinstance(head, ShardedHead)
        assert head.weight.grad is not None
        assert own.grad is not None
        shard = head.weight.grad.to_dense()
        found += [loss.detach(), own.grad, head.ranks.gather_prototypes(shard, head.partition.sizes)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def autocast(place: Place) -> None:
    """bfloat16 autocast around backbone and head: the head computes outside of it."""
    training = Training(QMargin(), dtype=torch.float32)
    inputs, labels = training.batch(0, place.size)[place.rank]
    head, backbone = training.new_head(ShardedHead, group=place.group), new_backbone(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = backbone(inputs)
        loss = head(embeddings, labels)
        assert embeddings.dtype == torch.bfloat16
    loss.backward()
    outside = head(embeddings, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, outside)
    assert backbone.weight.grad is not None
    assert backbone.weight.grad.isfinite().all()


def found_inf_on_one_rank(place: Place) -> None:
    """An overflow in one shard skips the step of every shard, and every rank's scale is halved."""
    training = Training(QMargin(), dtype=torch.float32)
    head = training.new_head(ShardedHead, group=place.group)
    assert isinstance(head, ShardedHead)
    optimizer = training.make_optimizer(head)
    scaler = ShardedGradScaler("cpu", init_scale=1024.0, process_group=place.group)
    inputs, labels = training.batch(0, place.size)[place.rank]
    embeddings = torch.cat([inputs, inputs[:, :2]], dim=1)
    before, moved, scales = head.weight.detach().clone(), [], []
    for overflow in (False, True):
        optimizer.zero_grad()
        scaler.scale(head(embeddings, labels)).backward()
        if overflow and place.rank == place.size - 1:
            assert head.weight.grad is not None
            head.weight.grad = head.weight.grad * torch.inf
        scaler.step(optimizer)
        scaler.update()
        moved.append(not torch.equal(head.weight.detach(), before))
        scales.append(scaler.get_scale())
        before = head.weight.detach().clone()
    assert moved == [True, False], moved
    assert scales == [1024.0, 512.0], scales


def refusals(place: Place) -> None:
    """What one rank refuses, all raise, and the next call works."""
    training = Training(QMargin())
    head = training.new_head(ShardedHead, group=place.group, precision="bfloat16")
    assert isinstance(head, ShardedHead)
    inputs, labels = training.batch(0, place.size)[place.rank]
    embeddings = torch.cat([inputs, inputs[:, :2]], dim=1)
    last, found = place.size - 1, []
    bad_embeddings = embeddings.index_fill(0, torch.tensor([1]), torch.nan) if place.rank == last else embeddings
    bad_labels = labels + training.classes if place.rank == last else labels
    other = replace(training.loss, scale=7.0) if place.rank == last else training.loss
    for change in ("embedding", "label", "dim", "shadow", "prototype", "loss", "gradient"):
        torch.manual_seed(5)
        head.reset_parameters()
        head.refresh()
        head.loss = training.loss
        head(embeddings, labels)
        head.loss = other if change == "loss" else training.loss
        arguments = {
            "embedding": (bad_embeddings, labels),
            "label": (embeddings, bad_labels),
            "dim": (embeddings[:, :5] if place.rank == last else embeddings, labels),
            "gradient": (embeddings.clone().requires_grad_(place.rank == last), labels),
        }.get(change, (embeddings, labels))
        if place.rank == last and change in ("shadow", "prototype"):
            values = torch.randn(head.weight.shape) if change == "shadow" else 0.0 * head.weight.detach()
            head.weight.data.copy_(values)
            if change == "prototype":
                head.refresh()
        try:
            found.append(f"no error, {head(*arguments).item()}")
        except ValueError as error:
            found.append(str(error))
    expected = [
        f"rank {last}: row 1 of .* an embedding must be finite and not zero",
        rf"rank {last}: row 0 of .* labels must be in \[0, 203\)",
        rf"rank {last}: embeddings must have shape \(batch, 8\)",
        f"rank {last}: head.weight changed and torch was not told: .*head.refresh",
        f"rank {last}: row 0 of .* a prototype .* must be finite and not zero",
        f"ranks 0 and {last} have heads with other settings .* alike on all ranks",
        f"of ranks 0 and {last} only one has embeddings that require a gradient: freeze the backbone",
    ]
    for text, pattern in zip(found, expected, strict=True):
        assert re.match(pattern, text), (pattern, text)


def traffic_is_independent_of_classes(place: Place) -> None:
    """Of a step at alpha = 1: the very same bytes at any number of classes, those of the table in collectives."""
    inputs, labels = Training(ArcFace()).batch(0, place.size)[place.rank]
    embeddings = torch.cat([inputs, inputs[:, :2]], dim=1)
    found = []
    for classes in (100, 3000):
        head = ShardedHead(classes, DIM, ArcFace(), group=place.group, dtype=torch.float64)
        head(embeddings.requires_grad_(), labels % classes).backward()
        found.append(dict(head.ranks.sent))
    most, others = max(2 + 2 * rank % 4 for rank in range(place.size)), place.size - 1
    rows = sum(2 + 2 * rank % 4 for rank in range(place.size))
    assert found[0] == found[1]
    assert found[0] == {
        "announce": 8 * 4 * others,
        "labels": 8 * most * others,
        "directions": 8 * most * DIM * others,
        "gradients of directions": 8 * most * DIM * others,
        "gradients of rows": 8 * most * others,
        "total": 2 * (8 * rows * 2 * others // place.size),  # own cosines, exponentials
        "largest": 2 * (8 * rows * 2 * others // place.size),  # of the exponentials, of the cosines
    }, found[0]


def traffic_is_that_of_the_formula(place: Place) -> None:
    """Of a step at alpha = 1.5, whose candidates are counted by the support."""
    classes, own = 600, 40
    generator = torch.Generator().manual_seed(place.rank)
    head = ShardedHead(classes, DIM, QMargin(scale=12.0), group=place.group)
    embeddings = torch.randn(own, DIM, generator=generator).requires_grad_()
    head(embeddings, torch.randint(classes, (own,), generator=generator)).backward()
    problem = Problem(
        classes=classes, dim=DIM, batch=own * place.size, support=head.stats.support_size.item(), alpha=1.5
    )
    formula, sent = sharded(problem, place.size).sent, dict(head.ranks.sent)
    assert formula["sums and maxima"] == sent["total"] + sent["largest"]
    assert formula["sizes"] + formula["counts"] == sent["announce"]
    for name in ("labels", "directions", "gradients of directions", "gradients of rows"):
        assert formula[name] == sent[name], name
    assert abs(sent["candidates"] / formula["candidates"] - 1.0) < 0.25, (sent, formula)  # as shares differ by chance


CASES: dict[str, Callable[[Place], None]] = {
    **{name: partial(compare, training) for name, training in TRAININGS.items()},
    **{f"float32-{name}": partial(compare, training) for name, training in LONG.items()},
    "against-dense": against_dense,
    "reductions": reductions,
    "autocast": autocast,
    "found-inf-on-one-rank": found_inf_on_one_rank,
    "refusals": refusals,
    "traffic": traffic_is_independent_of_classes,
    "traffic-formula": traffic_is_that_of_the_formula,
}
ALL_SIZES = ("qmargin-1.5", "arcface", "wide", "float32-qmargin-1.5", "refusals")  # the others run on 3 ranks
LONG_IN_TESTS = ("float32-qmargin-1.5", "float32-arcface", "float32-some-rows-wide")


def sizes_of(name: str, most: int, *, everywhere: bool) -> list[int]:
    """Numbers of ranks on which a case runs."""
    if everywhere and (name in TRAININGS or name.startswith("float32-")):
        return list(range(1, most + 1))
    if name.startswith("float32-") and name.removeprefix("float32-") in LONG and name not in LONG_IN_TESTS:
        return []
    return list(range(2, most + 1)) if everywhere or name in ALL_SIZES else [min(3, most)]


def run(rank: int, size: int, folder: Path, *, everywhere: bool) -> None:
    """One of `size` processes: all cases; rank 0 writes what failed where into folder/results.json."""
    torch.set_num_threads(1)
    timeout = timedelta(seconds=60)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size, timeout=timeout
    )
    groups = {count: distributed.new_group(list(range(count)), timeout=timeout) for count in range(1, size + 1)}
    results: dict[str, str] = {}
    for name, case in CASES.items():
        for count in sizes_of(name, size, everywhere=everywhere):
            if rank >= count:
                continue
            outcome = ""
            try:
                case(Place(groups[count], rank, count))
            except Exception:  # noqa: BLE001 - the test prints it
                outcome = traceback.format_exc()
            outcomes: list[str] = [""] * count
            distributed.all_gather_object(outcomes, outcome, group=groups[count])
            results[f"{name} on {count} ranks"] = next((text for text in outcomes if text), "")
            if rank == 0:
                (folder / "results.json").write_text(json.dumps(results))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    # forked before any work: torch is imported once, not once a rank
    context = multiprocessing.get_context("fork")
    ranks, words = int(sys.argv[1]), {"everywhere": sys.argv[3:] == ["everywhere"]}
    children = [
        context.Process(target=run, args=(rank, ranks, Path(sys.argv[2])), kwargs=words) for rank in range(ranks)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(max(abs(child.exitcode or 0) for child in children))
