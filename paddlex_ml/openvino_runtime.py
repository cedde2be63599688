# SPDX-License-Identifier: Apache-2.0
"""The import of OpenVINO, which is to tell nobody of the models of a user, and its networks."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from paddlex_ml import program
from paddlex_ml.cores import usable_cores
from paddlex_ml.errors import PaddlexMLError

_TELEMETRY = "openvino_telemetry"


def load(part: str = "") -> Any:
    """Import openvino, or a part of it. Raises ImportError where it is not there or does not work.

    Its import alone makes an identifier of the user in the home folder, and its converter sends
    events to its maker. Both are done by a package of its own, without which it works as well: so
    that package cannot be imported meanwhile.
    """
    name = f"openvino.{part}" if part else "openvino"
    if _TELEMETRY in sys.modules or name in sys.modules:
        return importlib.import_module(name)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_TELEMETRY]


def require(where: str) -> None:
    """Import OpenVINO for what `where` names. Raises PaddlexMLError where it is not installed."""
    try:
        load()
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        ours = program.pip_install("paddlex-ml[openvino]")
        raise PaddlexMLError(
            "OpenVINO is not installed",
            where=f"{where}, in the environment of {sys.executable}",
            fix=f"{ours}, or {program.pip_install('openvino')}",
        ) from error


def compile_model(model: Any, threads: int = 0, precision: str = "f32") -> Any:
    """A network of a model, for the CPU. Raises as OpenVINO does.

    threads: 0: all cores that this process may use. precision: `f32` or `bf16`. Its own choice
    would be bfloat16 on processors that have it, and scores would be other ones than on those
    that lack it. Layers in 8 bits stay in 8 bits.
    """
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time gets all threads
        "INFERENCE_NUM_THREADS": threads or usable_cores(),
        "ENABLE_CPU_PINNING": False,  # several processes would be bound to the same cores
    }
    return load().Core().compile_model(model, "CPU", options)
