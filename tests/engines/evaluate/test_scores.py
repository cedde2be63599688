# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml import progress
from paddlex_ml.config import shipped
from paddlex_ml.config.load import load
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.engines.evaluate import scores
from paddlex_ml.engines.evaluate.models import EvaluatedModel


def test_a_first_batch_that_takes_long_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    images = ImageList(tmp_path, ["a.png"], np.ones((1, 2), np.int8))
    shown = load(shipped.folder() / "PP-LCNet_x1_0_ML.yaml", ["Train.num_workers=0"], to_run=False)

    def network(batch: paddle.Tensor) -> paddle.Tensor:
        time.sleep(0.3)  # as a network that is compiled
        return paddle.ones([batch.shape[0], 2])

    model = EvaluatedModel(network, ["cat", "dog"], Preprocess((32, 32)), tmp_path, 0.5)
    with caplog.at_level(logging.INFO):
        (found,) = scores.score(shown.config, images, [model])
    assert found.shape == (1, 2)
    assert caplog.messages[0] == "scoring the first batch ..."
    assert caplog.messages[-1] == "[Eval][Iter 1/1] eta 00:00"
