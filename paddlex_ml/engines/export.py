# SPDX-License-Identifier: Apache-2.0
"""Mode export: a weight file -> a folder with the static model."""

from __future__ import annotations

import logging
from typing import Any

from paddlex_ml import devices, fetch
from paddlex_ml.config.schema import Config
from paddlex_ml.engines import trained
from paddlex_ml.export.static import save_static

logger = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Write `inference/` beside the weights; returns the content of export_result.json.

    For weights by URL it is `<output>/inference/`.
    """
    devices.select(config.Global.device)
    text = config.Export.weight_path
    source = trained.load(config, text, "Export.weight_path")
    fetched = text is not None and fetch.is_url(text)  # the cache is no place for results
    folder = (config.Global.output if fetched else source.path.parent) / "inference"
    difference = save_static(source.model, source.card, folder)
    logger.info("exported %s -> %s (largest difference %.1e)", source.path, folder, difference)
    return {
        "done_flag": True,
        "model_name": source.card.model,
        "weight_path": str(source.path),
        "inference_dir": str(folder),
        "static_difference": difference,
    }
