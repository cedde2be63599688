# SPDX-License-Identifier: Apache-2.0
"""Samples of a list as (image, target) pairs: the work that a loader's workers do.

Without Paddle, which workers need not import.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from paddlex_ml.data import transforms
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.augment import cutout, randaugment


class Draw(NamedTuple):
    """One sample of one epoch: all that its augmentation depends on beside the seed."""

    epoch: int
    sample: int
    """Number of the image in its list."""
    copy: int = 0
    """How often the epoch drew this image before: each copy gets its own augmentation."""


class Augmentation(NamedTuple):
    """Which random changes training images get. Off: evaluation."""

    seed: int
    cutout: float
    """Side of the covered square as a share of the image's side, 0..1; 0 = none."""
    randaugment: bool
    flip: bool = False
    """Whether half of the images are mirrored left to right."""

    def apply(self, image: Image.Image, draw: Draw) -> Image.Image:
        """Change a resized image; the same draw gives the same picture in any process."""
        first = [self.seed, draw.epoch, draw.sample]
        rng = np.random.default_rng([*first, draw.copy] if draw.copy else first)
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.cutout:
            image = cutout(image, self.cutout, rng)
        return randaugment(image, rng) if self.randaugment else image


class MultiLabelDataset:
    """Draw -> image [S, S, 3] uint8 RGB and target [C] uint8, 0 or 1.

    Raises PaddlexMLError that names the file when an image cannot be read.
    """

    def __init__(
        self, images: ImageList, image_size: int, augmentation: Augmentation | None = None
    ) -> None:
        self.images = images
        self.image_size = image_size
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        image = transforms.read_image(self.images.path(draw.sample))
        image = transforms.resize(image, self.image_size)
        if self.augmentation is not None:
            image = self.augmentation.apply(image, draw)
        return np.asarray(image), self.images.targets[draw.sample]
