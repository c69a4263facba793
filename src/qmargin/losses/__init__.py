"""Losses of cosines: pure functions `loss(cosines, labels) -> (batch,)`, all rows of one family.

`AlphaLoss(alpha, scale, margin)` is the family; ArcFace, CosFace, NormFace, Q-Margin and A3M are named rows of it.
"""

from qmargin.losses.family import AlphaLoss as AlphaLoss
from qmargin.losses.margins import AdditiveMargin as AdditiveMargin
from qmargin.losses.margins import AngularMargin as AngularMargin
from qmargin.losses.margins import LogPriorMargin as LogPriorMargin
from qmargin.losses.margins import Margin as Margin
from qmargin.losses.margins import NoMargin as NoMargin
from qmargin.losses.margins import ReferenceAngularMargin as ReferenceAngularMargin
from qmargin.losses.margins import ReferenceMargin as ReferenceMargin
from qmargin.losses.members import A3M as A3M
from qmargin.losses.members import ArcFace as ArcFace
from qmargin.losses.members import CosFace as CosFace
from qmargin.losses.members import NormFace as NormFace
from qmargin.losses.members import QMargin as QMargin
from qmargin.losses.schedule import Ramp as Ramp
from qmargin.losses.schedule import ScheduledLoss as ScheduledLoss
from qmargin.losses.support import SupportControl as SupportControl

__all__ = [
    "A3M",
    "AdditiveMargin",
    "AlphaLoss",
    "AngularMargin",
    "ArcFace",
    "CosFace",
    "LogPriorMargin",
    "Margin",
    "NoMargin",
    "NormFace",
    "QMargin",
    "Ramp",
    "ReferenceAngularMargin",
    "ReferenceMargin",
    "ScheduledLoss",
    "SupportControl",
]
