# SPDX-License-Identifier: Apache-2.0
"""Samples of a list as (image, target) pairs: the work of the loader's worker processes.

Nothing here imports Paddle, so that workers start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from paddlex_ml.data import decode_memory, targets, transforms
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.augment import cutout, randaugment
from paddlex_ml.data.image_cache import ImageCache
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.data.soft_targets import Weights
from paddlex_ml.kernels import pillow
from paddlex_ml.metrics.known import UNKNOWN

_LARGE = 2**25  # pixels, 100 MB


class SampleIndex(NamedTuple):
    """One sample of one epoch: with the seed, it determines the augmentation."""

    epoch: int
    sample: int
    """Number of the image in its list."""
    copy: int = 0
    """How often this image came before in the epoch: each copy gets its own augmentation."""


class Augmentation(NamedTuple):
    """Which random changes are made to training images; evaluation makes none."""

    seed: int
    cutout: float
    """Side of the covered square as a share of the image's side, 0..1; 0 = none."""
    randaugment: bool
    flip: bool = False
    """Whether half of the images are mirrored left to right."""
    mixup: float = 0.0
    """Both parameters of the Beta distribution of the shares in a mixture; 0 = none."""

    @property
    def is_endless(self) -> bool:
        """Whether each draw of an image gives another picture; else it has one form, or two."""
        return self.randaugment or self.cutout > 0 or self.mixup > 0

    def mirrors(self, index: SampleIndex, rng: np.random.Generator | None = None) -> bool:
        """Whether this draw of an image is mirrored. `rng`: its generator, of which this is the
        first number; None: a new one."""
        return self.flip and (rng or self.generator(index)).random() < 0.5

    def generator(self, index: SampleIndex) -> np.random.Generator:
        """The random numbers of a draw."""
        seeds = [self.seed, index.epoch, index.sample]
        return np.random.default_rng([*seeds, index.copy] if index.copy else seeds)

    def apply(self, image: Image.Image, index: SampleIndex) -> Image.Image:
        """Change a resized image; the same index gives the same picture in any process."""
        rng = self.generator(index)
        if self.mirrors(index, rng):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.cutout:
            image = cutout(image, self.cutout, rng)
        return randaugment(image, rng) if self.randaugment else image


class MultiLabelDataset:
    """SampleIndex -> image [H, W, 3] uint8 RGB and target [C] int8: 0, 1 or UNKNOWN; float32 where
    the list has soft values that are asked for.

    Raises PaddlexMLError that names the file when an image cannot be read.
    """

    def __init__(
        self,
        images: ImageList,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        *,
        reduced_decode: bool = False,
        cache: ImageCache | None = None,
        only_present: bool = False,
        weights: Weights | None = None,
        with_soft: bool = False,
    ) -> None:
        """With `reduced_decode`, a large JPEG is decoded at a fraction of its size that has at
        least twice the pixels of the resized one on both sides. `cache` keeps resized images.
        With `only_present`, classes that an image does not show are unknown, unless they have a
        soft value. `weights` [N] are handed on; `with_soft` makes soft values the targets.
        """
        self.images = images
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.min_side = 2 * max(preprocess.size) if reduced_decode else None
        self.cache = cache
        self.only_present = only_present
        self.weights = weights
        self.soft = images.soft if with_soft else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: SampleIndex) -> tuple[np.ndarray, np.ndarray]:
        path = self.images.path(index.sample)
        if self.cache is None:
            pixels = self._read(path)
        else:
            pixels = self.cache.get(index.sample, path, self._read)
        if self.augmentation is not None:
            pixels = np.asarray(self.augmentation.apply(Image.fromarray(pixels), index))
        cells = targets.row(self.images.values, index.sample)
        if self.only_present:  # here, so that sparse targets stay sparse
            cells = np.where(cells > 0, cells, np.int8(UNKNOWN))
        return pixels, cells if self.soft is None else self.soft.fill(cells, index.sample)

    def _read(self, path: Path) -> np.ndarray:
        with decode_memory.reading():
            image = transforms.read_image(path, self.min_side)
            # The faster way has the same pixels and needs a copy of the image.
            if self.preprocess.is_published and image.width * image.height <= _LARGE:
                return pillow.resize(image, self.preprocess.size[0])
            return self.preprocess.resize(image)
