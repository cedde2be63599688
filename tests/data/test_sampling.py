# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.data import sampling


def long_tail() -> np.ndarray:
    """1,000 images: class 0 in 60 %, class 1 in 1 %, class 2 in none, class 3 in 0.1 %."""
    targets = np.zeros((1000, 4), np.uint8)
    targets[:600, 0] = 1
    targets[595:605, 1] = 1
    targets[999, 3] = 1
    return targets


def epoch(factors: np.ndarray, number: int) -> np.ndarray:
    return sampling.repeated_order(factors, np.random.default_rng([42, number]))


def test_factors_by_hand() -> None:
    factors = sampling.repeat_factors(long_tail(), 0.04)
    assert factors.dtype == np.float64
    assert factors[:595].tolist() == [1.0] * 595  # frequent class
    assert factors[595:605].tolist() == [pytest.approx(2.0)] * 10  # sqrt(0.04 / 0.01), and over 1
    assert factors[605:999].tolist() == [1.0] * 394  # no labels
    assert factors[999] == pytest.approx(np.sqrt(40))


def test_the_share_of_a_class_is_that_of_the_images_where_it_is_known() -> None:
    targets = long_tail().astype(np.int8)
    targets[605:805, 1] = -1  # 10 of 800
    factors = sampling.repeat_factors(targets, 0.04)
    assert factors[595:605].tolist() == [pytest.approx(np.sqrt(0.04 * 80))] * 10
    assert factors[605:805].tolist() == [1.0] * 200


def test_factors_are_those_of_the_formula() -> None:
    targets = (np.random.default_rng(0).random((300, 12)) < np.logspace(-2.5, -0.3, 12)).astype(int)
    shares = targets.mean(axis=0)
    expected = [
        max([1.0, *(max(1.0, (0.1 / shares[c]) ** 0.5) for c in np.flatnonzero(row))])
        for row in targets
    ]
    assert sampling.repeat_factors(targets, 0.1).tolist() == pytest.approx(expected, rel=1e-12)


def test_every_epoch_has_the_same_length_and_its_own_order() -> None:
    factors = sampling.repeat_factors(long_tail(), 0.05)
    size = sampling.repeated_size(factors)
    assert size == round(989 + 10 * 5**0.5 + 50**0.5)
    orders = [epoch(factors, number) for number in range(50)]
    assert {len(order) for order in orders} == {size}
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[3], epoch(factors, 3))
    assert not np.array_equal(np.sort(orders[0]), np.sort(orders[1]))


def test_each_image_is_drawn_as_often_as_its_factor_says() -> None:
    factors = np.concatenate([np.ones(40), np.random.default_rng(1).uniform(1, 4, 60)])
    counts = np.array([np.bincount(epoch(factors, k), minlength=100) for k in range(4000)])
    assert (counts >= np.floor(factors)).all()
    assert (counts <= np.ceil(factors)).all()
    assert (counts[:, :40] == 1).all()
    # The total is rounded to whole draws: by half a draw of 100 images at most.
    scale = (sampling.repeated_size(factors) - 40) / (factors.sum() - 40)
    assert scale == pytest.approx(1, abs=0.01)
    # Four standard errors of a share of one half are 0.032; the rounding adds up to 0.01.
    assert np.abs(counts.mean(axis=0) - factors).max() < 0.045


def test_neighbours_of_one_factor_are_not_drawn_in_step() -> None:
    factors = np.full(40, 1.5)
    counts = np.array([np.bincount(epoch(factors, k), minlength=40) for k in range(2000)]) - 1
    together = (counts[:, :-1] & counts[:, 1:]).mean()
    assert together == pytest.approx(0.5 * 19 / 39, abs=0.02)  # as for any two of the 40


@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [2.0, 3.0], [1.0], [1.6], [1.9, 1.6], [1.2]])
def test_small_and_whole_factors_keep_the_length(factors: list[float]) -> None:
    for number in range(30):
        counts = np.bincount(epoch(np.array(factors), number), minlength=len(factors))
        assert counts.sum() == round(sum(factors))
        assert (counts >= np.floor(factors)).all()


def test_without_rare_classes_an_epoch_is_every_image_once() -> None:
    factors = sampling.repeat_factors(np.ones((30, 2), np.uint8), 0.5)
    assert sorted(epoch(factors, 0).tolist()) == list(range(30))


def test_a_plain_order_is_every_image_once_by_the_generator_alone() -> None:
    order = sampling.shuffled_order(50, np.random.default_rng([1, 2]))
    assert sorted(order.tolist()) == list(range(50))
    assert np.array_equal(order, np.random.default_rng([1, 2]).permutation(50))


def test_copies_count_the_earlier_draws_of_an_image() -> None:
    assert sampling.copies(np.array([7, 3, 7, 7, 3, 1])).tolist() == [0, 0, 1, 2, 1, 0]
    assert sampling.copies(np.array([], np.int64)).tolist() == []
