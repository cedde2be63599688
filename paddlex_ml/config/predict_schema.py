# SPDX-License-Identifier: Apache-2.0
"""Section `Predict` of the configuration; `schema.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from paddlex_ml.config import values
from paddlex_ml.config.value_types import Count, PathOrUrl, Threshold
from paddlex_ml.config.values import Checked, Range
from paddlex_ml.run_modes import RUN_MODES

LabelScores: TypeAlias = tuple[float, float] | Literal["soft"]


@dataclass(frozen=True, kw_only=True)
class KernelOptionConfig:
    """Section `Predict.kernel_option`."""

    run_mode: Annotated[str, Checked(values.one_of(RUN_MODES))] | None = None
    """How the static model runs: paddle (plain), mkldnn (oneDNN, faster on a CPU), mkldnn_bf16
    (less exact, faster still on recent CPUs), trt_fp32 or trt_fp16 (TensorRT, for GPUs and a Paddle
    that was built with it), onnxruntime (for an export with Export.format=onnx; starts sooner),
    openvino or openvino_bf16 (for one with openvino or onnx, on a CPU). null: mkldnn on a CPU where
    its result is exact, else paddle; onnxruntime or openvino for an export of their formats."""
    cpu_threads: Count | None = None
    """Threads of the engine on a CPU, at least 1. null: all cores."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Section `Predict`."""

    batch_size: Count = 1
    """Images per batch, at least 1. Raise it for many images."""
    model_dir: PathOrUrl | None = None
    """Folder of the static model, or URL of its tar archive. null:
    <output>/best_model/inference."""
    input: Annotated[Any, Checked(values.pictures, form="texts")] | None = None
    """What to predict on: an image, a URL, a folder, a pattern such as "images/*.jpg", a text file
    (.txt) with one of these per line, or a list of these. Mode predict needs it."""
    frames: Count | None = None
    """Of videos, GIFs and other files of several frames, predict every so many frames, at least 1:
    a result for each. null: the first frame of an image, and no videos."""
    threshold: Annotated[Threshold, Checked(values.threshold, form="yaml")] | None = None
    """Score from which a label counts as present, 0 to 1. Also a list with one number per class, or
    a mapping by class name or id: {default: 0.5, cat: 0.3}. A lower one finds more labels and more
    wrong ones. null: that of the model's inference.yml; exports have 0.5."""
    max_labels: Count | None = None
    """Most labels of an image, those with the highest scores, at least 1. null: no limit."""
    min_labels: Annotated[int, Range(low=0)] = 0
    """Fewest labels of an image, even below the threshold, at least 0."""
    relations: Path | None = None
    """A relations.yaml (docs/data.md), whose implications and exclusive classes the labels keep
    whatever the thresholds are. null: none."""
    return_all_scores: bool = False
    """true: the results hold the score of every class as well."""
    on_error: Literal["report", "raise"] = "report"
    """When an image cannot be read: report (predict the others, name it, end with exit code 2) or
    raise (stop there)."""
    strict: bool = False
    """true: files in a folder that are not answered, such as videos, end with exit code 2. false:
    they are named in the log and in the results."""
    save_path: Path | None = None
    """Folder for predictions.json, predictions.csv and the pictures. null: <output>/predict. Those
    of an earlier prediction are moved into its subfolder predictions.bak."""
    save_labels: Annotated[LabelScores, Checked(values.label_scores, form="yaml")] | None = None
    """Two scores, such as [0.1, 0.9]: also add the images, which lie in Global.dataset_dir, to its
    train.txt. Labels with a score from the second are present, below the first absent, between them
    unknown; the old list is kept as .bak. soft: add the scores themselves, for Train.soft_labels
    (docs/labels.md). null: do not."""
    save_img: bool = True
    """true: draw the labels into pictures. false doubles the speed on small photographs."""
    longest_side: Annotated[int, Range(low=640, high=16_000)] = 1600
    """Most pixels of a side of a drawn picture, 640 to 16000. Larger images are drawn smaller."""
    explain: bool = False
    """true: draw, for each label, which parts of the image the model used, into the folder explain
    beside the pictures, also when save_img is false. The network runs twice for it. docs/explain.md
    says what such maps do not mean."""
    kernel_option: KernelOptionConfig = field(default_factory=KernelOptionConfig)
