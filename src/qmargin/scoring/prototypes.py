"""The prototypes of a run: what its head learned of each identity."""

import torch
from torch import Tensor

from qmargin.training import RunFolder
from qmargin.training.checkpoint import open_checkpoint

ROWS = 1 << 16  # normalised at a time


def read_prototypes(run: RunFolder, device: str = "cpu") -> Tensor:
    """Directions of a run's prototypes, (classes, dim) float32, in the order of the labels of its training split.

    The only copy in memory: a million prototypes of 512 numbers take 2 GB.

    Args:
        run: folder of a trained run.
        device: where to put them.

    Raises:
        ValueError: no checkpoint, or a prototype that is zero or not finite.
    """
    with open_checkpoint(run.checkpoint) as saved:
        prototypes: Tensor = saved["head"]["weight"].read(device).float()
    for rows in prototypes.split(ROWS):
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        if not bool(((norms > 0.0) & norms.isfinite()).all()):
            raise ValueError(f"{run.checkpoint}: a prototype is zero or not finite; was the run spoiled?")
        rows.div_(norms)  # in place: split gives views
    return prototypes
