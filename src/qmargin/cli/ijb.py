"""`qmargin ijb META --features FILE | --run RUN --images DIR`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qmargin._files import make_folder
from qmargin.cli._resamples import check_resamples, resampling_bar
from qmargin.cli._results import show_and_write
from qmargin.metrics import Method
from qmargin.protocols import (
    IjbLists,
    has_identification,
    identify_templates,
    pooled,
    read_identification,
    read_ijb,
    template_subjects,
    verify_templates,
)
from qmargin.protocols.ijb_images import embed_ijb
from qmargin.report.anchors import anchors_of
from qmargin.report.curve_plots import Curve
from qmargin.report.face_tables import identification_table, point_table, template_table
from qmargin.scoring import POOLINGS, Features, find_pooling, open_embedder

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
    """Folder for ijb.md, ijb.tex, ijb.csv, ijb.json and, made from images, features.npz."""
    features: Path | None = None
    """.npy of raw features (images, dim), or .npz with the arrays features and mirrors."""
    mirrors: Path | None = None
    """.npy of the features of the mirrored images, beside a .npy of features."""
    run: Path | None = None
    """Folder of a trained run, or a model file (.safetensors, .onnx), to make the features with."""
    images: Path | None = None
    """Folder of the loose crops, with --run."""
    presets: tuple[str, ...] = ("insightface",)
    """How images are pooled into templates: insightface, normalised, adaface, magface, tface, facex-zoo, or a code as
    N1D1F1 (norm kept, detector score, flip added)."""
    expected: str | None = None
    """IJB-B or IJB-C: refuse lists of other counts."""
    identification: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also search the galleries of the 1:N lists in META."""
    resamples: int = 1000
    """Bootstrap draws over subjects for the 95 % intervals of 1:1; 0 leaves them out."""
    interval: Method = "wilson"
    """How intervals are made of the draws; percentile ones are too narrow near 0 and 1."""
    anchors: bool = True
    """Show published figures of the same set beside, where there are any."""
    batch_size: int = 128
    """Images at a time."""
    device: str | None = None
    """Where to embed; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """Evaluate features or a run on IJB-B / IJB-C, 1:1 and 1:N, pooled by named presets."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin ijb")
    _check(arguments)
    lists = read_ijb(arguments.meta, arguments.expected)
    found_1n = arguments.identification or has_identification(arguments.meta)
    searched = read_identification(arguments.meta) if found_1n else None
    known = None if searched is None else template_subjects(lists, [*searched[0], searched[1]])
    make_folder(arguments.out)
    features = _features(arguments, lists)
    with resampling_bar(arguments.resamples, passes=len(arguments.presets)) as progress:
        reports = [
            verify_templates(
                lists,
                features,
                preset,
                resamples=arguments.resamples,
                method=arguments.interval,
                known=known,
                progress=progress,
            )
            for preset in arguments.presets
        ]
    searches = {
        preset: identify_templates(lists, pooled(lists, features, preset), *searched)
        for preset in (arguments.presets if arguments.identification else ())
        if searched is not None
    }
    quoted = anchors_of(lists.name) if arguments.anchors else ()
    system = str(arguments.features if arguments.run is None else arguments.run)
    tables = [template_table(reports, system, quoted), *map(point_table, reports)]
    for preset, found in searches.items():
        title = f"{lists.name} 1:N, {preset} ({find_pooling(preset).code})"
        tables.append(identification_table(found, title, f"1N-{preset}"))
    record = {
        "system": system,
        "verification": [asdict(report) for report in reports],
        "identification": {preset: asdict(found) for preset, found in searches.items()},
        "published": [asdict(anchor) for anchor in quoted],
    }
    curves = [
        Curve(name=report.preset, band=report.band, genuine=report.genuine, impostor=report.impostor)
        for report in reports
        if report.band is not None
    ]
    show_and_write(arguments.out, "ijb", tables, record, curves)


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
    check_resamples(arguments.resamples, may_be_none=True)


def _features(arguments: Arguments, lists: IjbLists) -> Features:
    if arguments.features is not None:
        return Features.load(arguments.features, arguments.mirrors)
    assert arguments.run is not None, "_check has seen to it"
    assert arguments.images is not None, "_check has seen to it"
    embedder = open_embedder(arguments.run, arguments.device)
    features = embed_ijb(lists, arguments.images, embedder, batch_size=arguments.batch_size)
    features.save(arguments.out / "features.npz")
    return features
