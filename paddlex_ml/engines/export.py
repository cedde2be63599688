# SPDX-License-Identifier: Apache-2.0
"""Mode export: a weight file -> the model in the format that a deployment reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from paddlex_ml import devices
from paddlex_ml.artifacts import checkpoint, inference_yml
from paddlex_ml.config.schema import Config
from paddlex_ml.engines import load_model
from paddlex_ml.engines.load_model import LoadedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.export.pdmodel import save_pdmodel
from paddlex_ml.export.safetensors import save_safetensors
from paddlex_ml.export.static import save_static
from paddlex_ml.storage import fetch

logger = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Write the export beside the weights; returns the content of export_result.json.

    For weights by URL it goes into the output folder.
    """
    form = config.Export.format
    if form == "onnx":
        onnx.require()  # now: loading the weights may take long
    devices.select(config.Global.device)
    if form != "paddle":
        devices.use("cpu")  # there other runtimes are compared, in full float32
    text = config.Export.weight_path
    source = load_model.load(config, text, "Export.weight_path")
    fetched = text is not None and fetch.is_url(text)  # the cache is no place for results
    place = config.Global.output if fetched else source.path.parent
    result = {
        "done_flag": True,
        "format": form,
        "model_name": source.info.model,
        "weight_path": str(source.path),
    }
    if form == "safetensors":
        return result | _save_weights(source, place / f"{source.path.stem}.safetensors")
    return result | _save_graph(config, source, place / checkpoint.EXPORTS[form])


def _save_weights(source: LoadedModel, path: Path) -> dict[str, Any]:
    save_safetensors(source.model, source.info, path)
    logger.info("exported %s -> %s", source.path, path)
    return {"files": [str(path)]}


def _save_graph(config: Config, source: LoadedModel, folder: Path) -> dict[str, Any]:
    form, opset = config.Export.format, {}
    was_tuned = _is_tuned(folder / inference_yml.FILE)
    if form == "onnx":
        opset = {"opset": config.Export.opset}
        difference = save_onnx(source.model, source.info, folder, config.Export.opset)
    else:
        save = save_pdmodel if form == "pdmodel" else save_static
        difference = save(source.model, source.info, folder)
    logger.info("exported %s -> %s (largest difference %.1e)", source.path, folder, difference)
    if was_tuned:
        logger.warning(
            "the tuned thresholds of the model that stood there are gone: for new ones evaluate "
            "with -o Evaluate.save_threshold=true"
        )
    return {
        "inference_dir": str(folder),
        "files": sorted(str(path) for path in folder.glob("inference.*")),
        "static_difference": difference,
        **opset,
    }


def _is_tuned(path: Path) -> bool:
    """Whether predictions of the model in this folder use a threshold for every class."""
    try:
        return isinstance(inference_yml.read(path).threshold, list)
    except PaddlexMLError:  # there is none, or something else that the export replaces
        return False
