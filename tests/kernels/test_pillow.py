# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter

from paddlex_ml.data.preprocess import standard
from paddlex_ml.kernels import pillow

GREY = (128, 128, 128)


@pytest.fixture(autouse=True)
def nothing_verified(monkeypatch):
    """Each test begins as a new process does."""
    monkeypatch.setattr(pillow, "_verified", {})


def noise(width, height, *, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


def black_and_white(width, height):
    """Extremes alone, where every overflow shows."""
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.choice(np.array([0, 255], np.uint8), (height, width, 3)))


def pillow_shear(image, strength, axis):
    matrix = (1, 0, 0, strength, 1, 0) if axis else (1, strength, 0, 0, 1, 0)
    cubic, affine = Image.Resampling.BICUBIC, Image.Transform.AFFINE
    return image.transform(image.size, affine, matrix, resample=cubic, fillcolor=GREY)


SIDES = [(64, 48), (48, 64), (32, 80), (80, 32), (32, 32), (31, 33), (5, 9), (300, 200), (70, 400)]


@pytest.mark.parametrize("sides", SIDES)
def test_resizing_is_that_of_pillow_bit_for_bit(sides):
    for image in (noise(*sides), noise(*sides, seed=1), black_and_white(*sides)):
        for _ in range(2):
            result = pillow.resize(image, 32)
            assert np.array_equal(result, standard(32).resize(image))
    assert pillow._verified[("resize", sides, 32)] is not None


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sides", [(48, 48), (33, 70), (448, 448)])
def test_every_shear_is_that_of_pillow_bit_for_bit(sides, axis):
    for step in range(-9, 10):
        strength = 0.3 * step / 9
        for image in (noise(*sides), noise(*sides, seed=1), black_and_white(*sides)):
            result = pillow.shear(image, strength, axis, 128)
            assert result.tobytes() == pillow_shear(image, strength, axis).tobytes()
        assert pillow._verified[("shear", sides, axis, strength)] == 0


@pytest.mark.parametrize("strength", [3.0, -5.0, 1e-12])
def test_a_shear_that_leaves_the_picture_is_that_of_pillow(strength):
    for seed in range(3):
        image = noise(20, 24, seed=seed)
        result = pillow.shear(image, strength, 0, 128)
        assert result.tobytes() == pillow_shear(image, strength, 0).tobytes()


@pytest.mark.parametrize("sides", [(48, 48), (33, 70), (3, 40), (448, 448)])
def test_smoothing_is_that_of_pillow_bit_for_bit(sides):
    for image in (noise(*sides), noise(*sides, seed=1), black_and_white(*sides)):
        result = pillow.smooth(image)
        assert result.tobytes() == image.filter(ImageFilter.SMOOTH).tobytes()
    assert pillow._verified[("smooth", sides)] == 0


def test_another_pillow_is_detected_and_used():
    image, other = noise(16, 16), noise(16, 16, seed=1)

    def brighter(picture):
        return np.minimum(np.asarray(picture), 254) + np.uint8(1)

    variants = (np.array,)
    for picture in (image, other):
        result = pillow._as_pillow("kind", picture, variants, partial(brighter, picture))
        assert np.array_equal(result, brighter(picture))
    assert pillow._verified == {"kind": None}


def test_a_plain_picture_verifies_nothing():
    plain = Image.new("RGB", (64, 48), (1, 2, 3))
    assert np.unique(pillow.resize(plain, 32)).tolist() == [1, 2, 3]
    assert pillow._verified == {}


def test_without_numba_pillow_does_all_work(monkeypatch):
    monkeypatch.setattr(pillow, "loops", lambda: None)
    image = noise(64, 48)
    for _ in range(2):
        result = pillow.resize(image, 32)
        assert np.array_equal(result, standard(32).resize(image))
    assert pillow._verified == {}


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is optional")
def test_the_loops_take_the_arrays_of_pillow_and_of_opencv():
    pixels, found = np.asarray(noise(12, 12)), []
    for is_writable in (False, True):  # those of Pillow are read-only
        taken = pixels.copy()
        taken.setflags(write=is_writable)
        rows, sheared = np.empty((6, 36), np.uint8), np.full((12, 12, 3), 128, np.uint8)
        pillow.loops().blend_rows(taken.reshape(12, -1), *pillow._weights(12, 6), rows)
        pillow.loops().shear_rows(taken, 0.1, sheared)
        found.append((rows.tobytes(), sheared.tobytes()))
    assert found[0] == found[1]
