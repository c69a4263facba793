"""Speech on the CPU: real-time factors of features and embeddings, and how long a training step waits for its data.

    python benchmarks/speech.py [--threads 1 2] [--seconds 60] [--steps 10] [--out FILE]

A real-time factor is seconds of computing per second of sound; smaller is faster. Sound is noise made here: what is in
it does not change the time.

    features     of recordings of 4 s in memory, one after the other: by `FrontEnd.features`, and the same filter banks
                 with torch alone (FFT, matrix product), equal to 1e-3
    embeddings   of features of 2 to 6 s: each by itself, as torch alone would, and eight at a time, padded and masked
    recordings   from FLAC files of 2 to 6 s to embeddings: by `embed_utterances`, whose threads read and compute
                 features ahead, and by a loop over soundfile, torch's filter banks and the network
    waiting      share of a training step (forward, backward, update of backbone and head) that stands still until the
                 next batch of segments is there, with the loader of the recipe `speakers-small`: speeds, noise, masks
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from qmargin._files import write_text
from qmargin.backbones import EcapaConfig, SpeakerResNetConfig
from qmargin.data import ShuffledBatches
from qmargin.data.speech import FrontEnd, SpeakerFolders
from qmargin.recipes import find_recipe
from qmargin.scoring.speech import embed_utterances, listed_recordings
from qmargin.training import TrainConfig
from qmargin.training.state import TrainingState
from qmargin.training.step import train_step

RATE = 16_000
AGREEMENT = 1e-3  # of log filter banks
WARM_UP = 2  # steps that start the threads
BATCH = 16  # of the larger network
RECIPE = find_recipe("speakers-small").with_loss("qmargin")
BACKBONES: dict[str, EcapaConfig | SpeakerResNetConfig] = {
    "ECAPA c512": EcapaConfig(channels=512),
    "ECAPA c1024": EcapaConfig(channels=1024),
    "ResNet34-TSTP": SpeakerResNetConfig(),
}
COLUMNS = ["threads of torch", "what", "how", "value", "unit", "machine", "date"]


def seconds_of(action: Callable[[], object], repeats: int = 3) -> float:
    """Shortest time of some calls, after one that warms up."""
    action()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


class TorchFbank:
    """The features of `FrontEnd.wespeaker()`, with torch alone."""

    def __init__(self) -> None:
        mels = 1127.0 * np.log1p(np.arange(257) * RATE / 512 / 700.0)
        low, high = 1127.0 * np.log1p(np.array([20.0, RATE / 2]) / 700.0)
        edges = np.linspace(low, high, 82)
        rise = (mels - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        fall = (edges[2:, None] - mels) / (edges[2:] - edges[1:-1])[:, None]
        self.bank = torch.tensor(np.clip(np.minimum(rise, fall), 0.0, None).T, dtype=torch.float32)  # (257, bins)
        self.window = torch.hamming_window(400, periodic=False)

    def __call__(self, wave: Tensor) -> Tensor:
        """Features (frames, bins) of a wave (samples,)."""
        frames = (wave * 2.0**15).unfold(0, 400, 160)  # (frames, 400)
        frames = frames - frames.mean(dim=1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=512)
        power = spectrum.real.square() + spectrum.imag.square()  # (frames, 257)
        features = (power @ self.bank).clamp(min=torch.finfo(torch.float32).eps).log()
        centred: Tensor = features - features.mean(dim=0)
        return centred


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Sound for the clock."""
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE), dtype=np.float32)


def features_rows(seconds: float) -> list[list[str]]:
    """Real-time factors of features, of recordings of 4 s."""
    waves = [noise(4.0, seed) for seed in range(round(seconds / 4))]
    front_end, baseline = FrontEnd.wespeaker(), TorchFbank()
    tensors = [torch.from_numpy(wave) for wave in waves]
    difference = np.abs(front_end.features(waves[0]) - baseline(tensors[0]).numpy()).max()
    if difference > AGREEMENT:
        raise ValueError(f"the two filter banks differ by {difference}: their times say nothing")
    ways: dict[str, Callable[[], object]] = {
        "FrontEnd.features": lambda: [front_end.features(wave) for wave in waves],
        "torch alone": lambda: [baseline(wave) for wave in tensors],
    }
    sound = 4 * len(waves)
    return [["features", name, f"{seconds_of(way) / sound:.5f}", "real-time factor"] for name, way in ways.items()]


