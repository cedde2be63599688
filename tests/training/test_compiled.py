# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.kernels import layers
from paddlex_ml.models import zoo
from paddlex_ml.training import compiled
from paddlex_ml.training.compiled import CompiledModel
from paddlex_ml.training.freeze import backbone_entries, set_frozen
from tests.shallow import narrow_models

NAMES = [
    "PP-LCNet_x1_0_ML",
    "PP-HGNetV2-B0_ML",
    pytest.param("PP-HGNetV2-B6_ML", marks=pytest.mark.heavy),
    pytest.param("CLIP_vit_base_patch16_448_ML", marks=pytest.mark.heavy),
    pytest.param("ResNet50_ML", marks=pytest.mark.heavy),
]


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A static graph computes with Paddle's own kernels; let the model do so, too."""
    monkeypatch.setattr(layers, "kernels", lambda _: None)


def learned(name: str, *, compiles: bool, frozen: bool = False, batch: int = 2) -> dict[str, Any]:
    """Gradients and running statistics after two batches with dropout."""
    paddle.seed(0)
    with narrow_models():
        model = zoo.build(name, 3)
    model.train()
    if frozen:
        set_frozen(model, backbone_entries(model, zoo.find(name).head), True)
    network = CompiledModel(model) if compiles else model
    images = np.random.default_rng(1).random((batch, 3, 64, 64), np.float32)
    logits = []
    for seed in (1, 2):
        paddle.seed(seed)  # of dropout
        output = network(paddle.to_tensor(images))
        (output**2).sum().backward()
        logits.append(output.numpy())
    found = {k: v.grad.numpy() for k, v in model.named_parameters() if v.grad is not None}
    entries = model.state_dict()
    found |= {k: v.numpy() for k, v in entries.items() if "._" in k}
    return found | {f"logits {k}": each for k, each in enumerate(logits)}


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = max(float(np.abs(value).max()), 1e-3)
        assert np.abs(found[key] - value).max() < 1e-6 * scale, key


@pytest.mark.parametrize("name", NAMES)
def test_a_static_graph_learns_the_same_with_the_same_dropout(name: str) -> None:
    expected = learned(name, compiles=False)
    assert_close(learned(name, compiles=True), expected)
    # The seeds matter: otherwise equal masks would say nothing.
    assert np.abs(expected["logits 0"] - expected["logits 1"]).max() > 1e-4


def test_frozen_parts_have_no_gradient_and_keep_their_statistics() -> None:
    found = learned("PP-LCNet_x1_0_ML", compiles=True, frozen=True)
    assert_close(found, learned("PP-LCNet_x1_0_ML", compiles=False, frozen=True))
    assert not found["conv1.bn._mean"].any()
    assert not any(key.startswith("conv1.conv") for key in found)


def test_the_model_itself_stays_as_it_is() -> None:
    with narrow_models():
        model = zoo.build("PP-LCNet_x1_0_ML", 3)
    entries, forward = list(model.state_dict()), model.forward
    network: Any = CompiledModel(model)
    for batch in (2, 3):  # of another size: another graph
        network(paddle.ones([batch, 3, 32, 32]))
    assert model.forward == forward
    assert list(model.state_dict()) == entries
    assert len(network.forward.program_cache) == 2
    assert paddle.get_flags(list(compiled.FLAGS)) == compiled.FLAGS


def test_mixed_precision_reaches_the_graph() -> None:
    network: Any = CompiledModel(paddle.nn.Conv2D(3, 4, 1))
    images = paddle.ones([2, 3, 8, 8])
    framework: Any = paddle.framework
    tracer = framework._dygraph_tracer()
    before = tracer._amp_level, tracer._amp_dtype
    try:  # what `auto_cast` does on a GPU: elsewhere it does nothing
        tracer._amp_level, tracer._amp_dtype = paddle.base.core.AmpLevel.O1, "bfloat16"
        tracer._set_amp_op_list({"conv2d"}, set())
        graph, _ = network.forward.get_concrete_program(images)
    finally:
        tracer._amp_level, tracer._amp_dtype = before
        tracer._set_amp_op_list(set(), set())
    assert "bf16" in str(graph.main_program)
    other: Any = CompiledModel(network.model)
    graph, _ = other.forward.get_concrete_program(images)
    assert "bf16" not in str(graph.main_program)


def test_the_log_says_what_compiles() -> None:
    expected = "a static graph of Paddle's own kernels, which are slower than ours on a CPU"
    assert compiled.describe() == expected
