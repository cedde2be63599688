# SPDX-License-Identifier: Apache-2.0
"""export_report.json: what an export in a lower precision costs. The fields are the keys.

It lies in the folder of the export. An evaluation of the folder logs it, and programs read it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from paddlex_ml.artifacts.run_folder import EXPORT_REPORT
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.measures import Interval
from paddlex_ml.storage import files, regular_file

FORMAT_VERSION = 1


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that does not compute in 8 bits, or of fp16 an operator in float32."""

    name: str
    kind: str
    """Operator of ONNX."""
    shape: list[int]
    """Of its weights."""
    level: str
    """`weights`: only the weights have 8 bits; `float`: nothing has."""
    effect: float
    """Mean square of the change of the logits where this layer alone is in 8 bits. Of fp16 twice
    the largest number that the operator gets or gives, which float16 may not hold."""


class ClassChange(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one class that are other ones than in float32."""

    name: str
    changed: int
    """Images."""
    threshold: float
    """At which both precisions decide."""
    tuned_threshold: float | None = None
    """The best one for the scores of this precision; None where none was looked for."""


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """A division of the layers that was tried."""

    int8: int
    weights: int
    fp32: int
    """Numbers of layers: in 8 bits, with only their weights in 8 bits, in float32."""
    changed_decisions: float
    map_loss: float
    bytes: int


class AloneReport(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of images one at a time against those of the same images in a batch."""

    images: int
    """Of val.txt, the first ones."""
    largest_difference: float
    """Of a score, 0..1."""
    changed_decisions: float
    """Share of their decisions that are other ones than in a batch."""


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """Content of export_report.json."""

    format_version: int = FORMAT_VERSION
    precision: str
    images: int
    """Of val.txt, on which both precisions were compared."""
    batch_size: int | None = None
    """Images at a time, of which all figures here are; None in reports of earlier versions."""
    alone: AloneReport | None = None
    """What is other for one image at a time; None where the batch is fixed."""
    val_digest: str
    calibration_images: int
    """Of train.txt, from which the ranges come; 0 for fp16."""
    bytes: int
    bytes_fp32: int
    """Sizes of the two files."""
    map: float
    map_fp32: float
    """Mean average precision of both; 0 where no class has a positive."""
    map_difference_ci95: Interval | None
    """95 % interval of map - map_fp32, over the images of val.txt."""
    mean_movement: float
    largest_movement: float
    """Of a score, 0..1."""
    changed_decisions: float
    """Share of all decisions, images x classes."""
    max_changed_decisions: float
    max_map_loss: float
    """The budgets."""
    layers: int
    """Layers with weights; of fp16 all operators, 0 where none was looked at (openvino)."""
    left: list[LayerReport]
    """Those of them that do not compute in this precision, the largest effect first."""
    per_class: list[ClassChange]
    trials: list[TrialReport]


def write(folder: Path, report: ExportReport) -> None:
    """Write the file. Raises OSError as the system does."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    files.write_bytes(folder / EXPORT_REPORT, text + b"\n")


def read(folder: Path) -> ExportReport | None:
    """The report in the folder of an export; None where there is none.

    Raises PaddlexMLError for a file that is none, or of another version.
    """
    path = folder / EXPORT_REPORT
    if not path.is_file():
        return None
    try:
        content = regular_file.read(path, regular_file.LARGEST_RESULT)
        report = regular_file.decode_json(content, ExportReport)
        if (version := report.format_version) != FORMAT_VERSION:
            raise ValueError(f"its format_version is {version}, {FORMAT_VERSION} is what is read")
    except (OSError, ValueError) as error:
        raise PaddlexMLError(
            f"the report of the export cannot be read: {error}",
            where=str(path),
            fix="export again, or rename this file: predictions do not need it",
        ) from error
    return report
