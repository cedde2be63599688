# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.safetensors import save_safetensors
from paddlex_ml.models import head_layout


def test_every_entry_is_read_back_as_it_was(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_safetensors(model, info, path)
    expected, found = weights.to_arrays(model.state_dict()), weights.read(path)
    assert len(expected) > 80
    assert found.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(found[name], expected[name])] == []
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("tokens", [None, "first_patch"])
def test_the_file_says_what_the_model_is(tmp_path: Path, tokens: str | None) -> None:
    path, info = tmp_path / "w.safetensors", ModelInfo("M", ["a, b", "蓝"], 96, tokens)
    save_safetensors(paddle.nn.Linear(2, 3), info, path)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {
            "model_name": "M",
            "label_names": '["a, b", "蓝"]',
            "image_size": "96",
            **({"decoder_tokens": tokens} if tokens else {}),
        }
    assert checkpoint.read_model_info(path) == info


def test_an_earlier_export_is_replaced_and_a_file_of_the_user_is_not(
    info: ModelInfo, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    for size in (2, 3):
        save_safetensors(paddle.nn.Linear(size, 3), info, path)
    assert weights.read(path)["weight"].shape == (3, 3)
    save_file({"weight": np.ones(2, np.float32)}, path, metadata={"format": "pt"})
    with pytest.raises(PaddlexMLError) as caught:
        save_safetensors(paddle.nn.Linear(2, 3), info, path)
    assert caught.value.what == (
        "a file that was not exported by this tool has the name of the export"
    )
    assert (caught.value.where, caught.value.fix[:9]) == (str(path), "rename it")
    assert weights.read(path)["weight"].shape == (2,)


def test_a_head_of_groups_and_its_order_of_classes_travel_with_the_weights(
    grouped: tuple[paddle.nn.Layer, ModelInfo], tmp_path: Path
) -> None:
    model, info = grouped
    save_safetensors(model, info, tmp_path / "model.safetensors")
    found = checkpoint.read_embedded_model_info(tmp_path / "model.safetensors")
    assert found is not None
    assert found.num_queries == info.num_queries
    layout = head_layout.read(weights.read(tmp_path / "model.safetensors"), "fc.")
    assert layout is not None
    of_class = layout.class_queries
    assert (None if of_class is None else list(of_class)) == info.class_queries
    assert layout.fits(len(info.label_names))
