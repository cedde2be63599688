# SPDX-License-Identifier: Apache-2.0
"""The import of onnxruntime, which is to tell nobody of the models of a user."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

from paddlex_ml.cores import usable_cores

_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def load() -> Any:
    """Import onnxruntime. Raises ImportError where it is not installed or does not work.

    Since 1.32 it sends events to its maker, keeps an identifier of the machine in the home folder,
    and leaves a file in the temporary folder, unless this variable is set before the import. A
    value that the user has set stays.
    """
    os.environ.setdefault(_NO_TELEMETRY, "1")
    return importlib.import_module("onnxruntime")


def load_cuda(runtime: Any) -> None:
    """Load the libraries of CUDA and cuDNN that pip has installed, which it does not find itself.

    What is missing shows when a session is opened.
    """
    if preload := getattr(runtime, "preload_dlls", None):
        # It prints, into results that a program may read.
        with suppress(OSError, RuntimeError), redirect_stdout(io.StringIO()):
            preload()


def open_session(
    model: str | bytes, providers: Sequence[Any] = ("CPUExecutionProvider",), threads: int = 0
) -> Any:
    """A session for the path or the content of a model. Raises as onnxruntime does.

    threads: 0: all cores that this process may use. Numbers of 8 bits are multiplied without
    saturation: processors without VNNI add up two products in 16 bits, which may overflow, and
    scores would be other ones than on the machine of the export; onnxruntime then takes a slower,
    exact way.
    """
    runtime = load()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # nothing: its warnings need no action, its errors are raised
    options.add_session_config_entry("session.x64quantprecision", "1")
    return runtime.InferenceSession(model, options, providers=list(providers))
