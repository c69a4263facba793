"""Backbones: image -> raw embedding, one architecture a file; a config builds its network.

>>> from qmargin.backbones import IResNetConfig
>>> backbone = IResNetConfig(depth=18, width=16, embedding_dim=128).build()
"""

from qmargin.backbones.arcface_torch import read_arcface_torch as read_arcface_torch
from qmargin.backbones.arcface_torch import write_arcface_torch as write_arcface_torch
from qmargin.backbones.iresnet import IResNet as IResNet
from qmargin.backbones.iresnet import IResNetConfig as IResNetConfig
from qmargin.backbones.mobilefacenet import MobileFaceNet as MobileFaceNet
from qmargin.backbones.mobilefacenet import MobileFaceNetConfig as MobileFaceNetConfig

__all__ = [
    "IResNet",
    "IResNetConfig",
    "MobileFaceNet",
    "MobileFaceNetConfig",
    "read_arcface_torch",
    "write_arcface_torch",
]
