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


class UnansweredFile(msgspec.Struct, frozen=True):
    """A file in a folder that is no image, or in a format that is not read here."""

    input_path: str
    error: str
    """What it is."""


class SavedLabels(msgspec.Struct, frozen=True):
    """Lines that Predict.save_labels added to a list."""

    list: str
    images: int
    present: int
    """Labels with a score of at least the higher threshold, or a soft value from 0.5 on."""
    absent: int
    """Labels with a score below the lower threshold, or a soft value below 0.5."""
    unknown: int
    left_out: dict[str, int]
    """Reason -> images."""
    soft: int | UnsetType = UNSET
    """Labels with a value between 0 and 1; only with Predict.save_labels=soft."""


class PredictResult(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a prediction, and where its results are.

    Paths are relative to the output folder when they are inside it.
    """

    done_flag: bool
    """False when an image could not be read, or a file was not answered and Predict.strict is set;
    all others were predicted."""
    model_dir: str
    num_images: int
    num_failed: int
    failed: list[FailedImage]
    """The first of them."""
    num_not_answered: int = 0
    """Files beside the `num_images`."""
    not_answered: list[UnansweredFile] = []
    """The first of them."""
    save_path: str
    json: str
    csv: str
    explain: str | UnsetType = UNSET
    """Folder of the heatmaps; only with Predict.explain."""
    labels: SavedLabels | UnsetType = UNSET
    """Only with Predict.save_labels."""
    err_type: str | UnsetType = UNSET
    err_msg: str | UnsetType = UNSET
    """Only when `done_flag` is false."""
    run: RunIdentity | UnsetType = UNSET
    """The training that made the model; unset: not known."""
