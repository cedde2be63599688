# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from paddlex_ml.kernels import compiler, layers
from paddlex_ml.models import zoo
from paddlex_ml.models.blocks import ConvNorm, LearnableAffine, Padding, plain_conv
from paddlex_ml.models.pp_hgnet_v2 import SHAPES
from paddlex_ml.models.pp_lcnet import STAGES

ROOT = Path(__file__).resolve().parents[2]
HAS_NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba, an optional package, is missing")

# (channels, kernel, stride) of every depthwise convolution; B4 and B6 differ from B0 in the first.
LCNET = {(c, k, s) for blocks in STAGES.values() for k, c, _, s, _ in blocks}
HGNET = {(stage.channels, 3, 2) for stage in SHAPES["B0"].stages if stage.halves}
HGNET |= {(stage.width, stage.kernel, 1) for stage in SHAPES["B0"].stages if stage.light}


@pytest.fixture
def plain(monkeypatch):
    """Calls a function by Paddle's own kernels."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(layers, "kernels", lambda _: None)
            return function(*arguments)

    return call


def assert_close(found, expected, tolerance=1e-5):
    """Difference in units of the largest value."""
    found, expected = found.numpy(), expected.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


def random(*shape, scale=1.0, shift=0.0):
    values = paddle.randn(shape) * scale + shift
    values.stop_gradient = False
    return values


def results(function, features, parameters):
    """Output, and gradients by the features and the parameters, of a sum with random weights."""
    out = function(features)
    weights = paddle.to_tensor(np.random.default_rng(0).normal(size=out.shape).astype("float32"))
    return [out, *paddle.grad(out, [features, *parameters], weights)]


def assert_same(layer, function, features, plain):
    parameters = list(layer.parameters())
    parameters = [p for p in parameters if not p.stop_gradient]
    expected = plain(results, function, features, parameters)
    for found, wanted in zip(results(function, features, parameters), expected, strict=True):
        assert_close(found, wanted)


def ran(monkeypatch, name):
    """List that grows whenever the kernel of this name runs."""
    calls = []
    run = layers._run_in_threads

    def watched(family, kernel, *arguments):
        calls.extend([kernel] * (kernel == name))
        return run(family, kernel, *arguments)

    monkeypatch.setattr(layers, "_run_in_threads", watched)
    return calls


@needs_numba
@pytest.mark.parametrize(("channels", "kernel", "stride"), sorted(LCNET | HGNET))
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 14, 14), (1, 7, 10), (3, 1, 2)])
def test_depthwise_convolutions_and_their_gradients_are_those_of_paddle(
    channels, kernel, stride, batch, height, width, plain, monkeypatch
):
    paddle.seed(0)
    layer = plain_conv(
        channels, channels, kernel=kernel, stride=stride, groups=channels, padding=kernel // 2
    )
    calls = ran(monkeypatch, "depthwise")
    features = random(batch, channels, height, width)
    assert_same(layer, lambda x: layers.convolve(layer, x), features, plain)
    assert len(calls) == 2  # the output, and the gradient by the input


@needs_numba
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_large_maps_are_worked_in_blocks_without_seams(kernel, stride, plain):
    paddle.seed(1)
    layer = plain_conv(3, 3, kernel=kernel, stride=stride, groups=3, padding=kernel // 2)
    features = random(2, 3, 113, 131)
    assert_same(layer, lambda x: layers.convolve(layer, x), features, plain)


@needs_numba
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 14, 14), (1, 7, 10), (3, 1, 1)])
@pytest.mark.parametrize(("channels", "out_channels"), [(3, 5), (64, 128)])
def test_pointwise_convolutions_and_their_gradients_are_those_of_paddle(
    channels, out_channels, batch, height, width, plain
):
    paddle.seed(2)
    layer = plain_conv(channels, out_channels)
    features = random(batch, channels, height, width)
    assert_same(layer, lambda x: layers.convolve(layer, x), features, plain)


@needs_numba
@pytest.mark.parametrize(("batch", "height", "width"), [(5, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_pointwise_convolutions_of_small_maps_take_all_images_at_once(
    batch, height, width, is_frozen, plain, monkeypatch
):
    paddle.seed(2)
    layer = plain_conv(160, 256)
    features = random(batch, 160, height, width)
    assert not layers._has_small_maps(random(1, 160, 8, 8), layer.weight)
    monkeypatch.setattr(layers, "_Pointwise", None)
    if is_frozen:
        features.stop_gradient = True
        layers.convolve(layer, features).sum().backward()
        assert features.grad is None
        expected = features.sum([0, 2, 3]).expand([256, 160]).reshape(layer.weight.shape)
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected.numpy(), atol=1e-5)
    else:
        assert_same(layer, lambda x: layers.convolve(layer, x), features, plain)


DENSE = [(16, 16, 3, 1), (16, 16, 3, 2), (32, 16, 3, 2), (8, 16, 2, 1), (16, 8, 2, 1), (4, 8, 7, 2)]


@needs_numba
@pytest.mark.parametrize(("channels", "out_channels", "kernel", "stride"), DENSE)
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 56, 56), (1, 57, 62), (3, 61, 90)])
def test_dense_convolutions_and_their_gradients_are_those_of_paddle(
    channels, out_channels, kernel, stride, batch, height, width, plain, monkeypatch
):
    paddle.seed(6)
    padding: Padding = "SAME" if kernel == 2 else kernel // 2
    layer = plain_conv(channels, out_channels, kernel=kernel, stride=stride, padding=padding)
    calls = ran(monkeypatch, "dense")
    features = random(batch, channels, height, width)
    # Paddle's float32 convolution is the less exact one: float64 decides.
    exact = plain_conv(channels, out_channels, kernel=kernel, stride=stride, padding=padding)
    exact.to(dtype="float64")
    exact.weight.set_value(layer.weight.astype("float64"))
    doubles = features.detach().astype("float64")
    doubles.stop_gradient = False
    expected = results(exact, doubles, [exact.weight])
    found = results(lambda x: layers.convolve(layer, x), features, [layer.weight])
    for ours, wanted in zip(found, expected, strict=True):
        assert_close(ours, wanted, 3e-6)
    assert len(calls) == 2


@needs_numba
@pytest.mark.parametrize(
    ("channels", "out_channels", "size"), [(3, 8, 56), (8, 6, 56), (8, 8, 26), (8, 68, 56)]
)
def test_dense_convolutions_that_paddle_does_faster_are_left_to_it(
    channels, out_channels, size, monkeypatch
):
    calls = ran(monkeypatch, "dense")
    layer = plain_conv(channels, out_channels, kernel=3, padding=1)
    features = random(1, channels, size, size)
    assert (layers.convolve(layer, features).numpy() == layer(features).numpy()).all()
    assert calls == []


@needs_numba
def test_the_stem_reads_images_that_need_no_gradient(plain, monkeypatch):
    calls = ran(monkeypatch, "dense")
    layer = plain_conv(3, 16, kernel=3, stride=2, padding=1)
    images = paddle.randn([2, 3, 64, 70])

    def run():
        out = layers.convolve(layer, images)
        return [out, paddle.grad((out * out).sum(), layer.weight)[0]]

    for found, wanted in zip(run(), plain(run), strict=True):
        assert_close(found, wanted)
    assert calls == ["dense"]


@needs_numba
def test_a_learnable_affine_block_learns_as_with_paddle(plain):
    paddle.seed(7)
    layer = ConvNorm(4, 8, kernel=1, activation=F.relu, lab=LearnableAffine())
    layer.lab.scale.set_value(paddle.full([1], -1.3))
    layer.lab.bias.set_value(paddle.full([1], 0.4))
    layer.bn.weight.set_value(paddle.linspace(-1, 1, 8))
    layer.bn.bias.set_value(paddle.linspace(1, -0.5, 8))
    assert_same(layer, layer, random(2, 4, 9, 7), plain)
    layer.lab.scale.stop_gradient = True
    layer(random(2, 4, 9, 7)).sum().backward()
    assert layer.lab.scale.grad is None
    assert layer.lab.bias.grad.numpy() == pytest.approx(2 * 8 * 9 * 7)


@needs_numba
@pytest.mark.parametrize("activation", list(layers.ACTIVATIONS))
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 14, 14), (1, 7, 10), (5, 1, 1)])
def test_batch_norm_with_activation_its_gradients_and_averages_are_those_of_paddle(
    activation, batch, height, width, plain
):
    paddle.seed(3)
    norms = [nn.BatchNorm2D(6) for _ in range(2)]
    for layer in norms:
        layer.weight.set_value(paddle.linspace(-2, 3, 6))
        layer.bias.set_value(paddle.linspace(1, -1, 6))
    ours, theirs = norms
    features = random(batch, 6, height, width, scale=3.0, shift=5.0)

    def run(layer):
        function = lambda x: layers.norm_activate(layer, activation, x)  # noqa: E731
        return results(function, features, [layer.weight, layer.bias])

    for found, wanted in zip(run(ours), plain(run, theirs), strict=True):
        assert_close(found, wanted)
    assert_close(ours._mean, theirs._mean)
    assert_close(ours._variance, theirs._variance)


@needs_numba
def test_a_single_value_of_each_channel_is_left_to_paddle(monkeypatch):
    calls = ran(monkeypatch, "norm")
    layers.norm_activate(nn.BatchNorm2D(4), F.relu, random(1, 4, 1, 1))
    assert calls == []


@needs_numba
@pytest.mark.parametrize("value", [-3.0, 3.0, 0.0, -4.0, 4.0])
@pytest.mark.parametrize("activation", [F.relu, F.hardswish])
def test_slopes_at_the_corners_are_those_of_paddle(activation, value, plain):
    layer = nn.BatchNorm2D(1)
    layer.weight.set_value(paddle.zeros([1]))
    layer.bias.set_value(paddle.full([1], value))
    features = random(2, 1, 4, 4)
    assert_same(layer, lambda x: layers.norm_activate(layer, activation, x), features, plain)


def block(groups=4, **settings):
    paddle.seed(4)
    return ConvNorm(4, 4, kernel=3, groups=groups, activation=F.hardswish, **settings)


@needs_numba
def test_a_transposed_input_is_read_by_its_meaning(plain):
    layer = block()
    flipped = random(2, 4, 9, 6).transpose([0, 1, 3, 2])
    with paddle.no_grad():
        strided = paddle.as_strided(flipped.contiguous(), [2, 4, 3, 4], [216, 54, 18, 2])
    for features in (flipped.detach(), strided.detach()):
        features.stop_gradient = False
        assert_same(layer, layer, features, plain)


@needs_numba
@pytest.mark.parametrize("groups", [1, 4])
def test_inputs_and_parameters_that_need_no_gradient_get_none(groups):
    layer = block(groups)
    layer.conv.weight.stop_gradient = True
    layer.bn.bias.stop_gradient = True
    features = paddle.randn([2, 4, 6, 6])
    layer(features).sum().backward()
    assert features.grad is None
    assert layer.conv.weight.grad is None
    assert layer.bn.bias.grad is None
    assert layer.bn.weight.grad.shape == [4]


@needs_numba
@pytest.mark.parametrize("use", ["twice", "accumulated", "recomputed"])
def test_gradients_add_up_however_a_block_is_used(use, plain):
    from paddle.distributed.fleet.utils import recompute

    features = random(2, 4, 9, 9)

    def run():
        layer = block()
        if use == "twice":
            out = layer(features)
            (out * out + layer(out)).sum().backward()
        elif use == "accumulated":
            for _ in range(2):
                (layer(features) ** 2).sum().backward()
        else:
            (recompute(layer, features) ** 2).sum().backward()
        gradients = [features.grad.clone(), *(p.grad for p in layer.parameters() if p.trainable)]
        features.clear_gradient()
        return [*gradients, layer.bn._mean, layer.bn._variance]

    for found, wanted in zip(run(), plain(run), strict=True):
        assert_close(found, wanted, 2e-5)


@needs_numba
def test_without_gradients_the_forward_pass_is_the_same_bit_for_bit():
    features = random(2, 4, 9, 9)
    with paddle.no_grad():
        quiet = block()(features)
    assert quiet.stop_gradient
    assert (quiet.numpy() == block()(features).numpy()).all()


@needs_numba
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("activation", list(layers.ACTIVATIONS))
def test_one_bad_number_is_seen_in_output_and_gradients(bad, groups, activation):
    layer = block(groups)
    layer.activation = activation
    values = np.zeros((2, 4, 9, 9), np.float32)
    values[1, 2, 4, 4] = bad
    features = paddle.to_tensor(values, stop_gradient=False)
    out = layer(features)
    out.sum().backward()
    for tensor in (out, features.grad, layer.conv.weight.grad, layer.bn.weight.grad):
        assert np.isnan(tensor.numpy()).any()


@needs_numba
def test_evaluation_runs_paddles_own_kernels(monkeypatch):
    calls = ran(monkeypatch, "norm")
    layer = block()
    layer.eval()
    layer(paddle.randn([1, 4, 5, 5]))
    assert calls == []


@needs_numba
@pytest.mark.parametrize("reason", ["float64", "hook", "statistics", "amp", "bias"])
def test_what_the_kernels_cannot_do_is_done_by_the_layer(reason, monkeypatch):
    layer, features = block(), paddle.randn([2, 4, 5, 5])
    calls = ran(monkeypatch, "norm")
    if reason == "float64":
        layer.to(dtype="float64")
        features = features.astype("float64")
    elif reason == "hook":
        layer.bn.register_forward_post_hook(lambda *_: None)
    elif reason == "statistics":
        layer.bn._use_global_stats = True
    elif reason == "bias":
        layer.bn = nn.BatchNorm2D(4, bias_attr=False)
    else:
        monkeypatch.setattr(paddle.amp, "is_autocast_enabled", lambda: True)
    assert layer(features).shape == [2, 4, 5, 5]
    assert calls == []


def test_without_numba_all_is_done_by_the_layers_and_the_log_says_so(monkeypatch, caplog):
    monkeypatch.setattr(layers, "kernels", layers.kernels.__wrapped__)
    monkeypatch.setattr(layers, "_say_slower", layers._say_slower.__wrapped__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    layer, features = block(), random(2, 4, 5, 5)
    with caplog.at_level(logging.INFO):
        out = layer(features)
    out.sum().backward()
    expected = F.hardswish(layer.bn(layer.conv(features)))
    assert (out.numpy() == expected.numpy()).all()
    assert layer.conv.weight.grad.shape == [4, 1, 3, 3]
    assert "numba is not installed" in caplog.text


def test_a_numba_that_does_not_work_is_no_reason_to_fail(monkeypatch, caplog):
    def fail(name):
        raise ImportError("Numba needs NumPy 1.0 or less")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", fail)
    assert layers.kernels.__wrapped__("norm") is None
    assert "Numba needs NumPy 1.0 or less" in caplog.text


def test_kernels_that_are_compiled_are_loaded_ahead_and_no_others(monkeypatch):
    asked, missing = [], ["paddlex_ml.kernels.batch_norm.norm"]
    monkeypatch.setattr(layers, "kernels", asked.append)
    monkeypatch.setattr(compiler, "missing", lambda _: missing)
    layers.load_ahead(["norm", "head"])
    missing.clear()
    layers.load_ahead(["updates", "norm"])
    for thread in threading.enumerate():
        if thread.name == "kernels":
            thread.join()
    assert asked == ["updates", "norm"]


_TRAIN = """
import hashlib, sys
from paddlex_ml import paddle_runtime
paddle_runtime.prepare()
import paddle
from paddlex_ml.kernels import layers
from paddlex_ml.models.blocks import ConvNorm
assert "numba" not in sys.modules
paddle.seed(0)
blocks = [
    ConvNorm(16, 16, kernel=k, stride=s, groups=16, activation=a)
    for k, s, a in [(3, 1, layers.identity), (5, 2, paddle.nn.functional.hardswish)]
]
blocks[:0] = [ConvNorm(16, 16, kernel=3, stride=s) for s in (1, 2)]
features = paddle.randn([3, 16, 60, 57])
digest = hashlib.sha256()
for _ in range(2):
    out = features
    for block in blocks:
        out = block(out)
    (out * out).sum().backward()
