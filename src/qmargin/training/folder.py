"""The folder of a run: what lies where."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qmargin._files import cannot_write, make_folder, remove_left, write_text
from qmargin.training.codec import HARMLESS, differing, from_json, places, to_json
from qmargin.training.config import TrainConfig


@dataclass(frozen=True)
class RunFolder:
    """Paths inside the folder of one run; each stage reads what the one before it left."""

    path: Path

    @property
    def config(self) -> Path:
        """The whole config, as JSON."""
        return self.path / "config.json"

    @property
    def manifest(self) -> Path:
        """The samples and their splits, as CSV."""
        return self.path / "manifest.csv"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoint.safetensors"

    @property
    def shards(self) -> Path:
        """Checkpoints of a training by several processes: step-N, each a folder of shards."""
        return self.path / "shards"

    @property
    def merged(self) -> Path:
        """The newest shards as one file, before it takes the checkpoint's place."""
        return self.path / ".merged.safetensors"

    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from, of one process or of several."""
        return self.checkpoint.exists() or any(self.shards.glob("step-*"))

    @property
    def log(self) -> Path:
        """The training log, one row every `log_every` steps, as CSV."""
        return self.path / "log.csv"

    @property
    def validation(self) -> Path:
        """Figures of the validations during training, one row each, as CSV."""
        return self.path / "validation.csv"

    @property
    def best(self) -> Path:
        """The model of the best validation so far, where a figure is watched: a model file."""
        return self.path / "best.safetensors"

    @property
    def tensorboard(self) -> Path:
        """The same numbers for TensorBoard."""
        return self.path / "tensorboard"

    def embeddings(self, split: str) -> Path:
        """Embeddings of a split's images."""
        return self.path / f"embeddings-{split}.npz"

    def scores(self, split: str) -> Path:
        """Scores of a split's trials."""
        return self.path / f"scores-{split}.npz"

    def metrics(self, split: str) -> Path:
        """Figures of a split, as JSON."""
        return self.path / f"metrics-{split}.json"

    @property
    def thresholds(self) -> Path:
        """Thresholds for wanted FARs, learned on held-out people, as JSON."""
        return self.path / "thresholds.json"

    def read_config(self) -> TrainConfig:
        """The config this run was made with."""
        if not self.config.is_file():
            raise ValueError(f"{self.path} is not a run: it has no config.json; give the --out folder of qmargin train")
        return from_json(self.config.read_text(encoding="utf-8"), str(self.config))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, made where missing, for this process; a ValueError where another one trains in it."""
        make_folder(self.path)
        try:
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise ValueError(cannot_write(self.path, error)) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"another process is training in {self.path}: wait for it, or choose another --out"
                ) from error
            yield

    def open(self, config: TrainConfig, *, resume: bool) -> None:
        """Make the folder, held by `locked`, ready to train `config`: a new run, or with `resume` the one there.

        What trainings that were killed while they wrote a file have left is removed.

        Raises:
            ValueError: a run is there and `resume` is off, or its config differs in more than how fast it trains and
                where its data lies, or the folder cannot be written.
        """
        for written in (self.config, self.manifest, self.checkpoint, self.merged, self.log, self.validation, self.best):
            remove_left(written)
        if not (self.checkpoint.exists() or self.shards.exists() or self.log.exists()):  # nothing was trained here yet
            write_text(self.config, to_json(config) + "\n")
            return
        if not resume:
            raise ValueError(f"{self.path} already holds a run: add --resume to continue it, or choose another --out")
        stored = self.read_config()
        changed = differing(stored, config, HARMLESS | (places(stored) & places(config)))
        if changed:
            raise ValueError(
                f"{self.path} was trained with other settings ({', '.join(changed)}): resume with the settings in its "
                "config.json, or start a new run in another --out"
            )

    def keep(self, config: TrainConfig) -> None:
        """Write down the settings that a resumed run goes on with, so that what comes later finds the data."""
        if self.read_config() != config:
            write_text(self.config, to_json(config) + "\n")
