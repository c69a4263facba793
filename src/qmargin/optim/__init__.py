"""Optimisers of prototypes: rows move in place, chunk by chunk, from gradients that hold only the rows they touch.

A gradient is dense (rows, dim) or a hybrid sparse COO tensor with one sparse dimension, coalesced or not.
"""

from qmargin.optim.adamw import RowAdamW as RowAdamW
from qmargin.optim.clip import clip_grad_norm_ as clip_grad_norm_
from qmargin.optim.rows import RowListener as RowListener
from qmargin.optim.rows import RowOptimizer as RowOptimizer
from qmargin.optim.rows import Update as Update
from qmargin.optim.sgd import RowSGD as RowSGD

__all__ = ["RowAdamW", "RowListener", "RowOptimizer", "RowSGD", "Update", "clip_grad_norm_"]
