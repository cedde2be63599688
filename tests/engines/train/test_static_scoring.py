# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.config import load
from paddlex_ml.engines.train import static_scoring
from paddlex_ml.engines.train.static_scoring import StaticScoring
from paddlex_ml.evaluation import scoring
from paddlex_ml.inference import paddle_engine
from paddlex_ml.models import zoo
from tests.shallow import narrow_models

SIZE = 64
IMAGES = np.random.default_rng(0).standard_normal((11, 3, SIZE, SIZE), np.float32)


@pytest.fixture(scope="module")
def model() -> paddle.nn.Layer:
    paddle_runtime.use_own_threads()  # as a training does at its start
    paddle.seed(0)
    with narrow_models():
        built = zoo.build("PP-LCNet_x1_0_ML", 3)
    built.eval()
    return built


def test_the_scores_are_those_of_the_model_with_the_weights_of_the_moment(
    model: paddle.nn.Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "inference.json").write_text("of a training that was killed")
    fast, images = StaticScoring(SIZE, folder), paddle.to_tensor(IMAGES)
    assert not folder.exists()
    before = fast(model)(images).numpy()  # more images than oneDNN is given at once
    assert np.abs(before - scoring(model)(images).numpy()).max() < 1e-6
    assert (fast(model)(images).numpy() == before).all()
    bias = model.fc.group_conv.bias
    paddle.assign(bias + 0.5, bias)
    after = fast(model)(images).numpy()
    assert np.abs(after - before).max() > 1e-3
    assert np.abs(after - scoring(model)(images).numpy()).max() < 1e-6
    assert len(fast._graphs) == 1
    assert list(tmp_path.iterdir()) == []


def test_another_engine_leaves_the_numbers_of_the_training_alone(
    model: paddle.nn.Layer, tmp_path: Path
) -> None:
    images = paddle.to_tensor(IMAGES[:3])
    before = scoring(model)(images).numpy()
    StaticScoring(SIZE, tmp_path / "weights")(model)(images)
    assert (scoring(model)(images).numpy() == before).all()


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (lambda images: np.full((len(images), 3), 0.25, np.float32), "differs by "),
        (lambda images: np.full((len(images), 3), np.nan, np.float32), "differs by nan"),
        (None, "cannot be used: no place"),
    ],
)
def test_an_engine_that_fails_or_differs_is_told_and_not_used(
    model: paddle.nn.Layer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine: Callable[[np.ndarray], np.ndarray] | None,
    reason: str,
) -> None:
    def load(*_: object, **__: object) -> Any:
        if engine is None:
            raise OSError("no place")
        return engine

    monkeypatch.setattr(paddle_engine, "load_one_dnn", load)
    fast, images = StaticScoring(SIZE, tmp_path / "weights"), paddle.to_tensor(IMAGES[:3])
    expected = scoring(model)(images).numpy()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert (fast(model)(images).numpy() == expected).all()
    (message,) = caplog.messages
    assert message.startswith(f"validation computes without oneDNN, which is slower: it {reason}")


def test_scores_at_the_ends_are_computed_by_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A sigmoid makes 1 of an infinite logit and of a large one; `scoring` tells them apart.
    class Infinite(paddle.nn.Layer):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return x[:, :, 0, 0] + np.inf

    layer, images = Infinite(), paddle.zeros([2, 3, SIZE, SIZE])
    ones = np.ones((1, 3), np.float32)

    def load(*_: object) -> Callable[[np.ndarray], np.ndarray]:
        return lambda part: np.tile(ones, (len(part), 1))

    monkeypatch.setattr(StaticScoring, "_load", load)
    assert np.isnan(StaticScoring(SIZE, tmp_path / "weights")(layer)(images).numpy()).all()


@pytest.mark.parametrize(("images", "is_static"), [(99, False), (100, True)])
def test_few_images_are_not_worth_another_engine(
    toy_run: Path, images: int, is_static: bool
) -> None:
    saved = load.load(toy_run / "config.yaml").config
    config = replace(saved, Train=replace(saved.Train, image_size=448))
    chosen = static_scoring.choose(config, images, 0)
    assert isinstance(chosen, StaticScoring) is is_static


def test_a_training_has_the_same_history_with_it(
    run: Callable[..., tuple[int, str]],
    toy: Path,
    start_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []
    for name, least in (("without", 10**12), ("with", 0)):
        monkeypatch.setattr(static_scoring, "LEAST_PIXELS", least)
        code, err = run(
            "train", toy, tmp_path / name, f"Train.pretrain_weight_path={start_weights}"
        )
        assert code == 0, err
        assert "without oneDNN" not in err
        saved = checkpoint.load(tmp_path / name / "latest")
        rows.append((saved.progress["history"], saved.weights))
    for one, other in zip(rows[0][0], rows[1][0], strict=True):
        assert one["loss"] == other["loss"]
        for key in ("raw_map", "ema_map"):
            assert one[key] == pytest.approx(other[key], abs=1e-6)
    assert all((rows[1][1][k] == value).all() for k, value in rows[0][1].items())
