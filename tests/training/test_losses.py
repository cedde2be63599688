# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from functools import partial

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle.base import core, framework

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training.losses import (
    asymmetric_loss,
    bce_loss,
    positive_weight,
    smoothed,
    two_way_loss,
)

SETTINGS = ("gamma_pos", "gamma_neg", "clip")


LOSSES = [asymmetric_loss, bce_loss, two_way_loss]


def value_and_gradient(logits, targets, loss_fn=asymmetric_loss, **options):
    x = paddle.to_tensor(np.asarray(logits), stop_gradient=False)
    loss = loss_fn(x, paddle.to_tensor(np.asarray(targets)), **options)
    loss.backward()
    return float(loss), x.grad.astype("float32").numpy()


def example(seed=0, shape=(5, 7)):
    """Logits and targets 0 or 1, all of float32."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 2, shape).astype("float32"), (rng.random(shape) < 0.3).astype("float32"))


def numpy_softplus(value):
    return np.logaddexp(0, value)


def numpy_bce(x, t, pos_weight=1.0):
    return (pos_weight * t * numpy_softplus(-x) + (1 - t) * numpy_softplus(x)).sum()


def numpy_asymmetric(x, t, gamma_neg=4.0, gamma_pos=0.0, clip=0.05):
    p = 1 / (1 + np.exp(-x))
    q = np.minimum(1 - p + clip, 1)
    weight = (1 - t * p - (1 - t) * q) ** (gamma_pos * t + gamma_neg * (1 - t))
    return -(weight * (t * np.log(p) + (1 - t) * np.log(q))).sum()


def numpy_two_way(x, t, temperature=4.0):
    def mean_cost(rows, present):
        costs = [
            numpy_softplus(
                np.logaddexp.reduce(row[~now], initial=-np.inf)
                + temperature * np.logaddexp.reduce(-row[now] / temperature)
            )
            for row, now in zip(rows, present, strict=True)
            if now.any()
        ]
        return np.mean(costs) if costs else 0.0

    now = t > 0.5
    return len(x) * (mean_cost(x, now) + mean_cost(x.T, now.T))


def test_value_matches_the_paper_by_hand():
    # sigmoid(0) = 0.5.  present: -log 0.5.  absent: -(1 - 0.55)^4 * log 0.55, shifted by clip.
    value, gradient = value_and_gradient([[0.0, 0.0]], [[1.0, 0.0]])
    assert value == pytest.approx(0.693147 + 0.024515, abs=1e-5)
    # Present: p - 1.  Absent: 0.45^4 * p (1 - p) / 0.55; no gradient through the weight.
    assert gradient[0].tolist() == pytest.approx([-0.5, 0.45**4 * 0.25 / 0.55], abs=1e-6)


def test_without_focus_and_clip_it_is_the_cross_entropy_summed():
    logits = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    targets = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    signed = np.where(targets > 0, logits, -logits)
    value, _ = value_and_gradient(logits, targets, gamma_pos=0, gamma_neg=0, clip=0)
    assert value == pytest.approx(np.log1p(np.exp(-signed)).sum(), rel=1e-6)


def test_values_and_gradients_are_those_of_the_reference(refdata):
    data = refdata.load_npz("loss_metric", "loss.npz")
    seen = []
    for case in refdata.load_json("loss_metric", "loss.json")["asl"]:
        kwargs = {"gamma_pos": 1, "gamma_neg": 4, "clip": 0.05, **case["kwargs"]}
        unfocused = kwargs["gamma_pos"] == kwargs["gamma_neg"] == 0
        # Ours sums and lets no gradient through the weight, as all recipes do.
        if kwargs.get("reduction", "sum") != "sum":
            continue
        if not (kwargs.get("disable_focal_loss_grad", True) or unfocused):
            continue
        options = {name: kwargs[name] or 0.0 for name in SETTINGS}
        value, gradient = value_and_gradient(data["logits"], data["targets"], **options)
        expected = data[f"{case['key']}_grad"]
        assert value == pytest.approx(case["loss_sum_or_value"], rel=1e-5), case["key"]
        assert np.abs(gradient - expected).max() < 1e-5, case["key"]
        seen.append(case["key"])
    assert {"asl_0", "asl_4", "asl_5", "asl_6", "asl_7"} <= set(seen)


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_extreme_logits_give_finite_values_and_gradients(dtype, clip):
    logits = np.array([[100.0, -100.0, 100.0, -100.0]], dtype)
    value, gradient = value_and_gradient(logits, [[1.0, 0.0, 0.0, 1.0]], clip=clip)
    # Right answers cost nothing. Wrong ones stop at log(1e-8) = -18.42: the published floor.
    wrong_absent = -math.log(clip or 1e-8) * (1 - clip) ** 4
    assert value == pytest.approx(18.420681 + wrong_absent, rel=1e-5)
    assert np.abs(gradient).max() < 1e-6


def test_gradients_of_confident_mistakes_do_not_vanish_before_the_floor():
    # At -15 the sigmoid is 3e-7: log(sigmoid) in float32 is exact, and so is its slope of -1.
    _, gradient = value_and_gradient([[-15.0]], [[1.0]])
    assert gradient[0, 0] == pytest.approx(-1.0, abs=1e-6)


def test_half_precision_logits_are_computed_in_float32():
    logits = np.array([[-9.5, 7.25, 0.125]], np.float16)  # each exact in both types
    targets = [[1.0, 0.0, 1.0]]
    half, _ = value_and_gradient(logits, targets)
    full, _ = value_and_gradient(logits.astype(np.float32), targets)
    assert half == full
    assert (
        asymmetric_loss(paddle.to_tensor(logits), paddle.to_tensor(targets)).dtype == paddle.float32
    )


def test_whole_number_targets_serve_as_well():
    x = paddle.to_tensor([[0.3, -1.0]])
    whole = asymmetric_loss(x, paddle.to_tensor([[1, 0]], dtype="int64"))
    assert float(whole) == float(asymmetric_loss(x, paddle.to_tensor([[1.0, 0.0]])))


def test_the_sum_grows_with_the_batch():
    logits, targets = paddle.to_tensor([[0.2, -0.4]]), paddle.to_tensor([[1.0, 0.0]])
    one = float(asymmetric_loss(logits, targets))
    four = float(asymmetric_loss(logits.tile([4, 1]), targets.tile([4, 1])))
    assert four == pytest.approx(4 * one, rel=1e-6)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_the_gradient_mode_stays_as_it_was(loss_fn):
    x = paddle.to_tensor([[0.5, 0.1]], stop_gradient=False)
    targets = paddle.to_tensor([[1.0, 0.0]])
    loss_fn = partial(smoothed, loss_fn=loss_fn, smoothing=0.1)
    with paddle.no_grad():
        loss = loss_fn(x, targets)
        assert loss.stop_gradient
        assert not paddle.is_grad_enabled()
        assert (x * 2).stop_gradient
    assert paddle.is_grad_enabled()
    assert not loss_fn(x, targets).stop_gradient


@pytest.mark.parametrize(
    ("loss_fn", "expected"),
    [(asymmetric_loss, numpy_asymmetric), (bce_loss, numpy_bce), (two_way_loss, numpy_two_way)],
)
@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_numpy_in_double_precision(loss_fn, expected, seed):
    logits, targets = example(seed)
    value, _ = value_and_gradient(logits, targets, loss_fn)
    assert value == pytest.approx(expected(logits.astype("float64"), targets), rel=2e-6)
    soft = np.random.default_rng(seed).random(targets.shape).astype("float32")
    value, _ = value_and_gradient(logits, soft, loss_fn)
    assert value == pytest.approx(expected(logits.astype("float64"), soft), rel=2e-6)


@pytest.mark.parametrize(
    ("loss_fn", "function"),
    [
        (bce_loss, numpy_bce),
        (two_way_loss, numpy_two_way),
        # With powers of 0 the weight, which lets no gradient through, is 1.
        (
            lambda x, t: asymmetric_loss(x, t, gamma_neg=0),
            lambda x, t: numpy_asymmetric(x, t, gamma_neg=0),
        ),
    ],
)
def test_gradients_are_the_finite_differences(loss_fn, function):
    logits, targets = example(3, (4, 5))
    _, gradient = value_and_gradient(logits, targets, loss_fn)
    for place in np.ndindex(*logits.shape):
        step = np.zeros(logits.shape)
        step[place] = 1e-5
        slope = (function(logits + step, targets) - function(logits - step, targets)) / 2e-5
        assert gradient[place] == pytest.approx(slope, abs=2e-5), place


@pytest.mark.parametrize("loss_fn", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("fill", [0.0, 1.0, None])
def test_every_loss_is_finite_at_the_extremes(loss_fn, dtype, fill):
    logits = np.array([[100, -100, 100, -100], [-100, 100, -100, 100], [0, 0, 0, 0]], dtype)
    some = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0]], "float32")
    targets = some if fill is None else np.full_like(some, fill)
    value, gradient = value_and_gradient(logits, targets, loss_fn)
    assert math.isfinite(value)
    assert value >= 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_mixed_precision_is_off_inside_a_loss_and_on_after_it(loss_fn, monkeypatch):
    # A CPU has no mixed precision to compute with: ask the switch itself.
    tracer, levels = framework._dygraph_tracer(), []
    log_sigmoid = F.log_sigmoid

    def spy(x):
        levels.append(tracer._amp_level)
        return log_sigmoid(x)

    monkeypatch.setattr(F, "log_sigmoid", spy)
    monkeypatch.setattr(tracer, "_amp_level", core.AmpLevel.O2)
    logits, targets = (paddle.to_tensor(array) for array in example(1))
    smoothed(logits, targets, loss_fn=loss_fn, smoothing=0.1)
    assert set(levels) == {core.AmpLevel.O0}
    assert tracer._amp_level == core.AmpLevel.O2


@pytest.mark.parametrize("loss_fn", [asymmetric_loss, bce_loss])
def test_the_loss_of_a_batch_is_the_sum_over_its_parts(loss_fn):
    logits, targets = example(2, (6, 7))
    whole, gradient = value_and_gradient(logits, targets, loss_fn)
    first, upper = value_and_gradient(logits[:2], targets[:2], loss_fn)
    second, lower = value_and_gradient(logits[2:], targets[2:], loss_fn)
    assert whole == pytest.approx(first + second, rel=1e-6)
    assert np.array_equal(gradient, np.concatenate([upper, lower]))


def test_cross_entropy_by_hand():
    # log(1 + e^-1) = 0.313262, log(1 + e^2) = 2.126928, log 2 = 0.693147.
    value, gradient = value_and_gradient([[1.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]], bce_loss)
    assert value == pytest.approx(0.313262 + 2.126928 + 0.693147, abs=1e-5)
    assert gradient[0].tolist() == pytest.approx([-0.268941, 0.880797, 0.5], abs=1e-6)


def test_cross_entropy_is_paddles_own():
    logits, targets = example(4)
    x = paddle.to_tensor(logits, stop_gradient=False)
    theirs = paddle.nn.functional.binary_cross_entropy_with_logits(
        x, paddle.to_tensor(targets), reduction="sum"
    )
    theirs.backward()
    value, gradient = value_and_gradient(logits, targets, bce_loss)
    assert value == pytest.approx(float(theirs), rel=1e-6)
    assert np.abs(gradient - x.grad.numpy()).max() < 1e-6


def test_the_weight_of_present_labels_multiplies_their_cost_alone():
    logits, targets = example(5)
    weights = np.linspace(0.5, 50, 7).astype("float32")
    value, gradient = value_and_gradient(
        logits, targets, bce_loss, pos_weight=paddle.to_tensor(weights)
    )
    assert value == pytest.approx(numpy_bce(logits, targets, weights), rel=1e-6)
    _, unweighted = value_and_gradient(logits, targets, bce_loss)
    factor = np.where(targets > 0, weights, 1)
    assert np.abs(gradient - factor * unweighted).max() < 1e-5


def test_extreme_logits_cost_their_distance_in_cross_entropy():
    logits = np.array([[100.0, -100.0, 100.0, -100.0]], "float32")
    value, gradient = value_and_gradient(logits, [[1.0, 0.0, 0.0, 1.0]], bce_loss)
    assert value == pytest.approx(200)
    assert gradient[0].tolist() == pytest.approx([0, 0, 1, -1], abs=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("target", [0.02, 0.05, 0.3, 0.95])
def test_the_asymmetric_slope_is_zero_at_the_smoothed_target(target, clip):
    # As documented: at the score t (1 + clip), or at clip when that is more.
    scores = np.linspace(0.001, 0.999, 9981)
    logits = np.log(scores / (1 - scores)).reshape(1, -1)
    _, gradient = value_and_gradient(logits, np.full(logits.shape, target), clip=clip)
    turn = scores[np.flatnonzero(gradient[0] > 0)[0]] if (gradient > 0).any() else 1.0
    assert turn == pytest.approx(max(target * (1 + clip), clip), abs=3e-4)


def test_two_way_by_hand():
    # Sample 1: softplus(log(e^0) + 4 * (-2 / 4)) = softplus(-2); sample 2 has no present label.
    # Class 1: softplus(0.5 - 2); class 2 has none.
    value, _ = value_and_gradient([[2.0, 0.0], [0.5, -1.0]], [[1, 0], [0, 0]], two_way_loss)
    assert value == pytest.approx(2 * (0.126928 + 0.201413), abs=1e-5)
    # T = 1, two present labels with logits 0 and 1, one absent with 0.5, in one sample:
    # softplus(0.5 + log(1 + e^-1)).  A class of one sample has no absent one: it costs nothing.
    value, _ = value_and_gradient([[0.0, 1.0, 0.5]], [[1, 1, 0]], two_way_loss, temperature=1.0)
    assert value == pytest.approx(math.log1p(math.exp(0.5 + math.log1p(math.exp(-1)))), abs=1e-5)


def test_two_way_costs_and_teaches_nothing_without_present_or_without_absent_labels():
    logits, _ = example(6)
    for fill in (0.0, 1.0):
        value, gradient = value_and_gradient(logits, np.full_like(logits, fill), two_way_loss)
        assert value == 0.0
        assert np.array_equal(gradient, np.zeros_like(logits))


def test_two_way_scales_as_a_sum():
    logits, targets = example(7)
    one, _ = value_and_gradient(logits[:1], targets[:1], two_way_loss)
    # Copies of one sample: the sample direction is four times the same, classes meet no absent one.
    four, _ = value_and_gradient(
        np.repeat(logits[:1], 4, 0), np.repeat(targets[:1], 4, 0), two_way_loss
    )
    assert one > 0.1
    assert four == pytest.approx(4 * one, rel=1e-6)


def test_two_way_at_a_confident_mistake_grows_with_the_distance():
    value, gradient = value_and_gradient([[-100.0, 100.0]], [[1, 0]], two_way_loss)
    assert value == pytest.approx(200)
    assert gradient[0].tolist() == pytest.approx([-1, 1], abs=1e-6)


def test_two_way_takes_targets_above_one_half_as_present():
    logits, targets = example(8)
    sharp, _ = value_and_gradient(logits, targets, two_way_loss)
    soft, _ = value_and_gradient(logits, targets * 0.2 + 0.4, two_way_loss)
    assert sharp == soft


def test_smoothing_moves_targets_to_the_middle():
    seen = []

    def spy(logits, targets):
        seen.append(targets)
        return bce_loss(logits, targets)

    logits, targets = paddle.zeros([1, 3]), paddle.to_tensor([[1, 0, 1]], dtype="int64")
    smoothed(logits, targets, loss_fn=spy, smoothing=0.1)
    assert seen[0].numpy()[0].tolist() == pytest.approx([0.95, 0.05, 0.95])


def test_automatic_weights_are_absent_over_present_up_to_a_limit():
    targets = np.zeros((1000, 5), np.uint8)
    targets[:250, 0] = 1  # 750 / 250
    targets[:800, 1] = 1  # 200 / 800
    targets[:2, 2] = 1  # 499, limited
    targets[:, 4] = 1  # in every image
    assert positive_weight("auto", targets).tolist() == [3.0, 0.25, 100.0, 1.0, 1.0]
    assert positive_weight("auto", targets).dtype == np.float32


def test_a_list_of_weights_has_one_number_per_class():
    targets = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], np.uint8)
    assert positive_weight(None, targets) is None
    assert positive_weight("auto", targets).tolist() == [3.0, 1.0]
    assert positive_weight([2.0, 0.5], targets).tolist() == [2.0, 0.5]
    with pytest.raises(PaddlexMLError, match="has 3 numbers, the data set 2 classes") as caught:
        positive_weight([1.0, 2.0, 3.0], targets)
    assert "-o Train.loss.pos_weight=auto" in str(caught.value)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_following_the_slope_puts_present_labels_above_absent_ones(loss_fn):
    _, targets = example(9, (6, 5))
    scores = paddle.create_parameter([6, 5], "float32")
    optimizer = paddle.optimizer.Adam(0.1, parameters=[scores])
    for _ in range(200):
        loss_fn(scores, paddle.to_tensor(targets)).backward()
        optimizer.step()
        optimizer.clear_grad()
    rows_and_columns = (*scores.numpy(), *scores.numpy().T), (*targets, *targets.T)
    for row, present in zip(*rows_and_columns, strict=True):
        if 0 < present.sum() < len(present):
            assert row[present > 0].min() > row[present == 0].max() + 1
