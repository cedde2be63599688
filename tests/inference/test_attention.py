# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.export.pdmodel import save_pdmodel
from paddlex_ml.export.static import save_static
from paddlex_ml.inference import attention
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.models.ml_decoder import HEADS, MLDecoder
from tests.shallow import shallow_models

LABELS = ["cat", "dog", "猫", "7", "red square"]
LCNET, CLIP = "PP-LCNet_x1_0_ML", "CLIP_vit_base_patch16_448_ML"


def write_onnx(model: paddle.nn.Layer, info: ModelInfo, folder: Path) -> None:
    pytest.importorskip("paddle2onnx")
    save_onnx(model, info, folder, 17)


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, size, size), np.float32)


def head_input(model: paddle.nn.Layer, pixels: np.ndarray) -> tuple[MLDecoder, np.ndarray]:
    """The head of a model, and what the backbone gives it: [B, D, T]."""
    head = next(layer for layer in model.sublayers() if isinstance(layer, MLDecoder))
    given: list[np.ndarray] = []
    note: Any = lambda _, inputs: given.append(inputs[0].numpy())  # noqa: E731
    hook = head.register_forward_pre_hook(note)
    model.eval()
    model(paddle.to_tensor(pixels))
    hook.remove()
    return head, given[0].reshape(*given[0].shape[:2], -1)


def attention_by_hand(model: paddle.nn.Layer, pixels: np.ndarray) -> np.ndarray:
    """The mean over the heads, [B, Q, T], from the weights and what the head is given."""
    head, given = head_input(model, pixels)
    w = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    layer, attend = "decoder.layers.0.", "decoder.layers.0.cross_attn."

    tokens = np.einsum("bdt,ed->bte", given, w["input_proj.weight"][:, :, 0, 0])
    tokens = np.maximum(tokens + w["input_proj.bias"], 0)  # [B, T, E]
    queries = 2 * w["query_pos_embed.weight"]  # [Q, E]
    centred = queries - queries.mean(axis=1, keepdims=True)
    queries = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    queries = queries * w[f"{layer}norm1.weight"] + w[f"{layer}norm1.bias"]
    q = queries @ w[f"{attend}q_proj.weight"] + w[f"{attend}q_proj.bias"]
    k = tokens @ w[f"{attend}k_proj.weight"] + w[f"{attend}k_proj.bias"]
    q = q.reshape(len(q), HEADS, -1)  # [Q, heads, 96]
    k = k.reshape(*k.shape[:2], HEADS, -1)  # [B, T, heads, 96]
    products = np.exp(np.einsum("qhe,bthe->bhqt", q, k) / np.sqrt(q.shape[-1]))
    return (products / products.sum(axis=-1, keepdims=True)).mean(axis=1)


def open_model(folder: Path, run_mode: str | None = None) -> StaticModel:
    model = StaticModel(folder, "cpu", run_mode)
    model.require_attention()
    return model


def all_maps(model: StaticModel, pixels: np.ndarray) -> np.ndarray:
    """The maps of all classes, [B, C, h, w]."""
    found = model.attend(pixels, [range(len(model.label_names))] * len(pixels))
    return np.stack([[maps[c] for c in range(len(model.label_names))] for maps in found])


@pytest.fixture(params=["lcnet", "clip"])
def small(request, build_seeing) -> tuple[paddle.nn.Layer, ModelInfo]:
    """A model with random weights: attention behind convolutions, and behind other attention."""
    name, size = (LCNET, 96) if request.param == "lcnet" else (CLIP, 48)
    with shallow_models():
        return build_seeing(name, size), ModelInfo(name, LABELS, size)


