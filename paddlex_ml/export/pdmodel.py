# SPDX-License-Identifier: Apache-2.0
"""Format `pdmodel`: the program format of Paddle 2, which Paddle 3 reads as well.

<folder>/inference.pdmodel     the program: "x" [B, 3, S, S] float32 -> scores [B, C]
<folder>/inference.pdiparams   its weights
<folder>/inference.yml         what the model is

Paddle 3.3 can still write it, except for a few functions that accept only variables of the new
format. Here they are replaced by the operators of the old format.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference
from paddle.base.layer_helper import LayerHelper

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import earlier_export, inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import PARAMETERS, ExportedFiles
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import parity, static
from paddlex_ml.export.parity import Graph
from paddlex_ml.progress import named


@named("exporting the model, and comparing its scores")
def save_pdmodel(model: paddle.nn.Layer, info: ModelInfo, folder: Path) -> float:
    """Write program and weights into `folder`, in place of an earlier export; ends in eval mode.

    Returns the largest difference between the scores of model and program on random images, both
    on the CPU. Raises PaddlexMLError for a model that this format cannot hold.
    """
    model.eval()
    with earlier_export.replacing(folder) as fresh:
        exported = ExportedFiles(fresh)
        try:
            with _old_programs():
                static.write_graph(model, info.image_size, fresh)
        except TypeError as error:
            *_, reason = filter(str.strip, str(error).splitlines())
            if "got Variable" not in reason:
                raise
            raise PaddlexMLError(
                "the model uses a function that this Paddle cannot write into the "
                f"older format: {reason.strip()}",
                where="Export.format=pdmodel",
                fix="-o Export.format=paddle, or onnx",
            ) from error
        # Before anything is removed: Paddle raises nothing when the disk is full, this write does.
        inference_yml.write(fresh, info)
        (fresh / f"{PARAMETERS}.info").unlink()  # only for further training
        return parity.measure(model, _open(exported), info.image_size)


@contextmanager
def _old_programs() -> Iterator[None]:
    """Let Paddle trace models into programs of its older format."""
    # Not `paddle.tensor`: a function has the same name.
    tensor, functional = importlib.import_module("paddle.tensor"), paddle.nn.functional
    replaced = [
        (paddle, "matmul", _matmul),
        (tensor, "matmul", _matmul),
        (functional, "sigmoid", lambda x: _append("sigmoid", {"X": x})),
        (
            functional,
            "gelu",
            lambda x, approximate=False: _append("gelu", {"X": x}, approximate=approximate),
        ),
    ]
    kept = [getattr(module, name) for module, name, _ in replaced]
    with paddle.pir_utils.DygraphOldIrGuard():
        try:
            for module, name, old in replaced:
                setattr(module, name, old)
            yield
        finally:
            for (module, name, _), function in zip(replaced, kept, strict=True):
                setattr(module, name, function)


def _matmul(x: Any, y: Any, transpose_x: bool = False, transpose_y: bool = False) -> Any:
    return _append("matmul_v2", {"X": x, "Y": y}, trans_x=transpose_x, trans_y=transpose_y)


def _append(operator: str, inputs: dict[str, Any], **attributes: bool) -> Any:
    """Add one operator to the program that is being traced; returns the variable of its result."""
    helper = LayerHelper(operator)
    result = helper.create_variable_for_type_inference(inputs["X"].dtype)
    helper.append_op(type=operator, inputs=inputs, outputs={"Out": result}, attrs=attributes)
    return result


def _open(exported: ExportedFiles) -> Graph:
    """The program as deployments run it, on the CPU."""
    with paddle_runtime.near(exported.folder) as place:
        files = ExportedFiles(place)
        config = inference.Config(str(files.program), str(files.parameters))
        config.disable_glog_info()
        config.disable_gpu()
        config.disable_mkldnn()
        predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    scores = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(images: np.ndarray) -> np.ndarray:
        source.copy_from_cpu(images)
        predictor.run()
        result: np.ndarray = scores.copy_to_cpu()
        return result

    return run
