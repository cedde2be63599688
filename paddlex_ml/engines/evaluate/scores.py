# SPDX-License-Identifier: Apache-2.0
"""Scores of models for the images of a list, with a log line at intervals."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from tqdm import tqdm

from paddlex_ml import terminal
from paddlex_ml.config.schema import BATCH_SIZE, Config
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import MultiLabelDataset
from paddlex_ml.data.loader import batches, count_workers, evaluation_indices
from paddlex_ml.engines.evaluate.comparison import Other
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.evaluation import evaluate
from paddlex_ml.progress import SHORTEST_PAUSE, named

logger = logging.getLogger(__name__)


def score(
    config: Config, images: ImageList, models: Sequence[EvaluatedModel], *, title: str = "Eval"
) -> list[np.ndarray]:
    """Scores float32 [N, C] of every model, which must share their preprocessing, in one pass."""
    reduced = config.Evaluate.reduced_decode
    dataset = MultiLabelDataset(images, models[0].preprocess, reduced_decode=reduced)
    size = config.Evaluate.batch_size or config.Train.batch_size
    draws = evaluation_indices(len(dataset), BATCH_SIZE if size == "auto" else size)

    begin = written = time.monotonic()

    def log_line(done: int, total: int) -> None:
        nonlocal written
        now = time.monotonic()
        is_due = done % config.Evaluate.log_interval == 0 and now - written >= SHORTEST_PAUSE
        if is_due or done in (1, total):
            written = now
            left = tqdm.format_interval((now - begin) * (total - done) / done)
            logger.info("[%s][Iter %d/%d] eta %s", title, done, total, left)

    feed = batches(dataset, draws, count_workers(config.Train.num_workers))
    shown = terminal.progress(f"{title}: scored batches", log=log_line)
    with shown as progress, ExitStack() as first:
        # The first batch starts the readers and the network, which may take a minute.
        first.enter_context(named("scoring the first batch"))

        def report(done: int) -> None:
            first.close()
            progress(done, len(draws))

        evaluations = evaluate([each.network for each in models], feed, report)
    return [evaluation.outputs for evaluation in evaluations]


def score_both(
    config: Config, images: ImageList, evaluated: EvaluatedModel, other: Other | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores of the evaluated model, and those of the other one where that is a model too.

    Models with the same preprocessing share one pass over the images.
    """
    if not isinstance(other, EvaluatedModel):
        return score(config, images, [evaluated])[0], None
    if other.preprocess == evaluated.preprocess:
        scores, other_scores = score(config, images, [evaluated, other])
        return scores, other_scores
    scores, other_scores = (score(config, images, [each])[0] for each in (evaluated, other))
    return scores, other_scores
