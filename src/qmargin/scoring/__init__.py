"""Scoring: checkpoint -> embeddings -> trial scores. No labels are looked at, no figure is computed."""

from qmargin.scoring.cosine import pair_cosines as pair_cosines
from qmargin.scoring.embed import Embeddings as Embeddings
from qmargin.scoring.embed import embed as embed
from qmargin.scoring.embed import embed_files_onnx as embed_files_onnx
from qmargin.scoring.embed import embed_files_torchscript as embed_files_torchscript
from qmargin.scoring.embed import embed_samples as embed_samples
from qmargin.scoring.features import Embedder as Embedder
from qmargin.scoring.features import Features as Features
from qmargin.scoring.models import embed_files_with as embed_files_with
from qmargin.scoring.models import embed_recordings_with as embed_recordings_with
from qmargin.scoring.models import open_embedder as open_embedder
from qmargin.scoring.models import open_speech_embedder as open_speech_embedder
from qmargin.scoring.runs import embed_files as embed_files
from qmargin.scoring.runs import embed_run as embed_run
from qmargin.scoring.speech import SpeechEmbedder as SpeechEmbedder
from qmargin.scoring.templates import POOLINGS as POOLINGS
from qmargin.scoring.templates import Pooling as Pooling
from qmargin.scoring.templates import find_pooling as find_pooling
from qmargin.scoring.templates import pair_dots as pair_dots
from qmargin.scoring.templates import pool_templates as pool_templates

__all__ = [
    "POOLINGS",
    "Embedder",
    "Embeddings",
    "Features",
    "Pooling",
    "SpeechEmbedder",
    "embed",
    "embed_files",
    "embed_files_onnx",
    "embed_files_torchscript",
    "embed_files_with",
    "embed_recordings_with",
    "embed_run",
    "embed_samples",
    "find_pooling",
    "open_embedder",
    "open_speech_embedder",
    "pair_cosines",
    "pair_dots",
    "pool_templates",
]
