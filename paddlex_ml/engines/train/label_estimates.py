# SPDX-License-Identifier: Apache-2.0
"""Train.loss.unknown=role: the table of estimated labels, and what must be true before it is made.

Its size is known before the first step, so is what it would not fit into: memory, a checkpoint.
"""

from __future__ import annotations

import logging

import numpy as np

from paddlex_ml import machine_memory
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation, targets
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.targets import Targets
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage.regular_file import LARGEST_WEIGHTS
from paddlex_ml.training import role
from paddlex_ml.training.role import LabelEstimates
from paddlex_ml.wording import count

KEY = "Train.loss.role_labels"
SAVED_MOST = LARGEST_WEIGHTS * 3 // 4
"""Bytes of the largest table that a checkpoint holds: the file has the moments of a model too."""

logger = logging.getLogger(__name__)


def has_unknown(config: Config, values: Targets) -> bool:
    """Whether a training on `values` has an unknown label."""
    return config.Train.single_positive or targets.has_unknown(values)


def write_without_table(config: Config) -> str:
    """The overrides of a training like this one that estimates no labels."""
    needless = config.Train.loss.role_labels is not None
    return override("Train.loss.unknown", "em") + f" {override(KEY, None)}" * needless


def build(
    config: Config, dataset: MLClsDataset, group: ProcessGroup, *, is_read: bool = False
) -> LabelEstimates | None:
    """A fresh table for train.txt; None where the configuration asks for none, or all is known.

    `is_read` says that a saved table is in memory already. Raises PaddlexMLError where it does not
    fit into memory or into a checkpoint, and where nothing says how many labels an image shows.
    """
    options, values = config.Train, dataset.train.values
    if options.unknown_labels != "role" or not has_unknown(config, values):
        return None
    images, classes = values.shape
    size = images * classes * role.BYTES
    # A resume reads the saved table beside the fresh one: a run that begins must be able to go on.
    needed = (1 if is_read else 2) * size * group.local_size
    # All processes ask before one of them takes the memory.
    if size > SAVED_MOST or any(group.all_gather([needed > machine_memory.available()])):
        most = f"a checkpoint holds at most {SAVED_MOST / 1e9:.1f} GB of it"
        if size <= SAVED_MOST:
            most = f"with a resume it takes {needed / 1e9:.1f} GB in {group.local_size} "
            most += f"process{'es' * (group.local_size > 1)}; {machine_memory.describe()}"
        raise PaddlexMLError(
            f"the estimated labels of {count(images, 'image')} and "
            f"{count(classes, 'class takes', 'classes take')} "
            f"{size / 1e9:.1f} GB: {most}",
            where="Train.loss.unknown",
            fix=f"{write_without_table(config)} needs no table",
        )
    labels = _count_labels(config, dataset)
    if group.is_main:
        logger.info(
            "%s: %d x %d labels are estimated, %.3g labels an image expected (%s %s), %.1f MB",
            *(annotation.TRAIN_FILE, images, classes, labels, KEY),
            *("counted in val.txt" if options.loss.role_labels is None else "set", size / 1e6),
        )
        named = int(targets.labels_per_image(values).sum()) / images
        if named > labels:
            logger.warning(
                "an image of %s has %.3g labels that are known to be present, more than the %.3g "
                "expected: estimates and scores will be too low; %s",
                *(
                    annotation.TRAIN_FILE,
                    named,
                    labels,
                    override(KEY, min(float(f"{named * 1.2:.3g}"), classes)),
                ),
            )
    return LabelEstimates(images, classes, labels=labels, seed=config.Global.seed)


def _count_labels(config: Config, dataset: MLClsDataset) -> float:
    """How many labels an image shows: as set, or the sum of the classes' shares in val.txt."""
    asked, classes = config.Train.loss.role_labels, len(dataset.label_names)
    if asked is not None:
        if asked > classes:
            raise PaddlexMLError(
                f"{KEY} is {asked:g}, label.txt names {count(classes, 'class', 'classes')}",
                where=KEY,
                fix=f"{override(KEY, None)} counts the labels of val.txt",
            )
        return asked
    counts = targets.count(dataset.val.values)
    labels = float(np.sum(counts.present / np.maximum(counts.known, 1)))
    if not labels:
        raise PaddlexMLError(
            "no label of val.txt is known to be present: nothing says how many labels an image "
            "shows",
            where=str(dataset.root / annotation.VAL_FILE),
            fix=f"set the number that you expect: {override(KEY, min(1.5, classes))}",
        )
    return labels
