"""What only the dense head promises: torch.compile without a graph break, and DistributedDataParallel."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from qmargin import AlphaLoss, ArcFace, DenseHead, QMargin
from qmargin.heads import Head


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def loss_and_gradients(head: Head, call: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Loss and its gradients in embeddings (6, 4) and prototypes, from one fixed batch."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(6, 4, generator=generator).requires_grad_()
    loss = call(embeddings, torch.arange(6))
    return [loss.detach(), *torch.autograd.grad(loss, (embeddings, head.weight))]


# dynamo instantiates torch.autograd.Function itself and warns about it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("loss", [ArcFace(scale=16), QMargin(), QMargin(alpha=1.25, scale=16)], ids=repr)
def test_compiled_without_a_graph_break_equals_eager(loss: AlphaLoss) -> None:
    head = DenseHead(9, 4, loss)
    expected = loss_and_gradients(head, head)
    support = head.stats.support_size
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(loss_and_gradients(head, compiled), expected)
    assert head.stats.support_size == support


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("row", "label", "message"),
    [(1.0, 9, r"labels must be in \[0, 9\)"), (0.0, 0, "an embedding must be finite and not zero")],
)
def test_bad_input_fails_inside_a_compiled_graph_too(row: float, label: int, message: str) -> None:
    compiled = torch.compile(DenseHead(9, 4, QMargin()), fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=message):
        compiled(torch.full((2, 4), row), torch.tensor([0, label]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own imports
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_equals_eager() -> None:
    head = DenseHead(9, 4, QMargin())
    compiled = torch.compile(head, fullgraph=True, backend="inductor")
    torch.testing.assert_close(loss_and_gradients(head, compiled), loss_and_gradients(head, head))


def test_two_processes_under_ddp_equal_one_on_the_whole_batch(tmp_path: Path) -> None:
    """Loss and prototype gradient are means over the ranks; a rank's embedding gradient is that of its own mean."""
    head = DenseHead(11, 6, QMargin(), dtype=torch.float64)
    embeddings = torch.randn(8, 6, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 10, 9, 2, 2])
    batch = {"weight": head.weight.detach(), "embeddings": embeddings.detach(), "labels": labels}
    torch.save(batch, tmp_path / "batch.pt")

    worker = [sys.executable, str(Path(__file__).with_name("ddp_worker.py"))]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*worker, str(rank), "2", str(tmp_path)], env=environment) for rank in range(2)]
    try:
        assert [process.wait(timeout=240) for process in ranks] == [0, 0]
    finally:  # one that hangs would be another test's warning
        for process in ranks:
            process.kill()
            process.wait()

    loss = head(embeddings, labels)
    loss.backward()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, loss.detach())
    for result in (first, second):
        torch.testing.assert_close(result["weight"], head.weight.grad)
    torch.testing.assert_close(torch.cat([first["embeddings"], second["embeddings"]]) / 2, embeddings.grad)
