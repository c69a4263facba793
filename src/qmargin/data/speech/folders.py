"""Folders as VoxCeleb has them, `root/speaker/video/utterance.wav`: the first folder's name is the speaker."""

import os
from pathlib import Path

from qmargin.data.manifest import Manifest
from qmargin.data.speech.utterances import Utterances
from qmargin.data.speech.wav import AUDIO_EXTENSIONS


def read_speaker_folders(root: Path, split: str) -> Utterances:
    """Read the utterances below a folder of speakers' folders, sorted by id.

    Files are searched at any depth below a speaker's folder. Names that begin with a dot, and files that are not audio
    by their extension, are passed over.

    Args:
        root: folder that holds one folder for each speaker.
        split: split of all its utterances: "train", "validation" or "test".

    Returns:
        Utterances with ids such as `id10270/x6uYqmx31kE/00001.wav`, as trial lists have them.

    Raises:
        ValueError: no such folder, audio beside the speakers' folders, a speaker without an utterance.

    Sibling: `qmargin.data.read_image_folder`.
    """
    ids = audio_below(root)
    stray = [name for name in ids if "/" not in name]
    if stray:
        raise ValueError(f"{root} must hold a folder for each speaker: {stray[0]} lies beside them; move it into one")
    speakers = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    silent = sorted(speakers - {name.partition("/")[0] for name in ids})
    if silent:
        raise ValueError(f"the speaker {silent[0]!r} has no recording in {root}: add some or remove the folder")
    table = Manifest(root, tuple(ids), tuple(name.partition("/")[0] for name in ids), (split,) * len(ids))
    return Utterances(table, tuple(ids))


def audio_below(root: Path) -> list[str]:
    """Paths of the audio files below a folder, relative to it, sorted; a ValueError where there are none."""
    if not root.is_dir():
        raise ValueError(f"no folder {root}: give the one that holds the recordings")
    found = []
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        place = Path(folder).relative_to(root)
        found += [
            (place / name).as_posix()
            for name in names
            if name.lower().endswith(AUDIO_EXTENSIONS) and not name.startswith(".")
        ]
    if not found:
        raise ValueError(f"no audio below {root}: looked for {' '.join(AUDIO_EXTENSIONS)} (m4a is converted first)")
    return sorted(found)
