# SPDX-License-Identifier: Apache-2.0
"""Samples of a list as (image, target) pairs: the work that a loader's workers do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from paddle.io import Dataset
from PIL import Image

from paddlex_ml.data import transforms
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.augment import cutout, randaugment
from paddlex_ml.errors import PaddlexMLError


class Draw(NamedTuple):
    """One sample of one epoch: all that its augmentation depends on beside the seed."""

    epoch: int
    sample: int
    """Number of the image in its list."""


class Augmentation(NamedTuple):
    """Which random changes training images get. Off: evaluation."""

    seed: int
    cutout: float
    """Side of the covered square as a share of the image's side, 0..1; 0 = none."""
    randaugment: bool

    def apply(self, image: Image.Image, draw: Draw) -> Image.Image:
        """Change a resized image; the same draw gives the same picture in any process."""
        rng = np.random.default_rng([self.seed, draw.epoch, draw.sample])
        if self.cutout:
            image = cutout(image, self.cutout, rng)
        return randaugment(image, rng) if self.randaugment else image


class MultiLabelDataset(Dataset[Any]):
    """Draw -> (image [3, S, S] float32, target [C] float32), or the error of a broken image.

    An error is handed on as a value: Paddle's workers would rebuild the exception from its text
    and lose its parts. `loader` raises it.
    """

    def __init__(
        self, images: ImageList, image_size: int, augmentation: Augmentation | None = None
    ) -> None:
        super().__init__()
        self.images = images
        self.image_size = image_size
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(  # type: ignore[override]
        self, draw: Draw
    ) -> tuple[np.ndarray, np.ndarray] | PaddlexMLError:
        try:
            image = transforms.read_image(self.images.path(draw.sample))
        except PaddlexMLError as error:
            return error
        image = transforms.resize(image, self.image_size)
        if self.augmentation is not None:
            image = self.augmentation.apply(image, draw)
        return transforms.normalise(image), self.images.targets[draw.sample].astype(np.float32)
