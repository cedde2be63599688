# SPDX-License-Identifier: Apache-2.0
"""Multi-label image classification on PaddlePaddle: from a YAML file to predictions.

Importing this package does not import Paddle, which takes seconds: `create_model` imports it for a
model that Paddle runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from paddlex_ml.errors import PaddlexMLError

if TYPE_CHECKING:
    from paddlex_ml.inference.predictor import Predictor
    from paddlex_ml.metrics.per_class_threshold import Threshold

__all__ = ["PaddlexMLError", "__version__", "create_model"]
__version__ = "0.1.0"


def create_model(
    model_name: str,
    model_dir: str | bytes | os.PathLike[str] | None = None,
    *,
    threshold: Threshold | None = None,
    device: str | None = None,
    run_mode: str | None = None,
    cpu_threads: int | None = None,
    batch_size: int = 1,
    **paddlex: Any,
) -> Predictor:
    """Load a static model; its `predict` gives the labels of images.

    model_dir: its folder, or the folder of the training that made it, or the path of an ONNX or
        OpenVINO (.xml) file.
        None: the model of this name that PaddlePaddle published, fetched once into the user's
        cache. With a folder nothing is ever fetched.
    threshold: score from which a label counts, 0..1; a list with one number per class; or a
        mapping with "default" and class ids or names. None: the model's own, 0.5 as exported.
    device: "cpu", "gpu" or "gpu:1". None or "auto": a GPU where Paddle sees one.
    run_mode: "paddle"; "mkldnn" (oneDNN) or "mkldnn_bf16" on a CPU; "trt_fp32" or "trt_fp16"
        (TensorRT) on a GPU; "onnxruntime" for an ONNX export, "openvino" or "openvino_bf16" for
        one of OpenVINO or ONNX on a CPU, all of which do not import Paddle. None: oneDNN on a CPU
        where its scores are exact, else plain Paddle; onnxruntime or openvino for a folder that
        holds only their files.
    cpu_threads: of the engine on a CPU. None: all cores that this process may use.
    batch_size: of calls of `predict` that give none.
    paddlex: `use_hpip`, `hpi_config`, `pp_option` and `genai_config`, which PaddleX takes, have no
        meaning here: a line in the log tells of each that is set.

    Raises PaddlexMLError for a folder that holds no valid model, or a model of another name, and
    for a model that cannot be fetched.
    """
    # Imported here, because commands that predict nothing import the package too.
    from paddlex_ml.inference import predictor

    return predictor.create(
        model_name,
        model_dir,
        threshold=threshold,
        device=device,
        run_mode=run_mode,
        cpu_threads=cpu_threads,
        batch_size=batch_size,
        paddlex=paddlex,
    )
