"""Where utterances come from, as configs: each has a `read()` that returns them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from qmargin.data.speech.cuts import read_lhotse_cuts
from qmargin.data.speech.folders import read_speaker_folders
from qmargin.data.speech.kaldi import read_kaldi
from qmargin.data.speech.lhotse import read_lhotse
from qmargin.data.speech.shar import read_shar
from qmargin.data.speech.tables import read_speech_table
from qmargin.data.speech.utterances import Utterances, joined
from qmargin.data.speech.wespeaker import read_wespeaker_raw, read_wespeaker_shards


@dataclass(frozen=True, kw_only=True)
class _Places(ABC):
    """Places of one format: people to train on and, where there are any, others to choose settings and to judge on."""

    train: Path
    """The speakers to train on."""
    test: Path | None = None
    """Other speakers, to judge on pair by pair; trial lists need none."""
    validation: Path | None = None
    """Other speakers again, to choose settings on, where none are held out of `train`."""

    def read(self) -> Utterances:
        """The utterances of all; errors are those of the format's reader."""
        places = {"train": self.train, "validation": self.validation, "test": self.test}
        return joined(
            {f"{place} ({split})": self._part(place, split) for split, place in places.items() if place is not None}
        )

    @abstractmethod
    def _part(self, place: Path, split: str) -> Utterances:
        """The utterances of one place."""


@dataclass(frozen=True, kw_only=True)
class SpeakerFolders(_Places):
    """Folders `speaker/.../utterance.wav`, as VoxCeleb is laid out (`read_speaker_folders`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_speaker_folders(place, split)


@dataclass(frozen=True, kw_only=True)
class KaldiFolders(_Places):
    """Kaldi data directories: wav.scp without commands, utt2spk, segments (`read_kaldi`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_kaldi(place, split)


@dataclass(frozen=True, kw_only=True)
class WeSpeakerRaw(_Places):
    """WeSpeaker's raw lists: JSON lines of key, wav and spk (`read_wespeaker_raw`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_wespeaker_raw(place, split)


@dataclass(frozen=True, kw_only=True)
class WeSpeakerShards(_Places):
    """WeSpeaker's lists of shards: tar files of wav and spk members (`read_wespeaker_shards`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_wespeaker_shards(place, split)


@dataclass(frozen=True, kw_only=True)
class LhotseManifests:
    """A pair of lhotse manifests of the speakers to train on."""

    recordings: Path
    """Recordings, .jsonl or .jsonl.gz."""
    supervisions: Path
    """Supervisions, .jsonl or .jsonl.gz."""

    def read(self) -> Utterances:
        """The utterances; errors are those of `read_lhotse`."""
        return read_lhotse(self.recordings, self.supervisions, "train")


@dataclass(frozen=True, kw_only=True)
class LhotseCuts(_Places):
    """lhotse's cut manifests, .jsonl or .jsonl.gz (`read_lhotse_cuts`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_lhotse_cuts(place, split)


@dataclass(frozen=True, kw_only=True)
class LhotseShar(_Places):
    """Folders of lhotse's Shar: shards of cuts and of their recordings (`read_shar`)."""

    def _part(self, place: Path, split: str) -> Utterances:
        return read_shar(place, split)


@dataclass(frozen=True, kw_only=True)
class SpeechTable:
    """A CSV file with the columns path, split and one of speakers; paths are relative to its folder."""

    path: Path
    """The CSV file, UTF-8 with a header line."""
    speaker_column: str = "speaker"
    """Header of the column of speakers."""
    train: tuple[str, ...] = ("train",)
    """Splits of the file to train on."""
    validation: tuple[str, ...] = ("validation",)
    """Splits of the file to choose settings on."""
    test: tuple[str, ...] = ("test",)
    """Splits of the file to judge on."""
    left_out: tuple[str, ...] = ()
    """Splits of the file whose rows are not used."""

    def __post_init__(self) -> None:
        """Refuse a split of two uses."""
        named = [*self.train, *self.validation, *self.test, *self.left_out]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"SpeechTable: the split {twice[0]!r} has two uses; name it once")

    def read(self) -> Utterances:
        """The utterances; errors are those of `read_speech_table`."""
        uses = {"train": self.train, "validation": self.validation, "test": self.test, None: self.left_out}
        splits = {name: use for use, names in uses.items() for name in names}
        return read_speech_table(self.path, splits, self.speaker_column)


SpeechSource = (
    SpeakerFolders
    | KaldiFolders
    | WeSpeakerRaw
    | WeSpeakerShards
    | LhotseManifests
    | LhotseCuts
    | LhotseShar
    | SpeechTable
)
