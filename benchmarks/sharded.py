"""The sharded head's formulas against measurements on 1 to 4 processes, and what they say of clusters.

    python benchmarks/sharded.py measure [--own-classes 800000] [--dim 128] [--batch 96] [--ranks 1 2 3 4] [--out FILE]
    python benchmarks/sharded.py cluster [--dim 512] [--own-batch 128] [--support 500] [--out FILE]

`measure` starts the ranks as processes of this machine (gloo) and compares, for each rank's step, with
`qmargin.bench.cluster`:

* memory: the high-water mark of the process beyond prototypes and momentum (VmHWM of Linux, reset when they stand);
* bytes sent: `head.ranks.sent`, what the collectives' rings carry, and the counters of the network interface ("wire")
  of all ranks together, for a batch of 768 rows; where the script may, it moves into a network namespace of its own, in
  which nobody else sends;
* operations: those of torch's matrix products (torch.utils.flop_counter).

Nothing in it is a time: the ranks share the cores of one machine.
"""

import argparse
import csv
import ctypes
import fcntl
import multiprocessing
import os
import platform
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.flop_counter import FlopCounterMode

from qmargin import ArcFace, QMargin
from qmargin.bench.cluster import Rank, sharded, sharded_dense, sharded_partial_fc
from qmargin.bench.memory import PROC, _status
from qmargin.bench.plan import Problem
from qmargin.bench.quantities import bytes_text, operations_text
from qmargin.heads import ShardedHead
from qmargin.losses import AlphaLoss

STEPS = 2
LOSSES: dict[str, AlphaLoss] = {"QMargin": QMargin(scale=6.0), "ArcFace": ArcFace()}
WIRE_CLASSES, WIRE_BATCH = 20_000, 768  # few classes and many rows: the bytes are payload, not headers
CLUSTERS = (8, 64)
CLASSES = (10**6, 10**7, 10**8)
CLONE_NEWNET = 0x40000000


def alone_in_the_network() -> bool:
    """A network namespace with a loopback of its own, for this process and its children; False where not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket() as any_socket:
        flags = struct.pack("16sh", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, flags)  # SIOCSIFFLAGS
    return True


def loopback_bytes() -> int:
    """Bytes that went through the loopback interface."""
    line = next(line for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines() if "lo:" in line)
    return int(line.split(":")[1].split()[0])


def step(head: ShardedHead, number: int, batch: int) -> None:
    """Forward, backward and update of one batch of random rows."""
    generator = torch.Generator().manual_seed(number)
    embeddings = torch.randn(batch, head.embedding_dim, generator=generator).tensor_split(head.ranks.size)
    labels = torch.randint(head.num_classes, (batch,), generator=generator).tensor_split(head.ranks.size)
    head.weight.grad = None
    head(embeddings[head.ranks.rank].requires_grad_(), labels[head.ranks.rank]).backward()


def _addmm_flops(_sum: list[int], left: list[int], right: list[int], **_others: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def _through_the_loopback(action: Callable[[], None]) -> int:
    """Bytes of all ranks that an action sends."""
    distributed.barrier()
    begin = loopback_bytes()
    distributed.barrier()
    action()
    distributed.barrier()
    return loopback_bytes() - begin


def run(rank: int, ranks: int, problem: Problem, loss: AlphaLoss, store: Path) -> dict[str, float]:
    """One rank: a warm-up on few classes, then what a few steps take at most."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    small = ShardedHead(1000, problem.dim, loss)
    step(small, 0, problem.batch)
    small.make_optimizer(lr=1e-4, momentum=0.9).step()  # libraries are loaded before anything is counted
    del small
    head = ShardedHead(problem.classes, problem.dim, loss, precision="bfloat16")
    optimizer = head.make_optimizer(lr=1e-4, momentum=0.9)
    optimizer.state[head.weight]["momentum_buffer"] = torch.zeros_like(head.weight).fill_(0.0)
    distributed.barrier()
    ctypes.CDLL(None).malloc_trim(0)  # what drawing the prototypes has left with the C library is not counted as free
    before = _status("VmRSS")
    (PROC / "self" / "clear_refs").write_text("5", encoding="ascii")
    for number in range(STEPS):
        step(head, number, problem.batch)
        optimizer.step()
    peak = _status("VmHWM") - before
    support = head.stats.support_size.item()
    in_place: dict[Any, Any] = {torch.ops.aten.addmm_: _addmm_flops}  # torch leaves it out
    with FlopCounterMode(display=False, custom_mapping=in_place) as flops:
        step(head, 0, problem.batch)
    del head, optimizer
    head = ShardedHead(WIRE_CLASSES, problem.dim, loss)
    step(head, 0, WIRE_BATCH)
    wire = _through_the_loopback(lambda: None)
    head.ranks.sent.clear()
    wire = _through_the_loopback(lambda: step(head, 0, WIRE_BATCH)) - wire
    result = {
        "memory": peak,
        "sent": sum(head.ranks.sent.values()),
        "wire": wire,
        "products": flops.get_total_flops(),
        "support": support,
        "wire support": head.stats.support_size.item(),
        "scattered": head.ranks.sent["gradients of directions"],
    }
    distributed.destroy_process_group()
    return result


