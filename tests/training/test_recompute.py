# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.models import zoo
from paddlex_ml.training import recompute
from paddlex_ml.training.recompute import recompute_blocks
from tests.shallow import narrow_models


def learned(name: str, size: int, prepare: Callable[[paddle.nn.Layer], object]) -> dict[str, Any]:
    """Gradients and running statistics after one training step on two images."""
    paddle.seed(0)
    with narrow_models():
        model = zoo.build(name, 3)
    prepare(model)
    model.train()
    images = paddle.to_tensor(np.random.default_rng(1).random((2, 3, size, size), np.float32))
    paddle.seed(1)  # dropout
    (model(images) ** 2).sum().backward()
    found = {k: v.grad.numpy() for k, v in model.named_parameters() if v.grad is not None}
    entries = model.state_dict()
    return found | {k: v.numpy() for k, v in entries.items() if "._" in k}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("PP-LCNet_x1_0_ML", 13),
        ("PP-HGNetV2-B0_ML", 5),
        pytest.param("PP-HGNetV2-B6_ML", 14, marks=pytest.mark.heavy),
        pytest.param("CLIP_vit_base_patch16_448_ML", 12, marks=pytest.mark.heavy),
        ("ResNet50_ML", 16),
    ],
)
def test_blocks_that_compute_themselves_again_learn_the_same(name: str, blocks: int) -> None:
    found: list[int] = []
    again = learned(name, 32, lambda model: found.append(recompute_blocks(model)))
    plain = learned(name, 32, lambda model: None)
    assert found == [blocks]
    assert again.keys() == plain.keys()
    for key, value in plain.items():
        scale = max(float(np.abs(value).max()), 1e-3)
        assert np.abs(again[key] - value).max() < 1e-5 * scale, key


def test_a_block_runs_twice_in_training_and_once_in_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = zoo.build("PP-LCNet_x1_0_ML", 3)
    block, calls = model.blocks3[0], []
    forward = block.forward
    block.forward = lambda x: (calls.append(paddle.is_grad_enabled()), forward(x))[1]
    recompute_blocks(model)
    images = paddle.ones([1, 3, 32, 32])
    model.train()
    logits = model(images)
    assert calls == [False]  # nothing of its inside is kept
    logits.sum().backward()
    assert calls == [False, True]
    model.eval()
    with paddle.no_grad():
        model(images)
    assert calls == [False, True, False]
    assert recompute.recompute_blocks(paddle.nn.Linear(2, 2)) == 0
