# SPDX-License-Identifier: Apache-2.0
"""Train.teacher: trained models whose scores a training learns beside the labels.

A weight file, a run or a checkpoint is computed as the model itself, on the CPU by oneDNN where
that gives the same scores; an export by the engine that predicts with it. Classes are matched by
their names, so that their order does not matter, and a teacher may know others too.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import paddle

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import export_report, weights
from paddlex_ml.artifacts.run_folder import (
    EXPORTS,
    GRAPH,
    ONNX,
    PROGRAM,
    find_weights,
    is_exported,
)
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation, preprocess
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.dataset import Augmentation, SampleIndex
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines import load_model, named_paths
from paddlex_ml.engines.evaluate.log import log_precision
from paddlex_ml.engines.train import earlier_run, label_estimates, static_scoring
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Network
from paddlex_ml.inference import model_files
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.safe_text import one_line, url_without_secrets
from paddlex_ml.storage import fetch, regular_file
from paddlex_ml.training.distillation import Teacher
from paddlex_ml.wording import count, first_names

KEY = named_paths.TEACHER
KEPT_MOST = 1 << 30
"""Bytes of scores that each process keeps, of a teacher whose scores for an image stay the same."""
_NULL = named_paths.describe_null(KEY, "")

logger = logging.getLogger(__name__)


class LoadedTeacher(NamedTuple):
    """A teacher before its classes are compared with those of the training."""

    network: Network
    label_names: Sequence[str]
    preprocess: Preprocess
    model: str
    files: Sequence[Path]
    """What decides about its scores."""


def check(config: Config) -> None:
    """Refuse a teacher in the output folder, and a list that is none; fetch those that are URLs.

    Called before the first process starts: then a signal still ends the command at once.
    """
    output = Path(os.path.realpath(config.Global.output))
    for text in config.Train.teacher or ():
        several = [part.strip() for part in text.split(",")]
        if len(several) > 1 and not os.path.exists(text) and all(map(os.path.exists, several)):
            raise PaddlexMLError(
                f"no such weight file: {text}",
                where=KEY,
                fix=f"write several teachers as a list: {override(KEY, several)}",
            )
        if fetch.is_url(text):
            weights.locate(text, KEY, null=_NULL)
        elif Path(os.path.realpath(text)).is_relative_to(output):
            free = earlier_run.free_folder(config.Global.output)
            raise PaddlexMLError(
                f"the teacher lies in the output folder of this training: {text}",
                where=KEY,
                fix=f"choose another folder: {override('Global.output', free)}",
            )


def build(config: Config, dataset: MLClsDataset, group: ProcessGroup) -> Teacher | None:
    """The teacher of a training on `dataset`; None where the configuration names none.

    Raises PaddlexMLError where one cannot be read, does not know all classes of the data set, or
    sees images in another way than the training.
    """
    texts, options = config.Train.teacher, config.Train.distillation
    if texts is None:
        return None
    networks, digests = [], []
    for text in texts:
        shown = url_without_secrets(text) if fetch.is_url(text) else text
        loaded = _load(config, text, len(dataset.train))
        networks.append(_fit(config, loaded, dataset.label_names, shown))
        digests.append(_digest(loaded.files))
        if group.is_main:
            logger.info(
                "teacher %s (%s): weight %g, temperature %g",
                *(one_line(shown), loaded.model, options.weight, options.temperature),
            )
    variant = _choose_variant(config, dataset)
    if group.is_main:
        if variant is not None:
            logger.info("the teacher's scores are kept: each form of an image is scored once")
        if label_estimates.has_unknown(config, dataset.train.values):
            logger.info("%s: the teacher's scores teach unknown labels", annotation.TRAIN_FILE)
    return Teacher(
        networks,
        digests,
        weight=options.weight,
        temperature=options.temperature,
        variant=variant,
    )


def _load(config: Config, text: str, images: int) -> LoadedTeacher:
    path = Path(text)
    inside = None if any((path / name).exists() for name in (GRAPH, PROGRAM, ONNX)) else path
    inside = inside and find_weights(inside)
    if not path.is_dir() and not is_exported(path):  # a file, a URL, or nothing
        inside = weights.locate(text, KEY, null=_NULL)
    if inside is not None:
        model, info, source = load_model.load(config, str(inside), KEY, any_model=True)
        scored = images * config.Train.epochs_iters
        score = static_scoring.choose_for_teacher(info.image_size, scored)(model)
        size = preprocess.standard(info.image_size)
        return LoadedTeacher(score, info.label_names, size, info.model, [source])
    _refuse_no_model(path)
    files = model_files.find(text, None)
    device, threads = paddle.device.get_device(), paddle_runtime.own_threads()
    static = StaticModel(text, device, None, cpu_threads=threads)
    if (report := export_report.read(static.folder)) is not None:
        log_precision(report)

    def compute(batch: paddle.Tensor) -> paddle.Tensor:
        scores = static.run(batch.numpy())
        paddle_runtime.use_own_threads()  # else the engine changes the last digits of the training
        return paddle.to_tensor(scores)

    content = [files.graph] if files.weights is None else [files.graph, files.weights]
    name = f"{static.model_name or 'an export'} by {static.run_mode}"
    return LoadedTeacher(compute, static.label_names, static.preprocess, name, content)


def _refuse_no_model(path: Path) -> None:
    """Raise PaddlexMLError for a folder without a part of a model, such as a data set."""
    places = (path, *(path / name for name in EXPORTS.values()))
    if path.is_dir() and not any(is_exported(each) for place in places for each in place.glob("*")):
        raise PaddlexMLError(
            f"the folder holds no trained model: {path}",
            where=KEY,
            fix="name a weight file, or the folder of a run, of a checkpoint or of an export, or "
            f"{override(KEY, None)}, which {_NULL}",
        )


def _fit(config: Config, loaded: LoadedTeacher, label_names: Sequence[str], shown: str) -> Network:
    """The network with the classes of label.txt, in their order."""
    known = {name: column for column, name in enumerate(loaded.label_names)}
    missing = [name for name in label_names if name not in known]
    if missing:
        raise PaddlexMLError(
            f"the teacher does not know {len(missing)} of the "
            f"{count(len(label_names), 'class', 'classes')} of label.txt: "
            f"{one_line(first_names(missing, 5))}",
            where=shown,
            fix="train a teacher on a data set with these classes, spelt in the same way, or "
            f"{override(KEY, None)}, which {_NULL}",
        )
    size, own = config.Train.image_size, loaded.preprocess
    if own.size != (size, size):
        width, height = own.size
        is_possible = width == height and width % 32 == 0
        fix = f"{override('Train.image_size', width)}, or a " if is_possible else "name a "
        raise PaddlexMLError(
            f"the teacher sees images of {width} x {height} pixels, Train.image_size is {size}: "
            "both learn from the same image",
            where=shown,
            fix=f"{fix}teacher that was trained with {size} pixels",
        )
    if own != preprocess.standard(size):
        raise PaddlexMLError(
            "the teacher normalises or resizes images in another way than a training, by its "
            f"inference.yml (mean {own.mean}, std {own.std})",
            where=shown,
            fix=f"name a teacher that was trained here, or {override(KEY, None)}, which {_NULL}",
        )
    columns = [known[name] for name in label_names]
    if columns == list(range(len(loaded.label_names))):
        return loaded.network
    logger.info(
        "teacher %s: %d of its %d classes are those of label.txt, by their names",
        *(one_line(shown), len(columns), len(known)),
    )
    chosen, network = paddle.to_tensor(columns), loaded.network
    return lambda images: network(images).index_select(chosen, axis=1)


def _digest(files: Sequence[Path]) -> str:
    """Of the content of files, for the record of a run."""
    found = hashlib.sha256()
    for path in files:
        with regular_file.open_regular(path, regular_file.LARGEST_WEIGHTS, is_text=False) as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()[:16]


def _choose_variant(config: Config, dataset: MLClsDataset) -> Callable[[SampleIndex], int] | None:
    """Which form of its image a draw has, where there are few and their scores fit into memory."""
    augment = config.Train.augment
    changes = Augmentation(
        config.Global.seed, augment.cutout, augment.randaugment, augment.flip, augment.mixup
    )
    images, classes = dataset.train.values.shape
    if changes.is_endless or images * classes * 4 * (1 + changes.flip) > KEPT_MOST:
        return None
    return lambda draw: int(changes.mirrors(draw))
