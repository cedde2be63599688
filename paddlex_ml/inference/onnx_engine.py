# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: inference.onnx -> a function from images to scores. Paddle is not needed for it."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import onnx_runtime, program
from paddlex_ml.artifacts.run_folder import GRAPH
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import fixed_batch
from paddlex_ml.inference.fixed_batch import Network
from paddlex_ml.inference.graph_shapes import GraphShapes

_log = logging.getLogger(__name__)

_AGAIN = "copy the file again, or export it: -o Global.mode=export -o Export.format=onnx"
_OUTSIDE = (
    "copy the file with the weights into the folder of the ONNX file, under the name that it was "
    "saved with; no links"
)
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def load(
    graph: Path,
    *,
    device: str,
    threads: int,
    probe: np.ndarray,
    check: Callable[[GraphShapes], None] = lambda shapes: None,
) -> tuple[Network, str, np.ndarray]:
    """Load the model and try it on `probe`, images float32 [B, 3, H, W].

    `threads` are those of a CPU; `check` is called before with what the file says of its shapes.
    Returns the network, the device that it runs on, and the scores of the probe. Raises
    PaddlexMLError where onnxruntime is missing, cannot use CUDA though `device` is a GPU, or cannot
    run the file, and whatever `check` raises.
    """
    runtime = _import_runtime()
    providers = _providers(runtime, device)
    try:
        session = onnx_runtime.open_session(str(graph), providers, threads)
        on_gpu = session.get_providers()[0] == _CUDA
        if not on_gpu and providers != [_CPU]:
            _tell_gpu_is_not_used(device)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        check(GraphShapes([node.shape for node in inputs], [node.shape for node in outputs]))
        run, scores = _try(session, outputs[0].name, probe)
    except PaddlexMLError:
        raise
    except Exception as error:  # its errors have no other class in common
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PaddlexMLError(
            f"onnxruntime cannot run the model: {lines[0][:200]}",
            where=str(graph),
            fix=_OUTSIDE if "External data" in lines[0] else _AGAIN,
        ) from error
    return run, f"gpu:{_number(device)}" if on_gpu else "cpu", scores


def load_attention(
    graph: Path, *, device: str, threads: int, probe: np.ndarray
) -> tuple[Network, np.ndarray] | None:
    """A network that gives the result of the graph's last softmax in place of the scores.

    Returns it with its result for `probe`, or None for a graph without a softmax. Raises
    PaddlexMLError where the package onnx is missing.
    """
    try:
        onnx: Any = importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise PaddlexMLError(
            "to see what an ONNX model looks at needs the package onnx, not installed here",
            where=f"explain, in the environment of {sys.executable}",
            fix=f"{program.pip_install('onnx')}, or name a folder with {GRAPH}, which Paddle runs",
        ) from error
    runtime = _import_runtime()
    model = onnx.load(graph)
    softmaxes = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    if not softmaxes:
        return None
    # Nodes are listed in an order in which they can be computed, so that the last is the head's. As
    # an output of the graph it is kept, whatever onnxruntime fuses.
    last = softmaxes[-1]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(last))  # of any type
    providers = _providers(runtime, device)
    session = onnx_runtime.open_session(model.SerializeToString(), providers, threads)
    return _try(session, last, probe)


def _try(session: Any, output: str, probe: np.ndarray) -> tuple[Network, np.ndarray]:
    """A function that gives this output, and its result for the probe."""
    images = session.get_inputs()[0]
    kind = np.float16 if images.type == "tensor(float16)" else np.float32

    def run_part(part: np.ndarray) -> np.ndarray:
        (result,) = session.run([output], {images.name: part.astype(kind, copy=False)})
        array: np.ndarray = result
        return array.astype(np.float32, copy=False)  # of a graph in half precision

    return fixed_batch.find(run_part, images.shape[0] if images.shape else None, probe)


def _import_runtime() -> Any:
    try:
        return onnx_runtime.load()
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise PaddlexMLError(
            "onnxruntime is not installed",
            where=f"the environment of {sys.executable}",
            fix=f"{program.pip_install('onnxruntime')} (for a GPU: onnxruntime-gpu), or name a "
            f"folder with {GRAPH}, which Paddle runs",
        ) from error


def _providers(runtime: Any, device: str) -> list[Any]:
    """The providers to compute with, the preferred one first."""
    available = runtime.get_available_providers()
    if device.startswith("cpu") or (device == "auto" and _CUDA not in available):
        return [_CPU]
    if _CUDA in available:
        onnx_runtime.load_cuda(runtime)
        # TensorFloat-32, its default, multiplies with 10 of the 23 bits of each factor.
        return [(_CUDA, {"device_id": _number(device), "use_tf32": 0}), _CPU]
    raise PaddlexMLError(
        f"{device} was asked for, but this onnxruntime is built only for the CPU",
        where="device",
        fix="choose the device cpu, or install onnxruntime-gpu in place of onnxruntime",
    )


def _tell_gpu_is_not_used(device: str) -> None:
    """Warn, or raise PaddlexMLError where a GPU was asked for: onnxruntime has taken the CPU."""
    reason = "onnxruntime cannot use the GPU: libraries of CUDA or cuDNN are missing, or no driver"
    install = program.pip_install("onnxruntime-gpu[cuda,cudnn]")
    if device != "auto":
        fix = f"{install}; see that nvidia-smi names the GPU; or choose the device cpu"
        raise PaddlexMLError(reason, where=f"device {device}", fix=fix)
    _log.warning("%s; the CPU computes. To use the GPU: %s", reason, install)


def _number(device: str) -> int:
    """Number of the first GPU that `auto`, `gpu` or `gpu:1,2` names."""
    return int((device.partition(":")[2] or "0").split(",")[0])
