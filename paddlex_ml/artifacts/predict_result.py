# SPDX-License-Identifier: Apache-2.0
"""predict_result.json: the fields are the keys of the file, in their order."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from paddlex_ml.artifacts.run_record import RunIdentity


class FailedImage(msgspec.Struct, frozen=True):
    """An image that could not be read."""

    input_path: str | None
    """None for an image that was given in memory."""
    error: str


class PredictResult(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a prediction, and where its results are.

    Paths are relative to the output folder when they are inside it.
    """

    done_flag: bool
    """False when an image could not be read; all others were predicted."""
    model_dir: str
    num_images: int
    num_failed: int
    failed: list[FailedImage]
    """The first of them."""
    save_path: str
    json: str
    csv: str
    explain: str | UnsetType = UNSET
    """Folder of the heatmaps; only with Predict.explain."""
    err_type: str | UnsetType = UNSET
    err_msg: str | UnsetType = UNSET
    """Only when an image could not be read."""
    run: RunIdentity | UnsetType = UNSET
    """The training that made the model; unset: not known."""
