"""Images a second that reach a training: this package's batches and a plain PIL image folder in torch's DataLoader.

    python benchmarks/data.py --faces FOLDER [--workers 2] [--rounds 3] [--out FILE]

FOLDER holds one folder of 112x112 JPEG images for each identity. All ways shuffle, flip half of the images and deliver
batches of 128; each round goes over every image once, after a first batch that is not counted, and the ways take turns.
The plain loader is what a training script writes: `Image.open(path).convert("RGB")`, flip, float tensor in [-1, 1],
worker processes. Ours deliver the same numbers: uint8, normalised by the training as one batch, which is counted here.
`records` is the same set as a `.rec` file, prepared in a temporary folder; `augmented` adds the three augmentations of
AdaFace, each with probability 0.2.
"""

import argparse
import csv
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qmargin.data import (
    Augmentation,
    ImageBatches,
    ImageFormat,
    Samples,
    ShuffledBatches,
    normalise,
    prepare_faces,
    read_face_records,
    read_image_folder,
)

BATCH = 128
COLUMNS = ["way", "workers", "images", "images/s of each round", "median images/s", "times the plain loader"]
ADAFACE = Augmentation(crop=0.2, low_resolution=0.2, photometric=0.2)


class PlainFolder(Dataset[tuple[Tensor, int]]):
    """As torchvision's ImageFolder with RandomHorizontalFlip, ToTensor and Normalize."""

    def __init__(self, root: Path) -> None:
        self.samples = [(path, label) for label, name in enumerate(sorted(root.iterdir())) for path in name.iterdir()]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        if random.getrandbits(1):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255.0).sub_(0.5).div_(0.5), label


def plain(root: Path, workers: int) -> Iterator[Tensor]:
    """Batches of the plain loader."""
    loader = DataLoader(PlainFolder(root), BATCH, shuffle=True, num_workers=workers, drop_last=True)
    yield from (images for images, _ in loader)


def ours(samples: Samples, augmentation: Augmentation, workers: int, *, processes: bool) -> Iterator[Tensor]:
    """Batches of this package, normalised."""
    order = ShuffledBatches(len(samples), BATCH, seed=0)
    batches = ImageBatches(samples, ImageFormat(), augmentation, order, workers, processes=processes)
    with closing(batches.iterate(0, order.steps_per_epoch)) as stream:
        yield from (normalise(batch.images) for batch in stream)


def images_per_second(batches: Iterator[Tensor]) -> tuple[int, float]:
    """Images after the first batch, and their rate."""
    next(batches)
    began, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch)
    return images, images / (time.perf_counter() - began)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/data.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    workers = arguments.workers
    with tempfile.TemporaryDirectory() as folder:
        prepare_faces(arguments.faces, "folder", Path(folder) / "set", "rec")
        records = read_face_records(Path(folder) / "set" / "train.rec")
        files = read_image_folder(arguments.faces, "train")
        flip = Augmentation()
        ways: dict[str, Callable[[], Iterator[Tensor]]] = {
            "PIL folder, torch DataLoader": lambda: plain(arguments.faces, workers),
            "folder, threads": lambda: ours(files, flip, workers, processes=False),
            "folder, processes": lambda: ours(files, flip, workers, processes=True),
            "records, threads": lambda: ours(records, flip, workers, processes=False),
            "records, processes": lambda: ours(records, flip, workers, processes=True),
            "records, processes, augmented": lambda: ours(records, ADAFACE, workers, processes=True),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        counts = dict.fromkeys(ways, 0)
        for number in range(arguments.rounds):
            for way, batches in ways.items():
                counts[way], rate = images_per_second(batches())
                rates[way].append(rate)
                print(f"round {number}  {way}  {rate:,.0f} images/s", file=sys.stderr, flush=True)
    base = float(np.median(rates["PIL folder, torch DataLoader"]))
    machine = f"{platform.machine()}, torch {torch.__version__}"
    rows = []
    for way, found in rates.items():
        middle = float(np.median(found))
        each = " ".join(f"{rate:.0f}" for rate in found)
        row = [way, str(workers), str(counts[way]), each, f"{middle:.0f}", f"{middle / base:.2f}"]
        print(*(f"{name} {value}  " for name, value in zip(COLUMNS, row, strict=True)))
        rows.append([*row, machine, f"{datetime.now(timezone.utc):%Y-%m-%d}"])
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "machine", "date"], *rows])


if __name__ == "__main__":
    main()
