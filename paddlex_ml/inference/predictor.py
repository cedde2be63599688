# SPDX-License-Identifier: Apache-2.0
"""Pictures -> batches -> scores -> results, one at a time, however many there are.

Threads read and resize the next pictures while the network works on the present batch.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from paddlex_ml.artifacts.run_folder import EXAMPLE
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import decode_header, file_kinds, relations
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.inference import decoding, inputs, published_model
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.inference.options import PredictOptions
from paddlex_ml.inference.result import MultiLabelResult, Seen
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.class_relations import ClassRelations
from paddlex_ml.metrics.per_class_threshold import LabelSelection, Threshold
from paddlex_ml.models import published
from paddlex_ml.pictures.labelled import LONGEST_SIDE
from paddlex_ml.storage import fetch_image

KEPT_SIDE = LONGEST_SIDE
"""Pixels of the longest side of an image that is kept for drawing."""
_PADDLEX = ("use_hpip", "hpi_config", "pp_option", "genai_config")
_MOST_READERS = 16  # threads; each may hold a decoded image

_log = logging.getLogger(__name__)


def create(
    model_name: str,
    model_dir: str | bytes | os.PathLike[str] | None,
    *,
    threshold: Threshold | None = None,
    device: str | None = None,
    run_mode: str | None = None,
    cpu_threads: int | None = None,
    batch_size: int = 1,
    paddlex: Mapping[str, Any] = MappingProxyType({}),
) -> Predictor:
    """Load the static model of this name; see `paddlex_ml.create_model`.

    paddlex: options that have a meaning in PaddleX alone; each that is set is told in the log.
    """
    per_class_threshold.check_count(batch_size, "batch_size", least=1)
    for name, value in paddlex.items():
        if name not in _PADDLEX:
            raise PaddlexMLError(
                f"create_model has no option {name!r}",
                where="create_model",
                fix="choose from threshold, device, run_mode, cpu_threads, batch_size",
            )
        if value:
            _log.warning("%s has no meaning here; device, run_mode and cpu_threads have one", name)
    if model_dir is None:
        model_dir = published_model.fetch_folder(
            published.static_url(model_name),
            fix="name the folder of an exported model: "
            f'model_dir="{EXAMPLE.best_model.inference.folder}"',
        )
    model = StaticModel(model_dir, device, run_mode, model_name=model_name, cpu_threads=cpu_threads)
    return Predictor(model, threshold, batch_size)


class Predictor:
    """A static model with its thresholds. Threads may share it; see `StaticModel`."""

    def __init__(
        self, model: StaticModel, threshold: Threshold | None = None, batch_size: int = 1
    ) -> None:
        """`threshold` None takes the model's own. Raises PaddlexMLError when it does not fit.

        batch_size: of the calls that give none.
        """
        self.model = model
        self.batch_size = batch_size
        chosen = model.threshold if threshold is None else threshold
        self._threshold = per_class_threshold.resolve(chosen, model.label_names)  # [C]

    def predict(
        self,
        input: Any,
        batch_size: int | None = None,
        threshold: Threshold | None = None,
        **options: Any,
    ) -> Iterator[MultiLabelResult]:
        """Yield one result per image of `input`, in order; see `inputs.walk` for what that may be.

        batch_size: images that the network processes at once; None: that of `create_model`.
        threshold: for this call only, in place of the model's.
        options: keywords, the fields of `PredictOptions`.

        Arguments are checked at once; images are found and read while the results are consumed.
        """
        thresholds = self._threshold
        if threshold is not None:
            thresholds = per_class_threshold.resolve(threshold, self.model.label_names)
        wanted = PredictOptions.read(options)
        kept = None
        if wanted.relations is not None:
            read = relations.read(Path(wanted.relations), self.model.label_names)
            kept = ClassRelations(read.implied, read.exclusive)
        selection = LabelSelection(thresholds, wanted.min_labels, wanted.max_labels, kept)
        size = self.batch_size if batch_size is None else batch_size
        size = per_class_threshold.check_count(size, "batch_size", least=1)
        frames = None if wanted.frames is None else int(wanted.frames)
        pictures = inputs.walk(input, order=wanted.order, frames=frames)
        if wanted.explain:
            self.model.require_attention()
        batches = _read_ahead(pictures, size, self.model.preprocess, wanted.keep_side)
        return self._predict(batches, selection, wanted)

    def _predict(
        self, batches: Iterator[_Batch], selection: LabelSelection, wanted: PredictOptions
    ) -> Iterator[MultiLabelResult]:
        names, is_told = self.model.label_names, False
        for batch in batches:
            outputs = iter(self._run(batch.arrays, selection, wanted.explain))
            for picture, content in zip(batch.pictures, batch.contents, strict=True):
                if isinstance(content, PaddlexMLError):
                    if wanted.on_error == "raise" and not picture.is_optional:
                        raise content
                    _log.warning("%s", content)
                    yield MultiLabelResult(picture, names, error=content)
                    continue
                scores, chosen, seen = next(outputs)
                if len(chosen) < selection.min_labels and not is_told:
                    is_told = True
                    _log.warning(
                        "%s has %d labels, not %d: no other class fits to them by the relations; "
                        "the same may hold for further images",
                        *(picture.name, len(chosen), selection.min_labels),
                    )
                result = MultiLabelResult(
                    picture,
                    names,
                    scores,
                    chosen,
                    with_all_scores=wanted.return_all_scores,
                    image=content.image,
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
        if selection.relations is not None:
            scores = selection.relations.raise_scores(scores)
        chosen = [per_class_threshold.choose(row, selection) for row in scores]
        if not explain:
            return [(*pair, None) for pair in zip(scores, chosen, strict=True)]
        maps = self.model.attend(arrays, chosen)
        shared_by = self.model.classes_per_map
        seen = [Seen(each, shared_by) for each in maps]
        return list(zip(scores, chosen, seen, strict=True))


class _Kept(NamedTuple):
    """What stays of an image that was read."""

    image: Image.Image | None
    """A copy for drawing, or None."""


_Content = _Kept | PaddlexMLError


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
        is_read = [isinstance(content, _Kept) for content in contents]
        arrays = self.arrays if all(is_read) else self.arrays[is_read]
        return _Batch(self.pictures, contents, arrays)


def _read_ahead(
    pictures: Iterator[Picture], batch_size: int, preprocess: Preprocess, keep_side: int | None
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
                _submit(pool, partial(_read, picture, preprocess, array, keep_side))
                for picture, array in zip(batch, arrays, strict=True)
            ]
            waiting.append(_Reading(batch, contents, arrays))
            if len(waiting) > ahead:
                yield waiting.popleft().wait()
        while waiting:
            yield waiting.popleft().wait()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, read: Callable[[], _Content]) -> Future[_Content]:
    try:
        return pool.submit(read)
    except RuntimeError:  # the main thread has ended, and pools take nothing more
        if threading.current_thread().daemon:
            raise SystemExit from None  # see `OwnThread.call`
        done: Future[_Content] = Future()
        done.set_result(read())
        return done


def _read(
    picture: Picture, preprocess: Preprocess, array: np.ndarray, keep_side: int | None
) -> _Content:
    """What is kept of the image, after writing the network's input into `array`; or an error."""
    with decoding.turn(wait=not picture.is_remote) as turn:
        return _decode(picture, preprocess, array, keep_side, turn)


def _decode(
    picture: Picture,
    preprocess: Preprocess,
    array: np.ndarray,
    keep_side: int | None,
    turn: decoding.Turn,
) -> _Content:
    try:
        image = picture.load()
    except PaddlexMLError as error:
        fix = "repair or replace it, or leave it out of the input"
        if error.what.endswith(file_kinds.VIDEO):
            fix = "ask for its frames: frames=30, -o Predict.frames=30, is every thirtieth"
            if picture.path is None or picture.is_remote:  # OpenCV reads files
                fix = f"save it as a file, and {fix}"
        elif error.fix == decode_header.SMALLER:  # it is sound, and takes too much memory
            fix = "save it smaller, or leave it out of the input"
        elif picture.is_optional or error.what.startswith(fetch_image.FAILED):
            fix = error.fix
        return error.replace(fix=Lines(fix))
    turn.pixels = image.width * image.height
    preprocess.write(preprocess.resize(image), array)
    side = keep_side or (KEPT_SIDE if picture.is_remote else 0)
    return _Kept(_reduce(image, side) if side else None)


def _reduce(image: Image.Image, side: int) -> Image.Image:
    """The image, with sides of at most `side` pixels."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.0001)
