"""qmargin: train and judge biometric verification models with sparse alpha-divergence losses.

The names below are the public ones, grouped by stage; everything else may change between versions.

    >>> from qmargin import DenseHead, QMargin
    >>> head = DenseHead(num_classes=93_431, embedding_dim=512, loss=QMargin(alpha=1.5, margin=0.1, scale=6))
"""

from qmargin.divergence import alpha_loss as alpha_loss
from qmargin.divergence import softargmax as softargmax
from qmargin.heads import DenseHead as DenseHead
from qmargin.heads import ShardedHead as ShardedHead
from qmargin.heads import StreamingHead as StreamingHead
from qmargin.losses import A3M as A3M
from qmargin.losses import AlphaLoss as AlphaLoss
from qmargin.losses import ArcFace as ArcFace
from qmargin.losses import CosFace as CosFace
from qmargin.losses import NormFace as NormFace
from qmargin.losses import QMargin as QMargin

__version__ = "0.1.0"
__all__ = [
    "A3M",
    "AlphaLoss",
    "ArcFace",
    "CosFace",
    "DenseHead",
    "NormFace",
    "QMargin",
    "ShardedHead",
    "StreamingHead",
    "alpha_loss",
    "softargmax",
]