for block in blocks:
    for tensor in [*block.state_dict().values(), *(p.grad for p in block.parameters())]:
        if tensor is not None:
            digest.update(tensor.numpy().tobytes())
print(digest.hexdigest(), layers._threads())
"""


@pytest.mark.story
@needs_numba
def test_results_are_the_same_bits_with_one_and_two_and_three_threads():
    digests = {}
    for threads in (1, 2, 3):
        digest, used = subprocess.run(
            [sys.executable, "-c", _TRAIN], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ).stdout.split()  # fmt: skip
        digests[int(used)] = digest
    assert sorted(digests) == [1, 2, 3]
    assert len(set(digests.values())) == 1


@pytest.mark.story
def test_building_and_evaluating_a_model_does_not_import_numba():
    code = (
        "import sys\nfrom paddlex_ml import paddle_runtime\npaddle_runtime.prepare()\n"
        "import paddle\n"
        "from paddlex_ml.models import zoo\nmodel = zoo.build('PP-LCNet_x1_0_ML', 3)\n"
        "model.eval()\nmodel(paddle.zeros([1, 3, 32, 32]))\nprint('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


@needs_numba
def test_a_training_step_of_a_whole_model_agrees(plain):
    paddle.seed(5)
    model = zoo.build("PP-LCNet_x1_0_ML", 3)
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif isinstance(layer, nn.MultiHeadAttention):
            layer.dropout = 0.0
    images = paddle.randn([4, 3, 96, 96])
    found = model(images)
    assert_close(found, plain(model, images), 1e-3)
