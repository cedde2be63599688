# SPDX-License-Identifier: Apache-2.0
"""What a user names as a model -> the files of the static model."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.inference_yml import InferenceYml
from paddlex_ml.artifacts.run_folder import (
    EXPORTS,
    GRAPH,
    INFERENCE_YML,
    IR,
    IR_WEIGHTS,
    ONNX,
    PARAMETERS,
    PROGRAM,
    WEIGHT_SUFFIXES,
    CheckpointFiles,
    ExportedFiles,
    RunFolder,
    find_weights,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.run_modes import OPENVINO_MODES
from paddlex_ml.wording import path_override

_log = logging.getLogger(__name__)


class ModelFiles(NamedTuple):
    """The files of a static model."""

    folder: Path
    graph: Path
    weights: Path | None
    """None where they are in the graph (ONNX)."""
    description: Path
    """Its inference.yml; an ONNX file that describes itself needs none."""

    def describe(self) -> InferenceYml:
        """What the model is. Raises PaddlexMLError unless it is a multi-label model."""
        is_onnx = self.weights is None
        return inference_yml.find(self.graph) if is_onnx else inference_yml.read(self.description)

    @property
    def run_mode(self) -> str | None:
        """The one that needs no Paddle, where the graph is not one of Paddle; else None."""
        if self.weights is None:
            return "onnxruntime"
        return "openvino" if self.graph.suffix.lower() == ".xml" else None


def find(model_dir: str | bytes | os.PathLike[str], run_mode: str | None) -> ModelFiles:
    """The files of the model in a folder, for `run_mode`.

    model_dir: the folder with the graph; or one above it: the folder of a checkpoint, such as
        `output/best_model`, or of a run, such as `output`; or the path of the graph, which may be
        an ONNX file of any name, or the folder of this file alone, or the .xml of OpenVINO. `~` is
        the home folder.

    Raises PaddlexMLError that names what is missing.
    """
    named = Path(os.fsdecode(model_dir))
    if not named.exists():
        named = Path(os.path.expanduser(named))  # not that of Path: it raises for unknown users
    if named.is_file():
        if named.suffix.lower() == ".onnx":
            return _of_onnx(named, run_mode)
        if named.suffix.lower() == ".xml":
            return _of_ir(named, run_mode)
        if named.name in (GRAPH, PROGRAM, PARAMETERS, IR_WEIGHTS):
            return _of_folder(named.parent, run_mode)
        if named.suffix in WEIGHT_SUFFIXES:
            raise _not_exported(named, named, run_mode)
    if not named.is_dir():
        problem = "is a file" if named.exists() else "does not exist"
        raise PaddlexMLError(
            f"the folder of the static model {problem}",
            where=str(named.absolute()),
            fix=f"name the folder with {GRAPH}, {PARAMETERS} and {INFERENCE_YML}; "
            "-o Global.mode=export makes one from trained weights",
        )
    folder = _enter(named, run_mode)
    if folder == named and (alone := _find_alone(named)):
        return _of_onnx(alone, run_mode)
    if folder != named:
        _log.info("%s: the model is in %s", named, folder.relative_to(named))
    return _of_folder(folder, run_mode)


def _not_exported(named: Path, weights: Path, run_mode: str | None) -> PaddlexMLError:
    words = f"-o Global.mode=export {path_override('Export.weight_path', weights)}"
    return PaddlexMLError(
        "these are trained weights, which must be exported before they predict",
        where=str(named.absolute()),
        fix=words + _option(run_mode),
    )


def _option(run_mode: str | None) -> str:
    """The words of an export for this run mode, behind those of any export."""
    form = {"onnxruntime": "onnx", **dict.fromkeys(OPENVINO_MODES, "openvino")}.get(run_mode or "")
    return f" -o Export.format={form}" if form else ""


def is_model(folder: Path) -> bool:
    """Whether a folder, or one below it, is that of a static model, whole or not."""
    return _enter(folder, None) != folder or _has_parts(folder) or bool(_find_alone(folder))


def _has_parts(folder: Path) -> bool:
    parts = (GRAPH, PROGRAM, PARAMETERS, ONNX, IR, INFERENCE_YML)
    return any((folder / part).exists() for part in parts)


def _enter(named: Path, run_mode: str | None) -> Path:
    """The folder of the model in a checkpoint or a run; `named` itself where there is none."""
    if _has_parts(named):
        return named
    wanted = ["onnx"] if run_mode == "onnxruntime" else []
    wanted += ["openvino", "onnx"] if run_mode in OPENVINO_MODES else []
    formats = [*wanted, *(each for each in EXPORTS if each not in wanted)]
    above = (CheckpointFiles(named), RunFolder(named).best_model)
    folders = [files.folder / EXPORTS[name] for files in above for name in formats]
    # Before one that holds no more than backups of an export that is gone.
    found = sorted((each for each in folders if each.is_dir()), key=_has_parts, reverse=True)
    return found[0] if found else named


def _find_alone(folder: Path) -> Path | None:
    """The only ONNX file of a folder without the files of an export; it may have any name."""
    if any((folder / part).exists() for part in (GRAPH, PROGRAM, ONNX, IR)):
        return None
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".onnx"]
    return found[0] if len(found) == 1 and found[0].is_file() else None


def _of_folder(folder: Path, run_mode: str | None) -> ModelFiles:
    files = ExportedFiles(folder)
    graphs = [path for path in (files.graph, files.program) if path.is_file()]
    has_onnx, has_ir = files.onnx.is_file(), files.ir.is_file()
    is_for_openvino, use_onnx = run_mode in OPENVINO_MODES, run_mode == "onnxruntime"
    if has_ir and (is_for_openvino or not (graphs or has_onnx)):
        return _of_ir(files.ir, run_mode)
    if has_onnx and (use_onnx or is_for_openvino or not graphs):
        return _of_onnx(files.onnx, run_mode)
    needed = {ONNX: has_onnx} if use_onnx else {f"{IR} and {IR_WEIGHTS}": has_ir}
    if not (use_onnx or is_for_openvino):
        needed = {f"{GRAPH} or {PROGRAM}": bool(graphs), PARAMETERS: files.parameters.is_file()}
    needed[INFERENCE_YML] = files.inference_yml.is_file()
    missing = [name for name, is_there in needed.items() if not is_there]
    if missing and not _has_parts(folder) and (source := find_weights(folder)):
        raise _not_exported(folder, source, run_mode)
    if missing:
        raise PaddlexMLError(
            f"the folder of the static model lacks {', '.join(missing)}",
            where=str(folder.absolute()),
            fix="copy the whole folder, or export the model again: -o Global.mode=export"
            + _option(run_mode),
        )
    return ModelFiles(folder, graphs[0], files.parameters, files.inference_yml)


def _of_ir(graph: Path, run_mode: str | None) -> ModelFiles:
    folder, weights = graph.parent, graph.with_suffix(".bin")
    if run_mode not in (None, *OPENVINO_MODES):
        raise PaddlexMLError(
            f"the folder holds a model of OpenVINO, which the run mode {run_mode} cannot run",
            where=str(folder.absolute()),
            fix="choose the run mode openvino, or name the folder of another export",
        )
    missing = [path.name for path in (weights, folder / INFERENCE_YML) if not path.is_file()]
    if missing:
        raise PaddlexMLError(
            f"the folder of the static model lacks {', '.join(missing)}",
            where=str(folder.absolute()),
            fix="copy the whole folder, or export the model again: -o Global.mode=export "
            "-o Export.format=openvino",
        )
    return ModelFiles(folder, graph, weights, folder / INFERENCE_YML)


def _of_onnx(graph: Path, run_mode: str | None) -> ModelFiles:
    folder = graph.parent
    if run_mode not in (None, "onnxruntime", *OPENVINO_MODES):
        raise PaddlexMLError(
            f"the folder holds an ONNX model, which the run mode {run_mode} cannot run",
            where=str(folder.absolute()),
            fix="choose the run mode onnxruntime or openvino, or name the folder of an export by "
            "Paddle",
        )
    description = folder / INFERENCE_YML
    if not description.is_file() and inference_yml.read_onnx(graph) is None:
        raise PaddlexMLError(
            f"the folder of the static model lacks {INFERENCE_YML}",
            where=str(folder.absolute()),
            fix="copy the whole folder, or export the model again: -o Global.mode=export "
            "-o Export.format=onnx",
        )
    return ModelFiles(folder, graph, None, description)
