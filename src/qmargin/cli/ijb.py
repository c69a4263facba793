"""`qmargin ijb META --features FILE | --run RUN --images DIR`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin._files import make_folder, write_text
from qmargin.protocols import (
    IjbLists,
    identify_templates,
    pooled,
    read_identification,
    read_ijb,
    verify_templates,
)
from qmargin.protocols.ijb_images import embed_ijb
from qmargin.report.face_tables import identification_table, point_table, template_table
from qmargin.scoring import POOLINGS, Embedder, Features, find_pooling
from qmargin.training import RunFolder

PRESETS = ", ".join(f"{name} ({pooling.code})" for name, pooling in POOLINGS.items())


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Evaluate features on IJB-B or IJB-C: TAR at FAR 1e-6 to 1e-1, and with --identification rank-k and TPIR at FPIR.

    META is the folder of the lists, ijbX_face_tid_mid.txt, ijbX_name_5pts_score.txt and ijbX_template_pair_label.txt.
    Features are your own, raw, one row an image in the order of ijbX_face_tid_mid.txt (--features, with --mirrors of
    the mirrored images where a preset adds them), or made by a run's backbone from the loose crops (--run, --images).

    Example: qmargin ijb IJBC/meta --features ijbc.npy --mirrors ijbc-mirror.npy --out results/ijbc
    """

    meta: Annotated[Path, tyro.conf.Positional]
    """Folder of the lists of one set."""
    out: Path
    """Folder for ijb-PRESET.json, ijb.md and, made from images, features.npz."""
    features: Path | None = None
    """.npy of raw features (images, dim), or .npz with the arrays features and mirrors."""
    mirrors: Path | None = None
    """.npy of the features of the mirrored images, beside a .npy of features."""
    run: Path | None = None
    """Folder of a trained run, to make the features with."""
    images: Path | None = None
    """Folder of the loose crops, with --run."""
    presets: tuple[str, ...] = ("insightface",)
    """How images are pooled into templates: insightface, normalised, adaface, magface, tface, facex-zoo, or a code as
    N1D1F1 (norm kept, detector score, flip added)."""
    expected: str | None = None
    """IJB-B or IJB-C: refuse lists of other counts."""
    identification: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also search the galleries of the 1:N lists in META."""
    batch_size: int = 128
    """Images at a time."""
    device: str | None = None
    """Where to embed; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """Evaluate features or a run on IJB-B / IJB-C, 1:1 and 1:N, pooled by named presets."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin ijb")
    _check(arguments)
    lists = read_ijb(arguments.meta, arguments.expected)
    searched = read_identification(arguments.meta) if arguments.identification else None
    make_folder(arguments.out)
    features = _features(arguments, lists)
    reports = [verify_templates(lists, features, preset) for preset in arguments.presets]
    tables = [template_table(reports), *map(point_table, reports)]
    for report in reports:
        report.save(arguments.out / f"ijb-{report.preset}.json")
    if searched is not None:
        for preset in arguments.presets:
            found = identify_templates(lists, pooled(lists, features, preset), *searched)
            write_text(arguments.out / f"ijb-1N-{preset}.json", json.dumps(asdict(found), indent=2) + "\n")
            tables.append(identification_table(found, f"{lists.name} 1:N, {preset} ({find_pooling(preset).code})"))
    console = Console()
    for table in tables:
        console.print(table.terminal())
    write_text(arguments.out / "ijb.md", "\n".join(table.markdown() for table in tables))
    console.print(f"saved: {arguments.out / 'ijb.md'}", soft_wrap=True, markup=False)


def _check(arguments: Arguments) -> None:
    """Refuse what cannot work before hours of embedding, not after."""
    if (arguments.features is None) == (arguments.run is None):
        raise ValueError("give either --features FILE, or --run RUN with --images DIR")
    if (arguments.run is None) != (arguments.images is None):
        raise ValueError("--run and --images belong together: the run's backbone embeds the images")
    if arguments.mirrors is not None and arguments.features is None:
        raise ValueError("--mirrors is for --features: with --run the mirrored images are embedded too")
    if not arguments.presets or len(set(arguments.presets)) < len(arguments.presets):
        raise ValueError(f"--presets must name at least one preset, each once; there are {PRESETS}")
    for preset in arguments.presets:
        find_pooling(preset)
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {arguments.batch_size}")


def _features(arguments: Arguments, lists: IjbLists) -> Features:
    if arguments.features is not None:
        return Features.load(arguments.features, arguments.mirrors)
    assert arguments.run is not None, "_check has seen to it"
    assert arguments.images is not None, "_check has seen to it"
    embedder = Embedder.of_run(RunFolder(arguments.run), arguments.device)
    features = embed_ijb(lists, arguments.images, embedder, batch_size=arguments.batch_size)
    features.save(arguments.out / "features.npz")
    return features
