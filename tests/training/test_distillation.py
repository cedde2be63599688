# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.training.distillation import Teacher, divergence
from paddlex_ml.training.loop import train_step
from paddlex_ml.training.losses import bce_loss
from tests.training.test_loop import PLAN, Tiny, new_training

Network = Callable[[paddle.Tensor], paddle.Tensor]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def example(images: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model and of its teacher."""
    rng = np.random.default_rng(images)
    first, second = rng.normal(0, 2, (2, images, classes))
    return first.astype(np.float32), second.astype(np.float32)


def draws(*samples: int, epoch: int = 0) -> list[SampleIndex]:
    return [SampleIndex(epoch, sample) for sample in samples]


def gives(logits: np.ndarray, calls: list[int] | None = None) -> Network:
    """A network that finds the number of an image in its first pixel, and gives its scores."""
    scores = sigmoid(logits).astype(np.float32)

    def network(images: paddle.Tensor) -> paddle.Tensor:
        numbers = images[:, 0, 0, 0].numpy().astype(int)
        if calls is not None:
            calls.append(len(numbers))
        return paddle.to_tensor(scores[numbers])

    return network


def pictures(*numbers: int) -> paddle.Tensor:
    return paddle.to_tensor(
        np.tile(np.array(numbers, np.float32)[:, None, None, None], (1, 3, 2, 2))
    )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_divergence_is_that_of_bernoulli_variables_and_its_slope_keeps_its_size(
    temperature: float, weighted: bool
) -> None:
    student, teacher = example()
    counts = np.array([1, 2, 0.5, 1] if weighted else [1] * 4, np.float32)
    q = sigmoid(teacher.astype(float) / temperature)
    p = sigmoid(student.astype(float) / temperature)
    each = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    x = paddle.to_tensor(student, stop_gradient=False)
    weights = [paddle.to_tensor(counts)] if weighted else []
    loss = divergence(x, paddle.to_tensor(q.astype(np.float32)), temperature, *weights)
    loss.backward()
    assert float(loss) == pytest.approx(float((each.sum(axis=1) * counts).sum()) * temperature**2)
    slope = temperature * (p - q) * counts[:, None]
    np.testing.assert_allclose(x.grad.numpy(), slope, atol=1e-5)


def test_equal_scores_cost_nothing_and_certain_ones_are_finite() -> None:
    logits = np.array([[-80, -12, 0, 9, 80]], np.float32)
    teacher = Teacher([gives(logits)], weight=1.0, temperature=1.0)
    x = paddle.to_tensor(logits, stop_gradient=False)
    loss = teacher.blend(paddle.to_tensor(7.0), x, pictures(0), draws(0))
    loss.backward()
    assert 0 <= float(loss) < 1e-4
    assert np.abs(x.grad.numpy()).max() < 1e-5


def test_logits_of_mixed_precision_are_compared_in_float32() -> None:
    student, logits = example()
    teacher = Teacher([gives(logits)], weight=1.0, temperature=1.0)
    x = paddle.to_tensor(student).astype("float16")
    drawn, zero = draws(0, 1, 2, 3), paddle.to_tensor(0.0)
    half = teacher.blend(zero, x, pictures(0, 1, 2, 3), drawn)
    whole = teacher.blend(zero, x.astype("float32"), pictures(0, 1, 2, 3), drawn)
    assert half.dtype == paddle.float32
    assert float(half) == float(whole) > 0


def test_the_blend_has_the_shares_of_labels_and_teacher_and_the_mean_of_several() -> None:
    student, first = example()
    second = example(5)[1][:4]
    teacher = Teacher([gives(first), gives(second)], weight=0.3, temperature=2.0)
    x, images = paddle.to_tensor(student), pictures(0, 1, 2, 3)
    q = teacher.targets(images, draws(0, 1, 2, 3)).numpy()
    expected = (sigmoid(first / 2) + sigmoid(second / 2)) / 2
    np.testing.assert_allclose(q, expected, atol=1e-6)
    counts = paddle.to_tensor(np.array([1, 1, 3, 1], np.float32))
    loss = teacher.blend(paddle.to_tensor(10.0), x, images, draws(0, 1, 2, 3), counts)
    taught = divergence(x, paddle.to_tensor(q), 2.0, counts)
    assert float(loss) == pytest.approx(0.7 * 10 + 0.3 * float(taught))


def test_an_image_of_weight_2_is_the_same_image_twice() -> None:
    student, logits = example()
    teacher = Teacher([gives(logits)], weight=1.0, temperature=1.5)
    zero = paddle.to_tensor(0.0)
    twice = teacher.blend(
        zero, paddle.to_tensor(student[[0, 0, 1]]), pictures(0, 0, 1), draws(0, 0, 1)
    )
    weights = paddle.to_tensor(np.array([2, 1], np.float32))
    once = teacher.blend(zero, paddle.to_tensor(student[:2]), pictures(0, 1), draws(0, 1), weights)
    assert float(once) == pytest.approx(float(twice))


def test_scores_of_images_that_come_again_are_kept_and_each_was_scored_alone() -> None:
    calls: list[int] = []
    _, logits = example()
    network = gives(logits, calls)
    kept = Teacher([network], weight=0.5, temperature=1.0, variant=lambda draw: draw.epoch % 2)
    whole = Teacher([gives(logits)], weight=0.5, temperature=1.0)
    for epoch, samples in ((0, (0, 2)), (1, (2, 0)), (2, (2, 3, 0)), (3, (0, 2))):
        images, drawn = pictures(*samples), draws(*samples, epoch=epoch)
        found = kept.targets(images, drawn).numpy()
        np.testing.assert_array_equal(found, whole.targets(images, drawn).numpy())
    assert calls == [1, 1, 1, 1, 1]  # 0 and 2 in both forms, and 3 in the first one


def test_no_gradient_passes_through_the_teacher() -> None:
    model = Tiny(random=False)
    model.eval()
    teacher = Teacher(
        [lambda images: paddle.nn.functional.sigmoid(model(images))], weight=1.0, temperature=1.0
    )
    x = paddle.zeros([2, 3])
    x.stop_gradient = False
    images = paddle.rand([2, 3, 32, 32])
    teacher.blend(paddle.to_tensor(0.0), x, images, draws(0, 1)).backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_learns_its_teacher_also_where_no_label_is_known() -> None:
    paddle.seed(5)
    expert = Tiny(random=False)
    expert.fc.weight.set_value(expert.fc.weight * 4)
    expert.eval()
    teacher = Teacher(
        [lambda images: paddle.nn.functional.sigmoid(expert(images))], weight=0.5, temperature=1.0
    )
    training = new_training(lambda: Tiny(random=False))
    plan: Any = replace(PLAN, teacher=teacher, loss_fn=bce_loss)
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(8, 3, 32, 32)).astype("f4"))
    unknown = paddle.full([8, 3], -1.0)

    def distance() -> float:
        with paddle.no_grad():
            pair = [paddle.nn.functional.sigmoid(each(images)) for each in (training.model, expert)]
        return float((pair[0] - pair[1]).abs().mean())

    before = distance()
    for step in range(60):
        training.progress.step = step % 6
        train_step(training, plan, [(images, unknown)], [draws(*range(8))])
    assert distance() < before / 2
