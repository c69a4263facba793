"""Scoring: checkpoint -> embeddings -> trial scores. No labels are looked at, no figure is computed."""

from qmargin.scoring.cosine import pair_cosines as pair_cosines
from qmargin.scoring.embed import Embeddings as Embeddings
from qmargin.scoring.embed import embed as embed
from qmargin.scoring.embed import embed_files as embed_files
from qmargin.scoring.embed import embed_files_onnx as embed_files_onnx
from qmargin.scoring.embed import embed_run as embed_run

__all__ = ["Embeddings", "embed", "embed_files", "embed_files_onnx", "embed_run", "pair_cosines"]
