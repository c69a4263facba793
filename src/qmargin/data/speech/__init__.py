"""Speech: lists of utterances -> segments read where they lie -> noise, speed -> filter banks, in a seeded order.

>>> from qmargin.data.speech import FrontEnd
>>> FrontEnd.wespeaker().window
'hamming'
"""

from qmargin.data.speech.augment import SpeechAugmentation as SpeechAugmentation
from qmargin.data.speech.batches import SpeechBatch as SpeechBatch
from qmargin.data.speech.batches import SpeechBatches as SpeechBatches
from qmargin.data.speech.cache import FeatureCache as FeatureCache
from qmargin.data.speech.corrupt import Noise as Noise
from qmargin.data.speech.corrupt import RecordedNoise as RecordedNoise
from qmargin.data.speech.corrupt import SyntheticNoise as SyntheticNoise
from qmargin.data.speech.cuts import read_lhotse_cuts as read_lhotse_cuts
from qmargin.data.speech.fbank import FrontEnd as FrontEnd
from qmargin.data.speech.fbank import fbank as fbank
from qmargin.data.speech.fbank import recording_features as recording_features
from qmargin.data.speech.folders import read_speaker_folders as read_speaker_folders
from qmargin.data.speech.kaldi import read_kaldi as read_kaldi
from qmargin.data.speech.lhotse import read_lhotse as read_lhotse
from qmargin.data.speech.shar import read_shar as read_shar
from qmargin.data.speech.sources import KaldiFolders as KaldiFolders
from qmargin.data.speech.sources import LhotseCuts as LhotseCuts
from qmargin.data.speech.sources import LhotseManifests as LhotseManifests
from qmargin.data.speech.sources import LhotseShar as LhotseShar
from qmargin.data.speech.sources import SpeakerFolders as SpeakerFolders
from qmargin.data.speech.sources import SpeechSource as SpeechSource
from qmargin.data.speech.sources import SpeechTable as SpeechTable
from qmargin.data.speech.sources import WeSpeakerRaw as WeSpeakerRaw
from qmargin.data.speech.sources import WeSpeakerShards as WeSpeakerShards
from qmargin.data.speech.spec_augment import SpecAugment as SpecAugment
from qmargin.data.speech.spec_augment import spec_augment as spec_augment
from qmargin.data.speech.tables import read_speech_table as read_speech_table
from qmargin.data.speech.utterances import Utterances as Utterances
from qmargin.data.speech.wav import AudioFormat as AudioFormat
from qmargin.data.speech.wav import Recording as Recording
from qmargin.data.speech.wav import read_segment as read_segment
from qmargin.data.speech.wav import read_wave as read_wave
from qmargin.data.speech.wespeaker import read_wespeaker_raw as read_wespeaker_raw
from qmargin.data.speech.wespeaker import read_wespeaker_shards as read_wespeaker_shards

__all__ = [
    "AudioFormat",
    "FeatureCache",
    "FrontEnd",
    "KaldiFolders",
    "LhotseCuts",
    "LhotseManifests",
    "LhotseShar",
    "Noise",
    "RecordedNoise",
    "Recording",
    "SpeakerFolders",
    "SpecAugment",
    "SpeechAugmentation",
    "SpeechBatch",
    "SpeechBatches",
    "SpeechSource",
    "SpeechTable",
    "SyntheticNoise",
    "Utterances",
    "WeSpeakerRaw",
    "WeSpeakerShards",
    "fbank",
    "read_kaldi",
    "read_lhotse",
    "read_lhotse_cuts",
    "read_segment",
    "read_shar",
    "read_speaker_folders",
    "read_speech_table",
    "read_wave",
    "read_wespeaker_raw",
    "read_wespeaker_shards",
    "recording_features",
    "spec_augment",
]
