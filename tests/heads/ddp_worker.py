"""One rank of tests/heads/test_dense.py: `python ddp_worker.py RANK WORLD FOLDER` on FOLDER/batch.pt."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from qmargin import DenseHead, QMargin


def main(rank: int, world: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    batch = torch.load(folder / "batch.pt", weights_only=True)
    head = DenseHead(11, 6, QMargin(), dtype=torch.float64)
    head.load_state_dict({"weight": batch["weight"]})
    embeddings = batch["embeddings"].chunk(world)[rank].requires_grad_()
    parallel = DistributedDataParallel(head)  # kept by name: its reducer lives as long as it does
    loss = parallel(embeddings, batch["labels"].chunk(world)[rank])
    loss.backward()
    result = {"loss": loss.detach(), "weight": head.weight.grad, "embeddings": embeddings.grad}
    torch.save(result, folder / f"rank{rank}.pt")
    # Before the group: a reducer that has its last reference joins gloo's threads with the interpreter's lock in hand,
    # and hangs where one of them wants it (torch 2.13).
    del parallel
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
