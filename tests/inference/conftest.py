# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import onnx_graph, openvino
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.export.static import save_static
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.models.ml_decoder import MLDecoder

LABELS = ["cat", "dog", "猫", "7", "red square"]


@pytest.fixture(scope="session")
def build_seeing() -> Callable[..., paddle.nn.Layer]:
    """Builds models with random weights that look at some cells more than at others.

    As models start, features differ so little from cell to cell that each gets 1 / T.
    """

    def build(
        name: str, size: int, queries: int | None = None, layout: HeadLayout | None = None
    ) -> paddle.nn.Layer:
        paddle.seed(0)
        model = zoo.build(name, len(LABELS), queries, layout=layout)
        model.eval()
        head = next(layer for layer in model.sublayers() if isinstance(layer, MLDecoder))
        given: list[np.ndarray] = []
        note: Any = lambda _, inputs: given.append(inputs[0].numpy())  # noqa: E731
        hook = head.register_forward_pre_hook(note)
        rng = np.random.default_rng(0)
        model(paddle.to_tensor(rng.standard_normal((2, 3, size, size), np.float32)))
        hook.remove()
        features = given[0].reshape(*given[0].shape[:2], -1)  # [B, D, T]
        spread = (features - features.mean(axis=2, keepdims=True)).std()
        weight = rng.standard_normal(head.input_proj.weight.shape, np.float32)
        head.input_proj.weight.set_value(weight / (spread * features.shape[1] ** 0.5))
        return model

    return build


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, build_seeing: Callable[..., paddle.nn.Layer]
) -> Path:
    """A static PP-LCNet of 5 classes for images of 64 pixels, with random weights."""
    folder = tmp_path_factory.mktemp("exported") / "inference"
    model = build_seeing("PP-LCNet_x1_0_ML", 64)
    save_static(model, ModelInfo("PP-LCNet_x1_0_ML", LABELS, 64), folder)
    return folder


@pytest.fixture(scope="session")
def onnx_folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model for onnxruntime."""
    paddle2onnx = pytest.importorskip("paddle2onnx")
    folder = tmp_path_factory.mktemp("onnx") / "inference_onnx"
    folder.mkdir()
    content = paddle2onnx.export(
        str(exported / "inference.json"), str(exported / "inference.pdiparams"), opset_version=17
    )
    (folder / "inference.onnx").write_bytes(content)
    shutil.copy(exported / "inference.yml", folder)
    return folder


@pytest.fixture(scope="session")
def openvino_folder(
    exported: Path, onnx_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same model for OpenVINO."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("openvino") / "inference_openvino"
    folder.mkdir()
    onnx: Any = importlib.import_module("onnx")
    model = onnx_graph.simplify(onnx.load(onnx_folder / "inference.onnx"), None)
    graph = openvino.import_onnx(model.SerializeToString())
    openvino.write(folder / "inference.xml", graph)
    shutil.copy(exported / "inference.yml", folder)
    return folder


@pytest.fixture(scope="session")
def model(exported: Path) -> StaticModel:
    return StaticModel(exported, "cpu")


@pytest.fixture
def predictor(model: StaticModel) -> Predictor:
    return Predictor(model)


@pytest.fixture
def altered(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the static model and lets a function change what its inference.yml says."""

    def alter(change: Callable[[dict], None]) -> Path:
        folder = shutil.copytree(exported, tmp_path / "altered")
        path = folder / "inference.yml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return folder

    return alter


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 7 different images: six at the top, one in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "c.bmp", "d.JPG", "e.webp", "f.gif", "deep/a.jpg"):
        pixels = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    (folder / "._a.jpg").write_bytes(b"what macOS leaves on foreign disks")
    return folder


@pytest.fixture(scope="module")
def both(refdata: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model whose scores differ from image to image, as folders for Paddle and ONNX."""
    for package in ("paddle2onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package} here")
    root = tmp_path_factory.mktemp("both")
    model = zoo.build("PP-LCNet_x1_0_ML", len(LABELS))
    refdata.fill_layer(model, "PP-LCNet_x1_0_ML")
    static, onnx = root / "inference", root / "inference_onnx"
    save_static(model, ModelInfo("PP-LCNet_x1_0_ML", LABELS, 96, None), static)
    save_onnx(model, ModelInfo("PP-LCNet_x1_0_ML", LABELS, 96, None), onnx, 17)
    return static, onnx


@pytest.fixture
def pictures(photos: Path, shared: Path) -> list[str]:
    """Real photographs, and every kind of file that a camera or a program leaves."""
    images = sorted((shared / "reference" / "transforms" / "images").iterdir())
    broken = {"empty.jpg", "garbage.jpg", "truncated.jpg"}
    real = sorted((shared / "data" / "natural_scenes" / "images").iterdir())[:5]
    turned = photos / "turned.webp"
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(real[0]).save(turned, exif=exif)
    kinds = [path for path in images if path.name not in broken]
    grey = np.asarray(Image.open(real[0]).convert("L").resize((200, 150)))
    deep: dict[str, np.ndarray] = {
        "12_bits.png": grey.astype(np.uint16) * 16,
        "8_bits.tif": grey.astype(np.uint16),
        "whole.tif": grey.astype(np.int32),
        "floats.tif": (grey / 255).astype(np.float32),
        "floats_of_255.tif": grey.astype(np.float32),
    }
    for name, samples in deep.items():
        Image.fromarray(samples).save(photos / name)
    return [str(path) for path in (*kinds, *real, turned, *(photos / name for name in deep))]
