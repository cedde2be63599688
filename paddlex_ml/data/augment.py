# SPDX-License-Identifier: Apache-2.0
"""Random changes to training images: Cutout and RandAugment, as in the published recipes.

    image [S, S, 3] uint8 -> Cutout (one coloured square) -> RandAugment (0 to 2 changes)

All chance comes from the generator handed in, so a sample's picture depends on seed, epoch and
index alone, never on the number of worker processes.
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
APPLY = 0.5  # probability of each of the two drawn changes


class Op(NamedTuple):
    """One kind of RandAugment change: what it does, and its strength at step 9."""

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
    """Draw two changes and strengths, apply each with probability 0.5 (arXiv:1909.13719).

    One difference from the published code, which turns images counter-clockwise only: here
    rotation goes either way.
    """
    for _ in range(2):
        name = NAMES[int(rng.integers(len(NAMES)))]
        step = int(rng.integers(1, STEPS + 1))
        if rng.random() >= APPLY:
            continue
        if name == "cutout":
            image = _small_cutout(image, step, rng)
        else:
            image = change(image, name, step, negative=bool(rng.random() < 0.5))
    return image


def change(image: Image.Image, name: str, step: int, *, negative: bool = False) -> Image.Image:
    """Apply the change `name` of CHANGES at step 0..9; `negative` matters where both ways exist."""
    kind = CHANGES[name]
    strength = kind.strength(step)
    return kind.apply(image, -strength if negative and kind.either_way else strength)


def _small_cutout(image: Image.Image, step: int, rng: np.random.Generator) -> Image.Image:
    """A black square of at most 41 pixels a side; its centre may lie on the far border."""
    width, height = image.size
    row, column = int(rng.integers(height + 1)), int(rng.integers(width + 1))
    return _black_square(image, row, column, round(20 * step / STEPS))


def _black_square(image: Image.Image, row: int, column: int, half: int) -> Image.Image:
    pixels = np.array(image)
    pixels[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
    return Image.fromarray(pixels)


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    return pillow.shear(image, strength, 0, GREY[0])


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    return pillow.shear(image, strength, 1, GREY[0])


def _translate(image: Image.Image, right: float, down: float) -> Image.Image:
    matrix = (1, 0, right, 0, 1, down)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def _translate_x(image: Image.Image, share: float) -> Image.Image:
    return _translate(image, share * image.width, 0)


def _translate_y(image: Image.Image, share: float) -> Image.Image:
    return _translate(image, 0, share * image.height)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return Image.blend(pillow.smooth(image), image, 1 + strength)  # ImageEnhance.Sharpness


def _solarize(image: Image.Image, threshold: float) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(threshold))  # values are whole: x < t as x < ceil(t)


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, fillcolor=GREY)


CHANGES = {
    "shearX": Op(_shear_x, 0.3, either_way=True),
    "shearY": Op(_shear_y, 0.3, either_way=True),
    "translateX": Op(_translate_x, 150 / 331, either_way=True),
    "translateY": Op(_translate_y, 150 / 331, either_way=True),
    "rotate": Op(_rotate, 30.0, either_way=True),
    "color": Op(lambda i, s: ImageEnhance.Color(i).enhance(1 + s), 0.9, either_way=True),
    "posterize": Op(lambda i, bits: ImageOps.posterize(i, round(bits)), 4.0, 8.0),
    "solarize": Op(_solarize, 0.0, 256.0),
    "contrast": Op(lambda i, s: ImageEnhance.Contrast(i).enhance(1 + s), 0.9, either_way=True),
    "sharpness": Op(_sharpness, 0.9, either_way=True),
    "brightness": Op(lambda i, s: ImageEnhance.Brightness(i).enhance(1 + s), 0.9, either_way=True),
    "autocontrast": Op(lambda i, _: ImageOps.autocontrast(i), 0.0),
    "equalize": Op(lambda i, _: ImageOps.equalize(i), 0.0),
    "invert": Op(lambda i, _: ImageOps.invert(i), 0.0),
}
NAMES = (*CHANGES, "cutout")
