# SPDX-License-Identifier: Apache-2.0
"""Model -> static graph, the one place that writes it.

<folder>/inference.json        the graph: "x" [B, 3, S, S] float32 -> scores [B, C], sigmoid inside
<folder>/inference.pdiparams   its weights
<folder>/inference.yml         name, preprocessing, threshold and labels, as PaddleX reads them
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml
from paddle.static import InputSpec

from paddlex_ml.data.preprocess import MEAN, STD
from paddlex_ml.files import write_text

TOLERANCE = 1e-4  # largest difference of scores between the model and its static graph
THRESHOLD = 0.5


class _Scores(paddle.nn.Layer):
    """The model with the sigmoid behind it."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.nn.functional.sigmoid(self.model(x))


def save_static(
    model: paddle.nn.Layer,
    *,
    model_name: str,
    label_names: Sequence[str],
    image_size: int,
    decoder_tokens: str | None = None,
    folder: Path,
) -> float:
    """Write the static model into `folder`, in place of what it held; the model ends in eval mode.

    Returns the largest difference between the scores of model and graph on random images. Raises
    RuntimeError above TOLERANCE: a graph that answers otherwise must not leave the house.
    """
    model.eval()
    fresh = folder.parent / f".{folder.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        _save_graph(_Scores(model), image_size, fresh)
        settings = _settings(model_name, label_names, image_size, decoder_tokens)
        # Before the comparison: Paddle says nothing when the disk is full, this write does.
        write_text(
            fresh / "inference.yml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        )
        difference = _difference(model, fresh, image_size)
        if not difference <= TOLERANCE:
            raise RuntimeError(f"the static graph differs from the model by {difference}")
        shutil.rmtree(folder, ignore_errors=True)  # a product of ours, made anew from the weights
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return difference


def _save_graph(scores: paddle.nn.Layer, image_size: int, folder: Path) -> None:
    spec = InputSpec([None, 3, image_size, image_size], "float32", name="x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle talks about its own converters
        graph = paddle.jit.to_static(scores, input_spec=[spec], full_graph=True)
        paddle.jit.save(graph, str(folder / "inference"))


def _difference(model: paddle.nn.Layer, folder: Path, image_size: int) -> float:
    images = np.random.default_rng(0).standard_normal((2, 3, image_size, image_size))
    batch = paddle.to_tensor(images.astype(np.float32))
    graph = paddle.jit.load(str(folder / "inference"))
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(batch)).numpy()
        found = graph(batch).numpy()
    return float(np.abs(expected - found).max())


def _settings(
    model_name: str, label_names: Sequence[str], image_size: int, decoder_tokens: str | None
) -> dict[str, Any]:
    normalise = {
        "channel_num": 3,
        "mean": list(MEAN),
        "order": "",
        "scale": 1 / 255,
        "std": list(STD),
    }
    resize = {"backend": "pil", "interpolation": "bilinear", "size": image_size}
    output = {"threshold": THRESHOLD, "label_list": list(label_names)}
    return {
        "Global": {
            "model_name": model_name,
            **({"decoder_tokens": decoder_tokens} if decoder_tokens else {}),
        },
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": resize},
                {"NormalizeImage": normalise},
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"MultiLabelThreshOutput": output},
    }
