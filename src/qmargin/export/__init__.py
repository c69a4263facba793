"""What leaves a run: an ONNX model that was compared with torch, a model file, a model card."""

from qmargin.export.card import model_card as model_card
from qmargin.export.onnx_file import export_onnx as export_onnx
from qmargin.export.onnx_file import onnx_difference as onnx_difference
from qmargin.export.trained import TrainedModel as TrainedModel
from qmargin.export.trained import read_trained as read_trained

__all__ = ["TrainedModel", "export_onnx", "model_card", "onnx_difference", "read_trained"]
