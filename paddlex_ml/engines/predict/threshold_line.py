# SPDX-License-Identifier: Apache-2.0
"""The thresholds at which a prediction decides, told before the first result."""

from __future__ import annotations

import logging

from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.per_class_threshold import Threshold

logger = logging.getLogger(__name__)


def tell(wanted: Threshold | None, model: StaticModel) -> None:
    """Log the thresholds in use: those of Predict.threshold, `wanted`, or else the model's own.

    Raises PaddlexMLError for impossible ones.
    """
    threshold, place = model.threshold, str(model.folder)
    if wanted is not None:
        threshold, place = wanted, "Predict.threshold"
    numbers = per_class_threshold.resolve(threshold, model.label_names, where=place)
    described = per_class_threshold.describe(numbers, model.label_names)
    logger.info("thresholds in use: %s (of %s)", described, place)
