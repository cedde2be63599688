# SPDX-License-Identifier: Apache-2.0
"""Random changes to training images: Cutout and RandAugment, as in the published recipes.

    image [S, S, 3] uint8 -> Cutout (one coloured square) -> RandAugment (0 to 2 operations)

All random numbers come from the generator that is passed in: the result depends only on seed,
epoch and index of the sample, never on the number of worker processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from paddlex_ml.kernels import pillow

GREY = (128, 128, 128)
STEPS = 9  # magnitudes 1..9; step 0 of the published table is never drawn
PROBABILITY = 0.5  # with which each of the two drawn operations is applied


class Operation(NamedTuple):
    """One operation of RandAugment: what it does, and its strength at step 9."""

    apply: Callable[[Image.Image, float], Image.Image]
    strongest: float
    weakest: float = 0.0
    either_way: bool = False
    """Whether the strength is negated half of the time."""

    def strength(self, step: int) -> float:
        """Strength at step 0..9, on a straight line from weakest to strongest."""
        return self.weakest + (self.strongest - self.weakest) * step / STEPS


def cutout(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Cover a square of `share` of the side by one random colour (DeVries 2017, arXiv:1708.04552).

    The centre is uniform over the image, so squares near the border are cut off by it.
    """
    width, height = image.size
    half = round(share * min(width, height)) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    colour = tuple(int(value) for value in rng.integers(0, 256, size=3))
    return cover(image, row, column, half, colour)


def cover(
    image: Image.Image, row: int, column: int, half: int, colour: tuple[int, ...]
) -> Image.Image:
    """Fill rows row-half..row+half and columns column-half..column+half, ends included."""
    width, height = image.size
    box = (
        max(column - half, 0),
        max(row - half, 0),
        min(column + half, width),
        min(row + half, height),
    )
    covered = image.copy()
    covered.paste(colour, (box[0], box[1], box[2] + 1, box[3] + 1))
    return covered


def randaugment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw two operations and strengths, apply each with probability 0.5 (arXiv:1909.13719).

    One difference from the published code, which turns images counter-clockwise only: here
    rotation goes either way.
    """
    for _ in range(2):
        name = NAMES[int(rng.integers(len(NAMES)))]
        step = int(rng.integers(1, STEPS + 1))
        if rng.random() >= PROBABILITY:
            continue
        if name == "cutout":
            image = _small_cutout(image, step, rng)
        else:
            image = apply_operation(image, name, step, negative=bool(rng.random() < 0.5))
    return image


def apply_operation(
    image: Image.Image, name: str, step: int, *, negative: bool = False
) -> Image.Image:
    """Apply OPERATIONS[name] at step 0..9; `negative` matters only where both ways exist."""
    operation = OPERATIONS[name]
    strength = operation.strength(step)
    return operation.apply(image, -strength if negative and operation.either_way else strength)


def _small_cutout(image: Image.Image, step: int, rng: np.random.Generator) -> Image.Image:
    """A black square of at most 41 pixels a side; its centre may lie on the far border."""
    width, height = image.size
    row, column = int(rng.integers(height + 1)), int(rng.integers(width + 1))
    half = round(20 * step / STEPS)
    pixels = np.array(image)
    pixels[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
    return Image.fromarray(pixels)


def _translate(image: Image.Image, right: float, down: float) -> Image.Image:
    matrix = (1, 0, right, 0, 1, down)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


OPERATIONS = {
    "shearX": Operation(lambda i, s: pillow.shear(i, s, 0, GREY[0]), 0.3, either_way=True),
    "shearY": Operation(lambda i, s: pillow.shear(i, s, 1, GREY[0]), 0.3, either_way=True),
    "translateX": Operation(lambda i, s: _translate(i, s * i.width, 0), 150 / 331, either_way=True),
    "translateY": Operation(
        lambda i, s: _translate(i, 0, s * i.height), 150 / 331, either_way=True
    ),
    "rotate": Operation(lambda i, angle: i.rotate(angle, fillcolor=GREY), 30.0, either_way=True),
    "color": Operation(lambda i, s: ImageEnhance.Color(i).enhance(1 + s), 0.9, either_way=True),
    "posterize": Operation(lambda i, bits: ImageOps.posterize(i, round(bits)), 4.0, 8.0),
    # Pixel values are whole numbers: x < s is the same as x < ceil(s).
    "solarize": Operation(lambda i, s: ImageOps.solarize(i, math.ceil(s)), 0.0, 256.0),
    "contrast": Operation(
        lambda i, s: ImageEnhance.Contrast(i).enhance(1 + s), 0.9, either_way=True
    ),
    # The same as ImageEnhance.Sharpness, with a faster filter.
    "sharpness": Operation(
        lambda i, s: Image.blend(pillow.smooth(i), i, 1 + s), 0.9, either_way=True
    ),
    "brightness": Operation(
        lambda i, s: ImageEnhance.Brightness(i).enhance(1 + s), 0.9, either_way=True
    ),
    "autocontrast": Operation(lambda i, _: ImageOps.autocontrast(i), 0.0),
    "equalize": Operation(lambda i, _: ImageOps.equalize(i), 0.0),
    "invert": Operation(lambda i, _: ImageOps.invert(i), 0.0),
}
NAMES = (*OPERATIONS, "cutout")
