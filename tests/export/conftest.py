# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import ExportedFiles
from paddlex_ml.export import onnx, static
from paddlex_ml.models import zoo
from paddlex_ml.models.head_layout import SLOTS, HeadLayout, published

# Square of the factor from layer to layer at which signals neither fade nor grow.
GAINS = {
    "PP-LCNet_x1_0_ML": 2.3,
    "PP-HGNetV2-B0_ML": 1.7,
    "PP-HGNetV2-B4_ML": 1.6,
    "PP-HGNetV2-B6_ML": 1.35,
    "ResNet50_ML": 1.2,
    "CLIP_vit_base_patch16_448_ML": 1.0,
}


def draw(count: int, size: int) -> np.ndarray:
    """Images as the models see them: float32 [count, 3, size, size]."""
    return np.random.default_rng(count).standard_normal((count, 3, size, size), np.float32)


@pytest.fixture(scope="session")
def converted_once() -> Callable[[Path], AbstractContextManager[None]]:
    return _converted_once


@contextmanager
def _converted_once(kept: Path) -> Iterator[None]:
    """Let the first export to ONNX with this file trace and convert the model, and later ones take
    what paddle2onnx has made then: for one model and opset. The batch size matters after it.
    """
    write, convert = static.write_graph, onnx._convert

    def write_once(model: paddle.nn.Layer, image_size: int, folder: Path) -> None:
        if not kept.exists():
            write(model, image_size, folder)

    def convert_once(graph: ExportedFiles, target: Path, opset: int) -> None:
        if not kept.exists():
            convert(graph, target, opset)
            shutil.copy(target, kept)
        shutil.copy(kept, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "write_graph", write_once)
        patch.setattr(onnx, "_convert", convert_once)
        yield


@pytest.fixture(scope="session")
def info() -> ModelInfo:
    return ModelInfo("PP-LCNet_x1_0_ML", ["red square", "green", "蓝"], 64)


@pytest.fixture(scope="session")
def model(info: ModelInfo, build: Callable[[ModelInfo], paddle.nn.Layer]) -> paddle.nn.Layer:
    return build(info)


@pytest.fixture(scope="session")
def build() -> Callable[..., paddle.nn.Layer]:
    """Builds a model whose scores depend on the image, and not on the last digit of every sum.

    A random start does neither: signals fade in a small network and become chaos in a deep one.
    """

    def make(info: ModelInfo, layout: HeadLayout | None = None) -> paddle.nn.Layer:
        classes, tokens = len(info.label_names), info.decoder_tokens
        model = zoo.build(info.model, classes, tokens=tokens, layout=layout)
        rng = np.random.default_rng(0)
        for name, entry in model.state_dict().items():
            if name.endswith(SLOTS):
                continue
            noise = rng.standard_normal(entry.shape)
            if name.endswith("_variance"):
                value = rng.uniform(0.5, 1.5, entry.shape)
            elif entry.ndim == 1:
                value = 0.1 * noise + name.endswith(("weight", "scale"))
            else:
                inputs = entry.shape[0] if entry.ndim == 2 else np.prod(entry.shape[1:])
                value = noise * (GAINS[info.model] / inputs) ** 0.5
            entry.set_value(value.astype(np.float32))
        return model

    return make


@pytest.fixture(
    scope="module",
    params=[published(7, 3), published(8, 4), HeadLayout(7, 3, 4, (11, 2, 0, 7, 1, 5, 8))],
    ids=["padded groups", "groups", "another order"],
)
def grouped(
    request: pytest.FixtureRequest, build: Callable[..., paddle.nn.Layer]
) -> tuple[paddle.nn.Layer, ModelInfo]:
    """A model whose queries predict several classes each."""
    layout: HeadLayout = request.param
    queries = layout.class_queries
    info = ModelInfo(
        "PP-LCNet_x1_0_ML",
        [f"class {i}" for i in range(layout.classes)],
        64,
        num_queries=layout.queries,
        class_queries=None if queries is None else list(queries),
    )
    return build(info, layout), info


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Three images as the models see them: [3, 3, 64, 64]."""
    return draw(3, 64)


@pytest.fixture
def scores(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    """What the model says about `images`: [3, 3]."""
    model.eval()
    with paddle.no_grad():
        found: np.ndarray = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(found, axis=0).max() > 0.005
    return found
