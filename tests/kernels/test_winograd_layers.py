# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.kernels import layers, winograd_layers
from paddlex_ml.models.blocks import plain_conv
from tests.kernels.test_layers import assert_close, needs_numba, ran, random, results

KERNELS = ["tile_inputs", "join_outputs", "tile_gradients"]


@pytest.fixture
def few(monkeypatch):
    """Convolutions of few channels and small maps count as well."""
    monkeypatch.setattr(winograd_layers, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(winograd_layers, "LEAST_SIZE", 1)


def convolution(channels: int, outputs: int) -> nn.Conv2D:
    paddle.seed(6)
    return plain_conv(channels, outputs, kernel=3, padding=1)


@needs_numba
@pytest.mark.parametrize(("channels", "outputs"), [(48, 64), (65, 50)])
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 28, 28), (1, 33, 50), (1, 60, 37)])
def test_outputs_and_gradients_are_those_of_paddle_in_float64(
    channels, outputs, batch, height, width, monkeypatch
):
    layer = convolution(channels, outputs)
    calls = [ran(monkeypatch, name) for name in KERNELS]
    features = random(batch, channels, height, width)
    found = results(lambda x: winograd_layers.convolve(layer, x), features, [layer.weight])
    assert all(calls)
    layer.to(dtype="float64")
    doubles = features.detach().astype("float64")
    doubles.stop_gradient = False
    for ours, wanted in zip(found, results(layer, doubles, [layer.weight]), strict=True):
        assert_close(ours, wanted, 3e-6)


@needs_numba
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 2), (2, 5), (9, 8)])
@pytest.mark.parametrize("numbers", [1, 2**20])
def test_maps_of_any_size_are_worked_in_parts_without_seams(size, numbers, few, monkeypatch):
    monkeypatch.setattr(winograd_layers, "NUMBERS", numbers)
    layer, features = convolution(3, 2), random(2, 3, *size)
    parts = list(winograd_layers._parts(features.shape, 2))
    assert len(parts) == 2 * ((size[0] + 1) // 2 if numbers == 1 else 1)
    found = results(lambda x: winograd_layers.convolve(layer, x), features, [layer.weight])
    for ours, wanted in zip(found, results(layer, features, [layer.weight]), strict=True):
        assert_close(ours, wanted, 3e-6)


@needs_numba
@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (plain_conv(48, 48, kernel=3, padding=1), 27),
        (plain_conv(47, 48, kernel=3, padding=1), 28),
        (plain_conv(48, 47, kernel=3, padding=1), 28),
        (plain_conv(48, 48, kernel=3, padding=1, stride=2), 64),
        (plain_conv(48, 48, kernel=3, padding=0), 64),
        (plain_conv(48, 48, kernel=5, padding=2), 64),
        (plain_conv(96, 96, kernel=3, padding=1, groups=2), 64),
        (nn.Conv2D(48, 48, 3, padding=1), 64),
        (nn.Conv2D(48, 48, 3, padding=2, dilation=2, bias_attr=False), 64),
    ],
)
def test_other_convolutions_are_left_to_the_other_kernels(layer, size, monkeypatch):
    calls = ran(monkeypatch, "tile_inputs")
    features = random(1, layer._in_channels, size, size)
    expected = layers.convolve(layer, features)
    assert (winograd_layers.convolve(layer, features).numpy() == expected.numpy()).all()
    assert calls == []


@needs_numba
@pytest.mark.parametrize("reason", ["evaluation", "hook", "float64", "amp", "no numba"])
def test_they_compute_in_a_training_alone(reason, monkeypatch):
    layer, features = convolution(48, 48), random(1, 48, 32, 32)
    calls = ran(monkeypatch, "tile_inputs")
    if reason == "evaluation":
        layer.eval()
    elif reason == "hook":
        layer.register_forward_post_hook(lambda _layer, _inputs, out: out)
    elif reason == "float64":
        layer.to(dtype="float64")
        features = features.astype("float64")
    elif reason == "no numba":
        monkeypatch.setattr(layers, "kernels", lambda _: None)
    elif reason == "amp":
        monkeypatch.setattr(paddle.amp, "is_autocast_enabled", lambda: True)
    found, expected = winograd_layers.convolve(layer, features), layer(features)
    assert (found.numpy() == expected.numpy()).all()
    assert calls == []


@needs_numba
@pytest.mark.parametrize("frozen", ["features", "weight"])
def test_what_needs_no_gradient_gets_none(frozen, few, monkeypatch):
    layer, features = convolution(2, 4), random(1, 2, 6, 6)
    expected = results(layer, features, [layer.weight])[1:]
    each = {"features": features, "weight": layer.weight}
    each[frozen].stop_gradient = True
    weights = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype("float32")
    (winograd_layers.convolve(layer, features) * paddle.to_tensor(weights)).sum().backward()
    gradients = dict(zip(each, expected, strict=True))
    del gradients[frozen]
    assert each[frozen].grad is None
    for name, gradient in gradients.items():
        assert_close(each[name].grad, gradient, 3e-6)


@needs_numba
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_number_is_seen_in_output_and_gradients(bad, few):
    layer, features = convolution(2, 3), random(1, 2, 8, 8)
    with paddle.no_grad():
        features[0, 1, 3, 3] = bad
    out, dx, dweight = results(
        lambda x: winograd_layers.convolve(layer, x), features, [layer.weight]
    )
    assert not np.isfinite(out.numpy()).all()
    assert np.isfinite(dx.numpy()).all()  # it does not depend on them
    assert not np.isfinite(dweight.numpy()).all()


@needs_numba
def test_a_transposed_map_is_read_by_its_meaning(few):
    layer = convolution(2, 3)
    turned = random(1, 2, 6, 8).transpose([0, 1, 3, 2]).detach()
    turned.stop_gradient = False
    plain = paddle.to_tensor(turned.numpy(), stop_gradient=False)
    both = [
        results(lambda x: winograd_layers.convolve(layer, x), each, [layer.weight])
        for each in (turned, plain)
    ]
    for ours, wanted in zip(*both, strict=True):
        assert (ours.numpy() == wanted.numpy()).all()


@needs_numba
def test_transforms_are_the_same_bits_for_any_number_of_threads(few, monkeypatch):
    features, tiles, digests = random(2, 5, 9, 8), random(16, 5, 12).detach(), set()
    for threads in (1, 2, 3):
        monkeypatch.setattr(layers, "_threads", lambda threads=threads: threads)
        digest = hashlib.sha256()
        for name in ("tile_inputs", "tile_gradients"):
            digest.update(winograd_layers._tiles(name, features, 1, 1, 4).numpy().tobytes())
        out = paddle.zeros(features.shape)
        winograd_layers._run("join_outputs", out, 1, tiles, 1, 4)
        digests.add(digest.hexdigest() + hashlib.sha256(out.numpy().tobytes()).hexdigest())
    assert len(digests) == 1
