# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml import evaluation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.average_precision import average_precision, constant_predictor_map


def batches(sizes=(4, 4, 3), classes=3):
    """Images whose mean colours are random, with random targets."""
    rng = np.random.default_rng(0)
    for size in sizes:
        images = rng.standard_normal((size, 3, 2, 2)).astype(np.float32)
        targets = (rng.random((size, classes)) < 0.5).astype(np.float32)
        yield paddle.to_tensor(images), paddle.to_tensor(targets)


def colours(images):
    return images.mean(axis=[2, 3])


def test_two_networks_are_judged_in_one_pass_over_the_data():
    handed_out = []

    def counted():
        for batch in batches():
            handed_out.append(batch)
            yield batch

    heard = []
    networks = [colours, lambda images: -colours(images)]
    first, second = evaluation.evaluate(networks, counted(), heard.append)
    assert (len(handed_out), heard) == (3, [1, 2, 3])
    outputs = np.concatenate([colours(images).numpy() for images, _ in handed_out])
    targets = np.concatenate([present.numpy() for _, present in handed_out])
    assert np.array_equal(first.outputs, outputs)
    assert np.array_equal(second.outputs, -outputs)
    assert np.array_equal(first.per_class, average_precision(outputs, targets))
    assert first.map == first.per_class.mean()
    assert second.map == average_precision(-outputs, targets).mean()
    assert first.constant == second.constant == constant_predictor_map(targets)


def test_unknown_labels_of_a_batch_count_neither_for_a_model_nor_for_guessing():
    batch = [(images, targets.clone()) for images, targets in batches()]
    for _, targets in batch:
        targets[0, 0] = -1.0
    (found,) = evaluation.evaluate([colours], batch)
    truth = np.concatenate([targets.numpy() for _, targets in batch])
    known = truth[:, 0] >= 0
    assert known.sum() == 8
    alone = average_precision(found.outputs[known, :1], truth[known, :1])
    assert found.per_class[0] == alone[0]
    shares = [truth[known, 0].mean(), truth[:, 1].mean(), truth[:, 2].mean()]
    assert found.constant == pytest.approx(np.mean(shares))


def test_the_batch_size_does_not_change_the_result():
    images, targets = (paddle.concat(parts) for parts in zip(*batches(), strict=True))
    (small,) = evaluation.evaluate([colours], batches())
    (large,) = evaluation.evaluate([colours], [(images, targets)])
    assert small.map == large.map


def test_gradients_are_off_inside_and_as_before_afterwards():
    modes = []

    def watching(images):
        modes.append(paddle.is_grad_enabled())
        return colours(images)

    evaluation.evaluate([watching], batches())
    assert modes == [False, False, False]
    assert paddle.is_grad_enabled()
    with paddle.no_grad():
        evaluation.evaluate([watching], batches())
        assert not paddle.is_grad_enabled()


def test_gradients_come_back_when_a_network_fails():
    def failing(images):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        evaluation.evaluate([failing], batches())
    assert paddle.is_grad_enabled()


def test_half_precision_outputs_are_kept_in_float32():
    (found,) = evaluation.evaluate([lambda images: colours(images).astype("float16")], batches())
    assert found.outputs.dtype == np.float32


def test_no_batches_give_no_evaluation():
    assert evaluation.evaluate([colours], []) == []


def test_nan_scores_are_an_error_that_counts_the_images():
    def broken(images):
        scores = colours(images)
        scores[0, 1] = float("nan")
        return scores

    with pytest.raises(PaddlexMLError, match="NaN or infinite scores for 3 of 11 images"):
        evaluation.evaluate([broken], batches())


@pytest.mark.parametrize(
    ("outputs", "dead"),
    [
        ([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]], True),
        ([[0.1, 0.9], [0.1 + 1e-8, 0.9], [0.1, 0.9]], True),
        ([[0.1, 0.9], [0.1, 0.9], [0.1, 0.8]], False),
        ([[0.1, 0.9]], False),  # one image cannot tell
    ],
)
def test_a_model_that_says_the_same_for_every_image_is_found_out(outputs, dead):
    assert evaluation.is_constant(np.array(outputs)) is dead
