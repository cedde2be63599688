# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.artifacts import onnx_metadata
from paddlex_ml.errors import PaddlexMLError

onnx = pytest.importorskip("onnx")
TEXTS = {"": "", "a": "x" * 300, "蓝": '["ü", 1]'}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.arange(5, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, kind, [5]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, TEXTS)
    onnx.save(model, tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def test_texts_are_those_that_the_package_onnx_reads(path: Path) -> None:
    assert onnx_metadata.read(path) == TEXTS
    onnx_metadata.replace(path, {"b": "猫", "c": "y" * 20_000})
    model = onnx.load(path)
    assert {p.key: p.value for p in model.metadata_props} == {"b": "猫", "c": "y" * 20_000}
    assert onnx_metadata.read(path) == {"b": "猫", "c": "y" * 20_000}
    onnx.helper.set_model_props(model, TEXTS)
    onnx_metadata.replace(path, TEXTS)
    assert onnx.load(path) == model


def test_the_digests_of_weights_depend_neither_on_texts_nor_on_names(path: Path) -> None:
    model = onnx.load(path)
    more = onnx.numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), "w_9")
    model.graph.initializer.append(more)
    onnx.save(model, path)
    before = onnx_metadata.digest_weights(path)
    assert len(set(before)) == 2
    onnx_metadata.replace(path, {"b": "other"})
    assert onnx_metadata.digest_weights(path) == before
    more.name = "w_10"
    del model.graph.initializer[:]
    model.graph.initializer.extend([more, onnx.load(path).graph.initializer[0]])
    onnx.save(model, path)
    assert onnx_metadata.digest_weights(path) == before
    other = onnx.numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w_10")
    model.graph.initializer[0].CopyFrom(other)
    onnx.save(model, path)
    assert onnx_metadata.digest_weights(path) != before


def test_every_cut_and_every_other_file_is_refused_or_has_no_texts(path: Path) -> None:
    whole = path.read_bytes()
    refused = 0
    for content in [*(whole[:end] for end in range(len(whole))), b"no model", b"\xff" * 99]:
        path.write_bytes(content)
        try:
            found = onnx_metadata.read(path)
        except PaddlexMLError:
            refused += 1
        else:
            assert TEXTS.items() >= found.items()
    assert refused > 0.8 * len(whole)
    with pytest.raises(PaddlexMLError, match="not an ONNX file, or not a whole one"):
        onnx_metadata.replace(path, TEXTS)
    assert path.read_bytes() == b"\xff" * 99
    assert [entry.name for entry in path.parent.iterdir()] == ["a.onnx"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="cannot be read: No such file"):
        onnx_metadata.read(tmp_path / "a.onnx")
