# SPDX-License-Identifier: Apache-2.0
"""Paddle Inference: graph and weight files -> a function from images to scores.

On a CPU oneDNN more than halves the time, but Paddle 3.3 cannot run every graph with it
(PaddlePaddle/Paddle#77340). So both are tried on a few images before oneDNN is trusted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from paddle import inference

from paddlex_ml.environment import usable_cores
from paddlex_ml.errors import PaddlexMLError

RUN_MODES = ("paddle", "mkldnn")
TOLERANCE = 1e-4  # largest difference of scores between oneDNN and plain Paddle
_GPU_MEMORY = 256  # MB at the start; Paddle takes more as it needs it

_log = logging.getLogger(__name__)

# Images float32 [B, 3, H, W] -> scores float32 [B, C]
Network = Callable[[np.ndarray], np.ndarray]


def load(
    graph: Path, weights: Path, *, device: str, run_mode: str | None, probe: np.ndarray
) -> tuple[Network, str]:
    """Load the model for `device` and try it on `probe`, images float32 [B, 3, H, W].

    Returns the network and the run mode that it got: oneDNN is left, with a line in the log,
    where it fails or differs. Raises PaddlexMLError for files that Paddle cannot run.
    """
    plain, expected = _load_plain(graph, weights, device, probe)
    if run_mode == "paddle" or device != "cpu":
        return plain, "paddle"
    try:
        fast = _build(graph, weights, device, onednn=True)
        found = fast(probe)
    except Exception as error:  # Paddle's errors share no class but this one
        return _fall_back(plain, f"fails: {_first_line(error)}")
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    if not difference <= TOLERANCE:
        return _fall_back(plain, f"differs by {difference:.1e}")
    return fast, "mkldnn"


def _load_plain(
    graph: Path, weights: Path, device: str, probe: np.ndarray
) -> tuple[Network, np.ndarray]:
    try:
        network = _build(graph, weights, device, onednn=False)
        return network, network(probe)
    except Exception as error:  # Paddle's errors share no class but this one
        raise PaddlexMLError(
            f"Paddle cannot run the model: {_first_line(error)}",
            where=str(graph),
            fix="the files may be damaged or not belong together: copy them anew, or export the "
            "model again with -o Global.mode=export",
        ) from error


def _build(graph: Path, weights: Path, device: str, *, onednn: bool) -> Network:
    predictor = inference.create_predictor(_configure(graph, weights, device, onednn=onednn))
    images = predictor.get_input_handle(predictor.get_input_names()[0])
    scores = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(batch: np.ndarray) -> np.ndarray:
        images.copy_from_cpu(np.ascontiguousarray(batch, np.float32))
        predictor.run()
        result: np.ndarray = scores.copy_to_cpu()
        return result

    return run


def _configure(graph: Path, weights: Path, device: str, *, onednn: bool) -> Any:
    config = inference.Config(str(graph), str(weights))
    config.disable_glog_info()
    if device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(usable_cores())
    else:
        config.enable_use_gpu(_GPU_MEMORY, int(device.partition(":")[2] or 0))
    if onednn:
        config.enable_mkldnn()
    else:
        config.disable_mkldnn()
    return config


def _fall_back(plain: Network, reason: str) -> tuple[Network, str]:
    _log.warning("oneDNN %s; the model runs on plain Paddle, which is slower", reason)
    return plain, "paddle"


def _first_line(error: Exception) -> str:
    """What Paddle says in front of its hints and stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
