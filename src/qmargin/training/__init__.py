"""Training: a frozen config, one loop, checkpoints that hold everything."""

from qmargin.training.config import DataConfig as DataConfig
from qmargin.training.config import OptimizerConfig as OptimizerConfig
from qmargin.training.config import TrainConfig as TrainConfig
from qmargin.training.folder import RunFolder as RunFolder
from qmargin.training.loop import train as train
from qmargin.training.options import AveragingConfig as AveragingConfig
from qmargin.training.options import ValidationConfig as ValidationConfig
from qmargin.training.signals import Interrupted as Interrupted
from qmargin.training.speech_data import SpeechDataConfig as SpeechDataConfig
from qmargin.training.validation import Validator as Validator

__all__ = [
    "AveragingConfig",
    "DataConfig",
    "Interrupted",
    "OptimizerConfig",
    "RunFolder",
    "SpeechDataConfig",
    "TrainConfig",
    "ValidationConfig",
    "Validator",
    "train",
]
