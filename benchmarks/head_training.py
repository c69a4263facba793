"""Supports and candidates of the streaming head over a training run of 100,000 identities, not of a random snapshot.

    python benchmarks/head_training.py [--steps 3000] [--scale 6 64] [--out benchmarks/results/head_training.csv]

Synthetic identities: each has a centre on the unit sphere of 32 dimensions; a sample is its centre plus Gaussian noise,
seen through a fixed random two-layer network into 128 dimensions. The backbone, a network of two layers, learns
embeddings of 128 dimensions from scratch, together with the prototypes, by SGD with momentum: the head's own optimizer,
cosine schedule. Batches draw identities at random. The log: a row every few steps, from `head.stats`.
"""

import argparse
import csv
import io
import platform
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin import QMargin, StreamingHead
from qmargin._files import write_text

CENTRE_DIM, INPUT_DIM, HIDDEN, DIM, BATCH = 32, 128, 512, 128, 256
NOISE = 0.35  # norm of a sample's noise, times that of its centre
RATES = {"backbone": 0.05, "head": 0.5}
STATS = ("support_size", "candidates", "fallback_rows", "zero_loss", "p_target", "target_cosine", "accuracy")
COLUMNS = ("scale", "update", "step", "loss", *STATS, "seconds a step", "machine", "date")


class Samples:
    """Noisy samples of identities that do not change."""

    def __init__(self, classes: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.centres = F.normalize(torch.randn(classes, CENTRE_DIM, generator=generator))
        self.mixing = [torch.randn(CENTRE_DIM, HIDDEN, generator=generator) / CENTRE_DIM**0.5]
        self.mixing.append(torch.randn(HIDDEN, INPUT_DIM, generator=generator) / HIDDEN**0.5)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Inputs (batch, INPUT_DIM) and labels (batch,)."""
        labels = torch.randint(len(self.centres), (BATCH,), generator=self.generator)
        noise = torch.randn(BATCH, CENTRE_DIM, generator=self.generator) / CENTRE_DIM**0.5
        seen = CENTRE_DIM**0.5 * (self.centres[labels] + NOISE * noise)
        return torch.tanh(seen @ self.mixing[0]) @ self.mixing[1], labels


def train(classes: int, scale: float, update: str, steps: int, every: int) -> Iterator[dict[str, str]]:
    """Train one model; a row every `every` steps and at the last."""
    torch.manual_seed(0)
    samples = Samples(classes, torch.Generator().manual_seed(1))
    backbone = nn.Sequential(
        nn.Linear(INPUT_DIM, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM), nn.BatchNorm1d(DIM)
    )
    head = StreamingHead(classes, DIM, QMargin(scale=scale), update=update)  # type: ignore[arg-type] # argparse checked it
    optimizers = [
        torch.optim.SGD(backbone.parameters(), RATES["backbone"], momentum=0.9),
        head.make_optimizer(lr=RATES["head"], momentum=0.9),
    ]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) for optimizer in optimizers]
    began, last = time.perf_counter(), 0
    for step in range(1, steps + 1):
        inputs, labels = samples.draw()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = head(backbone(inputs), labels)
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step == 1 or step % every == 0 or step == steps:
            stats = head.stats.as_floats()
            seconds = (time.perf_counter() - began) / (step - last)
            yield {
                "scale": f"{scale:g}",
                "update": update,
                "step": str(step),
                "loss": f"{loss.item():.5f}",
                **{name: f"{stats[name]:.4f}" for name in STATS},
                "seconds a step": f"{seconds:.4f}",
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
                "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
            }
            began, last = time.perf_counter(), step


def main() -> None:
    """Train at every scale, print and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=25)
    parser.add_argument("--scale", type=float, nargs="+", default=[6.0, 64.0])
    parser.add_argument("--update", choices=("lazy", "dense"), default="lazy")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head_training.csv"))
    arguments = parser.parse_args()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for scale in arguments.scale:
        for row in train(arguments.classes, scale, arguments.update, arguments.steps, arguments.every):
            writer.writerow(row)
            write_text(arguments.out, text.getvalue())
            shown = "  ".join(f"{name} {row[name]}" for name in ("scale", "step", "loss", *STATS, "seconds a step"))
            print(shown, flush=True)


if __name__ == "__main__":
    main()
