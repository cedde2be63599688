# SPDX-License-Identifier: Apache-2.0
"""Format `onnx`, by paddle2onnx and the static graph of Paddle 3.

<folder>/inference.onnx   "x" [batch, 3, S, S] float32 -> "scores" [batch, C], sigmoid inside; its
                          metadata says what the model is, so that this file alone is enough
<folder>/inference.yml    the same, as the other formats have it
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml import machine_memory, onnx_runtime, paddle_runtime, program, systems
from paddlex_ml.artifacts import earlier_export, inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import ExportedFiles
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx_graph, parity, static
from paddlex_ml.export.parity import Graph
from paddlex_ml.progress import named
from paddlex_ml.storage import files

_PACKAGES = ("paddle2onnx", "onnx", "onnxruntime")
_NO_WHEEL = (3, 13)
"""The first Python for which paddle2onnx 2.1 has no package."""
_OTHER_PYTHON = "python3.12 -m venv onnx && onnx/bin/python"
if systems.IS_WINDOWS:
    _OTHER_PYTHON = "py -3.12 -m venv onnx; onnx/Scripts/python"
_BATCH_SIZES = (1, 2)  # compared: show whether a size was frozen into the graph
_USUAL = 17  # opset that is the default of the configuration
_BYTES = 16  # of memory for each number of a batch, at the very least: a float, some times over
_NO_MEMORY = re.compile("allocate memory|bad_alloc", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_REASON = re.compile(r"\[Paddle2ONNX\](?! Start parsing| Use opset)|Failed to convert")
_TAGS = re.compile(r"^.*\[[A-Za-z0-9]+\]\s*")


def require(form: str = "onnx") -> None:
    """Raise PaddlexMLError that names the packages which are missing for ONNX.

    form: the format that is asked for: openvino is made from an ONNX graph.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if "paddle2onnx" in missing and sys.version_info >= _NO_WHEEL:
        raise PaddlexMLError(
            "an export to ONNX needs paddle2onnx, which has no package for this Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}",
            where=f"Export.format={form}",
            fix="export in an environment of Python 3.10 to 3.12, on this or another machine: "
            f"{_OTHER_PYTHON} -m pip install {program.own_package('cpu,onnx')}; "
            "all else works here, also predictions with an ONNX file, and the other formats",
        )
    if missing:
        raise PaddlexMLError(
            f"an export to ONNX needs {', '.join(missing)}, not installed here",
            where=f"Export.format={form}",
            fix=program.pip_install("paddlex-ml[onnx]")
            + ", or "
            + program.pip_install("paddle2onnx>=2.1,<2.2", "onnxruntime>=1.18"),
        )


@named("converting the model to ONNX, and comparing its scores")
def save_onnx(
    model: paddle.nn.Layer,
    info: ModelInfo,
    folder: Path,
    opset: int,
    batch_size: int | None = None,
    rework: Callable[[Path], None] | None = None,
) -> float:
    """Write the ONNX model into `folder`, in place of an earlier export; ends in eval mode.

    batch_size: of all batches that the file will take; None: they may have any. rework: gets the
    file when it has been compared, and may put another graph in its place, and files beside it.

    Returns the largest difference between the scores of model and onnxruntime on random images,
    both on the CPU. Raises PaddlexMLError where paddle2onnx fails, and where the memory is not
    enough to try a batch of `batch_size`.
    """
    require()
    needed = (batch_size or 1) * 3 * info.image_size**2 * _BYTES
    if needed > machine_memory.available():
        raise _lacks_memory(batch_size)
    model.eval()
    with earlier_export.replacing(folder) as fresh:
        graph, target = ExportedFiles(fresh / "graph"), ExportedFiles(fresh).onnx
        graph.folder.mkdir()
        static.write_graph(model, info.image_size, graph.folder)
        # Before the conversion: Paddle raises nothing when the disk is full, this write does.
        inference_yml.write(fresh, info)
        _convert(graph, target, opset)
        with files.where_possible("empty folders stay"):
            shutil.rmtree(graph.folder)
        _finish(target, info, batch_size)
        try:
            sizes = sizes_to_try(batch_size)
            difference = parity.measure(model, open_graph(target), info.image_size, sizes)
        except Exception as error:  # onnxruntime has a class of its own
            if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
                raise
            raise _lacks_memory(batch_size) from error
        if rework is not None:
            rework(target)
        return difference


