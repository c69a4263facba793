"""The alpha-divergence, its soft maximum and the losses it generates: logits in, no cosines, no margins, no parameters.

Notation (docs/definitions.md): logits `theta` (batch, classes), labels `y` (batch,), reference measure `q` > 0 that
need not sum to one, posterior `p`, threshold `tau`. The base measure is the UNIT measure q_j = 1, never 1/classes.
"""

from qmargin.divergence.alpha_loss import LossTerms as LossTerms
from qmargin.divergence.alpha_loss import alpha_loss as alpha_loss
from qmargin.divergence.alpha_loss import alpha_loss_terms as alpha_loss_terms
from qmargin.divergence.deformed import check_alpha as check_alpha
from qmargin.divergence.deformed import deformed_exp as deformed_exp
from qmargin.divergence.softargmax import softargmax as softargmax
from qmargin.divergence.threshold import threshold as threshold

__all__ = ["LossTerms", "alpha_loss", "alpha_loss_terms", "check_alpha", "deformed_exp", "softargmax", "threshold"]
