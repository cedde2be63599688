# SPDX-License-Identifier: Apache-2.0
"""Mode export: a weight file -> the model in the format that a deployment reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from msgspec import UNSET

from paddlex_ml import devices, openvino_runtime
from paddlex_ml.artifacts import conditions, earlier_export, inference_yml, run_lock
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
from paddlex_ml.storage import fetch, files, folders

_KEY = "Export.weight_path"

_Hold = Callable[[], AbstractContextManager[None]]

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
    is_url = text is not None and fetch.is_url(text)  # its file is in the cache
    hold = nullcontext if is_url else _hold(config)
    # A training that finds better weights meanwhile waits, so that the export is of those beside.
    with hold():
        source = load_model.load(config, text, _KEY)
        folder = config.Global.output if is_url else source.path.parent
        if form not in FORMATS_WITH_PRECISION or config.Export.precision == "fp32":
            return _save(config, source, folder)
        lower = _LowerPrecision(config, source, folder)
    return lower.save(hold)


def _hold(config: Config) -> _Hold:
    """What keeps other processes from changing the folder of the weights."""
    text = config.Export.weight_path
    if text is None:
        return partial(files.one_at_a_time, RunFolder(config.Global.output).best_model.folder)
    given = Path(text).resolve()
    if not given.exists():  # else a lock would be all that this writes
        return nullcontext
    return partial(files.one_at_a_time, given.parent)


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
    return _save_graph(config, source, folder / EXPORTS[form])


def _save_graph(config: Config, source: LoadedModel, folder: Path) -> ExportResult:
    """Export as any format but `safetensors`, in float32."""
    form, tuned, info = config.Export.format, _find_tuned(folder), source.info
    opset, batch_size = config.Export.opset, config.Export.batch_size
    if form in FORMATS_WITH_PRECISION:
        write = save_onnx if form == "onnx" else save_openvino
        difference = write(source.model, info, folder, opset, batch_size)
    else:
        save = save_pdmodel if form == "pdmodel" else save_static
        difference = save(source.model, info, folder)
    logger.info("exported %s -> %s (largest difference %.1e)", source.path, folder, difference)
    run_lock.warn_of_training(folder)
    _tell_of_thresholds(folder, tuned)
    return _describe(config, source, folder, difference)


class _LowerPrecision:
    """An export in fp16 or int8: it is made in a folder of its own, as that may take minutes.

    Meanwhile nobody waits for the folder of the weights; a training may replace them.
    """

    def __init__(self, config: Config, source: LoadedModel, folder: Path) -> None:
        """Read what lies beside the weights, which nobody may change now."""
        self._config, self._source = config, source
        self._folder = folder / EXPORTS[f"{config.Export.format} {config.Export.precision}"]
        folders.refuse_file(self._folder)  # before it takes minutes
        with TemporaryFile(dir=folder):  # so also where nothing can be written
            tuned = _find_tuned(self._folder)
        self._reduction = Reduction(config, source.info, tuned[0] if tuned else None)
        self._digest = conditions.digest_file(source.path)

    def save(self, hold: _Hold) -> ExportResult:
        """Make the export; `hold` keeps others from changing the folder of the weights.

        Raises PaddlexMLError where others have replaced the weights.
        """
        config, source, folder = self._config, self._source, self._folder
        write = save_onnx if config.Export.format == "onnx" else save_openvino
        opset, batch_size = config.Export.opset, config.Export.batch_size
        work = RunFolder(config.Global.output).export_work
        folders.discard(work)  # what a kill left there
        made = work / folder.name
        try:
            difference = write(
                source.model, source.info, made, opset, batch_size, self._reduction.rework
            )
            with hold():
                self._refuse_other_weights()
                with earlier_export.replacing(folder) as fresh:
                    for path in made.iterdir():
                        files.link(path, fresh / path.name)
        finally:
            folders.discard(work)
        logger.info(
            "exported %s -> %s (largest difference of the fp32 graph %.1e)",
            *(source.path, folder, difference),
        )
        run_lock.warn_of_training(folder)
        return _describe(config, source, folder, difference)

    def _refuse_other_weights(self) -> None:
        path = self._source.path
        if path.is_file() and conditions.digest_file(path) == self._digest:
            return
        raise PaddlexMLError(
            "the weights were replaced while their export was made: nothing was exported",
            where=str(path),
            fix="export again when the training has ended, or copy the weights into another "
            f"folder and name them behind {_KEY}",
        )


def _describe(config: Config, source: LoadedModel, folder: Path, difference: float) -> ExportResult:
    form, has_precision = config.Export.format, config.Export.format in FORMATS_WITH_PRECISION
    report = folder / EXPORT_REPORT
    return ExportResult(
        format=form,
        model_name=source.info.model,
        weight_path=str(source.path),
        inference_dir=str(folder),
        files=sorted(str(path) for path in folder.glob("inference.*")),
        static_difference=difference,
        precision=config.Export.precision if has_precision else UNSET,
        report=str(report) if report.is_file() else UNSET,
        opset=config.Export.opset if form == "onnx" else UNSET,
        batch_size=config.Export.batch_size if has_precision else UNSET,
        run=source.info.run or UNSET,
    )


def _find_tuned(folder: Path) -> list[Path]:
    """The exports of these weights with tuned thresholds: `folder`, then those beside it.

    Without those in lower precision, which have thresholds of their own.
    """
    others = [folder.with_name(name) for name in EXPORTS.values() if name != folder.name]
    usual = [path for path in (folder, *others) if not (path / EXPORT_REPORT).is_file()]
    return [path for path in usual if _is_tuned(path)]


def _tell_of_thresholds(folder: Path, tuned: list[Path]) -> None:
    """Warn where an export beside has thresholds that this one lacks."""
    if tuned and folder not in tuned:
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