def sizes_to_try(batch_size: int | None) -> tuple[int, ...]:
    """Of the batches in which a graph for batches of this size, or any, is compared."""
    return _BATCH_SIZES if batch_size is None else (batch_size,)


def _lacks_memory(batch_size: int | None) -> PaddlexMLError:
    return PaddlexMLError(
        "the memory is not enough to run the exported model with a batch of this size",
        where=f"Export.batch_size={'null' if batch_size is None else batch_size}",
        fix="end other programs that use much memory"
        if batch_size in (None, 1)
        else "-o Export.batch_size=1",
    )


def _convert(graph: ExportedFiles, target: Path, opset: int) -> None:
    # A program of its own: where it fails it may abort the process, and it prints from C++.
    arguments = [
        *("--model_dir", paddle_runtime.reach(graph.folder), "--model_filename", graph.graph.name),
        *("--params_filename", graph.parameters.name, "--save_file", target),
        *("--opset_version", opset, "--enable_auto_update_opset", False),
        *("--optimize_tool", None),  # the usual one installs packages by itself
    ]
    with paddle_runtime.home_for_paddle():
        done = subprocess.run(  # noqa: S603  paths that this program has chosen, and no shell
            [sys.executable, "-m", "paddle2onnx.command", *map(str, arguments)],
            cwd=graph.folder,  # where no file of the user is imported as a module
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode == 0 and target.is_file():
        return
    if os.strerror(errno.ENOSPC) in done.stdout:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent))
    lines = [line.strip() for line in _COLOUR.sub("", done.stdout).splitlines() if line.strip()]
    # The reason, without the progress before it and the stack after it.
    reasons = [_TAGS.sub("", line) for line in lines if _REASON.search(line)]
    reason = " ".join(filter(None, reasons)) or (lines[-1] if lines else "it printed nothing")
    raise PaddlexMLError(
        f"paddle2onnx cannot convert the model: {reason}",
        where=f"Export.format=onnx, Export.opset={opset}",
        fix="-o Export.format=paddle" if opset == _USUAL else f"-o Export.opset={_USUAL}",
    )


def _finish(path: Path, info: ModelInfo, batch_size: int | None) -> None:
    """Name the output "scores", simplify the graph, and add `info` as metadata."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(path)
    (output,) = model.graph.output
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["scores" if name == output.name else name for name in names]
    output.name = "scores"
    del model.graph.value_info[:]  # paddle2onnx gives the open axis another name in each
    write(path, onnx_graph.simplify(model, batch_size), info)


def write(path: Path, model: Any, info: ModelInfo) -> None:
    """Check the model, add `info` as metadata, and write the file."""
    onnx: Any = importlib.import_module("onnx")
    model.producer_name = "paddlex-ml"
    onnx.helper.set_model_props(model, inference_yml.describe(info))
    onnx.checker.check_model(model, full_check=True)
    files.write_bytes(path, model.SerializeToString())


def sort_nodes(model: Any) -> Any:
    """The model with each node behind those whose results it takes, as ONNX wants them."""
    tools: Any = importlib.import_module("onnxruntime.quantization.onnx_model")
    tools.ONNXModel(model).topological_sort()
    return model


def open_graph(model: Path | bytes | Any) -> Graph:
    """A model, by its file, its content or in memory, as onnxruntime runs it on the CPU."""
    given = str(model) if isinstance(model, Path) else model
    session = onnx_runtime.open_session(
        given if isinstance(given, str | bytes) else given.SerializeToString()
    )

    def run(images: np.ndarray) -> np.ndarray:
        (scores,) = session.run(["scores"], {"x": images})
        result: np.ndarray = scores
        return result

    return run
