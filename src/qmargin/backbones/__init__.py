"""Backbones: image or features of speech -> raw embedding, one architecture a file; a config builds its network.

>>> from qmargin.backbones import IResNetConfig
>>> backbone = IResNetConfig(depth=18, width=16, embedding_dim=128).build()
"""

from qmargin.backbones.arcface_torch import read_arcface_torch as read_arcface_torch
from qmargin.backbones.arcface_torch import write_arcface_torch as write_arcface_torch
from qmargin.backbones.cam_plus_plus import CamPlusPlus as CamPlusPlus
from qmargin.backbones.cam_plus_plus import CamPlusPlusConfig as CamPlusPlusConfig
from qmargin.backbones.ecapa import Ecapa as Ecapa
from qmargin.backbones.ecapa import EcapaConfig as EcapaConfig
from qmargin.backbones.iresnet import IResNet as IResNet
from qmargin.backbones.iresnet import IResNetConfig as IResNetConfig
from qmargin.backbones.mobilefacenet import MobileFaceNet as MobileFaceNet
from qmargin.backbones.mobilefacenet import MobileFaceNetConfig as MobileFaceNetConfig
from qmargin.backbones.speaker_resnet import SpeakerResNet as SpeakerResNet
from qmargin.backbones.speaker_resnet import SpeakerResNetConfig as SpeakerResNetConfig
from qmargin.backbones.wespeaker import without_projection as without_projection

__all__ = [
    "CamPlusPlus",
    "CamPlusPlusConfig",
    "Ecapa",
    "EcapaConfig",
    "IResNet",
    "IResNetConfig",
    "MobileFaceNet",
    "MobileFaceNetConfig",
    "SpeakerResNet",
    "SpeakerResNetConfig",
    "read_arcface_torch",
    "without_projection",
    "write_arcface_torch",
]