def _child(
    rank: int,
    ranks: int,
    problem: Problem,
    loss: AlphaLoss,
    store: Path,
    answers: "multiprocessing.Queue[tuple[int, dict[str, float]]]",
) -> None:
    answers.put((rank, run(rank, ranks, problem, loss, store)))


def measured(ranks: int, problem: Problem, loss: AlphaLoss) -> list[dict[str, float]]:
    """What each rank measured; forked, so that torch is imported once."""
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[tuple[int, dict[str, float]]] = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (ranks, problem, loss, Path(folder) / "store", answers)
        children = [context.Process(target=_child, args=(rank, *arguments)) for rank in range(ranks)]
        for child in children:
            child.start()
        found = dict(answers.get(timeout=500) for _ in children)
        for child in children:
            child.join()
    return [found[rank] for rank in range(ranks)]


def measure(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """A row for each loss and number of ranks: formula and measurement."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    print(f"network of its own: {alone_in_the_network()}", file=sys.stderr)
    rows = []
    for name, loss in LOSSES.items():
        for ranks in arguments.ranks:
            whole = Problem(
                classes=arguments.own_classes * ranks,
                dim=arguments.dim,
                batch=arguments.batch,
                alpha=loss.alpha,
                precision="bfloat16",
            )
            found = measured(ranks, whole, loss)
            formula = sharded(replace(whole, support=max(found[0]["support"], 1.0)), ranks)
            support = max(found[0]["wire support"], 1.0)
            of_wire = sharded(replace(whole, classes=WIRE_CLASSES, batch=WIRE_BATCH, support=support), ranks)
            expected = {
                "memory": formula.cost.beyond,
                "products": (8.0 if loss.alpha == 1.0 else 2.0) * whole.batch * whole.matrix / ranks,
                "sent": of_wire.bytes_sent,
                # gloo scatters a sum by an all-reduce of the whole, twice a ring's bytes
                "wire": ranks * (of_wire.bytes_sent + found[0]["scattered"]),
            }
            row = {"loss": name, "ranks": str(ranks), "support": f"{found[0]['support']:.1f}"}
            for key, value in expected.items():
                real = max(rank[key] for rank in found)
                row |= {f"{key} formula": f"{value:.4g}", f"{key} measured": f"{real:.4g}"}
                row[f"{key} ratio"] = f"{real / value:.3f}" if value > 0 else ""
            rows.append(row)
            print(" ".join(f"{key}={value}" for key, value in row.items()), file=sys.stderr)
    return rows


def cluster(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """A row for each cluster, number of identities and head."""
    heads: dict[str, Callable[[Problem, int], Rank]] = {
        "dense": sharded_dense,
        "partial FC 0.1": sharded_partial_fc,
        "ShardedHead": sharded,
    }
    rows = []
    for ranks in CLUSTERS:
        for classes in CLASSES:
            problem = Problem(
                classes=classes,
                dim=arguments.dim,
                batch=arguments.own_batch * ranks,
                support=arguments.support,
                update="lazy",
            )
            for name, head in heads.items():
                rank = head(problem, ranks)
                rows.append(
                    {
                        "GPUs": str(ranks),
                        "identities": f"{classes:.0e}".replace("+0", ""),
                        "head": name,
                        "memory a GPU": bytes_text(rank.cost.total),
                        "operations a GPU": operations_text(rank.cost.flops),
                        "memory traffic a GPU": bytes_text(rank.cost.traffic),
                        "sent by a GPU": bytes_text(rank.bytes_sent),
                    }
                )
    return rows


def main() -> None:
    """Measure, or calculate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("--own-classes", type=int, default=800_000)
    one.add_argument("--dim", type=int, default=128)
    one.add_argument("--batch", type=int, default=96)
    one.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    two = commands.add_parser("cluster")
    two.add_argument("--dim", type=int, default=512)
    two.add_argument("--own-batch", type=int, default=128)
    two.add_argument("--support", type=float, default=500.0)
    for command in (one, two):
        command.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = {"measure": measure, "cluster": cluster}[arguments.command](arguments)
    print(
        f"{datetime.now(timezone.utc):%Y-%m-%d} {platform.processor() or platform.machine()} torch {torch.__version__}"
    )
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
