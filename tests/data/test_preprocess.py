# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import math
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data.preprocess import MEAN, STD, read, standard
from paddlex_ml.errors import PaddlexMLError

STEPS: list[dict[str, Any]] = [
    {"ResizeImage": {"backend": "pil", "interpolation": "bilinear", "size": 64}},
    {
        "NormalizeImage": {
            "channel_num": 3,
            "mean": [0.485, 0.456, 0.406],
            "order": "",
            "scale": 1 / 255,
            "std": [0.229, 0.224, 0.225],
        }
    },
    {"ToCHWImage": None},
]


def steps(**changes):
    """STEPS with `ResizeImage={...}` merged into the step of that name."""
    changed = copy.deepcopy(STEPS)
    for step in changed:
        for name, values in step.items():
            if values is not None:
                values.update(changes.get(name, {}))
    return changed


def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def test_the_network_sees_what_it_saw_in_training():
    found = read(STEPS, where="x")
    assert found == standard(64)
    assert found(photo()).shape == (3, 64, 64)
    assert found(photo()).dtype == np.float32


@pytest.mark.parametrize(
    "scale", ["1.0/255.0", "1/255", " 1. / 255. ", "0.00392156862745098", None]
)
def test_the_scale_may_be_the_text_of_a_fraction(scale):
    assert read(steps(NormalizeImage={"scale": scale}), where="x").scale == pytest.approx(
        1 / 255, rel=1e-9
    )


@pytest.mark.parametrize(
    "scale",
    [
        "__import__('os').abort()",
        "1/0",
        "1/2/3",
        "",
        True,
        [1],
        math.nan,
        math.inf,
        "1e999",
        10**400,
    ],
)
def test_other_texts_are_no_numbers(scale):
    with pytest.raises(PaddlexMLError, match="is not a finite number"):
        read(steps(NormalizeImage={"scale": scale}), where="x")


@pytest.mark.parametrize(
    "numbers",
    [
        {"std": [0, 0, 0]},
        {"std": [0.2, 0.2, 0.0]},
        {"std": [0.2, 0.2, -0.2]},
        {"std": [1e-60, 0.2, 0.2]},  # zero in float32
        {"std": [1e60, 0.2, 0.2]},
        {"mean": [1e60, 0.2, 0.2]},
        {"mean": [1e30, 0.2, 0.2]},  # swallows every value
        {"scale": 0},
        {"scale": -1},
    ],
)
def test_numbers_that_make_all_images_alike_or_infinite_are_refused(numbers):
    with pytest.raises(PaddlexMLError, match="no image can be normalised with scale") as told:
        read(steps(NormalizeImage=numbers), where="inference.yml")
    assert "std: [0.229, 0.224, 0.225]" in told.value.fix


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("number", [math.nan, math.inf, "nan", None])
def test_mean_and_std_are_finite_numbers(key, number):
    with pytest.raises(PaddlexMLError, match="is not a finite number"):
        read(steps(NormalizeImage={key: [0.5, number, 0.5]}), where="x")


def test_two_sizes_are_width_and_height():
    preprocess = read(steps(ResizeImage={"size": [96, 32]}), where="x")
    assert preprocess.size == (96, 32)
    assert preprocess(photo()).shape == (3, 32, 96)


@pytest.mark.parametrize("size", [32, 64, 200])
def test_the_opencv_backend_gives_the_pixels_of_opencv(size):
    resized = read(
        steps(
            ResizeImage={"size": size, "backend": None, "interpolation": None},
            NormalizeImage={"mean": [0, 0, 0], "std": [1, 1, 1], "scale": 1},
        ),
        where="x",
    )(photo())
    expected = cv2.resize(np.asarray(photo()), (size, size), interpolation=cv2.INTER_LINEAR)
    assert np.abs(resized.transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "not a list of steps"),
        ([], "the preprocessing steps are none"),
        (["ResizeImage"], "not a list of steps"),
        ([*STEPS, {"CropImage": {"size": 32}}], "steps are .*, CropImage"),
        (STEPS[::-1], "known: ResizeImage, NormalizeImage, ToCHWImage"),
        ([{"DecodeImage": {"to_rgb": False}}, *STEPS], "expects BGR pixels"),
        (steps(ResizeImage={"size": None}), "it is None"),
        (steps(ResizeImage={"size": [64, 64, 3]}), r"it is \[64, 64, 3\]"),
        (steps(ResizeImage={"size": -64}), "it is -64"),
        (steps(ResizeImage={"size": 8192}), "up to 2048, it is 8192"),
        ([{1: None}], "the preprocessing steps are 1; known"),
        (steps(ResizeImage={"interpolation": "magic"}), "resizing by magic of pil"),
        (steps(NormalizeImage={"mean": [0.5]}), "must hold three numbers"),
    ],
)
def test_steps_that_cannot_be_followed_are_refused(wrong, message):
    with pytest.raises(PaddlexMLError, match=message):
        read(wrong, where="x")


def test_decoding_is_done_before():
    assert read([{"DecodeImage": {"to_rgb": True}}, *STEPS], where="x").size == (64, 64)


def test_resizing_ignores_the_aspect_ratio_and_blends_what_it_shrinks():
    stripes = Image.fromarray(np.tile([[[0], [200]]], (8, 8, 3)).astype(np.uint8))
    small = standard(4).resize(stripes)
    assert small.shape == (4, 4, 3)
    assert np.abs(small.astype(int) - 100).max() <= 15


def test_normalising_by_hand():
    image = Image.new("RGB", (2, 2), (255, 0, 51))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert standard(2)(image)[:, 1, 0].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_floats_are_those_of_the_arithmetic():
    every = np.arange(256, dtype=np.uint8)
    ramp = np.stack([every, every[::-1], np.roll(every, 77)], 1).reshape(16, 16, 3)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    batch = np.stack([ramp, noise])
    found = standard(16).normalise(batch)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    expected = (batch.astype(np.float32) * np.float32(1 / 255) - mean) / std
    assert (found.dtype, found.shape) == (np.float32, (2, 3, 16, 16))
    assert found.tobytes() == np.ascontiguousarray(expected.transpose(0, 3, 1, 2)).tobytes()
