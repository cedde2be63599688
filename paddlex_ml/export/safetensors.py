# SPDX-License-Identifier: Apache-2.0
"""Format `safetensors`: only the weights, as in .pdparams, and what the model is."""

from __future__ import annotations

from pathlib import Path

import paddle
from safetensors import numpy

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files


def save_safetensors(model: paddle.nn.Layer, info: ModelInfo, path: Path) -> None:
    """Write float32 weights to `path`, in place of an earlier export.

    Raises PaddlexMLError where a file of another origin has that name.
    """
    if path.exists() and checkpoint.read_embedded_model_info(path) is None:
        raise PaddlexMLError(
            "a file that was not exported by this tool has the name of the export",
            where=str(path),
            fix="rename it, or export a copy of the weights in another folder",
        )
    content = numpy.save(weights.to_arrays(model.state_dict()), checkpoint.describe(info))
    files.write_bytes(path, content)
