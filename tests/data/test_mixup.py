# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.data.mixup import mix
from paddlex_ml.metrics.known import UNKNOWN


def batch(size: int = 8, side: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, side, side, 3), np.uint8)
    return images, np.eye(size, dtype=np.uint8)  # so targets tell partner and share


def test_images_and_targets_are_mixed_with_the_same_partner_and_share() -> None:
    images, targets = batch()
    mixed, soft, _ = mix(images, targets, 1.0, np.random.default_rng(3))
    assert (mixed.dtype, soft.dtype) == (np.uint8, np.float32)
    assert soft.sum(axis=1).tolist() == [1.0] * 8
    assert (np.diagonal(soft) >= 0.5).all()  # the own share is the larger one
    expected = np.tensordot(soft.astype(np.float64), images.astype(np.float64), 1)
    assert np.abs(mixed - expected).max() <= 0.5
    assert len(set(np.diagonal(soft).tolist())) > 4  # each image has a share of its own
    assert (soft.sum(axis=0) > 0.5).all()
    assert (np.count_nonzero(soft, axis=0) <= 2).all()  # partners are a permutation


def test_a_share_by_hand() -> None:
    class Fixed:
        def permutation(self, size: int) -> np.ndarray:
            return np.arange(size)[::-1]

        def beta(self, a: float, b: float, size: int) -> np.ndarray:
            assert (a, b) == (0.4, 0.4)
            return np.full(size, 0.25)

    images = np.zeros((2, 1, 1, 3), np.uint8)
    images[0], images[1] = 255, 10
    targets = np.array([[1, 1, 0], [0, 1, 0]], np.uint8)
    mixed, soft, _ = mix(images, targets, 0.4, Fixed())  # type: ignore[arg-type]
    # 0.75 of each image itself: 191.25 + 2.5 and 7.5 + 63.75.
    assert mixed[:, 0, 0, 0].tolist() == [194, 71]
    assert soft.tolist() == [[0.75, 1.0, 0.0], [0.25, 1.0, 0.0]]


def test_pure_white_stays_white_and_a_label_of_both_stays_one() -> None:
    images = np.full((6, 4, 4, 3), 255, np.uint8)
    for seed in range(20):
        mixed, soft, _ = mix(images, np.ones((6, 2), np.uint8), 1.0, np.random.default_rng(seed))
        assert (mixed == 255).all()
        assert (soft == 1).all()


def test_the_generator_alone_decides_and_the_input_stays() -> None:
    images, targets = batch()
    before = images.copy(), targets.copy()
    first = mix(images, targets, 0.2, np.random.default_rng([1, 2]))[:2]
    again = mix(images, targets, 0.2, np.random.default_rng([1, 2]))[:2]
    other = mix(images, targets, 0.2, np.random.default_rng([1, 3]))[:2]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(images, before[0])
    assert np.array_equal(targets, before[1])


@pytest.mark.parametrize(("alpha", "mean"), [(0.2, 0.9), (1.0, 0.75), (50.0, 0.54)])
def test_the_shares_follow_the_beta_distribution(alpha: float, mean: float) -> None:
    # Mean of the larger share: 3/4 for a uniform one; nearer to 1 for small alpha, 1/2 for large.
    images, targets = np.zeros((1000, 1, 1, 3), np.uint8), np.eye(1000, dtype=np.uint8)
    _, soft, _ = mix(images, targets, alpha, np.random.default_rng(5))
    assert np.diagonal(soft).mean() == pytest.approx(mean, abs=0.015)


def test_a_batch_of_one_stays_as_it_is() -> None:
    images, targets = batch(1)
    mixed, soft, _ = mix(images, targets, 1.0, np.random.default_rng(0))
    assert np.array_equal(mixed, images)
    assert np.array_equal(soft, targets)


@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 1e9])
def test_extreme_alphas_give_sound_shares(alpha: float) -> None:
    images, targets = batch()
    _, soft, _ = mix(images, targets, alpha, np.random.default_rng(0))
    own = np.diagonal(soft)
    assert ((own == 1.0) | (own == 0.5) if alpha > 1 else own == 1.0).all()


def test_equal_weights_change_no_target() -> None:
    images = np.zeros((5, 2, 2, 3), np.uint8)
    targets = np.array([[1, 0], [0, 1], [UNKNOWN, 1], [1, 1], [0, 0]], np.int8)
    _, plain, none = mix(images, targets, 1.0, np.random.default_rng(4))
    _, soft, weights = mix(
        images, targets, 1.0, np.random.default_rng(4), np.full(5, 2, np.float32)
    )
    assert none is None
    assert soft == pytest.approx(plain, abs=1e-6)
    assert weights == pytest.approx(np.full(5, 2))
