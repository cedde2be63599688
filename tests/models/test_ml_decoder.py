# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.models.head_layout import HeadLayout, published
from paddlex_ml.models.ml_decoder import MLDecoder

# Names of the golden cases: classes, queries asked for, rank of the input.
CASES = [
    "c7_q7_4d",
    "c7_q3_4d",
    "c7_q100_4d",
    "c7_q0_4d",
    "c7_q7_3d",
    "c7_q7_2d_one_token",
    "c7_q7_2d_two_tokens",
    "c1_q1_4d",
    "c80_q10_4d",
    "c33_q10_4d",
]


@pytest.fixture(scope="module")
def golden(refdata):
    return refdata.load_json("forward", "extra.json")


def build(case):
    settings = case["kwargs"]
    paddle.seed(3)
    head = MLDecoder(settings["class_num"], settings["in_channels"], settings["query_num"])
    for value in head.state_dict().values():  # no zeros and ones that hide a mistake
        value.set_value(value + 0.1 * paddle.randn(value.shape))
    head.eval()
    return head


def norm(x, weights, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(queries, tokens, weights):
    """Attention of 8 heads of 96: queries [Q, 768] look at tokens [T, 768]."""
    name = "decoder.layers.0.cross_attn"
    q, k, v = (
        linear(x, weights, f"{name}.{kind}_proj").reshape(len(x), 8, 96).swapaxes(0, 1)
        for x, kind in ((queries, "q"), (tokens, "k"), (tokens, "v"))
    )
    share = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(96))
    share /= share.sum(-1, keepdims=True)
    return linear(
        (share @ v).swapaxes(0, 1).reshape(len(queries), 768), weights, f"{name}.out_proj"
    )


def by_hand(feature_map, head, num_classes):
    """Logits [C] of one image, from tokens [D, T], in float64 and without Paddle."""
    weights = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    projected = weights["input_proj.weight"][:, :, 0, 0] @ feature_map
    tokens = np.maximum(projected + weights["input_proj.bias"][:, None], 0).T  # [T, 768]
    layer = "decoder.layers.0"
    queries = norm(2 * weights["query_pos_embed.weight"], weights, f"{layer}.norm1")
    queries = norm(queries + attend(queries, tokens, weights), weights, f"{layer}.norm2")
    hidden = np.maximum(linear(queries, weights, f"{layer}.linear1"), 0)
    decoded = norm(queries + linear(hidden, weights, f"{layer}.linear2"), weights, f"{layer}.norm3")
    decide = weights["group_conv.weight"][:, :, 0, 0].reshape(len(decoded), -1, 768)
    logits = np.einsum("qe,qge->qg", decoded, decide).ravel() + weights["group_conv.bias"]
    return logits[:num_classes]


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_the_golden_ones_and_values_those_of_the_formula(golden, name):
    case = golden["decoder"][name]
    head = build(case)
    assert head.query_pos_embed.weight.shape == [case["queries"], 768]
    assert head.group_conv.weight.shape == case["group_conv_weight"]
    features = np.random.default_rng(0).standard_normal(case["input_shape"]).astype(np.float32)
    with paddle.no_grad():
        logits = head(paddle.to_tensor(features)).numpy()
    assert list(logits.shape) == case["logits_shape"]
    tokens = features.reshape(2, case["kwargs"]["in_channels"], -1).astype(np.float64)
    expected = np.stack([by_hand(image, head, case["kwargs"]["class_num"]) for image in tokens])
    assert np.abs(logits - expected).max() < 1e-4


def test_all_golden_cases_are_looked_at(golden):
    assert list(golden["decoder"]) == CASES


def test_entries_and_their_order_are_the_published_ones(golden):
    state = MLDecoder(7, 32, 7).state_dict()
    assert [[name, list(value.shape)] for name, value in state.items()] == golden["decoder_entries"]


def test_the_queries_stay_frozen_and_every_other_parameter_learns():
    head = MLDecoder(6, 16, 3)
    head(paddle.randn([2, 16, 2, 2])).square().sum().backward()
    without = [name for name, value in head.named_parameters() if value.grad is None]
    assert without == ["query_pos_embed.weight"]


@pytest.mark.parametrize(
    ("classes", "queries"), [(6, 6), (6, 3), (9, 4), (10, 4), (150, 100), (250, 100), (5, 1)]
)
def test_logits_are_those_of_the_group_fully_connected_layer_of_the_paper(classes, queries):
    """Of arXiv:2111.12933, section 3.3: L_i = W_k,j . Q_k, where k = i div g and j = i mod g."""
    paddle.seed(5)
    head = MLDecoder(classes, 16, queries)
    head.group_conv.bias.set_value(paddle.randn(head.group_conv.bias.shape))
    head.eval()
    kept = []
    note: Any = lambda _, __, found: kept.append(found.numpy())  # noqa: E731
    head.decoder.register_forward_post_hook(note)
    with paddle.no_grad():
        logits = head(paddle.randn([2, 16, 3, 3])).numpy()
    (decoded,) = kept  # [B, Q, E]
    size = -(-classes // queries)
    weight = head.group_conv.weight.numpy().reshape(queries, size, 768)
    bias = head.group_conv.bias.numpy().reshape(queries, size)
    assert logits.shape == (2, classes)
    for i in range(classes):
        k, j = divmod(i, size)
        expected = decoded[:, k].astype(np.float64) @ weight[k, j] + bias[k, j]
        assert np.abs(logits[:, i] - expected).max() < 1e-5
    assert np.ptp(logits, axis=1).min() > 0.1


def test_another_order_of_the_classes_is_a_gather_of_the_same_outputs():
    layout = HeadLayout(5, 3, 3, (8, 0, 4, 1, 6))
    plain, ordered = MLDecoder(9, 16, 3), MLDecoder(5, 16, layout=layout)
    entries = plain.state_dict()
    assert {*ordered.state_dict()} == {*entries, "class_slots"}
    for name, value in ordered.state_dict().items():
        value.set_value(entries.get(name, value))
    plain.eval()
    ordered.eval()
    features = paddle.randn([2, 16, 2, 2])
    with paddle.no_grad():
        found, all_outputs = ordered(features).numpy(), plain(features).numpy()
    assert np.array_equal(found, all_outputs[:, [8, 0, 4, 1, 6]])


def test_a_layout_of_the_paper_changes_nothing_of_a_head():
    states = []
    for settings in ({"num_queries": 4}, {"layout": published(10, 4)}):
        paddle.seed(1)
        states.append(MLDecoder(10, 16, **settings).state_dict())
    assert [*states[0]] == [*states[1]]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
