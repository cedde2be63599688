# SPDX-License-Identifier: Apache-2.0
"""A trained model from its weight file: the first step of `evaluate` and `export`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import paddle

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import EXAMPLE, CheckpointFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.engines import named_paths
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.static_model import refuse_other_tokens
from paddlex_ml.models import published, zoo
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.progress import named
from paddlex_ml.storage import cache, fetch
from paddlex_ml.wording import count

logger = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A model in evaluation mode, what it is, and the file it came from."""

    model: paddle.nn.Layer
    info: ModelInfo
    path: Path


@named("loading the weights")
def load(config: Config, text: str | None, key: str, *, any_model: bool = False) -> LoadedModel:
    """Load the weights named by `text`; None means the best model of the output folder.

    Class names and image size come from the checkpoint beside the weights. For a bare file the
    class count comes from its shapes, the names from label.txt, the size from Train.image_size.
    any_model: whether a checkpoint may be of another model than the configuration names.
    """
    path = _locate(config, text, key)
    entries = weights.read(path)
    info = checkpoint.read_model_info(path) or _describe_bare_weights(config, entries, path)
    layout = find_layout(info, entries, path, key)
    if not any_model:
        _refuse_contradictions(config, info, layout, path)
    return _build(info, layout, entries, path, key)


def load_other_weights(source: LoadedModel, which: Literal["raw", "ema"], key: str) -> LoadedModel:
    """Load the raw or the averaged weights of the checkpoint, whichever `source` is not."""
    folder = source.path.parent
    if source.path != CheckpointFiles(folder).weights or not checkpoint.is_complete(folder):
        raise PaddlexMLError(
            f"no {which} weights there: these weights are not part of a checkpoint",
            where=str(source.path),
            fix=f"evaluate those of a training, such as {EXAMPLE.best_model.folder}, "
            f"or -o {key}=null",
        )
    saved = checkpoint.load(folder)
    if saved.use_ema == (which == "ema"):
        other = "raw" if saved.use_ema else "ema"
        raise PaddlexMLError(
            f"the {which} weights of this checkpoint are the evaluated ones",
            where=str(source.path),
            fix=f"compare with the others: -o {key}={other}",
        )
    entries = dict(saved.ema if which == "ema" else saved.weights)
    layout = find_layout(source.info, entries, source.path, key)
    return _build(source.info, layout, entries, source.path, key)


def find_layout(
    info: ModelInfo, entries: Mapping[str, np.ndarray], path: Path, key: str
) -> HeadLayout:
    """The head of the weights `entries`, which must be that of the model `info`.

    `path` and `key` are the file and the YAML key that names it, for errors. Raises PaddlexMLError
    for another number of classes or queries.
    """
    layout, classes = zoo.find_layout(info.model, entries, str(path)), len(info.label_names)
    has_other_queries = info.num_queries not in (None, layout.queries)
    if layout.fits(classes) and not has_other_queries:
        return replace(layout, classes=classes)
    counts = f"{count(layout.classes, 'class', 'classes')}, {classes} are"
    if layout.fits(classes):
        counts = f"{count(layout.queries, 'query', 'queries')}, {info.num_queries} are"
    raise PaddlexMLError(
        f"the weights have {counts} named beside them",
        where=str(path),
        fix=f"name the weights of a trained {info.model} behind {key}, with the files that "
        "its training wrote beside them",
    )


def _build(
    info: ModelInfo, layout: HeadLayout, entries: dict[str, np.ndarray], path: Path, key: str
) -> LoadedModel:
    paddle_runtime.use_own_threads()
    model = zoo.build(info.model, layout.classes, tokens=info.decoder_tokens, layout=layout)
    fitted = weights.fit(model, entries, head=zoo.find(info.model).head, where=str(path))
    if fitted.missing:
        raise PaddlexMLError(
            "the weights are incomplete: "
            f"{count(len(fitted.missing), 'entry is', 'entries are')} missing or have "
            f"another shape, first {fitted.missing[0]!r}",
            where=str(path),
            fix=f"name the weights of a trained {info.model} behind {key}",
        )
    model.eval()
    return LoadedModel(model, describe_head(info, layout), path)


def describe_head(info: ModelInfo, layout: HeadLayout) -> ModelInfo:
    """What a model is, with its head."""
    of_class = layout.class_queries
    return replace(
        info,
        num_queries=layout.queries,
        class_queries=None if of_class is None else list(of_class),
    )


def _locate(config: Config, text: str | None, key: str) -> Path:
    if text is not None:
        if not fetch.is_url(text):
            checkpoint.finish_interrupted(Path(os.path.abspath(text)).parent)
        return weights.locate(text, key, null=named_paths.describe_null(key, config.Global.model))
    best = RunFolder(config.Global.output).best_model
    checkpoint.finish_interrupted(best.folder)
    if best.weights.is_file():
        return best.weights
    raise named_paths.no_model(best.weights, key)


def _describe_bare_weights(config: Config, entries: dict[str, np.ndarray], path: Path) -> ModelInfo:
    """What the weights of another tool are, as far as shapes and configuration show it."""
    name = config.Global.model
    layout = zoo.find_layout(name, entries, str(path))
    outputs = layout.classes
    if config.Global.dataset_dir is None:
        names = [str(number) for number in range(config.Train.num_classes or outputs)]
        logger.warning("%s has no class names and no data set is named: using numbers", path)
        if layout.fits(outputs - 1) and not config.Train.num_classes:
            logger.warning(
                "%s: the last of its %d outputs may belong to no class: name the number of classes "
                "with -o Train.num_classes=...",
                *(path, outputs),
            )
    else:
        names = annotation.read_labels(config.Global.dataset_dir / annotation.LABEL_FILE)
    if not layout.fits(len(names)):
        raise PaddlexMLError(
            f"the weights have {count(outputs, 'class', 'classes')}, the data set has {len(names)}",
            where=str(path),
            fix="-o Global.dataset_dir=./dataset/my_set (the data set of the training)",
        )
    tokens = zoo.find(name).published_tokens
    if tokens is not None and path != cache.path_for(published.weights_url(name)):
        if config.Train.decoder_tokens is None:
            logger.warning(
                "%s does not record what its head sees: using %s, as in the published weights; "
                "for the others: -o Train.decoder_tokens=%s",
                path,
                tokens,
                "all_patches" if tokens == "first_patch" else "first_patch",
            )
        tokens = config.Train.decoder_tokens or tokens
    return ModelInfo(name, names, config.Train.image_size, tokens)


def _refuse_contradictions(config: Config, info: ModelInfo, layout: HeadLayout, path: Path) -> None:
    if info.model != config.Global.model:
        raise PaddlexMLError(
            f"these are weights of {info.model}, the configuration names {config.Global.model}",
            where=str(path),
            fix=f"-c {info.model}, or name the weights of {config.Global.model}",
        )
    wanted = config.Train.num_classes
    if wanted is not None and wanted != len(info.label_names):
        raise PaddlexMLError(
            f"the weights have {count(len(info.label_names), 'class', 'classes')}, "
            f"Train.num_classes is {wanted}",
            where=str(path),
            fix="-o Train.num_classes=null",
        )
    refuse_other_tokens(config.Train.decoder_tokens, info.decoder_tokens, str(path))
    queries = config.Train.num_queries
    if queries not in ("auto", layout.queries):
        raise PaddlexMLError(
            f"the head of the weights has {count(layout.queries, 'query', 'queries')}, "
            f"Train.num_queries is {queries}",
            where=str(path),
            fix="-o Train.num_queries=auto",
        )
