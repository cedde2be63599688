# SPDX-License-Identifier: Apache-2.0
"""Format `openvino`: the IR of OpenVINO, made from the ONNX graph of `export.onnx`.

<folder>/inference.xml    the graph: "x" [batch, 3, S, S] float32 -> "scores" [batch, C], sigmoid
                          inside; `rt_info` has the texts that an ONNX file has as metadata
<folder>/inference.bin    its weights, in half precision where the export has it
<folder>/inference.yml    what the model is
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml import openvino_runtime
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import IR
from paddlex_ml.export import onnx, parity
from paddlex_ml.export.parity import Graph


def save_openvino(
    model: paddle.nn.Layer,
    info: ModelInfo,
    folder: Path,
    opset: int,
    batch_size: int | None = None,
    rework: Callable[[Path], None] | None = None,
) -> float:
    """Write the model of OpenVINO into `folder`, in place of an earlier export; ends in eval mode.

    opset, batch_size: of the ONNX graph that it is made from; None: batches may have any size.
    rework: gets the .xml when it has been compared, and may put another graph in its place.

    Returns the largest difference between the scores of model and OpenVINO on random images, both
    on the CPU in float32. Raises PaddlexMLError as `onnx.save_onnx` does, and without OpenVINO.
    """
    openvino_runtime.require("Export.format=openvino")
    differences = list[float]()

    def convert(path: Path) -> None:
        target = path.with_name(IR)
        write(target, import_onnx(path.read_bytes()))
        path.unlink()
        graph, sizes = open_graph(target), onnx.sizes_to_try(batch_size)
        differences.append(parity.measure(model, graph, info.image_size, sizes))
        if rework is not None:
            rework(target)

    onnx.save_onnx(model, info, folder, opset, batch_size, convert)
    return differences[0]


def import_onnx(content: bytes) -> Any:
    """The model of an ONNX file, with everything computed that no image changes."""
    openvino, passes = openvino_runtime.load(), openvino_runtime.load("passes")
    model = openvino.Core().read_model(content)
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())  # the importer computes shapes of biases
    manager.run_passes(model)
    return model


def write(path: Path, model: Any) -> None:
    """Write the model as `path`, an .xml, and the .bin beside it. Raises OSError on a full disk."""
    try:
        openvino_runtime.load().save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError:
        if not shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent)) from None
        raise


def halve(path: Path) -> Any:
    """The model of an .xml with its weights in float16; they become float32 again to compute.

    Weights with numbers that float16 does not have, above 65504, stay as they are.
    """
    operators, model = openvino_runtime.load("opset13"), load(path)
    largest = float(np.finfo(np.float16).max)
    for each in model.get_ordered_ops():
        if each.get_type_name() != "Constant" or each.get_element_type().to_dtype() != np.float32:
            continue
        values = each.data
        if values.size > 1 and float(np.abs(values).max()) <= largest:
            users = each.output(0).get_target_inputs()
            short = operators.constant(values.astype(np.float16))
            source = operators.convert(short, "f32").output(0)
            for user in users:
                user.replace_source_output(source)
    return model


def load(path: Path) -> Any:
    """The model of an .xml, which keeps nothing of the files open."""
    content = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return openvino_runtime.load().Core().read_model(*content)


def measure_size(model: Any) -> int:
    """Bytes of the two files that `write` makes of the model."""
    with tempfile.TemporaryDirectory() as folder:
        write(path := Path(folder, IR), model)
        return size_of(path)


def size_of(path: Path) -> int:
    """Bytes of an .xml and its .bin."""
    return path.stat().st_size + path.with_suffix(".bin").stat().st_size


def open_graph(model: Path | Any) -> Graph:
    """A model, by its .xml or in memory, as OpenVINO runs it on the CPU."""
    given = load(model) if isinstance(model, Path) else model
    request = openvino_runtime.compile_model(given).create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        result: np.ndarray = request.infer({0: np.ascontiguousarray(images)})[0]
        return np.array(result)  # a copy: the next batch overwrites it

    return run
