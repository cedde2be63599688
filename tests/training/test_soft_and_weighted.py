# SPDX-License-Identifier: Apache-2.0
"""Soft targets and weights of images, in the losses and on the way to them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml.data import loader, soft_targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import standard
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.training.losses import (
    asymmetric_loss,
    bce_loss,
    entropy_maximised,
    smoothed,
    two_way_loss,
)

LOSSES: dict[str, Any] = {
    "asymmetric": asymmetric_loss,
    "asymmetric, both powers": partial(asymmetric_loss, gamma_pos=1.0, gamma_neg=2.0, clip=0.0),
    "bce": partial(bce_loss, pos_weight=paddle.to_tensor([1.0, 3.0, 0.5, 2.0])),
    "two_way": two_way_loss,
    "em": partial(entropy_maximised, loss_fn=bce_loss, alpha=0.2),
    "smoothed": partial(smoothed, loss_fn=asymmetric_loss, smoothing=0.1),
    "weak": partial(bce_loss, unknown_weight=0.3),
    "nothing masked": partial(bce_loss, unknown_weight=None),
}


def example(images=3):
    """Logits and targets of images, with unknown cells."""
    rng = np.random.default_rng(images)
    targets = rng.choice([0.0, 1.0, UNKNOWN], (images, 4), p=[0.5, 0.3, 0.2])
    targets[:, 0] = 1
    return rng.normal(0, 2, (images, 4)).astype("float32"), targets.astype("float32")


def differentiate(loss_fn, logits, targets, *weights):
    x = paddle.to_tensor(logits, stop_gradient=False)
    loss = loss_fn(x, paddle.to_tensor(targets), *map(paddle.to_tensor, weights))
    loss.backward()
    return float(loss), x.grad.numpy()


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_weight_2_is_the_same_image_twice(name):
    logits, targets = example()
    if name == "nothing masked":
        targets = np.maximum(targets, 0)
    weights = np.array([2, 1, 1], np.float32)
    value, gradient = differentiate(LOSSES[name], logits, targets, weights)
    twice = [0, 0, 1, 2]
    again, expected = differentiate(LOSSES[name], logits[twice], targets[twice])
    assert value == pytest.approx(again, rel=1e-5)
    expected = np.stack([expected[0] + expected[1], expected[2], expected[3]])
    assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_1_change_nothing_and_of_0_leave_an_image_out(name):
    logits, targets = example(4)
    if name == "nothing masked":
        targets = np.maximum(targets, 0)
    value, gradient = differentiate(LOSSES[name], logits, targets)
    ones = differentiate(LOSSES[name], logits, targets, np.ones(4, np.float32))
    assert ones[0] == pytest.approx(value, rel=1e-6)
    assert ones[1] == pytest.approx(gradient, rel=1e-5, abs=1e-7)
    weights = np.array([1, 0, 1, 1], np.float32)
    value, gradient = differentiate(LOSSES[name], logits, targets, weights)
    others, expected = differentiate(LOSSES[name], logits[[0, 2, 3]], targets[[0, 2, 3]])
    assert value == pytest.approx(others, rel=1e-5)
    assert gradient[[0, 2, 3]] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not gradient[1].any()


def test_a_batch_of_images_of_weight_0_is_finite():
    logits, targets = example()
    for loss_fn in (asymmetric_loss, bce_loss, two_way_loss):
        value, gradient = differentiate(loss_fn, logits, targets, np.zeros(3, np.float32))
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_cross_entropy_with_a_soft_target_is_that_of_the_two_sides(target):
    """Value by hand; the slope is zero where the score is the target."""
    x = np.log(target / (1 - target))
    for logit in (-3.0, 0.0, x):
        score = 1 / (1 + np.exp(-logit))
        value, gradient = differentiate(
            bce_loss, np.array([[logit]], np.float32), np.array([[target]], np.float32)
        )
        by_hand = -(target * np.log(score) + (1 - target) * np.log(1 - score))
        assert value == pytest.approx(by_hand, rel=1e-5)
        assert gradient[0, 0] == pytest.approx(score - target, abs=1e-6)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5, 0.7])
def test_the_asymmetric_loss_is_lowest_near_a_soft_target(target):
    score = target * 1.05
    x = np.array([[np.log(score / (1 - score))]], np.float32)
    aim = np.array([[target]], np.float32)
    assert differentiate(asymmetric_loss, x, aim)[1][0, 0] == pytest.approx(0, abs=1e-4)
    for step, sign in ((-0.5, -1), (0.5, 1)):
        slope = differentiate(asymmetric_loss, x + np.float32(step), aim)[1]
        assert slope[0, 0] * sign > 0


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for i in range(4):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(root / f"{i}.png")
    parsed = soft_targets.parse(["0,0.7,-1", "1,0,0", "0.25,1,0", "-1,1,0"], 3, "")
    return ImageList(
        Path(root),
        [f"{i}.png" for i in range(4)],
        parsed.values,
        parsed.soft,
        np.array([2, 1, 0, 1], np.float32),
    )


def batch_of(images, workers=0, mixup=0.0, **options: Any):
    dataset = MultiLabelDataset(
        images,
        standard(32),
        Augmentation(1, 0, False, mixup=mixup),
        **options,
    )
    draws = [[SampleIndex(0, i) for i in (3, 0, 2, 1)]]
    with closing(loader.batches(dataset, draws, workers)) as batches:
        return [tensor.numpy() for tensor in next(batches)]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_have_soft_targets_and_weights_where_they_are_asked_for(images, workers):
    _, targets, weights = batch_of(images, workers, weights=images.weights, with_soft=True)
    rows = [[-1, 1, 0], [0, 0.7, -1], [0.25, 1, 0], [1, 0, 0]]
    assert targets == pytest.approx(np.array(rows))
    assert weights.tolist() == [1, 2, 0, 1]
    assert (targets.dtype, weights.dtype) == (np.float32, np.float32)
    _, targets = batch_of(images)
    assert targets.tolist() == [[-1, 1, 0], [0, 1, -1], [0, 1, 0], [1, 0, 0]]


def test_soft_values_stay_known_where_absent_ones_are_not(images):
    _, targets = batch_of(images, only_present=True, with_soft=True)
    rows = [[-1, 1, -1], [-1, 0.7, -1], [0.25, 1, -1], [1, -1, -1]]
    assert targets == pytest.approx(np.array(rows))


def test_a_mixture_has_what_its_parts_add_to_its_weight(images):
    weights = np.array([0.5, 2.0, 0.25, 1.25], np.float32)
    values = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0]], np.int8)
    listed = replace(images, values=values, soft=None)
    pixels, targets, mixed = batch_of(listed, mixup=1.0, weights=weights)
    told = replace(listed, values=np.eye(4, dtype=np.int8))  # whose share each mixture has
    alone, shares = batch_of(told, mixup=1.0)
    assert np.array_equal(pixels, alone)
    assert mixed == pytest.approx(shares @ weights, rel=1e-6)
    assert mixed[:, None] * targets == pytest.approx(shares @ (weights[:, None] * values), rel=1e-5)
    assert (np.count_nonzero(shares, axis=1) == 2).any()