@pytest.mark.parametrize(
    "kind",
    [
        *("paddle", "onnx"),
        *(
            pytest.param(k, marks=pytest.mark.heavy)
            for k in ("mkldnn", "pdmodel", "pdmodel on mkldnn")
        ),
    ],
)
def test_maps_of_every_format_equal_those_by_hand(small, tmp_path: Path, kind: str):
    model, info = small
    if kind == "onnx":
        write_onnx(model, info, tmp_path / "inference")
    elif kind.startswith("pdmodel"):
        save_pdmodel(model, info, tmp_path / "inference")
    else:
        save_static(model, info, tmp_path / "inference")
    mode = {"onnx": "onnxruntime", "paddle": "paddle", "pdmodel": "paddle"}.get(kind, "mkldnn")
    static_model = open_model(tmp_path / "inference", mode)
    for count in (1, 5, 2):
        pixels = images(count, info.image_size)
        expected = attention_by_hand(model, pixels).reshape(count, len(LABELS), 3, 3)
        found = all_maps(static_model, pixels)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found.sum(axis=(2, 3)) - 1).max() < 1e-5
        assert np.ptp(expected, axis=(2, 3)).min() > 0.01


@pytest.mark.parametrize(
    ("queries", "query_of_class"), [(2, [0, 0, 0, 1, 1]), (4, [0, 0, 1, 1, 2])]
)
def test_classes_that_share_a_query_share_its_map(build_seeing, tmp_path, queries, query_of_class):
    model = build_seeing(LCNET, 64, queries)
    save_static(model, ModelInfo(LCNET, LABELS, 64), tmp_path / "inference")
    pixels = images(2, 64)
    expected = attention_by_hand(model, pixels)[:, query_of_class].reshape(2, 5, 2, 2)
    static_model = open_model(tmp_path / "inference")
    assert np.abs(all_maps(static_model, pixels) - expected).max() < 1e-5
    assert static_model.classes_per_map == -(-len(LABELS) // queries)


@pytest.mark.parametrize("kind", ["static", "onnx", "onnx alone"])
def test_classes_in_another_order_have_the_maps_of_their_queries(build_seeing, tmp_path, kind):
    layout = HeadLayout(5, 3, 3, (8, 0, 4, 1, 3))
    model = build_seeing(LCNET, 64, layout=layout)
    info = ModelInfo(LCNET, LABELS, 64, num_queries=3, class_queries=[2, 0, 1, 0, 1])
    folder = tmp_path / "inference"
    save_static(model, info, folder) if kind == "static" else write_onnx(model, info, folder)
    if kind == "onnx alone":
        (folder / "inference.yml").unlink()
    pixels = images(2, 64)
    expected = attention_by_hand(model, pixels)[:, [2, 0, 1, 0, 1]].reshape(2, 5, 2, 2)
    static_model = open_model(folder)
    assert np.abs(all_maps(static_model, pixels) - expected).max() < 1e-5
    assert np.ptp(expected, axis=1).max() > 0.01
    assert static_model.classes_per_map == 2


def test_a_query_that_the_graph_does_not_have_is_refused():
    found = np.full((2, 8, 3, 4), 0.25, np.float32)
    with pytest.raises(PaddlexMLError, match="it has 3 queries, and class_queries names 3"):
        attention.open_network(
            lambda probe: (lambda batch: found, found),
            images(2, 64),
            classes=5,
            where="folder",
            class_queries=(0, 1, 2, 3, 0),
        )


@pytest.mark.parametrize(
    ("kind", "says_so"), [("static", True), ("static", False), ("onnx", False)]
)
def test_clip_with_one_token_has_no_map(tmp_path, kind, says_so):
    with shallow_models():
        model = zoo.build(CLIP, 3, tokens="first_patch")
    info = ModelInfo(CLIP, LABELS[:3], 48, decoder_tokens="first_patch" if says_so else None)
    folder = tmp_path / "inference"
    save_static(model, info, folder) if kind == "static" else write_onnx(model, info, folder)
    with pytest.raises(PaddlexMLError, match="its head sees one token") as caught:
        StaticModel(folder, "cpu").require_attention()
    assert caught.value.where == str(folder)
    assert "-o Train.decoder_tokens=all_patches" in caught.value.fix


def test_images_as_small_as_one_token_need_larger_ones(tmp_path: Path):
    model = zoo.build(LCNET, 3)
    save_static(model, ModelInfo(LCNET, LABELS[:3], 32), tmp_path / "inference")
    with pytest.raises(PaddlexMLError, match=r"32 x 32 pixels are one token(.|\n)*image_size"):
        StaticModel(tmp_path / "inference", "cpu").require_attention()


@pytest.mark.parametrize("kind", ["static", "onnx"])
def test_a_graph_without_attention_is_refused(exported, tmp_path: Path, kind: str):
    layers = paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 5, 3), paddle.nn.AdaptiveAvgPool2D(1), paddle.nn.Flatten()
    )
    info = ModelInfo(LCNET, LABELS, 64)
    folder = tmp_path / "inference"
    save_static(layers, info, folder) if kind == "static" else write_onnx(layers, info, folder)
    with pytest.raises(PaddlexMLError, match=r"no map(.|\n)*no softmax(.|\n)*without explain"):
        StaticModel(folder, "cpu").require_attention()


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((2, 5), "2 x 5, is no attention"),
        ((2, 8, 6, 4), "6 queries for 5 classes"),
        ((2, 8, 5, 3), "3 tokens are no grid over 64 x 64 pixels"),
        ((1, 8, 5, 4), "1 x 8 x 5 x 4, is no attention"),
    ],
)
def test_a_softmax_that_is_something_else_is_refused(shape, complaint):
    found = np.full(shape, 1 / shape[-1], np.float32)
    with pytest.raises(PaddlexMLError, match=complaint):
        attention.open_network(
            lambda probe: (lambda batch: found, found), images(2, 64), classes=5, where="folder"
        )