def embedding_rows(seconds: float) -> Iterator[list[str]]:
    """Real-time factors of embeddings, of utterances of 2 to 6 s."""
    lengths = np.random.default_rng(0).integers(200, 600, size=8 * max(round(seconds / 32), 1))
    sound = float(lengths.sum()) / 100  # seconds
    utterances = [torch.randn(int(length), 80) for length in np.sort(lengths)]
    batches = [utterances[start : start + 8] for start in range(0, len(utterances), 8)]
    for name, config in BACKBONES.items():
        backbone = config.build().eval()

        def alone(backbone: nn.Module = backbone) -> None:
            with torch.inference_mode():
                for utterance in utterances:
                    backbone(utterance[None])

        def masked(backbone: nn.Module = backbone) -> None:
            with torch.inference_mode():
                for batch in batches:
                    backbone(pad_sequence(batch, batch_first=True), torch.tensor([len(one) for one in batch]))

        for way, action in (("one at a time, torch alone", alone), ("eight, masked", masked)):
            yield [f"embeddings {name}", way, f"{seconds_of(action, 2) / sound:.4f}", "real-time factor"]


def recording_rows(folder: Path, seconds: float) -> Iterator[list[str]]:
    """Real-time factors from files to embeddings, with the small recipe's network and ECAPA c512."""
    lengths = np.random.default_rng(1).uniform(2.0, 6.0, size=max(round(seconds / 4), 2))
    files = [folder / f"{number}.flac" for number in range(len(lengths))]
    for number, (file, length) in enumerate(zip(files, lengths, strict=True)):
        soundfile.write(file, noise(length, number), RATE)
    table, baseline = listed_recordings(files), TorchFbank()
    for name, config in (("speakers-small", RECIPE.backbone), ("ECAPA c512", BACKBONES["ECAPA c512"])):
        backbone = config.build().eval()

        def ours(backbone: nn.Module = backbone) -> None:
            embed_utterances(backbone, table, FrontEnd.wespeaker(), quiet=True)

        def alone(backbone: nn.Module = backbone) -> None:
            with torch.inference_mode():
                for file in files:
                    backbone(baseline(torch.from_numpy(soundfile.read(file, dtype="float32")[0]))[None])

        for way, action in (("embed_utterances", ours), ("soundfile and torch", alone)):
            factor = seconds_of(action, 2) / lengths.sum()
            yield [f"recordings {name}", way, f"{factor:.4f}", "real-time factor"]


def waiting_rows(folder: Path, steps: int) -> Iterator[list[str]]:
    """Shares of training steps spent waiting for data, for the small recipe as it is and with ECAPA c512."""
    for speaker in range(64):
        (folder / f"id{speaker}").mkdir()
        for part in range(2):
            soundfile.write(folder / f"id{speaker}" / f"{part}.flac", noise(5.0, 2 * speaker + part), RATE)
    data = replace(RECIPE.speech_data, source=SpeakerFolders(train=folder))
    larger = replace(RECIPE, backbone=BACKBONES["ECAPA c512"], batch_size=BATCH)
    for name, base in (("speakers-small", RECIPE), ("ECAPA c512", larger)):
        for workers in (1, 2):
            config = replace(base, data=replace(data, workers=workers))
            waited, whole = waiting(config, steps)
            way = f"{workers} threads for data" if workers > 1 else "1 thread for data"
            yield [f"waiting {name}", way, f"{100 * waited / whole:.1f}", "% of a step"]
            yield [f"step {name}", way, f"{config.batch_size * steps / whole:.1f}", "segments a second"]


def waiting(config: TrainConfig, steps: int) -> tuple[float, float]:
    """Seconds of waiting for data, and of everything, in so many training steps."""
    samples = config.data.source.read()
    order = ShuffledBatches(len(samples), config.batch_size, config.seed)
    state = TrainingState.create(config, len(config.data.class_counts(samples)))
    state.backbone.train()
    waited = whole = 0.0
    with closing(config.data.batches(samples, order).iterate(0, steps + WARM_UP)) as stream:
        began = time.perf_counter()
        for batch in stream:
            arrived = time.perf_counter()
            train_step(state, batch, config, steps + WARM_UP)
            if state.step > WARM_UP:
                waited += arrived - began
                whole += time.perf_counter() - began
            began = time.perf_counter()
    return waited, whole


def rows_of(seconds: float, steps: int) -> Iterator[list[str]]:
    """All rows, with torch's present number of threads."""
    yield from features_rows(seconds)
    yield from embedding_rows(seconds)
    for measured in (partial(recording_rows, seconds=seconds), partial(waiting_rows, steps=steps)):
        with tempfile.TemporaryDirectory() as folder:
            yield from measured(Path(folder))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch's operators")
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound")
    parser.add_argument("--steps", type=int, default=10, help="of training for each row")
    parser.add_argument("--out", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    rows = []
    where = [f"{platform.machine()}, torch {torch.__version__}", f"{datetime.now(timezone.utc):%Y-%m-%d}"]
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        for row in rows_of(arguments.seconds, arguments.steps):
            rows.append([str(threads), *row, *where])
            print("  ".join(f"{cell:<24}" for cell in rows[-1][:5]).rstrip(), flush=True)
            if arguments.out is not None:
                lines = [COLUMNS, *rows]
                text = "".join(",".join(f'"{cell}"' if "," in cell else cell for cell in line) + "\n" for line in lines)
                write_text(arguments.out, text)


if __name__ == "__main__":
    main()
