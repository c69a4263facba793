"""The samples of a run: read from its source, checked against what the recipe and the checkpoint expect."""

from pathlib import Path

from qmargin.data.sample_table import SampleTable
from qmargin.training.checkpoint import State
from qmargin.training.codec import leaves, shown
from qmargin.training.config import TrainConfig
from qmargin.training.folder import RunFolder


def read_samples(config: TrainConfig) -> SampleTable:
    """The manifest of a config, with its validation identities held out.

    Raises:
        ValueError: other counts than the config expects, and what the source refuses.
    """
    manifest: SampleTable = config.data.source.read()
    _check_counts(manifest, config)
    held_out = config.data.validation_identities
    return manifest.hold_out(held_out, config.data.validation_seed) if held_out else manifest


def _check_counts(manifest: SampleTable, config: TrainConfig) -> None:
    """A recipe of a public set names its size: a copy of another size is another set, and its figures another's."""
    expected = config.data.expected
    if any(count is not None for count in expected.values()):
        samples = manifest.subset("train")
        found = {"images": len(samples), "identities": samples.num_classes}
        for what, count in expected.items():
            if count is not None and found[what] != count:
                raise ValueError(
                    f"the recipe {config.recipe} is for {count:,} training {what}, the source has {found[what]:,}: is "
                    f"it another version of the set? To train on it all the same, set data.expected_{what}"
                )


def check_identities(samples: SampleTable, config: TrainConfig) -> None:
    """Refuse training samples of one person: their loss is 0 whatever the network does.

    Args:
        samples: those to train on.
        config: names where they are from.

    Raises:
        ValueError: fewer than two identities; speeds of a voice make classes, and no identities.
    """
    if samples.num_classes < 2:
        _, name, _ = next(samples.rows())
        source = leaves(config.data.source, "data.source")
        places = ", ".join(f"{field} {shown(value)}" for field, value in source.items() if isinstance(value, Path))
        raise ValueError(
            f"a training needs at least 2 identities, and all {len(samples):,} samples to train on are of {name!r} "
            f"({places or shown(source['data.source'])}): of one it learns to tell nobody apart; is the folder too "
            "deep or too high? Each identity has a folder of its own, or a name of its own in the list"
        )


def check_manifest(manifest: SampleTable, saved: State, run: RunFolder) -> None:
    """Refuse to go on from a checkpoint of other images or identities."""
    if saved["manifest"] != manifest.digest:
        raise ValueError(
            f"the images, identities or splits are not those that {run.path} was trained on (listed in "
            f"{run.manifest.name}): put them back, or train a new run in another folder"
        )