@pytest.mark.parametrize(
    ("tokens", "width", "height", "grid"),
    [
        (196, 448, 448, (14, 14)),  # convolutions
        (784, 448, 448, (28, 28)),  # CLIP with all patches
        (25, 160, 160, (5, 5)),
        (16, 100, 100, (4, 4)),  # the last cells are padded
        (49, 100, 100, (7, 7)),
        (12, 128, 96, (3, 4)),  # rows first
        (256, 224, 224, (16, 16)),  # patches of 14 pixels
        (197, 224, 224, None),
    ],
)
def test_tokens_are_a_grid_of_square_cells(tokens, width, height, grid):
    assert attention.find_grid(tokens, width, height) == grid


def test_only_maps_that_are_wanted_are_made_and_none_costs_nothing(exported: Path):
    model = open_model(exported)
    pixels = images(3, 64)
    first, second, third = model.attend(pixels, [[4], [], np.array([1, 0])])
    assert (list(first), list(second), list(third)) == ([4], [], [1, 0])
    assert first[4].base is None  # it would keep the maps of all classes in memory
    model._attention._network = None
    assert model.attend(pixels, [[], [], []]) == [{}, {}, {}]


def test_the_second_network_is_loaded_once_and_when_it_is_asked_for(exported: Path, monkeypatch):
    loaded = []
    load = StaticModel._load_attention

    def count(*arguments):
        loaded.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(StaticModel, "_load_attention", count)
    model = StaticModel(exported, "cpu")
    model.run(images(2, 64))
    assert loaded == []
    model.require_attention()
    model.require_attention()
    assert len(loaded) == 1


def test_a_folder_of_older_paddlex_needs_no_more_than_its_files(exported: Path, tmp_path: Path):
    """No key of inference.yml is needed that PaddleX does not write."""
    folder = shutil.copytree(exported, tmp_path / "published")
    content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    del content["Global"]["model_name"]
    (folder / "inference.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    pixels = images(2, 64)
    found, expected = (all_maps(open_model(place), pixels) for place in (folder, exported))
    assert (found == expected).all()
