"""Supports, candidates and cost of the streaming head over a training run of 100,000 identities, not of a snapshot.

    python benchmarks/head_training.py [--steps 1500] [--losses NAME ...] [--out benchmarks/results/head_training.csv]

Synthetic identities: each has a centre on the unit sphere of 32 dimensions; a sample is its centre plus Gaussian noise,
seen through a fixed random two-layer network into 128 dimensions. The backbone, a network of two layers, learns
embeddings of 128 dimensions from scratch, together with the prototypes, by SGD with momentum: the head's own optimizer,
cosine schedule. Batches draw identities at random. Models with different losses take turns, step by step, on the same
batches. The log: a row of each every few steps, from `head.stats`; seconds are sums over all steps so far, and
"times ArcFace" compares those of the head with the streamed head at alpha = 1.
"""

import argparse
import csv
import io
import math
import platform
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin import ArcFace, QMargin, StreamingHead
from qmargin._files import write_text
from qmargin.optim import Update

CENTRE_DIM, INPUT_DIM, HIDDEN, DIM, BATCH = 32, 128, 512, 128, 256
NOISE = 0.35  # norm of a sample's noise, times that of its centre
RATES = {"backbone": 0.05, "head": 0.5}
REFERENCE = "ArcFace s=64"
LOSSES = {
    REFERENCE: ArcFace(),
    "QMargin(1.5) s=6": QMargin(1.5, 0.1, 6.0),
    "QMargin(1.5) s=64": QMargin(1.5, 0.1, 64.0),
    "QMargin(1.25) s=16": QMargin(1.25, 0.1, 16.0),
    "QMargin(1.1) s=64": QMargin(1.1, 0.1, 64.0),
}
RATIO = "times ArcFace"
STATS = ("support_size", "candidates", "fallback_rows", "zero_loss", "p_target", "target_cosine", "accuracy")
COLUMNS = ("loss function", "update", "step", "loss", *STATS, "head seconds", "seconds", RATIO, "machine", "date")


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


class Learner:
    """A backbone and a streaming head that learn with one loss; all learners start alike and see the same batches."""

    def __init__(self, name: str, classes: int, update: Update, steps: int) -> None:
        torch.manual_seed(0)
        self.name = name
        self.backbone = nn.Sequential(
            nn.Linear(INPUT_DIM, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM), nn.BatchNorm1d(DIM)
        )
        self.head = StreamingHead(classes, DIM, LOSSES[name], update=update)
        self.optimizers = [
            torch.optim.SGD(self.backbone.parameters(), RATES["backbone"], momentum=0.9),
            self.head.make_optimizer(lr=RATES["head"], momentum=0.9),
        ]
        self.schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(each, steps) for each in self.optimizers]
        self.loss = self.seconds = self.head_seconds = 0.0  # of all steps so far, the last two

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One step, timed; the head's share is its forward and backward pass and its update."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        began = time.perf_counter()
        embeddings = self.backbone(inputs)
        seen = embeddings.detach().requires_grad_()
        middle = time.perf_counter()
        loss = self.head(seen, labels)
        loss.backward()
        self.optimizers[1].step()
        self.head_seconds += time.perf_counter() - middle
        embeddings.backward(seen.grad)
        self.optimizers[0].step()
        self.seconds += time.perf_counter() - began
        for schedule in self.schedules:
            schedule.step()
        self.loss = loss.item()


def train(learners: list[Learner], samples: Samples, steps: int, every: int) -> Iterator[dict[str, str]]:
    """Train all, taking turns step by step; rows after the first, every `every`-th and the last step."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    for step in range(1, steps + 1):
        batch = samples.draw()
        for learner in learners:
            learner.step(*batch)
        if step in (1, 10) or step % every == 0 or step == steps:
            reference = next((each.head_seconds for each in learners if each.name == REFERENCE), math.nan)
            for learner in learners:
                stats = learner.head.stats.as_floats()
                yield {
                    "loss function": learner.name,
                    "update": learner.head.update,
                    "step": str(step),
                    "loss": f"{learner.loss:.5f}",
                    **{name: f"{stats[name]:.4f}" for name in STATS},
                    "head seconds": f"{learner.head_seconds:.3f}",
                    "seconds": f"{learner.seconds:.3f}",
                    RATIO: f"{learner.head_seconds / reference:.3f}",
                    "machine": machine,
                    "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
                }


def main() -> None:
    """Train with every loss, print and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=25)
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--update", choices=("lazy", "dense"), default="lazy")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head_training.csv"))
    arguments = parser.parse_args()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    learners = [Learner(name, arguments.classes, arguments.update, arguments.steps) for name in arguments.losses]
    samples = Samples(arguments.classes, torch.Generator().manual_seed(1))
    for row in train(learners, samples, arguments.steps, arguments.every):
        writer.writerow(row)
        write_text(arguments.out, text.getvalue())
        shown = ("loss function", "step", "loss", *STATS, "head seconds", RATIO)
        print("  ".join(f"{name} {row[name]}" for name in shown), flush=True)


if __name__ == "__main__":
    main()
