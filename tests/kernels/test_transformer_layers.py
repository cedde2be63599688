# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from paddlex_ml.kernels import layers, transformer_layers
from paddlex_ml.models import clip_vit

ROOT = Path(__file__).resolve().parents[2]
HAS_NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba, an optional package, is missing")

WIDTH, HEADS = 48, 3
SHAPES = [(2, 37), (1, 1), (3, 64)]
"""Images and tokens: blocks of rows that are full, and that are not."""


class Norm(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        return transformer_layers.norm(self.inner, tokens)


class LinearGelu(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 80)

    def forward(self, tokens):
        return transformer_layers.linear_gelu(self.inner, tokens)


class AddLinear(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        return transformer_layers.add_linear(tokens * tokens, self.inner, tokens)


class Attend(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, tokens):
        return transformer_layers.attend(self.inner, HEADS, tokens)


class LinearRelu(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 80)

    def forward(self, tokens):
        return transformer_layers.linear_relu(self.inner, tokens)


KINDS = [Norm, LinearGelu, AddLinear, Attend, LinearRelu]


@pytest.fixture
def calls(monkeypatch):
    """List of the kernels that run."""
    names, run = [], transformer_layers._run

    def watched(name, *arguments, **options):
        names.append(name)
        return run(name, *arguments, **options)

    monkeypatch.setattr(transformer_layers, "_run", watched)
    return names


def make(kind):
    paddle.seed(1)
    layer = kind()
    for parameter in layer.parameters():
        parameter.set_value(paddle.randn(parameter.shape) * (0.15 if parameter.ndim > 1 else 1))
    return layer


def random(*shape, dtype="float32"):
    values = np.random.default_rng(0).normal(size=shape) * 2 + 0.5
    tensor = paddle.to_tensor(values, dtype)
    tensor.stop_gradient = False
    return tensor


def results(layer, tokens):
    """Output, and gradients by tokens and parameters, of a sum with random weights."""
    out = layer(tokens)
    weights = np.random.default_rng(2).normal(size=out.shape)
    learning = [each for each in (tokens, *layer.parameters()) if not each.stop_gradient]
    return [out, *paddle.grad(out, learning, paddle.to_tensor(weights, out.dtype))]


def assert_close(found, expected, tolerance):
    """Differences in units of the largest value."""
    for ours, wanted in zip(found, expected, strict=True):
        difference = np.abs(ours.numpy() - wanted.numpy()).max()
        assert difference <= tolerance * max(np.abs(wanted.numpy()).max(), 1e-3)


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "count"), SHAPES)
def test_output_and_gradients_are_those_of_paddle_in_float64(kind, batch, count, calls):
    layer = make(kind)
    found = results(layer, random(batch, count, WIDTH))
    used = len(calls)
    assert used > 0
    layer.to(dtype="float64")
    expected = results(layer, random(batch, count, WIDTH, dtype="float64"))
    assert len(calls) == used
    assert_close(found, expected, 3e-6)


@needs_numba
def test_a_cross_attention_drops_the_same_numbers_as_paddles(calls, monkeypatch):
    paddle.seed(0)
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dropout=0.3)
    queries, tokens, found = random(2, 5, WIDTH), random(2, 37, WIDTH), []
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr(layers, "kernels", lambda _: None)
        paddle.seed(4)
        out = transformer_layers.cross_attend(layer, queries, tokens)
        (out * out).sum().backward()
        learning = [queries, tokens, layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.bias]
        found.append([out, *(each.grad.clone() for each in learning)])
        for each in learning:
            each.clear_gradient()
        assert calls.count("split_heads") == 3
    assert_close(found[0], found[1], 1e-5)


@needs_numba
def test_a_block_of_the_real_size_agrees_with_paddles_kernels(monkeypatch):
    paddle.seed(0)
    block, tokens = clip_vit._Block(), random(2, 50, clip_vit.FEATURES)
    found = results(block, tokens)
    monkeypatch.setattr(layers, "kernels", lambda _: None)
    assert_close(found, results(block, tokens), 1e-5)


@needs_numba
def test_scores_of_any_size_make_shares():
    rows = np.array([[-200, 0, 5], [1000, 1000, -1000], [-90, -90, -90]], np.float32)
    kernel = layers.kernels("attention").softmax_rows
    kernel(rows, 0, 3)
    expected = [[0, 0.00669285, 0.99330715], [0.5, 0.5, 0], [1 / 3] * 3]
    np.testing.assert_allclose(rows, expected, rtol=1e-6, atol=1e-30)


@needs_numba
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_the_highest_score_of_a_row_is_found_whatever_the_signs(sign):
    rows = np.random.default_rng(0).standard_normal((64, 37)).astype(np.float32) * 60
    rows = np.abs(rows) * sign if sign else rows
    rows[0, :2] = 0.0, -0.0
    expected = np.exp(rows.astype(float) - rows.max(1, keepdims=True))
    layers.kernels("attention").softmax_rows(rows, 0, 64)
    np.testing.assert_allclose(rows, expected / expected.sum(1, keepdims=True), atol=1e-6)


