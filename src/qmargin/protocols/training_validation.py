"""Figures during training: a few numbers, quickly, to choose by; the reports are for afterwards."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from qmargin.data import ManifestFile
from qmargin.data.sample_table import SampleTable
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols.bins import read_bin
from qmargin.protocols.image_pairs import ImagePairs
from qmargin.protocols.pair_verification import embed_pairs, verify_pairs
from qmargin.protocols.pairs import all_pairs
from qmargin.scoring import Embedder, embed_samples
from qmargin.training import SpeechDataConfig, TrainConfig, Validator
from qmargin.training.manifest import read_samples

LEAST_ACCEPTS = 10  # impostor pairs that a FAR must accept, for its TAR to be reported
FARS = (1e-4, 1e-3, 1e-2, 1e-1)
MOST_IMAGES = 5_000  # of held-out identities: their pairs are all scored, in memory

Figures = dict[str, float]


def training_validator(config: TrainConfig) -> Validator:
    """What `qmargin.training.train` calls at each validation: a backbone -> figures by name.

        identities.eer, identities.tar@1e-03    all pairs of the held-out identities, or of the source's own validation
                                                split (of images that of a `ManifestFile`); TAR at the lowest FAR that
                                                accepts ten impostor pairs or more
        NAME.accuracy, NAME.eer                 of each `.bin` set NAME.bin; accuracy by ten folds

    Embeddings are those of every evaluation: the image's plus its mirror's, the whole recording's. All lists are read
    now, so that a file that is missing stops a run before its first step. No random number is drawn.

    Args:
        config: of the run; `validation.bins`, `data.validation_identities` and `data.image` count.

    Raises:
        ValueError: nothing to validate on, images of a `.bin` set of another size, more than 5,000 held-out images,
            held-out identities without a genuine or an impostor pair, and what `read_bin` refuses.
    """
    samples = _held_out(config)
    far = None if samples is None else _lowest_far(samples)
    pairs = [read_bin(path) for path in config.validation.bins]
    if samples is None and not pairs:
        raise ValueError(
            "validation.every is set and there is nothing to validate on: hold out identities with "
            "data.validation_identities, train on a manifest with a split validation, or give validation.bins"
        )
    device = config.device
    for one in pairs:
        config.image_data.image.decode(one.images[0])  # of the run's size, or an error now

    def validate(backbone: nn.Module) -> Figures:
        figures: Figures = {}
        if samples is not None:
            figures |= _of_identities(backbone, samples, config, far)
        if pairs:
            figures |= _of_pairs(Embedder(backbone, config.image_data.image, device, quiet=True), pairs)
        return figures

    names = [] if samples is None else _names(far)
    names += [f"{one.name}.{figure}" for one in pairs for figure in ("accuracy", "eer")]
    return Validator(tuple(names), validate)


def _held_out(config: TrainConfig) -> SampleTable | None:
    speech = isinstance(config.data, SpeechDataConfig)
    own = speech or isinstance(config.data.source, ManifestFile)  # other images have no validation split of their own,
    if not config.data.validation_identities and not own:  # and millions are not listed a second time in vain
        return None
    manifest = read_samples(config)
    if not any(split == "validation" for _, _, split in manifest.rows()):
        return None
    samples = manifest.subset("validation")
    _check_size(samples, config, "utterances" if speech else "images")
    return samples


def _check_size(samples: SampleTable, config: TrainConfig, what: str) -> None:
    """Refuse more pairs than fit, and identities without a pair of either kind."""
    chosen = config.data.validation_identities
    if len(samples) > MOST_IMAGES:
        advice = "hold out fewer identities (data.validation_identities)" if chosen else "give fewer of them that split"
        raise ValueError(
            f"the split validation has {len(samples):,} {what}: validation during training scores all "
            f"pairs of at most {MOST_IMAGES:,}; {advice}"
        )
    if samples.num_classes < 2 or samples.num_classes == len(samples):
        held_out = "hold out more (data.validation_identities) or others (data.validation_seed)"
        advice = held_out if chosen else "give others that split"
        raise ValueError(
            f"the split validation has {len(samples):,} {what} of {samples.num_classes:,} identities, and validation "
            f"needs genuine and impostor pairs: two identities, and two {what} of one of them; {advice}"
        )


def _lowest_far(samples: SampleTable) -> float | None:
    """The lowest FAR that accepts enough impostor pairs; None where all pairs are too few."""
    of_identity = np.bincount(samples.labels)  # (identities,)
    impostors = (len(samples) ** 2 - int(np.sum(of_identity**2))) // 2
    return next((far for far in FARS if far * impostors >= LEAST_ACCEPTS), None)


def _names(far: float | None) -> list[str]:
    return ["identities.eer", *([] if far is None else [_tar_name(far)])]


def _tar_name(far: float) -> str:
    return f"identities.tar@{far:.0e}"


def _of_identities(backbone: nn.Module, samples: SampleTable, config: TrainConfig, far: float | None) -> Figures:
    trials = all_pairs(embed_samples(backbone, samples, config.data, device=config.device, quiet=True))
    det = det_curve(trials.scores, trials.labels)
    figures = {"identities.eer": eer_of(det)}
    if far is not None:
        figures[_tar_name(far)] = tar_at_far_of(det, far).tar
    return figures


def _of_pairs(embedder: Embedder, pairs: Sequence[ImagePairs]) -> Figures:
    figures: Figures = {}
    embedder.backbone.eval()
    for one in pairs:
        report = verify_pairs(one, embed_pairs(one, embedder, flip=True), flip=True, resamples=0)
        figures |= {f"{one.name}.accuracy": report.accuracy.mean, f"{one.name}.eer": report.eer}
    return figures
