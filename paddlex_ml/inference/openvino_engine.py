# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: inference.xml, or inference.onnx -> a function from images to scores, on the CPU.

Paddle is not needed for it. Graphs have been read by `openvino_nodes` or `onnx_nodes` before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import openvino_runtime
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import fixed_batch
from paddlex_ml.inference.fixed_batch import Network
from paddlex_ml.inference.graph_shapes import GraphShapes

_log = logging.getLogger(__name__)


def load(
    graph: Path,
    *,
    device: str,
    run_mode: str,
    threads: int,
    probe: np.ndarray,
    check: Callable[[GraphShapes], None] = lambda shapes: None,
) -> tuple[Network, np.ndarray]:
    """Load the model and try it on `probe`, images float32 [B, 3, H, W].

    run_mode: `openvino`, in float32 (layers in 8 bits stay so), or `openvino_bf16`. `check` is
    called before with what the graph says of its shapes. Returns the network, and the scores of
    the probe. Raises PaddlexMLError where OpenVINO cannot run the file, where `device` is a GPU,
    and whatever `check` raises.
    """
    if not device.startswith(("auto", "cpu")):
        raise PaddlexMLError(
            f"OpenVINO computes on the CPU here, the device is {device}",
            where="device",
            fix="choose the device cpu, or export with Export.format=onnx and use onnxruntime-gpu",
        )
    precision = "bf16" if run_mode == "openvino_bf16" else "f32"
    try:
        model = openvino_runtime.load().Core().read_model(graph)
        check(GraphShapes(*([_sides(p) for p in ports] for ports in (model.inputs, model.outputs))))
        compiled = openvino_runtime.compile_model(model, threads, precision)
        network, scores = _try(compiled, probe)
    except PaddlexMLError:
        raise
    except Exception as error:  # its errors are RuntimeError and others
        raise PaddlexMLError(
            f"OpenVINO cannot run the model: {_last_line(error)}",
            where=str(graph),
            fix="copy both files again, inference.xml and inference.bin, or export them: "
            "-o Global.mode=export -o Export.format=openvino",
        ) from error
    if precision == "bf16" and _has_no_bf16(compiled):
        _log.warning(
            "this processor has no instructions for bfloat16: the model computes in float32, as in "
            "the run mode openvino"
        )
    return network, scores


def load_attention(
    graph: Path, *, run_mode: str, threads: int, probe: np.ndarray
) -> tuple[Network, np.ndarray] | None:
    """A network that gives the result of the graph's last softmax in place of the scores.

    Returns it with its result for `probe`, or None for a graph without a softmax.
    """
    runtime = openvino_runtime.load()
    model = runtime.Core().read_model(graph)
    softmaxes = [each for each in model.get_ordered_ops() if each.get_type_name() == "Softmax"]
    if not softmaxes:
        return None
    alone = runtime.Model([softmaxes[-1].output(0)], model.get_parameters())
    precision = "bf16" if run_mode == "openvino_bf16" else "f32"
    return _try(openvino_runtime.compile_model(alone, threads, precision), probe)


def _try(compiled: Any, probe: np.ndarray) -> tuple[Network, np.ndarray]:
    request, images = compiled.create_infer_request(), compiled.inputs[0]
    kind = images.get_element_type().to_dtype()  # float16 of a graph in half precision

    def run_part(part: np.ndarray) -> np.ndarray:
        given = np.ascontiguousarray(part, kind)
        result: np.ndarray = request.infer({0: given}, share_inputs=True)[0]
        return result.astype(np.float32)  # a copy: the next batch overwrites the result

    return fixed_batch.find(run_part, next(iter(_sides(images)), None), probe)


def _sides(port: Any) -> list[int]:
    """The shape of an input or output; -1 for a side that may vary, none where nothing is said."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [side.get_length() if side.is_static else -1 for side in shape]


def _has_no_bf16(compiled: Any) -> bool:
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()) != "bf16"


def _last_line(error: Exception) -> str:
    """The reason, behind the places in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
