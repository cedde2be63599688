# SPDX-License-Identifier: Apache-2.0
"""Mode evaluate: weights or a static folder, and val.txt -> mAP and every class's precision."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml import devices
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, preprocess
from paddlex_ml.data.dataset import MultiLabelDataset
from paddlex_ml.data.loader import batches, count_workers, evaluation_draws
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.engines import tokens, trained
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Evaluation, Network, evaluate
from paddlex_ml.inference.static import StaticModel

logger = logging.getLogger(__name__)
_KEY = "Evaluate.weight_path"


@dataclass(frozen=True)
class _Subject:
    """What is evaluated."""

    network: Network
    label_names: list[str]
    preprocess: Preprocess
    path: Path
    """Where it came from."""


def run(config: Config) -> dict[str, Any]:
    """Evaluate on val.txt; returns the content of evaluate_result.json."""
    devices.select(config.Global.device)
    assert config.Global.dataset_dir is not None  # the configuration refuses it
    dataset = annotation.read(config.Global.dataset_dir, lists=("val",))
    subject = _load(config)
    names = subject.label_names
    _refuse_other_classes(names, dataset.label_names, subject.path)
    reduced = config.Evaluate.reduced_decode
    images = MultiLabelDataset(dataset.val, subject.preprocess, reduced_decode=reduced)
    draws = evaluation_draws(len(images), config.Evaluate.batch_size or config.Train.batch_size)

    def progress(done: int) -> None:
        if done % config.Evaluate.log_interval == 0 or done == len(draws):
            logger.info("[Eval][Iter %d/%d]", done, len(draws))

    feed = batches(images, draws, count_workers(config.Train.num_workers))
    (result,) = evaluate([subject.network], feed, progress)
    _report(result, names)
    return _content(result, names, dataset.val.targets, subject.path)


def _load(config: Config) -> _Subject:
    text = config.Evaluate.weight_path
    if text is not None and Path(text).is_dir():
        static = StaticModel(Path(text), config.Global.device, None)
        tokens.refuse_others(config, static.decoder_tokens, text)
        return _Subject(
            lambda images: paddle.to_tensor(static.run(images.numpy())),
            list(static.label_names),
            static.preprocess,  # of its own inference.yml, as prediction does
            Path(text),
        )
    source = trained.load(config, text, _KEY)
    card = source.card
    wanted = preprocess.standard(card.image_size)
    return _Subject(source.model, card.label_names, wanted, source.path)


def _refuse_other_classes(names: list[str], wanted: list[str], source: Path) -> None:
    if names == wanted:
        return
    if len(names) == len(wanted):
        pairs = zip(names, wanted, strict=True)
        number, (ours, theirs) = next((k, p) for k, p in enumerate(pairs) if p[0] != p[1])
        what = f"class {number} is {ours!r} in the model and {theirs!r} in label.txt"
    else:
        what = f"the model has {len(names)} classes, label.txt has {len(wanted)}"
    raise PaddlexMLError(
        what,
        where=str(source),
        fix="evaluate on the data set of the model's classes: -o Global.dataset_dir=..., "
        f"or name another model: -o {_KEY}=...",
    )


def _report(result: Evaluation, names: list[str]) -> None:
    width = max(map(len, names))
    for name, value in sorted(
        zip(names, result.per_class, strict=True), key=lambda p: -np.nan_to_num(p[1])
    ):
        shown = "undefined (no positive image)" if np.isnan(value) else f"{value:.4f}"
        logger.info("  %s  %s", name.ljust(width), shown)
    logger.info(
        "MultiLabelMAP(integral) %.4f (constant predictor %.4f)", result.map, result.constant
    )


def _content(
    result: Evaluation, names: list[str], targets: np.ndarray, source: Path
) -> dict[str, Any]:
    positives = targets.sum(axis=0, dtype=np.int64)
    per_class = [
        {
            "name": name,
            "average_precision": None if np.isnan(value) else float(value),
            "positives": int(count),
        }
        for name, value, count in zip(names, result.per_class, positives, strict=True)
    ]
    return {
        "done_flag": True,
        "weight_path": str(source),
        "metrics": {
            "MultiLabelMAP": result.map,
            "constant_predictor": result.constant,
            "images": len(targets),
            "undefined_classes": [c["name"] for c in per_class if c["average_precision"] is None],
        },
        "per_class": per_class,
    }
