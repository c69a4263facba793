"""Raw features of a list of images and of their mirrors: from a run's backbone, or from a user's own arrays."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from qmargin._files import write_arrays
from qmargin.data import ImageFormat, normalise
from qmargin.scoring.runs import trained_backbone
from qmargin.training import RunFolder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Features:
    """Raw features, in the order of a list of images."""

    images: NDArray[np.floating[Any]]  # (images, dim); may be memory-mapped
    mirrors: NDArray[np.floating[Any]] | None = None  # (images, dim), of the mirrored images

    def save(self, path: Path) -> None:
        """Write them as .npz with the arrays `features` and, where they are there, `mirrors`; atomically."""
        mirrors = {} if self.mirrors is None else {"mirrors": self.mirrors}
        write_arrays(path, features=self.images, **mirrors)

    @classmethod
    def load(cls, path: Path, mirrors: Path | None = None) -> "Features":
        """Read a `.npz` as `save` writes it, or a `.npy` of features and, if you like, one of mirrors.

        A `.npy` is memory-mapped: it need not fit into memory. Nothing is unpickled.

        Raises:
            ValueError: a file that is missing, damaged, or holds something else than floats (images, dim).
        """
        if path.suffix != ".npz":
            return cls(_read_npy(path), None if mirrors is None else _read_npy(mirrors))
        if mirrors is not None:
            raise ValueError(f"{path} is a .npz, which holds the mirrors too, as `mirrors`; {mirrors} is one too many")
        with _naming(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if "features" not in archive:
                raise ValueError(f"it has the arrays {', '.join(archive) or 'none'}, not `features`")
            given = {name: _checked(archive[name]) for name in ("features", "mirrors") if name in archive}
        return cls(given["features"], given.get("mirrors"))


@dataclass(frozen=True, eq=False)
class Embedder:
    """A backbone ready to embed: what it takes, where it is, and which training step it is of."""

    backbone: nn.Module
    image: ImageFormat
    device: str
    step: int = 0
    quiet: bool = False  # show no progress bar, as inside another one

    @classmethod
    def of_run(cls, run: RunFolder, device: str | None = None) -> "Embedder":
        """The newest checkpoint of a run, on its device unless another is given; errors name what is missing."""
        model = trained_backbone(run, device)
        return cls(model.backbone, model.config.image_data.image, model.device, model.origin["step"])

    def embed(
        self, decode: Callable[[int], Pixels], images: int, *, mirrors: bool, batch_size: int = 128, workers: int = 2
    ) -> Features:
        """Embed images 0, 1, ..., each decoded when it is due: a batch of pixels is in memory, and the next one.

        Args:
            decode: place of an image -> (height, width, channels) uint8, of the size of `image`; called by threads.
            images: how many, >= 1.
            mirrors: embed the mirrored images too.
            batch_size: images at a time.
            workers: threads that decode.

        Returns:
            Features (images, dim) float32, raw.
        """
        parts: tuple[list[NDArray[np.float32]], ...] = ([], [])
        batches = _batches(decode, images, batch_size, workers)
        with torch.inference_mode():
            total = -(-images // batch_size)
            for pixels in track(batches, "embedding", total=total, transient=True, disable=self.quiet):
                views = normalise(torch.from_numpy(pixels).to(self.device))  # (batch, channels, height, width)
                for part, flipped in zip(parts, (False, True), strict=True):
                    if mirrors or not flipped:
                        vectors = self.backbone(views.flip(-1) if flipped else views)  # (batch, dim)
                        part.append(vectors.float().cpu().numpy())
        return Features(np.concatenate(parts[0]), np.concatenate(parts[1]) if mirrors else None)


def _batches(decode: Callable[[int], Pixels], images: int, batch_size: int, workers: int) -> Iterator[Pixels]:
    """Batches of pixels (batch, channels, height, width), the next one decoded while this one is used."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="qmargin-decode")
    try:
        due = pool.map(decode, range(min(batch_size, images)))
        for start in range(batch_size, images + batch_size, batch_size):
            now, due = due, pool.map(decode, range(start, min(start + batch_size, images)))
            yield np.ascontiguousarray(np.stack(list(now)).transpose(0, 3, 1, 2))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_npy(path: Path) -> NDArray[np.floating[Any]]:
    with _naming(path):
        return _checked(np.load(path, mmap_mode="r", allow_pickle=False))


def _checked(array: object) -> NDArray[np.floating[Any]]:
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"features must be floats of shape (images, dim), got {got}")
    return array


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Every fault of reading names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"no features at {path}: there is no such file") from error
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} does not hold features: {error}") from error
