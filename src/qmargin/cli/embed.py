"""`qmargin embed MODEL --images DIR|--audio DIR|--audio-list FILE --out FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from qmargin._files import make_folder
from qmargin.data import ImageFormat
from qmargin.data.folders import IMAGE_EXTENSIONS
from qmargin.data.speech.folders import audio_below
from qmargin.data.speech.kaldi import read_recording_list
from qmargin.scoring import (
    Embeddings,
    embed_files_torchscript,
    embed_files_with,
    embed_recordings_with,
    open_embedder,
    open_speech_embedder,
)
from qmargin.scoring.models import PICKLED
from qmargin.scoring.speech import distinct_files
from qmargin.scoring.torchscript_model import ENDINGS as TORCHSCRIPT
from qmargin.scoring.vector_files import VectorSet
from qmargin.training import RunFolder, SpeechDataConfig, TrainConfig
from qmargin.training.model_file import SUFFIX


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed the images or recordings under a folder with a run's newest checkpoint or a model of your own.

    The .npz holds ids (paths relative to the folder) and embeddings, raw (not of length one): the image's plus its
    mirror's; the whole recording's, by the front-end that the run was trained with. Another kind of model: embed with
    its own tools, and save numpy.savez(FILE, ids=..., embeddings=...).

    A TorchScript file is a program: --trust-code says that you know where it comes from. An .onnx file is data.

    Example: qmargin embed model.pt --trust-code --input-size 3 112 112 --images crops --out crops.npz
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run; a .safetensors file of qmargin export or import; an .onnx file (of speech: of
    qmargin export); or TorchScript in .pt, .ts, .jit: input (batch, channels, height, width), RGB in [-1, 1]."""
    images: Path | None = None
    """Folder that is searched for images, with all folders in it."""
    audio: Path | None = None
    """Folder that is searched for recordings, for a model of speech."""
    audio_list: Path | None = None
    """Lines `id path` of recordings (as Kaldi's wav.scp), for a model of speech."""
    out: Path
    """The .npz to write."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given. Of files the CPU, for ONNX models always."""
    trust_code: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the code that a TorchScript model brings along."""
    input_size: tuple[int, int, int] | None = None
    """Channels, height and width that a TorchScript model takes; other models know theirs."""


def run(words: Sequence[str]) -> None:
    """Embed a folder of images or recordings with a run's model or an ONNX file, into an .npz of ids and embeddings."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin embed")
    if arguments.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {arguments.out}")
    named = _named_files(arguments)
    files, rows = distinct_files(list(named.values()))
    make_folder(arguments.out.parent)
    vectors = _embed(arguments, files).vectors[rows]
    VectorSet(np.array(list(named)), vectors).save(arguments.out)
    shape = f"{len(named)} embeddings of dimension {vectors.shape[1]}"
    Console().print(f"saved: {arguments.out} ({shape})", soft_wrap=True, markup=False)


def _named_files(arguments: Arguments) -> dict[str, Path]:
    """Id -> file of what is asked for."""
    asked = {"--images": arguments.images, "--audio": arguments.audio, "--audio-list": arguments.audio_list}
    given = [name for name, place in asked.items() if place is not None]
    if len(given) != 1:
        raise ValueError(f"give one of {', '.join(asked)}, got {' and '.join(given) or 'none'}")
    if arguments.images is not None:
        files = sorted(file for file in arguments.images.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
        if not files:
            raise ValueError(f"no image under {arguments.images}: looked for {' '.join(IMAGE_EXTENSIONS)}")
        return {file.relative_to(arguments.images).as_posix(): file for file in files}
    if arguments.audio is not None:
        return {name: arguments.audio / name for name in audio_below(arguments.audio)}
    assert arguments.audio_list is not None, "one of the three is given"
    return read_recording_list(arguments.audio_list)


def check_kind(config: TrainConfig, *, audio: bool) -> None:
    """Refuse recordings for a run on images, and images for one on speech."""
    speech = isinstance(config.data, SpeechDataConfig)
    if speech != audio:
        trained, way_out = ("speech", "recordings (--audio)") if speech else ("images", "--images")
        raise ValueError(f"this run was trained on {trained}: give {way_out}")


def _embed(arguments: Arguments, files: Sequence[Path]) -> Embeddings:
    suffix = arguments.model.suffix
    if suffix not in TORCHSCRIPT and (arguments.trust_code or arguments.input_size is not None):
        raise ValueError(
            f"--trust-code and --input-size are for TorchScript models ({', '.join(TORCHSCRIPT)}), "
            f"got {arguments.model}"
        )
    if suffix in (*TORCHSCRIPT, *PICKLED) and arguments.images is None:
        raise ValueError(
            f"{arguments.model} takes images: recordings are embedded by a run on speech, or by what qmargin export "
            "writes of one"
        )
    if suffix in TORCHSCRIPT:
        return _embed_torchscript(arguments, files)
    if suffix not in (SUFFIX, ".onnx", *PICKLED):
        check_kind(RunFolder(arguments.model).read_config(), audio=arguments.images is None)
    if arguments.images is None:
        return embed_recordings_with(open_speech_embedder(arguments.model, arguments.device), files)
    return embed_files_with(open_embedder(arguments.model, arguments.device), files)


def _embed_torchscript(arguments: Arguments, files: Sequence[Path]) -> Embeddings:
    if not arguments.trust_code:
        raise ValueError(
            f"{arguments.model} is not opened: a TorchScript model may run code of its author; export it to ONNX "
            "(torch.onnx.export), or give --trust-code if it is your own"
        )
    if arguments.input_size is None:
        raise ValueError(f"{arguments.model} does not say what it takes: give --input-size CHANNELS HEIGHT WIDTH")
    channels, height, width = arguments.input_size
    image = ImageFormat(height=height, width=width, channels=channels)
    return embed_files_torchscript(arguments.model, files, image, arguments.device)
