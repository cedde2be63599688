# SPDX-License-Identifier: Apache-2.0
"""Paddle Inference: graph and weight files -> a function from images to scores.

On a CPU oneDNN is three times as fast, but Paddle 3.3 cannot run every graph with it
(PaddlePaddle/Paddle#77340), and TensorRT needs a Paddle that was built with it. So every mode is
compared with plain Paddle on a few images before it is used. That oneDNN passed is remembered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference

from paddlex_ml import paddle_runtime
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import verified_engines
from paddlex_ml.storage import cache, files

TOLERANCE = {"mkldnn": 1e-4, "trt_fp32": 1e-3, "trt_fp16": 0.1, "mkldnn_bf16": 0.1}
"""Largest difference of a score from plain Paddle's. TensorRT may multiply in TF32; the last two
round on purpose, and beyond that they are broken."""
_GPU_MEMORY = 256  # MB at the start; Paddle takes more as it needs it
_TRT_BATCH = 32  # images; larger batches are divided
_TRT_MEMORY = 2**30  # bytes that TensorRT may use while it chooses its kernels

_log = logging.getLogger(__name__)

# Images float32 [B, 3, H, W] -> scores float32 [B, C], or the attention float32 [B, heads, Q, T]
Network = Callable[[np.ndarray], np.ndarray]


def load(
    graph: Path,
    weights: Path,
    *,
    device: str,
    run_mode: str | None,
    threads: int,
    probe: np.ndarray,
) -> tuple[Network, str, np.ndarray]:
    """Load the model for `device` and try it on `probe`, images float32 [B, 3, H, W].

    run_mode None is oneDNN on a CPU, plain Paddle elsewhere; `threads` are those of a CPU. Returns
    the network, the run mode that it has, and the scores of the probe. A mode that fails or differs
    is replaced by plain Paddle, with a line in the log. Raises PaddlexMLError for files that Paddle
    cannot run.
    """

    def build(mode: str) -> Network:
        with paddle_runtime.near(graph.parent):
            return _build(_configure(graph, weights, device, mode, threads, probe), mode)

    mode = run_mode or ("mkldnn" if device == "cpu" else "paddle")
    record = None
    if mode == "mkldnn":
        version = paddle.version.full_version
        record = verified_engines.find(graph, weights, mode, version, str(threads))
        if verified_engines.is_there(record):
            with suppress(Exception):  # Paddle's errors have no other class in common
                network = build(mode)
                return network, mode, network(probe[:1])
    plain, expected = _load_plain(build, graph, probe)
    if mode == "paddle":
        return plain, "paddle", expected
    try:
        network = build(mode)
        scores = network(probe)
        same_shape = scores.shape == expected.shape
        difference = float(np.abs(scores - expected).max()) if same_shape else np.inf
        fault = None if difference <= TOLERANCE[mode] else f"differs by {difference:.1e}"
    except Exception as error:  # Paddle's errors have no other class in common
        fault = f"fails: {_first_line(error)}"
    if fault is not None:
        _log.warning("%s %s; the model runs on plain Paddle, which is slower", mode, fault)
        return plain, "paddle", expected
    if record is not None:
        with suppress(OSError):  # the next load compares again
            cache.make(record.parent)
            files.write_bytes(record, b"")
    return network, mode, scores


def load_one_dnn(graph: Path, weights: Path, *, threads: int, probe: np.ndarray) -> Network:
    """The network with oneDNN on the CPU, which nobody has compared with plain Paddle yet.

    probe: as for `load`. Raises what Paddle raises.
    """
    with paddle_runtime.near(graph.parent):
        return _build(_configure(graph, weights, "cpu", "mkldnn", threads, probe), "mkldnn")


def load_attention(
    graph: Path, weights: Path, *, device: str, mode: str, threads: int, probe: np.ndarray
) -> tuple[Network, np.ndarray] | None:
    """A network that gives the result of the graph's last softmax in place of the scores.

    It runs with oneDNN where `mode` is mkldnn and that can be done, else on plain Paddle. Returns
    it with its result for `probe`, or None for a graph without a softmax.
    """
    with paddle_runtime.near(graph.parent):
        if mode == "mkldnn":
            with suppress(Exception):  # Paddle's errors have no other class in common
                config = _configure(graph, weights, device, mode, threads, probe)
                if (watched := _watch(config, probe)) is not None:
                    return watched
        config = _configure(graph, weights, device, "paddle", threads, probe)
        config.switch_ir_optim(False)  # which might fuse the softmax with its neighbours
        return _watch(config, probe)


def _watch(config: Any, probe: np.ndarray) -> tuple[Network, np.ndarray] | None:
    """A network that keeps the result of its last softmax operator, by a hook on all operators."""
    predictor = inference.create_predictor(config)
    images = predictor.get_input_handle(predictor.get_input_names()[0])
    last, is_known = "", False
    kept: list[np.ndarray] = []

    def keep(operator: str, variable: str, tensor: paddle.Tensor) -> None:
        nonlocal last
        if "softmax" not in operator:
            return
        if not is_known:
            last = variable
        elif variable == last:  # a copy: Paddle reuses the memory of finished results
            kept[:] = [tensor.numpy()]

    def run(batch: np.ndarray) -> np.ndarray:
        images.copy_from_cpu(np.ascontiguousarray(batch, np.float32))
        predictor.run()
        return kept[0]

    predictor.register_output_hook(keep)
    images.copy_from_cpu(probe)
    predictor.run()  # operators run in the order of the graph: this finds the last softmax
    if not last:
        return None
    is_known = True
    return run, run(probe)


def _load_plain(
    build: Callable[[str], Network], graph: Path, probe: np.ndarray
) -> tuple[Network, np.ndarray]:
    try:
        network = build("paddle")
        return network, network(probe)
    except Exception as error:  # Paddle's errors have no other class in common
        raise PaddlexMLError(
            f"Paddle cannot run the model: {_first_line(error)}",
            where=str(graph),
            fix="the files may be damaged or not belong together: copy them again, or export the "
            "model again with -o Global.mode=export",
        ) from error


def _build(config: Any, mode: str) -> Network:
    predictor = inference.create_predictor(config)
    images = predictor.get_input_handle(predictor.get_input_names()[0])
    scores = predictor.get_output_handle(predictor.get_output_names()[0])

    loaded_by = os.getpid()
    largest = _TRT_BATCH if mode.startswith("trt") else None

    def run(batch: np.ndarray) -> np.ndarray:
        results = []
        for start in range(0, len(batch), largest or len(batch)):
            part = batch[start : start + largest] if largest else batch
            images.copy_from_cpu(np.ascontiguousarray(part, np.float32))
            try:
                predictor.run()
            except Exception as error:
                if os.getpid() == loaded_by:
                    raise
                raise PaddlexMLError(
                    "Paddle cannot run a model in a process that was forked after it was loaded",
                    where=f"process {os.getpid()}",
                    fix="load the model in each process: call create_model after the fork, or "
                    'start processes with multiprocessing.get_context("spawn")',
                ) from error
            results.append(scores.copy_to_cpu())
        return np.concatenate(results) if len(results) > 1 else results[0]

    return run


def _configure(
    graph: Path, weights: Path, device: str, mode: str, threads: int, probe: np.ndarray
) -> Any:
    place = paddle_runtime.reach(graph.parent)
    config = inference.Config(str(place / graph.name), str(place / weights.name))
    config.disable_glog_info()
    if device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads)
    else:
        config.enable_use_gpu(_GPU_MEMORY, int(device.partition(":")[2] or 0))
    if mode.startswith("mkldnn"):
        config.enable_mkldnn()
    else:
        config.disable_mkldnn()
    if mode == "mkldnn_bf16":
        config.enable_mkldnn_bfloat16()
    if mode.startswith("trt"):
        precision = inference.PrecisionType
        config.enable_tensorrt_engine(
            workspace_size=_TRT_MEMORY,
            max_batch_size=_TRT_BATCH,
            min_subgraph_size=3,
            precision_mode=precision.Half if mode == "trt_fp16" else precision.Float32,
            use_static=False,  # nothing is written beside the model
            use_calib_mode=False,
        )
        smallest, largest = {"x": [1, *probe.shape[1:]]}, {"x": [_TRT_BATCH, *probe.shape[1:]]}
        config.set_trt_dynamic_shape_info(smallest, largest, smallest)
    return config


def _first_line(error: Exception) -> str:
    """Paddle's message without its hints and stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
