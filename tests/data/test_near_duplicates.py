# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from paddlex_ml.data import near_duplicates
from paddlex_ml.data.near_duplicates import find_near_duplicates

RAMP = np.arange(64, dtype=np.uint8)


def greys(count: int) -> np.ndarray:
    return np.tile(RAMP, (count, 1))


def hashes(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_hashes_are_alike_up_to_six_bits_wherever_these_are():
    random = np.random.default_rng(1)
    train = random.integers(0, 2**64, 300, np.uint64)
    for bits in range(9):
        val = train.copy()
        for i in range(len(val)):
            for bit in random.choice(64, bits, replace=False):
                val[i] ^= np.uint64(1) << np.uint64(bit)
        pairs = find_near_duplicates(train, greys(300), val, greys(300))
        assert pairs == ([(i, i) for i in range(300)] if bits <= near_duplicates.MOST_BITS else [])


def test_the_same_is_found_as_by_comparing_all_with_all(monkeypatch):
    random = np.random.default_rng(2)
    centres = random.integers(0, 2**64, 20, np.uint64)
    noise = (np.uint64(1) << random.integers(0, 64, (700, 5), np.uint64)).astype(np.uint64)
    all_ = centres[random.integers(0, 20, 700)] ^ np.bitwise_xor.reduce(noise, axis=1)
    train, val = all_[:500], all_[500:]
    distance = np.array([[int(a ^ b).bit_count() for a in train] for b in val])
    expected = {i for i in range(200) if distance[i].min() <= near_duplicates.MOST_BITS}
    pairs = find_near_duplicates(train, greys(500), val, greys(200))
    assert {pair.val for pair in pairs} == expected
    assert max(distance[v, t] for t, v in pairs) <= near_duplicates.MOST_BITS
    monkeypatch.setattr(near_duplicates, "_AT_ONCE", 7)  # in many small steps
    monkeypatch.setattr(near_duplicates, "_WINDOW", 3)
    in_steps = find_near_duplicates(train, greys(500), val, greys(200))
    assert {pair.val for pair in in_steps} == expected
    assert max(distance[v, t] for t, v in in_steps) <= near_duplicates.MOST_BITS


def test_the_nearest_and_then_the_first_image_of_train_is_named():
    pairs = find_near_duplicates(hashes(0b111, 0b1, 0b1), greys(3), hashes(0b0), greys(1))
    assert pairs == [(1, 0)]


def test_grey_pictures_that_disagree_are_no_near_duplicates():
    other = RAMP[::-1].copy()[None]
    assert find_near_duplicates(hashes(5), greys(1), hashes(5), other) == []
    brighter = (RAMP // 2 + 90)[None].astype(np.uint8)
    assert find_near_duplicates(hashes(5), greys(1), hashes(5), brighter) == [(0, 0)]


def test_an_image_that_disagrees_does_not_hide_the_one_behind_it(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_WINDOW", 1)
    pictures = np.stack([RAMP[::-1], RAMP[::-1], RAMP])
    assert find_near_duplicates(hashes(0b1, 0b11, 0b111), pictures, hashes(0), greys(1)) == [(2, 0)]


def test_ten_thousand_frames_of_one_film_take_little_memory():
    random = np.random.default_rng(3)
    film = np.zeros(10_000, np.uint64)
    for _ in range(3):
        film ^= np.uint64(1) << random.integers(0, 64, len(film), np.uint64)
    tracemalloc.start()
    try:
        pairs = find_near_duplicates(film[:7000], greys(7000), film[7000:], greys(3000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pairs) == 3000  # of 21 million that are alike
    assert peak < 300e6


def test_thousands_of_equal_hashes_are_one_question():
    train, val = np.full(50_000, 7, np.uint64), np.full(20_000, 7, np.uint64)
    pairs = find_near_duplicates(train, greys(50_000), val, greys(20_000))
    assert len(pairs) == 20_000
    assert {pair.train for pair in pairs} == {0}


@pytest.mark.parametrize(("train", "val"), [(0, 3), (3, 0), (0, 0)])
def test_an_empty_list_has_no_near_duplicates(train, val):
    sides = [np.arange(n, dtype=np.uint64) for n in (train, val)]
    assert find_near_duplicates(sides[0], greys(train), sides[1], greys(val)) == []
