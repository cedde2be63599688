# SPDX-License-Identifier: Apache-2.0
"""Pictures -> batches -> scores -> results, one at a time, however many there are."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from paddlex_ml.environment import usable_cores
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import archive, inputs, thresholds
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.inference.static import StaticModel
from paddlex_ml.inference.thresholds import Threshold
from paddlex_ml.models import published


def create(
    model_name: str,
    model_dir: str | os.PathLike[str] | None,
    *,
    threshold: Threshold | None = None,
    device: str = "auto",
    run_mode: str | None = None,
) -> Predictor:
    """Load the static model of this name; see `paddlex_ml.create_model`."""
    if model_dir is None:
        model_dir = archive.fetch_folder(
            published.static_url(model_name),
            fix='name the folder of an exported model: model_dir="output/best_model/inference"',
        )
    model = StaticModel(model_dir, device, run_mode, model_name=model_name)
    return Predictor(model, threshold)


class Predictor:
    """A static model with its thresholds."""

    def __init__(self, model: StaticModel, threshold: Threshold | None = None) -> None:
        """`threshold` None takes the model's own. Raises PaddlexMLError when it fits no class."""
        self.model = model
        chosen = model.threshold if threshold is None else threshold
        self._limits = thresholds.resolve(chosen, model.label_names)  # [C]

    def predict(
        self, input: Any, batch_size: int = 1, threshold: Threshold | None = None
    ) -> Iterator[MultiLabelResult]:
        """Yield one result per image of `input`, in order; `inputs.expand` says what that may be.

        Arguments are judged at once, images are read while you go through the results: a broken
        one raises PaddlexMLError when its turn comes. `threshold` holds for this call alone.
        """
        pictures = inputs.expand(input)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise PaddlexMLError(
                f"the batch size must be a whole number from 1, it is {batch_size!r}",
                where="batch_size",
                fix="write batch_size=1, or more for many images",
            )
        limits = self._limits
        if threshold is not None:
            limits = thresholds.resolve(threshold, self.model.label_names)
        return self._predict(pictures, batch_size, limits)

    def _predict(
        self, pictures: Sequence[Picture], batch_size: int, limits: np.ndarray
    ) -> Iterator[MultiLabelResult]:
        for batch, loaded in _load_ahead(pictures, batch_size, self._load):
            scores = self.model.run(np.stack([pixels for _, pixels in loaded]))  # [B, C]
            for picture, (image, _), row in zip(batch, loaded, scores, strict=True):
                result = self._judge(picture, image, row, limits)
                yield result
                result.forget_image()  # who collects results must not collect photographs

    def _load(self, picture: Picture) -> tuple[Image.Image, np.ndarray]:
        try:
            image = picture.load()
        except PaddlexMLError as error:
            raise PaddlexMLError(
                error.what,
                where=picture.path or error.where,
                fix="replace it by an intact image, or leave it out of the input",
            ) from error
        return image, self.model.preprocess(image)

    def _judge(
        self, picture: Picture, image: Image.Image, scores: np.ndarray, limits: np.ndarray
    ) -> MultiLabelResult:
        kept = np.flatnonzero(scores >= limits)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        return MultiLabelResult(
            picture,
            class_ids=[int(i) for i in kept],
            scores=[float(score) for score in scores[kept]],
            label_names=[self.model.label_names[i] for i in kept],
            image=image,
        )


_Loaded = tuple[Image.Image, np.ndarray]


def _load_ahead(
    pictures: Sequence[Picture], batch_size: int, load: Any
) -> Iterator[tuple[Sequence[Picture], list[_Loaded]]]:
    """Yield batches of pictures with their pixels; threads read the next batch meanwhile."""
    waiting: deque[tuple[Sequence[Picture], list[Future[_Loaded]]]] = deque()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            waiting.append((batch, [pool.submit(load, picture) for picture in batch]))
            if len(waiting) > 1:
                yield _collect(*waiting.popleft())
        while waiting:
            yield _collect(*waiting.popleft())


def _collect(
    batch: Sequence[Picture], futures: list[Future[_Loaded]]
) -> tuple[Sequence[Picture], list[_Loaded]]:
    return batch, [future.result() for future in futures]
