# SPDX-License-Identifier: Apache-2.0
"""Images for an export in lower precision: of train.txt to choose numbers, of val.txt to decide."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import annotation, stratify
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

MOST_DECIDING = 1000
"""Images of val.txt that decide: of a longer list as many, drawn with the seed of the run."""
LEAST = 10
"""Images from which ranges can be taken."""
_CANDIDATES = 20_000  # of train.txt, of which the images are chosen
_LIFE = 2.0  # seconds without a line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """Images in memory, as the network gets them but for the normalisation."""

    pixels: np.ndarray
    """uint8 [N, S, S, 3], RGB."""
    targets: np.ndarray
    """0, 1 or UNKNOWN (-1), [N, C]."""
    steps: Preprocess
    batch_size: int

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.pixels)

    def batches(self, most: int | None = None, size: int | None = None) -> Iterator[np.ndarray]:
        """The images, or the first `most` of them: float32 [B, 3, S, S], B = size or batch_size.

        The last batch is filled up with its last image: some graphs take no other number.
        """
        pixels, size = self.pixels[:most], size or self.batch_size
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            missing = size - len(part)
            yield self.steps.normalise(np.concatenate([part, *[part[-1:]] * missing]))


def read_lists(config: Config, label_names: list[str]) -> tuple[ImageList, ImageList | None]:
    """The images of val.txt that decide, and for int8 those of train.txt that give the ranges.

    Raises PaddlexMLError for a data set of other classes, and for too few images.
    """
    root, wanted, seed = config.Global.dataset_dir, config.Export, config.Global.seed
    assert root is not None  # the configuration refuses it
    is_int8 = wanted.precision == "int8"
    lists = ("train", "val") if is_int8 else ("val",)
    dataset = annotation.read(root, lists=lists, soft_labels=config.Train.soft_labels)
    if dataset.label_names != label_names:
        raise PaddlexMLError(
            "the classes of the data set are not those of the model",
            where=f"{root}: label.txt",
            fix="name the data set of the model's classes behind Global.dataset_dir",
        )
    val = dataset.val
    if len(val) > MOST_DECIDING:
        drawn = np.random.default_rng(seed).permutation(len(val))[:MOST_DECIDING]
        val = val.take(np.sort(drawn))
    decisions, budget = len(val) * len(label_names), wanted.max_changed_decisions
    if 0 < decisions * budget < 1:
        logger.warning(
            "val.txt has only %d decisions (images x classes): a single one that changes is over "
            "the budget of %.2f %%, and that none changes says little",
            *(decisions, 100 * budget),
        )
    if not is_int8:
        return val, None
    if len(dataset.train) < LEAST:
        raise PaddlexMLError(
            f"train.txt has {count(len(dataset.train), 'image')}: ranges for 8 bits need at "
            f"least {LEAST}",
            where=str(root),
            fix=f"name a data set with more images, or {override('Export.precision', 'fp16')}",
        )
    return val, choose(dataset.train, wanted.calibration_images, seed)


def choose(images: ImageList, count: int, seed: int) -> ImageList:
    """So many images in random order, in which every class has its share; all of a short list."""
    rng = np.random.default_rng(seed)
    if len(images) > _CANDIDATES:
        images = images.take(np.sort(rng.permutation(len(images))[:_CANDIDATES]))
    if len(images) <= count:
        return images.take(rng.permutation(len(images)))
    percent = min(99, -(-100 * count // len(images)))
    mask = stratify.choose_by_class(images.values, np.arange(len(images)), percent, seed)
    chosen, others = (rng.permutation(np.flatnonzero(each)) for each in (mask, ~mask))
    return images.take(np.concatenate([chosen, others])[:count])


def load(images: ImageList, steps: Preprocess, shown: str, batch_size: int) -> Images:
    """Decode and resize the images as mode evaluate does. Raises PaddlexMLError as reading does."""
    dataset = MultiLabelDataset(images, steps)
    pixels = np.empty((len(images), *steps.size[::-1], 3), np.uint8)
    told = time.monotonic()

    def read(number: int) -> int:
        pixels[number] = dataset[SampleIndex(0, number)][0]
        return number

    logger.info("reading %s of %s", count(len(images), "image"), shown)
    if len(images):
        read(0)  # alone: it imports and compiles what the threads share
    with ThreadPoolExecutor(usable_cores()) as threads:
        for number in threads.map(read, range(1, len(images))):
            if time.monotonic() - told > _LIFE:
                logger.info("read %d of %d images of %s", number + 1, len(images), shown)
                told = time.monotonic()
    return Images(pixels, images.targets, steps, batch_size)
