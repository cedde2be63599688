# SPDX-License-Identifier: Apache-2.0
"""Pictures -> batches -> scores -> results, one at a time, however many there are.

Threads read and resize the next pictures while the network works on the present batch.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from paddlex_ml.artifacts.run_folder import EXAMPLE
from paddlex_ml.cores import usable_cores
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import inputs, published_model
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.inference.result import MultiLabelResult, Seen
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.per_class_threshold import LabelSelection, Threshold
from paddlex_ml.models import published

_MOST_READERS = 16  # threads; each may hold a decoded image

OnError: TypeAlias = Literal["report", "raise"]

_log = logging.getLogger(__name__)


def create(
    model_name: str,
    model_dir: str | os.PathLike[str] | None,
    *,
    threshold: Threshold | None = None,
    device: str = "auto",
    run_mode: str | None = None,
    cpu_threads: int | None = None,
) -> Predictor:
    """Load the static model of this name; see `paddlex_ml.create_model`."""
    if model_dir is None:
        model_dir = published_model.fetch_folder(
            published.static_url(model_name),
            fix="name the folder of an exported model: "
            f'model_dir="{EXAMPLE.best_model.inference.folder}"',
        )
    model = StaticModel(model_dir, device, run_mode, model_name=model_name, cpu_threads=cpu_threads)
    return Predictor(model, threshold)


class Predictor:
    """A static model with its thresholds. Threads may share it; a lock serialises their calls."""

    def __init__(self, model: StaticModel, threshold: Threshold | None = None) -> None:
        """`threshold` None takes the model's own. Raises PaddlexMLError when it does not fit."""
        self.model = model
        chosen = model.threshold if threshold is None else threshold
        self._threshold = per_class_threshold.resolve(chosen, model.label_names)  # [C]

    def predict(
        self,
        input: Any,
        batch_size: int = 1,
        threshold: Threshold | None = None,
        *,
        max_labels: int | None = None,
        min_labels: int = 0,
        return_all_scores: bool = False,
        on_error: OnError = "report",
        explain: bool = False,
    ) -> Iterator[MultiLabelResult]:
        """Yield one result per image of `input`, in order; see `inputs.walk` for what that may be.

        threshold: for this call only, in place of the model's.
        min_labels, max_labels: of a result, the highest scores first: at least so many even where
            they are below the threshold, and never more.
        return_all_scores: whether results hold the score of every class.
        on_error: what happens to an image that cannot be read. "report": its result holds the
            `error` and no labels, a line goes to the log, and prediction continues. "raise":
            PaddlexMLError at the position of the image.
        explain: whether results hold a map of what the model looked at for each label, and can draw
            it. A second network is loaded for it, once. PaddlexMLError for a model without such
            maps.

        Arguments are checked at once; images are found and read while the results are consumed.
        """
        thresholds = self._threshold
        if threshold is not None:
            thresholds = per_class_threshold.resolve(threshold, self.model.label_names)
        selection = LabelSelection(thresholds, min_labels, max_labels)
        per_class_threshold.check_count(batch_size, "batch_size", least=1)
        if on_error not in ("report", "raise"):
            raise PaddlexMLError(
                f"no way to treat broken images is called {on_error!r}",
                where="on_error",
                fix='write on_error="report" or on_error="raise"',
            )
        pictures = inputs.walk(input)
        if explain:
            self.model.require_attention()
        return self._predict(
            pictures, batch_size, selection, return_all_scores, on_error=on_error, explain=explain
        )

    def _predict(
        self,
        pictures: Iterator[Picture],
        batch_size: int,
        selection: LabelSelection,
        return_all_scores: bool,
        *,
        on_error: OnError,
        explain: bool,
    ) -> Iterator[MultiLabelResult]:
        names = self.model.label_names
        for batch in _read_ahead(pictures, batch_size, self.model.preprocess):
            outputs = iter(self._run(batch.arrays, selection, explain))
            for picture, content in zip(batch.pictures, batch.contents, strict=True):
                if isinstance(content, PaddlexMLError):
                    if on_error == "raise" and not picture.is_optional:
                        raise content
                    _log.warning("%s", content)
                    yield MultiLabelResult(picture, names, error=content)
                    continue
                scores, chosen, seen = next(outputs)
                result = MultiLabelResult(
                    picture,
                    names,
                    scores,
                    chosen,
                    with_all_scores=return_all_scores,
                    image=content,
                    seen=seen,
                )
                yield result
                result.forget_image()  # a list of results must not keep the images in memory

    def _run(
        self, arrays: np.ndarray, selection: LabelSelection, explain: bool
    ) -> list[tuple[np.ndarray, np.ndarray, Seen | None]]:
        """Scores [C], ids of the labels, and what the model looked at, for each image."""
        if not len(arrays):
            return []
        scores = self.model.run(arrays)  # [B, C]
        chosen = [per_class_threshold.choose(row, selection) for row in scores]
        if not explain:
            return [(*pair, None) for pair in zip(scores, chosen, strict=True)]
        maps = self.model.attend(arrays, chosen)
        shared_by = self.model.classes_per_map
        seen = [Seen(each, shared_by) for each in maps]
        return list(zip(scores, chosen, seen, strict=True))


_Content = Image.Image | PaddlexMLError


class _Batch(NamedTuple):
    pictures: list[Picture]
    contents: list[_Content]
    arrays: np.ndarray
    """The input of the network, only of those that could be read: float32 [B, 3, H, W]."""


@dataclass(frozen=True)
class _Reading:
    """A batch that threads still read."""

    pictures: list[Picture]
    contents: list[Future[_Content]]
    arrays: np.ndarray

    def wait(self) -> _Batch:
        contents = [future.result() for future in self.contents]
        is_read = [isinstance(content, Image.Image) for content in contents]
        arrays = self.arrays if all(is_read) else self.arrays[is_read]
        return _Batch(self.pictures, contents, arrays)


def _read_ahead(
    pictures: Iterator[Picture], batch_size: int, preprocess: Preprocess
) -> Iterator[_Batch]:
    """Yield batches in order, while threads prepare the next ones."""
    readers = min(usable_cores(), _MOST_READERS)
    ahead = -(-readers // batch_size)  # batches: enough for every reader, and no more in memory
    width, height = preprocess.size
    waiting: deque[_Reading] = deque()
    pool = ThreadPoolExecutor(readers, "read")
    try:
        while batch := list(islice(pictures, batch_size)):
            arrays = np.empty((len(batch), 3, height, width), np.float32)
            contents = [
                pool.submit(_read, picture, preprocess, array)
                for picture, array in zip(batch, arrays, strict=True)
            ]
            waiting.append(_Reading(batch, contents, arrays))
            if len(waiting) > ahead:
                yield waiting.popleft().wait()
        while waiting:
            yield waiting.popleft().wait()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(picture: Picture, preprocess: Preprocess, array: np.ndarray) -> _Content:
    """The image, after writing the network's input into `array`; or why there is none."""
    try:
        image = picture.load()
    except PaddlexMLError as error:
        return PaddlexMLError(
            error.what,
            where=error.where,
            fix=error.fix
            if picture.is_optional
            else "repair or replace it, or leave it out of the input",
        )
    preprocess.write(preprocess.resize(image), array)
    return image
