# SPDX-License-Identifier: Apache-2.0
"""Train.pretrain_weight_path: the weights that a new run starts from, and what becomes of the head.

Where the weights name their classes, each class keeps by its name what was learned about it, also
in a list of other classes, in another order, or in other groups. Without names, as in the weights
of PaddleX, entries of the same shape are taken: a class gets what the same number had.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import paddle

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.train_result import StartedFrom
from paddlex_ml.config.schema import STARTER, Config
from paddlex_ml.data.loader import Loader
from paddlex_ml.engines import load_model, named_paths
from paddlex_ml.models import class_transfer, head_layout, starter, zoo
from paddlex_ml.models.class_transfer import ClassTransfer
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import fetch
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import evaluate_both
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training
from paddlex_ml.wording import first_names

KEY = named_paths.PRETRAINED

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """The content of a weight file, and the head that a new run has with it."""

    path: Path
    entries: dict[str, np.ndarray]
    layout: HeadLayout
    """Of the new model."""
    transfer: ClassTransfer | None
    """None: all of the head is taken as it is, or by its shapes."""


def locate(text: str, model: str) -> Path:
    """The weight file that a path, a URL or the word `starter` names, for the model of this name.

    A URL is fetched, unless the cache has it.
    """
    if text == STARTER:
        return starter.PATH
    return weights.locate(text, KEY, null=named_paths.describe_null(KEY, model))


def read(config: Config, info: ModelInfo) -> Pretrained | None:
    """Read the weights, and choose the head of the model `info`; None where there are none.

    Raises PaddlexMLError where the weights contradict what is named beside them, and where
    Train.num_queries leaves no room for what they know.
    """
    text = config.Train.pretrain_weight_path
    if text is None:
        return None
    if text != STARTER and not fetch.is_url(text):
        checkpoint.finish_interrupted(Path(os.path.abspath(text)).parent)
    path = locate(text, info.model)
    entries, theirs = weights.read(path), checkpoint.read_model_info(path)
    classes, wanted = len(info.label_names), config.Train.num_queries
    queries = head_layout.count_queries(classes, wanted)
    own, head = head_layout.published(classes, queries), zoo.find(info.model).head
    if theirs is None or f"{head}{head_layout.BIAS}" not in entries:
        before = head_layout.read(entries, head)
        if wanted == "auto" and before is not None and before.fits(classes):
            own = replace(before, classes=classes)  # such as one query for each of 300 classes
        return Pretrained(path, entries, own, None)
    # Of another model the heads are alike: it is refused when the backbone is compared.
    before = load_model.find_layout(replace(theirs, model=info.model), entries, path, KEY)
    if theirs.label_names == info.label_names and wanted in ("auto", before.queries):
        return Pretrained(path, entries, before, None)
    transfer = class_transfer.plan(
        before, theirs.label_names, info.label_names, queries, may_add=wanted == "auto"
    )
    return Pretrained(path, entries, transfer.layout if transfer.kept else own, transfer)


def load(
    model: paddle.nn.Layer, pretrained: Pretrained, info: ModelInfo
) -> StartedFrom | msgspec.UnsetType:
    """Load what fits into the new model, and log the rest; what became of the classes by name."""
    path, entries, transfer = pretrained.path, pretrained.entries, pretrained.transfer
    head = zoo.find(info.model).head
    if transfer is not None:
        entries = class_transfer.move(
            transfer, entries, weights.to_arrays(model.state_dict()), head
        )
    fitted = weights.fit(model, entries, head=head, where=str(path))
    missing = fitted.missing
    total = len(fitted.loaded) + len(missing)
    logger.info("loaded %d of %d entries from %s", len(fitted.loaded), total, path)
    for entry, reason in fitted.skipped.items():
        logger.info("  left out %s: %s", entry, reason)
    if len(missing) > 5:
        logger.info(
            "  begin with random values: %s ... %s (%d)", missing[0], missing[-1], len(missing)
        )
    elif missing:
        logger.info("  begin with random values: %s", ", ".join(missing))
    if transfer is None:
        return msgspec.UNSET
    if not transfer.kept:
        logger.warning(
            "no class of label.txt is one of the %d that the weights name (%s): nothing of the "
            "head is kept",
            *(len(transfer.dropped), _names(transfer.dropped)),
        )
    else:
        logger.info(
            "classes by name: %d kept (%s); %d new (%s); %d dropped (%s)",
            *(len(transfer.kept), _names(transfer.kept)),
            *(len(transfer.new), _names(transfer.new)),
            *(len(transfer.dropped), _names(transfer.dropped)),
        )
    return StartedFrom(str(path), transfer.kept, transfer.new, transfer.dropped)


def _names(names: Sequence[str]) -> str:
    return one_line(first_names(names, 5)) or "none"


def evaluate_start(
    training: Training, plan: Plan, val_loader: Loader, interrupt: Interrupt
) -> None:
    """Evaluate a model that began with classes of another list, before its first step.

    Adds the mAP, and that of the kept classes alone, to `training.progress.started_from`.
    """
    progress = training.progress
    started = progress.started_from
    if not isinstance(started, StartedFrom) or progress.epoch or progress.step:
        return
    scores = evaluate_both(training, plan, val_loader, interrupt)
    if scores is None:  # a stop was asked for, which the loop meets next
        return
    known, found = {*started.kept}, scores["raw"]
    of_kept = found.per_class[[name in known for name in training.info.label_names]]
    of_kept = of_kept[~np.isnan(of_kept)]
    kept_map = float(of_kept.mean()) if len(of_kept) else None
    progress.started_from = msgspec.structs.replace(started, map=found.map, kept_map=kept_map)
    if plan.group.is_main:
        kept_text = "undefined" if kept_map is None else f"{kept_map:.4f}"
        logger.info(
            "before the first step: mAP %.4f; over the %d kept classes %s",
            *(found.map, len(started.kept), kept_text),
        )
