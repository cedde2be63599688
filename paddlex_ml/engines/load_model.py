# SPDX-License-Identifier: Apache-2.0
"""A trained model from its weight file: what `evaluate` and `export` begin with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import paddle

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.engines import tokens
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import published, zoo
from paddlex_ml.storage import cache, fetch

logger = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A model in evaluation mode, what it is, and the file it came from."""

    model: paddle.nn.Layer
    info: ModelInfo
    path: Path


def load(config: Config, text: str | None, key: str, *, any_model: bool = False) -> LoadedModel:
    """Load the weights named by `text`; None means the best model of the output folder.

    Class names and image size come from the checkpoint beside the weights. For a bare file the
    class count comes from its shapes, the names from label.txt, the size from Train.image_size.
    any_model: whether a checkpoint may be of another model than the configuration names.
    """
    path = _locate(config, text, key)
    entries = weights.read(path)
    info = checkpoint.read_card(path) or _card_of_bare(config, entries, path)
    if not any_model:
        _refuse_contradictions(config, info, path)
    return _build(info, entries, path, key)


def load_other_weights(source: LoadedModel, which: Literal["raw", "ema"], key: str) -> LoadedModel:
    """The raw or the averaged weights of the checkpoint that `source` is the other half of."""
    folder = source.path.parent
    if source.path != folder / f"{folder.name}.pdparams" or not checkpoint.is_complete(folder):
        raise PaddlexMLError(
            f"no {which} weights there: these weights do not stand in a checkpoint",
            where=str(source.path),
            fix=f"evaluate those of a training, such as output/best_model, or -o {key}=null",
        )
    saved = checkpoint.load(folder)
    if saved.use_ema == (which == "ema"):
        other = "raw" if saved.use_ema else "ema"
        raise PaddlexMLError(
            f"the {which} weights of this checkpoint are those that are evaluated",
            where=str(source.path),
            fix=f"compare with the others: -o {key}={other}",
        )
    entries = dict(saved.ema if which == "ema" else saved.weights)
    return _build(source.info, entries, source.path, key)


def _build(info: ModelInfo, entries: dict[str, np.ndarray], path: Path, key: str) -> LoadedModel:
    model = zoo.build(info.model, len(info.label_names), tokens=info.decoder_tokens)
    fitted = weights.fit(model, entries, head=zoo.find(info.model).head, where=str(path))
    if fitted.missing:
        raise PaddlexMLError(
            f"the weights are incomplete: {len(fitted.missing)} entries are missing or have "
            f"another shape, first {fitted.missing[0]!r}",
            where=str(path),
            fix=f"name the weights of a trained {info.model}: -o {key}=...",
        )
    model.eval()
    return LoadedModel(model, info, path)


def _locate(config: Config, text: str | None, key: str) -> Path:
    if text is not None:
        if not fetch.is_url(text):
            checkpoint.finish_interrupted(Path(text).resolve().parent)
        return weights.locate(text, key, null="takes the best weights of Global.output")
    folder = config.Global.output / "best_model"
    checkpoint.finish_interrupted(folder)
    path = folder / "best_model.pdparams"
    if path.is_file():
        return path
    raise PaddlexMLError(
        f"no trained model there: {path} does not exist",
        where=key,
        fix=f"train first (-o Global.mode=train), or -o {key}=path/to/model.pdparams "
        "(or a URL), or name the training's folder with -o Global.output=...",
    )


def _card_of_bare(config: Config, entries: dict[str, np.ndarray], path: Path) -> ModelInfo:
    name = config.Global.model
    outputs = zoo.count_classes(name, entries, str(path))
    if config.Global.dataset_dir is None:
        names = [str(number) for number in range(config.Train.num_classes or outputs)]
        logger.warning("%s has no class names and no data set is named: using numbers", path)
    else:
        names = annotation.read_labels(config.Global.dataset_dir / "label.txt")
    if len(names) != outputs:
        raise PaddlexMLError(
            f"the weights answer for {outputs} classes, the data set has {len(names)}",
            where=str(path),
            fix="name the data set that the weights were trained on: -o Global.dataset_dir=...",
        )
    return ModelInfo(name, names, config.Train.image_size, _tokens_of_bare(config, path))


def _tokens_of_bare(config: Config, path: Path) -> str | None:
    """What the head of somebody else's weights is to see."""
    name = config.Global.model
    usual = zoo.find(name).published_tokens
    if usual is None or path == cache.path_for(published.weights_url(name)):
        return usual
    if config.Train.decoder_tokens is not None:
        return config.Train.decoder_tokens
    logger.warning(
        "%s does not say what its head sees: taking %s, as in the published weights; for others "
        "name it: -o Train.decoder_tokens=...",
        path,
        usual,
    )
    return usual


def _refuse_contradictions(config: Config, info: ModelInfo, path: Path) -> None:
    if info.model != config.Global.model:
        raise PaddlexMLError(
            f"these are weights of {info.model}, the configuration says {config.Global.model}",
            where=str(path),
            fix=f"-c {info.model}, or name the weights of {config.Global.model}",
        )
    wanted = config.Train.num_classes
    if wanted is not None and wanted != len(info.label_names):
        raise PaddlexMLError(
            f"the weights have {len(info.label_names)} classes, Train.num_classes is {wanted}",
            where=str(path),
            fix="-o Train.num_classes=null",
        )
    tokens.refuse_others(config, info.decoder_tokens, str(path))
