# SPDX-License-Identifier: Apache-2.0
"""The configuration: one frozen dataclass per YAML section, one field per key, the same spelling.

    Train: {batch_size: 32}  =  -o Train.batch_size=32  =  config.Train.batch_size

Annotations carry the limits (`values.py`), `rules.py` holds what ties several keys together, and
the comments in the shipped YAML files tell a user when to change a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from paddlex_ml.config import shipped, values
from paddlex_ml.config.values import Checked, Range

MODES = ("check_dataset", "train", "evaluate", "export", "predict")
TOKEN_MODELS = ("CLIP_vit_base_patch16_448_ML",)
"""Models whose head may see one token of the image or all of them."""

SOURCES = ("COCO", "VOC", "LabelMe", "YOLO", "CSV", "ImageFolder", "JSONL")
"""Formats that check_dataset converts from."""

IGNORED = ("Global.export_with_pir", "Train.dy2st")
"""Keys of PaddleX that its users set and that have no meaning here: accepted with a note."""

RUN_MODES = ("paddle", "mkldnn", "mkldnn_bf16", "trt_fp32", "trt_fp16", "onnxruntime")

OPSET = 17
"""The first one with an operator for layer norm, which older ones spell in ten."""

TUNE_TARGET = 0.9
"""A precision or recall that most uses can live with; means nothing for F1."""

Count: TypeAlias = Annotated[int, Range(low=1)]
Share: TypeAlias = Annotated[float, Range(low=0, high=1)]
Seed: TypeAlias = Annotated[int, Range(low=0, high=2**32 - 1)]  # the largest that numpy takes
Percent: TypeAlias = Annotated[int, Range(low=0, high=100)]
Text: TypeAlias = Annotated[str, Checked(values.text)]
Place: TypeAlias = Annotated[str, Checked(values.place)]
PosWeight: TypeAlias = list[float] | Literal["auto"]
Threshold: TypeAlias = float | list[float] | dict[str | int, float]


@dataclass(frozen=True, kw_only=True)
class GlobalConfig:
    """Section `Global`: which model, which job, where."""

    model: Annotated[str, Checked(values.one_of(shipped.MODELS), typical="PP-LCNet_x1_0_ML")]
    mode: Literal["check_dataset", "train", "evaluate", "export", "predict"]
    dataset_dir: Path | None = None
    device: Annotated[str, Checked(values.device)] = "auto"
    """The spelling is judged here; whether the machine has it, by the engines that need it."""
    output: Path = Path("output")
    overwrite: bool = False
    """Whether a new training may replace the results of another one in `output`."""
    seed: Seed = 42


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Section `CheckDataset.convert`: another annotation format into ours."""

    enable: bool = False
    src_dataset_type: Annotated[str, Checked(values.one_of(SOURCES))] | None = None
    skip_missing: bool = False
    """Leave out images that the annotations name and that are not there."""
    separator: Text | None = None
    """Between the class names of one cell of a CSV table; None: found out."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Section `CheckDataset.split`: a new partition into train.txt and val.txt."""

    enable: bool = False
    train_percent: Percent | None = None
    val_percent: Percent | None = None
    strategy: Literal["stratified", "random"] = "stratified"
    seed: Seed = 42
    group_regex: Annotated[str, Checked(values.pattern)] | None = None
    """Images whose paths match it with the same text stay together."""


