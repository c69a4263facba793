"""A user's own ONNX model: embedded as a run is, and refused where it is no image model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qmargin.data import OrlFaces, decode_image, normalise
from qmargin.scoring import embed_files_onnx
from qmargin.scoring.onnx_model import OnnxBackbone

HEIGHT, WIDTH, DIM = 112, 92, 5
Vectors = NDArray[np.float32]


def export(path: Path, batch: int | str, shape: tuple[int | str, ...] = (1, HEIGHT, WIDTH)) -> Vectors:
    """A model that multiplies the flattened image by a matrix, which is returned."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to make a model")
    pytest.importorskip("onnxruntime", reason="needs the extra qmargin[onnx]")
    matrix = np.random.default_rng(0).normal(size=(HEIGHT * WIDTH, DIM)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["rows"]),
        onnx.helper.make_node("MatMul", ["rows", "matrix"], ["vectors"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "flatten",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [batch, *shape])],
        [onnx.helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, [batch, DIM])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return matrix


@pytest.mark.parametrize("batch", [1, "batch"])
def test_an_embedding_is_that_of_the_image_plus_that_of_its_mirror(batch: int | str, tmp_path: Path) -> None:
    matrix = export(tmp_path / "model.onnx", batch)
    manifest = OrlFaces().read().subset("test")
    files = [manifest.root / path for path in manifest.paths[:3]]
    found = embed_files_onnx(tmp_path / "model.onnx", files)
    picture = decode_image(files[2], HEIGHT, WIDTH, 1, "exact")  # (height, width, channels)
    both = normalise(torch.from_numpy(np.stack([picture, picture[:, ::-1]])).permute(0, 3, 1, 2)).flatten(1)
    np.testing.assert_allclose(found.vectors[2], (both.numpy() @ matrix).sum(0), rtol=1e-3, atol=1e-3)
    assert found.vectors.shape == (3, DIM)


def test_what_is_no_image_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(path, "batch", (HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"the input must be one \(batch, 1 or 3 channels, height, width\)"):
        OnnxBackbone(path)
    export(path, "batch", (1, "height", "width"))
    with pytest.raises(ValueError, match="of fixed sizes"):
        OnnxBackbone(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is no ONNX model that onnxruntime can run"):
        OnnxBackbone(path)
    with pytest.raises(ValueError, match="no model at"):
        OnnxBackbone(tmp_path / "nothing.onnx")


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"ONNX models need onnxruntime: pip install 'qmargin\[onnx\]'"):
        OnnxBackbone(tmp_path / "model.onnx")