@needs_numba
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
def test_a_bad_score_spoils_its_row_and_no_other(bad):
    rows = np.zeros((3, 37), np.float32)
    rows[1, 30] = bad
    layers.kernels("attention").softmax_rows(rows, 0, 3)
    assert np.isnan(rows[1]).all()
    np.testing.assert_allclose(rows[[0, 2]], 1 / 37, rtol=1e-6)


@needs_numba
def test_gelu_is_exact_over_its_whole_range():
    z = np.linspace(-12, 12, 20001).astype(np.float32)[None]
    out, zero = np.empty_like(z), np.zeros(z.shape[1], np.float32)
    layers.kernels("attention").gelu(z, zero, out, 0, 1)
    exact = [value * 0.5 * math.erfc(-value / 2**0.5) for value in z[0].astype(float)]
    assert np.abs(out - exact).max() < 1e-6


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_number_is_seen_in_output_and_gradients(kind, bad):
    layer, tokens = make(kind), random(1, 40, WIDTH)
    with paddle.no_grad():
        tokens[0, 20, 3] = bad
    out, dtokens, dweight, _ = results(layer, tokens)  # the bias's gradient may not see the tokens
    for tensor in (out, dweight, *([] if kind is LinearRelu else [dtokens])):
        assert not np.isfinite(tensor.numpy()).all()


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", ["tokens", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(kind, frozen):
    gradients = []
    for stop in (False, True):
        layer, tokens = make(kind), random(2, 5, WIDTH)
        each = {"tokens": tokens, "weight": layer.inner.weight, "bias": layer.inner.bias}
        each[frozen].stop_gradient = stop
        layer(tokens).sum().backward()
        gradients.append({name: tensor.grad for name, tensor in each.items()})
    every, some = gradients
    assert some.pop(frozen) is None
    assert all((tensor == every[name]).all() for name, tensor in some.items())


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_are_no_plain_rows_in_memory_are_read_by_their_meaning(kind):
    layer = make(kind)
    values = random(2, WIDTH, 9)
    strided = values.transpose([0, 2, 1])[:, 1:]
    plain = paddle.to_tensor(strided.numpy(), stop_gradient=False)
    strided = strided.detach()
    strided.stop_gradient = False
    assert_close(results(layer, strided), results(layer, plain), 0)


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_computed_again_has_the_same_gradients(kind):
    layer, tokens, found = make(kind), random(2, 37, WIDTH), list[list[paddle.Tensor]]()
    for forward in (layer, lambda given: recompute(layer, given)):
        forward(tokens).square().sum().backward()
        found.append([each.grad.clone() for each in (tokens, *layer.parameters())])
        for each in (tokens, *layer.parameters()):
            each.clear_gradient()
    assert_close(found[0], found[1], 0)


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", ["evaluation", "float64", "hook", "amp", "bias"])
def test_what_is_no_plain_training_is_left_to_paddle(kind, reason, calls, monkeypatch):
    layer, tokens = make(kind), random(2, 5, WIDTH)
    if reason == "evaluation":
        layer.eval()
    elif reason == "float64":
        layer, tokens = layer.to(dtype="float64"), tokens.astype("float64")
    elif reason == "hook":
        layer.inner.register_forward_post_hook(lambda *_: None)
    elif reason == "amp":
        monkeypatch.setattr(paddle.amp, "is_autocast_enabled", lambda: True)
    else:
        layer.inner.bias = None
    assert layer(tokens).shape[:2] == [2, 5]
    assert calls == []


def test_without_numba_all_is_done_by_paddle(monkeypatch, calls):
    monkeypatch.setattr(layers, "kernels", layers.kernels.__wrapped__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    layer, tokens = make(LinearGelu), random(2, 5, WIDTH)
    assert (layer(tokens) == paddle.nn.functional.gelu(layer.inner(tokens))).all()
    assert calls == []


_TRAIN = """
import hashlib
from paddlex_ml import paddle_runtime
paddle_runtime.prepare()
import paddle
from paddlex_ml.kernels import layers
from paddlex_ml.models import clip_vit
paddle.seed(0)
block = clip_vit._Block()
tokens = paddle.randn([2, 70, 768])
tokens.stop_gradient = False
for _ in range(2):
    (block(tokens) ** 2).sum().backward()
digest = hashlib.sha256()
for tensor in (tokens, *block.parameters()):
    digest.update(tensor.grad.numpy().tobytes())
print(digest.hexdigest(), layers._threads())
"""


@pytest.mark.story
@needs_numba
def test_results_are_the_same_bits_with_one_and_two_and_three_threads():
    digests = {}
    for threads in (1, 2, 3):
        # Matrix products are Paddle's: those of another number of threads may differ.
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": "1"}
        digest, used = subprocess.run(
            [sys.executable, "-c", _TRAIN], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, **environment},
        ).stdout.split()  # fmt: skip
        digests[int(used)] = digest
    assert sorted(digests) == [1, 2, 3]
    assert len(set(digests.values())) == 1
