"""Heads own the class weights (prototypes) and apply a loss to the cosines with them.

One contract, `qmargin.heads.contract.Head`; `DenseHead` is its specification, `StreamingHead` is for many classes.
"""

from qmargin.heads.config import HeadConfig as HeadConfig
from qmargin.heads.contract import Head as Head
from qmargin.heads.contract import HeadStats as HeadStats
from qmargin.heads.dense import DenseHead as DenseHead
from qmargin.heads.sharded import ShardedHead as ShardedHead
from qmargin.heads.streaming import StreamingHead as StreamingHead

__all__ = ["DenseHead", "Head", "HeadConfig", "HeadStats", "ShardedHead", "StreamingHead"]