@dataclass(frozen=True, kw_only=True)
class CheckDatasetConfig:
    """Section `CheckDataset`."""

    convert: ConvertConfig = field(default_factory=ConvertConfig)
    split: SplitConfig = field(default_factory=SplitConfig)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Section `Train.loss`."""

    name: Literal["asymmetric", "bce", "two_way"] = "asymmetric"
    gamma_neg: Annotated[float, Range(low=0)] = 4.0
    gamma_pos: Annotated[float, Range(low=0)] = 0.0
    clip: Annotated[float, Range(low=0, high=1, below=True)] = 0.05
    """Below 1: at 1 no absent label would cost anything."""
    pos_weight: Annotated[PosWeight | None, Checked(values.pos_weight)] = None
    temperature: Annotated[float, Range(low=0, above=True, typical=4.0)] = 4.0
    label_smoothing: Annotated[float, Range(low=0, high=1, below=True)] = 0.0


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Section `Train.augment`."""

    cutout: Share = 0.0
    """Side of the blanked square as a share of the image side; 0 switches it off."""
    randaugment: bool = True
    flip: bool = True
    mixup: Annotated[float, Range(low=0, typical=0.2)] = 0.0
    """Both parameters of the Beta distribution of the shares; 0 switches it off."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section `Train`. No default for the two keys whose good value depends on the model."""

    num_classes: Count | None = None
    epochs_iters: Count = 20
    """Passes over the training list: epochs, whatever the key says."""
    batch_size: Count = 32
    """Images per process and step."""
    learning_rate: Annotated[float, Range(low=0, above=True, typical=1e-3)]
    """Peak rate of AdamW, reached when the warm-up ends."""
    head_lr_mult: Annotated[float, Range(low=0, above=True)] = 1.0
    """The head learns at this multiple of every rate; 1: like the backbone, as in PaddleX."""
    pretrain_weight_path: Place | None = None
    resume_path: Place | None = None
    """A folder, or `auto`: the newest checkpoint of the output folder, if it has one."""
    dist_ips: Annotated[str, Checked(values.addresses)] | None = None
    """Addresses of all machines of the training, separated by commas."""
    sync_bn: bool = False
    warmup_steps: Annotated[float, Range(low=0, typical=1.0)]
    """Length of the linear warm-up, in EPOCHS: the key keeps its PaddleX name."""
    lr_schedule: Literal["cosine", "one_cycle"] = "cosine"
    backbone_lr_mult: Annotated[float, Range(low=0, above=True)] = 1.0
    freeze_backbone_epochs: Annotated[int, Range(low=0)] = 0
    log_interval: Count = 20
    """Steps."""
    eval_interval: Count = 1
    """Epochs."""
    start_eval_epoch: Count = 1
    save_interval: Count = 1
    """Epochs."""
    keep_last: Count | None = None
    """Folders epoch_N; None keeps all."""
    save_latest_steps: Count | None = None
    save_latest_minutes: Annotated[float, Range(low=0, above=True, typical=10.0)] | None = None
    tensorboard: bool = False
    ema_decay: Annotated[float, Range(low=0, high=1, below=True)] = 0.9997
    """0 switches the averaging off; 1 would never leave the initial weights."""
    amp: Literal["OFF", "O1", "O2"] = "OFF"
    amp_dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    recompute: bool = False
    num_workers: Annotated[int, Range(low=0)] | None = None
    """None: one per core. 0: images are read in the main process."""
    cache: Literal["none", "ram", "disk"] = "none"
    cache_dir: Path | None = None
    reduced_decode: bool = True
    sampler: Literal["shuffle", "repeat_factor"] = "shuffle"
    repeat_threshold: Annotated[float, Range(low=0, high=1, above=True, typical=0.05)] = 0.05
    grad_accum_steps: Count = 1
    grad_clip_norm: Annotated[float, Range(low=0, above=True, typical=100.0)] | None = None
    early_stop_patience: Count | None = None
    """Evaluations without a better score; None never stops early."""
    image_size: Annotated[int, Range(low=32, high=2048, multiple=32)] = 448
    """Pixels; a multiple of 32 because the backbones halve the image five times."""
    weight_decay: Share = 1e-4
    decoder_tokens: Literal["all_patches", "first_patch"] | None = None
    """None: all patches in training; what the checkpoint says, or published weights, elsewhere."""
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `Evaluate`."""

    weight_path: Place | None = None
    """A weight file, its URL, or a static folder; None: <output>/best_model/best_model.pdparams."""
    log_interval: Count = 1
    """Batches."""
    batch_size: Count | None = None
    """None: Train.batch_size."""
    reduced_decode: bool = False
    threshold: Annotated[Threshold | None, Checked(values.threshold)] = None
    """None: that of a static folder's inference.yml; 0.5 for weights."""
    bootstrap: Annotated[int, Range(low=0)] = 200
    """Rounds, 20 or more; 0: no intervals."""
    tune_threshold: Literal["f1", "precision", "recall"] | None = "f1"
    tune_target: Annotated[float, Range(low=0, high=1, above=True, typical=TUNE_TARGET)] = (
        TUNE_TARGET
    )
    """Precision or recall that tuned thresholds are to reach."""
    tune_min_positives: Annotated[int, Range(low=0)] = 10
    """Classes with fewer positive images take the threshold that all share."""
    save_threshold: bool = False
    label_errors: Literal["val", "all"] | None = "val"
    """Lists in which wrong and missing labels are looked for; all: train as well."""
    compare_with: Place | None = None
    """Weights, a static folder, an evaluate_result.json, or `raw` or `ema` of the checkpoint."""
    report: bool = True


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Section `Export`."""

    weight_path: Place | None = None
    """None: <output>/best_model/best_model.pdparams."""
    format: Literal["paddle", "safetensors", "onnx", "pdmodel"] = "paddle"
    opset: Annotated[int, Range(low=11, high=21)] = OPSET
    """Of the format onnx. The range is that to which paddle2onnx converts every model."""


@dataclass(frozen=True, kw_only=True)
class KernelOptionConfig:
    """Section `Predict.kernel_option`."""

    run_mode: Annotated[str, Checked(values.one_of(RUN_MODES))] | None = None
    """None: oneDNN on a CPU where it gives the exact result, else plain Paddle; onnxruntime for a
    folder that holds ONNX alone."""
    cpu_threads: Count | None = None
    """Of the engine; None: all cores that the process may use."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Section `Predict`."""

    batch_size: Count = 1
    model_dir: Place | None = None
    """Static folder, or the URL of its archive; None: <output>/best_model/inference."""
    input: Annotated[Any, Checked(values.pictures)] = None
    """Path, URL, folder, glob, text file of these, {img: ...}, or a list of these."""
    threshold: Annotated[Threshold | None, Checked(values.threshold)] = None
    """None: the model's own, from its inference.yml."""
    max_labels: Count | None = None
    min_labels: Annotated[int, Range(low=0)] = 0
    return_all_scores: bool = False
    on_error: Literal["report", "raise"] = "report"
    save_path: Path | None = None
    """None: <output>/predict."""
    save_img: bool = True
    explain: bool = False
    """Whether to draw, for each label, where the model looked; whatever `save_img` says."""
    kernel_option: KernelOptionConfig = field(default_factory=KernelOptionConfig)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration. Made by `load.load`, never edited."""

    Global: GlobalConfig
    CheckDataset: CheckDatasetConfig = field(default_factory=CheckDatasetConfig)
    Train: TrainConfig
    Evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    Export: ExportConfig = field(default_factory=ExportConfig)
    Predict: PredictConfig = field(default_factory=PredictConfig)
