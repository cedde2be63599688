# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddlex_ml.losses import asymmetric_loss

SETTINGS = ("gamma_pos", "gamma_neg", "clip")


def value_and_gradient(logits, targets, **settings):
    x = paddle.to_tensor(np.asarray(logits), stop_gradient=False)
    loss = asymmetric_loss(x, paddle.to_tensor(np.asarray(targets)), **settings)
    loss.backward()
    return float(loss), x.grad.astype("float32").numpy()


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
        settings = {name: kwargs[name] or 0.0 for name in SETTINGS}
        value, gradient = value_and_gradient(data["logits"], data["targets"], **settings)
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


def test_the_gradient_mode_stays_as_it_was():
    x = paddle.to_tensor([[0.5]], stop_gradient=False)
    targets = paddle.to_tensor([[1.0]])
    with paddle.no_grad():
        loss = asymmetric_loss(x, targets)
        assert loss.stop_gradient
        assert not paddle.is_grad_enabled()
        assert (x * 2).stop_gradient
    assert paddle.is_grad_enabled()
    assert not asymmetric_loss(x, targets).stop_gradient
