# SPDX-License-Identifier: Apache-2.0
"""Mode export: a weight file -> the model in the format that a deployment reads."""

from __future__ import annotations

import logging
from contextlib import nullcontext, suppress
from pathlib import Path

from msgspec import UNSET

from paddlex_ml import devices, openvino_runtime
from paddlex_ml.artifacts import inference_yml, run_lock
from paddlex_ml.artifacts.export_result import ExportResult
from paddlex_ml.artifacts.run_folder import (
    EXPORT_REPORT,
    EXPORTS,
    ExportedFiles,
    RunFolder,
)
from paddlex_ml.config.export_schema import FORMATS_WITH_PRECISION
from paddlex_ml.config.schema import Config
from paddlex_ml.engines import load_model
from paddlex_ml.engines.export.reduced import Reduction
from paddlex_ml.engines.load_model import LoadedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.export.openvino import save_openvino
from paddlex_ml.export.pdmodel import save_pdmodel
from paddlex_ml.export.safetensors import save_safetensors
from paddlex_ml.export.static import save_static
from paddlex_ml.storage import fetch, files

_KEY = "Export.weight_path"

logger = logging.getLogger(__name__)


def run(config: Config) -> ExportResult:
    """Write the export beside the weights; returns the content of export_result.json.

    The export of weights by URL goes into the output folder.
    """
    form = config.Export.format
    if form in FORMATS_WITH_PRECISION:
        onnx.require(form)  # before the weights are loaded, which may take long
    if form == "openvino":
        openvino_runtime.require("Export.format=openvino")
    devices.select(config.Global.device)
    if form != "paddle":
        devices.use("cpu")  # other runtimes are compared there, in full float32
    text = config.Export.weight_path
    if text is not None and fetch.is_url(text):  # its file is in the cache
        return _save(config, load_model.load(config, text, _KEY), config.Global.output)
    best = RunFolder(config.Global.output).best_model.folder
    given = None if text is None else Path(text).resolve()
    folder = best if given is None else given.parent
    is_there = given is None or given.exists()  # else a lock would be all that this writes
    # A training that finds better weights meanwhile waits, so that the export is of those beside.
    with files.one_at_a_time(folder) if is_there else nullcontext():
        source = load_model.load(config, text, _KEY)
        return _save(config, source, source.path.parent)


def _save(config: Config, source: LoadedModel, folder: Path) -> ExportResult:
    form = config.Export.format
    if form == "safetensors":
        path = folder / f"{source.path.stem}.safetensors"
        save_safetensors(source.model, source.info, path)
        logger.info("exported %s -> %s", source.path, path)
        run_lock.warn_of_training(path)
        return ExportResult(
            format=form,
            model_name=source.info.model,
            weight_path=str(source.path),
            files=[str(path)],
            run=source.info.run or UNSET,
        )
    precision = config.Export.precision
    name = form if precision == "fp32" else f"{form} {precision}"
    return _save_graph(config, source, folder / EXPORTS[name])


def _save_graph(config: Config, source: LoadedModel, folder: Path) -> ExportResult:
    """Export as any format but `safetensors`."""
    form, precision = config.Export.format, config.Export.precision
    # The other formats of the same weights are, or would be, beside it.
    others = [folder.with_name(name) for name in EXPORTS.values() if name != folder.name]
    # Exports in lower precision have thresholds of their own.
    usual = [path for path in (folder, *others) if not (path / EXPORT_REPORT).is_file()]
    tuned = [path for path in usual if _is_tuned(path)]
    has_precision, report = form in FORMATS_WITH_PRECISION, None
    if has_precision:
        rework = None
        if precision != "fp32":
            reduction = Reduction(config, source.info, tuned[0] if tuned else None)
            rework = reduction.rework
        opset, batch_size = config.Export.opset, config.Export.batch_size
        write = save_onnx if form == "onnx" else save_openvino
        difference = write(source.model, source.info, folder, opset, batch_size, rework)
        report = None if rework is None else folder / EXPORT_REPORT
    else:
        save = save_pdmodel if form == "pdmodel" else save_static
        difference = save(source.model, source.info, folder)
    graph = "" if report is None else " of the fp32 graph"
    logger.info(
        "exported %s -> %s (largest difference%s %.1e)", source.path, folder, graph, difference
    )
    run_lock.warn_of_training(folder)
    if report is None:
        _tell_of_thresholds(folder, tuned)
    return ExportResult(
        format=form,
        model_name=source.info.model,
        weight_path=str(source.path),
        inference_dir=str(folder),
        files=sorted(str(path) for path in folder.glob("inference.*")),
        static_difference=difference,
        precision=precision if has_precision else UNSET,
        report=str(report) if report else UNSET,
        opset=config.Export.opset if form == "onnx" else UNSET,
        batch_size=config.Export.batch_size if has_precision else UNSET,
        run=source.info.run or UNSET,
    )


def _tell_of_thresholds(folder: Path, tuned: list[Path]) -> None:
    """Warn where an export beside, or the earlier one here, has thresholds that this lacks."""
    if folder in tuned:
        logger.warning(
            "the export has replaced a model with tuned thresholds, and they are gone: to tune "
            "them again, evaluate with -o Evaluate.save_threshold=true"
        )
    elif tuned:
        logger.warning(
            "%s has tuned thresholds, this export has %g for every class: to tune those of both, "
            "evaluate with -o Evaluate.save_threshold=true",
            *(tuned[0], inference_yml.THRESHOLD),
        )


def _is_tuned(folder: Path) -> bool:
    """Whether the model in `folder` has a threshold for every class."""
    with suppress(PaddlexMLError):  # there is none, or something else that the export replaces
        description = inference_yml.read(ExportedFiles(folder).inference_yml)
        return isinstance(description.threshold, list)
    return False
