"""Figures during training: a few numbers, quickly, to choose by; the reports are for afterwards."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from qmargin.data.sample_table import SampleTable
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols.bins import read_bin
from qmargin.protocols.image_pairs import ImagePairs
from qmargin.protocols.pair_verification import embed_pairs, verify_pairs
from qmargin.protocols.pairs import all_pairs
from qmargin.scoring import Embedder, embed_samples
from qmargin.training import SpeechDataConfig, TrainConfig
from qmargin.training.manifest import read_samples

LEAST_ACCEPTS = 10  # impostor pairs that a FAR must accept, for its TAR to be reported
FARS = (1e-4, 1e-3, 1e-2, 1e-1)
MOST_IMAGES = 5_000  # of held-out identities: their pairs are all scored, in memory

Figures = dict[str, float]


def training_validator(config: TrainConfig) -> Callable[[nn.Module], Figures]:
    """What `qmargin.training.train` calls at each validation: a backbone -> figures by name.

        identities.eer, identities.tar@1e-03    all pairs of the held-out identities (of speech also those of the
                                                source's own validation split); TAR at the lowest FAR that accepts
                                                ten impostor pairs or more
        NAME.accuracy, NAME.eer                 of each `.bin` set NAME.bin; accuracy by ten folds

    Embeddings are those of every evaluation: the image's plus its mirror's, the whole recording's. All lists are read
    now, so that a file that is missing stops a run before its first step. No random number is drawn.

    Args:
        config: of the run; `validation.bins`, `data.validation_identities` and `data.image` count.

    Raises:
        ValueError: nothing to validate on, images of a `.bin` set of another size, more than 5,000 held-out images,
            and what `read_bin` refuses.
    """
    samples = _held_out(config)
    pairs = [read_bin(path) for path in config.validation.bins]
    if samples is None and not pairs:
        raise ValueError(
            "validation.every is set and there is nothing to validate on: hold out identities with "
            "data.validation_identities, or give validation.bins"
        )
    device = config.device
    for one in pairs:
        config.image_data.image.decode(one.images[0])  # of the run's size, or an error now

    def validate(backbone: nn.Module) -> Figures:
        figures: Figures = {}
        if samples is not None:
            figures |= _of_identities(backbone, samples, config)
        if pairs:
            figures |= _of_pairs(Embedder(backbone, config.image_data.image, device, quiet=True), pairs)
        return figures

    return validate


def _held_out(config: TrainConfig) -> SampleTable | None:
    speech = isinstance(config.data, SpeechDataConfig)
    if not config.data.validation_identities and not speech:
        return None  # millions of images are not listed a second time to look for a split
    manifest = read_samples(config)
    if not any(split == "validation" for _, _, split in manifest.rows()):
        return None
    samples = manifest.subset("validation")
    if len(samples) > MOST_IMAGES:
        what = "utterances" if speech else "images"
        raise ValueError(
            f"the split validation has {len(samples):,} {what}: validation during training scores all "
            f"pairs of at most {MOST_IMAGES:,}; hold out fewer identities (data.validation_identities)"
        )
    return samples


def _of_identities(backbone: nn.Module, samples: SampleTable, config: TrainConfig) -> Figures:
    trials = all_pairs(embed_samples(backbone, samples, config.data, device=config.device, quiet=True))
    det = det_curve(trials.scores, trials.labels)
    figures = {"identities.eer": eer_of(det)}
    impostors = int(np.count_nonzero(~trials.labels))
    known = [far for far in FARS if far * impostors >= LEAST_ACCEPTS]
    if known:
        figures[f"identities.tar@{known[0]:.0e}"] = tar_at_far_of(det, known[0]).tar
    return figures


def _of_pairs(embedder: Embedder, pairs: Sequence[ImagePairs]) -> Figures:
    figures: Figures = {}
    embedder.backbone.eval()
    for one in pairs:
        report = verify_pairs(one, embed_pairs(one, embedder, flip=True), flip=True, resamples=0)
        figures |= {f"{one.name}.accuracy": report.accuracy.mean, f"{one.name}.eer": report.eer}
    return figures
