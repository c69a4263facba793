"""`qmargin pairs RUN FILE...`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qmargin._files import make_folder
from qmargin.cli._resamples import check_resamples, resampling_bar
from qmargin.cli._results import show_and_write
from qmargin.metrics import Method
from qmargin.protocols import ImagePairs, embed_pairs, read_bin, read_lfw_pairs, read_pairs_csv, verify_pairs
from qmargin.report.curve_plots import Curve
from qmargin.report.face_tables import pair_table
from qmargin.scoring import open_embedder

READERS: dict[str, Callable[[Path, Path | None, str], ImagePairs]] = {
    ".bin": lambda path, _, __: read_bin(path),
    ".csv": lambda path, images, _: read_pairs_csv(path, images),
    ".txt": lambda path, images, suffix: read_lfw_pairs(path, path.parent if images is None else images, suffix),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed the images of lists of pairs with a run's backbone and report 10-fold accuracy, EER and TAR.

    A file's ending says what it is: .bin is a verification set (LFW, CFP-FP, AgeDB-30, ... as training scripts pass
    them on; read without pickle, nothing in it is run), .csv has the columns path_a, path_b, same and, if you like,
    fold, .txt is LFW's pairs.txt. Images must have the size that the run was trained on.

    Example: qmargin pairs runs/first lfw.bin cfp_fp.bin agedb_30.bin
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run, or a model file: .safetensors or .onnx."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Lists of pairs, .bin, .csv or .txt."""
    images: Path | None = None
    """Folder that the paths of a .csv, or the names of a .txt, are in; that of the list unless given."""
    suffix: str = ".jpg"
    """Ending of the images of a .txt list."""
    flip: bool = True
    """Add the raw feature of the mirrored image, as published figures do."""
    resamples: int = 1000
    """Bootstrap draws over subjects for the 95 % intervals; 0 leaves them out."""
    interval: Method = "wilson"
    """How intervals are made of the draws; percentile ones are too narrow near 0 and 1."""
    out: Path | None = None
    """Folder for pairs.md, pairs.tex, pairs.csv and pairs.json; that of the run unless given."""
    batch_size: int = 128
    """Images at a time."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """Verify a run on lists of pairs: .bin sets (LFW, CFP-FP, AgeDB-30), pairs.csv, LFW's pairs.txt."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin pairs")
    if not arguments.files:
        raise ValueError("give at least one list of pairs: a .bin, .csv or .txt file")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {arguments.batch_size}")
    check_resamples(arguments.resamples, may_be_none=True)
    names = [path.stem for path in arguments.files]
    if len(set(names)) < len(names):
        raise ValueError(f"two lists have one name ({', '.join(names)}): their results would overwrite each other")
    if arguments.out is None and arguments.run.is_file():
        raise ValueError(f"{arguments.run} is a file, not the folder of a run: say with --out where results go")
    folder = arguments.run if arguments.out is None else arguments.out
    embedder = open_embedder(arguments.run, arguments.device)
    make_folder(folder)
    reports = []
    for path in arguments.files:
        pairs = read_pairs(path, arguments.images, arguments.suffix)
        features = embed_pairs(pairs, embedder, flip=arguments.flip, batch_size=arguments.batch_size)
        with resampling_bar(arguments.resamples, passes=2) as progress:
            report = verify_pairs(
                pairs,
                features,
                flip=arguments.flip,
                resamples=arguments.resamples,
                method=arguments.interval,
                progress=progress,
            )
        reports.append(report)
    table = pair_table(reports, f"Pair verification of {arguments.run}, training step {embedder.step:,}")
    record = {"run": str(arguments.run), "step": embedder.step, "sets": [asdict(report) for report in reports]}
    curves = [
        Curve(name=report.set_name, band=report.band, genuine=report.genuine, impostor=report.impostor)
        for report in reports
        if report.band is not None
    ]
    show_and_write(folder, "pairs", [table], record, curves)


def read_pairs(path: Path, images: Path | None, suffix: str) -> ImagePairs:
    """The reader that a file's ending names."""
    if path.suffix not in READERS:
        raise ValueError(f"{path} must end in one of {', '.join(READERS)}: the ending says how a list of pairs is read")
    return READERS[path.suffix](path, images, suffix)
