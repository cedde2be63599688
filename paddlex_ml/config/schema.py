# SPDX-License-Identifier: Apache-2.0
"""The configuration: one frozen dataclass per YAML section, one field per key, the same spelling.

    Train: {batch_size: 32}  =  -o Train.batch_size=32  =  config.Train.batch_size

The docstring below a field is also the comment above its key in the shipped YAML files. After a
change run `python -m paddlex_ml.config.write_yaml`. Annotations carry the range of each value
(`values.py`), `rules.py` holds the rules about several keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from paddlex_ml.config import shipped, values
from paddlex_ml.config.augment_schema import AugmentConfig
from paddlex_ml.config.benchmark_schema import BenchmarkConfig
from paddlex_ml.config.distillation_schema import DistillationConfig
from paddlex_ml.config.export_schema import ExportConfig
from paddlex_ml.config.predict_schema import PredictConfig
from paddlex_ml.config.value_types import (
    Count,
    PathOrUrl,
    Percent,
    Seed,
    Share,
    Text,
    Threshold,
)
from paddlex_ml.config.values import Checked, Range

MODES = ("check_dataset", "plan", "train", "evaluate", "export", "benchmark", "predict")
TOKEN_MODELS = ("CLIP_vit_base_patch16_448_ML",)
"""Models whose head can use one token of the image or all of them."""

SOURCES = (
    *("auto", "COCO", "VOC", "LabelMe", "YOLO", "CSV", "ImageFolder", "JSONL"),
    *("LabelStudio", "CVAT", "PaddleLabel", "TextList", "MMPretrain", "OpenImages", "CelebA"),
    *("SageMaker", "Azure", "Vertex", "Labelbox", "VoTT", "HuggingFace", "Parquet", "WebDataset"),
)
"""Formats that check_dataset converts from; auto recognises them."""

DROPS = ("broken", "missing", "empty", "duplicates")
"""Lines of the lists that check_dataset can leave out."""

STARTER, STARTER_MODEL = "starter", "PP-LCNet_x1_0_ML"
"""What Train.pretrain_weight_path calls the weights that come with paddlex_ml, and their model."""

TRACKERS = ("mlflow", "swanlab", "wandb", "tensorboard")
"""Services that keep the numbers and files of trainings."""

IGNORED = ("Global.export_with_pir", "Train.dy2st")
"""Keys of PaddleX that have no meaning here: they are accepted with a note."""

WORDS = {
    "Train.pretrain_weight_path": (STARTER,),
    "Train.resume_path": ("auto",),
    "Evaluate.compare_with": ("raw", "ema"),
}
"""Key of a path -> words in its place that are no path."""

BATCH_SIZE = 32
"""Where nothing else is known."""
TUNE_TARGET = 0.9
"""A precision or recall that suits most uses; F1 has no target."""

PosWeight: TypeAlias = list[float] | Literal["auto"]
CountOrAuto: TypeAlias = int | Literal["auto"]
Unknown: TypeAlias = Literal["ignore", "negative", "weak_negative", "em", "role"]


@dataclass(frozen=True, kw_only=True)
class GlobalConfig:
    """Section `Global`: which model, which job, where."""

    model: Annotated[str, Checked(values.one_of(shipped.MODELS), typical="PP-LCNet_x1_0_ML")]
    """Which model: PP-LCNet_x1_0_ML, PP-HGNetV2-B0_ML, PP-HGNetV2-B4_ML, PP-HGNetV2-B6_ML,
    ResNet50_ML, CLIP_vit_base_patch16_448_ML."""
    mode: Literal["check_dataset", "plan", "train", "evaluate", "export", "benchmark", "predict"]
    """What to do: check_dataset, plan (what a training will cost), train, evaluate, export,
    benchmark or predict. Usually set by -o Global.mode=..."""
    dataset_dir: Path | None = None
    """Folder of the data set (images/, label.txt, train.txt, val.txt). check_dataset, plan, train,
    evaluate and benchmark need it."""
    device: Annotated[str, Checked(values.device)] = "auto"  # the engines check that it exists
    """Where to compute: auto (a GPU if there is one, else the CPU), cpu, gpu, or gpu:1 for one GPU
    of several. gpu:0,1,2,3 trains with one process per GPU, cpu:0,1 with two on the CPU."""
    output: Path = Path("output")
    """Folder for everything that is written. Give each experiment its own."""
    overwrite: bool = False
    """true: a new training replaces another run in the output folder, which stands in <output>.old
    until the new run has its first checkpoint. false refuses such a folder; a run can always be
    resumed in its own folder."""
    seed: Seed = 42
    """One seed for fresh weights, shuffling and augmentation: 0 to 4294967295. The same seed gives
    the same run; change it to see how much a result depends on chance."""


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Section `CheckDataset.convert`: another annotation format into ours."""

    enable: bool = False
    """true: write label.txt, train.txt and val.txt from the annotations of another format before
    the check. Nothing is lost: a file that is replaced is renamed to .bak, and
    dataset_tools/restore_backup.py restores it."""
    src_dataset_type: Annotated[str, Checked(values.one_of_any_case(SOURCES))] | None = None
    """The format to convert from: auto (recognised from the files), COCO, VOC, LabelMe, YOLO, CSV,
    ImageFolder, JSONL, or the name of a tool (docs/data.md has them all, and the files of each).
    Used when enable is true. auto is used without it too: check_dataset and train then make a data
    set of the source in <output>/dataset, which refers to its images, and change nothing in it."""
    by_reference: bool = False
    """true: a format that is named is used without enable too, as auto is. --data sets it."""
    image_root: Path | None = None
    """Folder of the images, for auto without enable, where they lie outside of the source. null: in
    the source."""
    skip_missing: bool = False
    """true: leave out images that are named but do not exist; false refuses them."""
    separator: Text | None = None
    """Text between the class names in one cell of a table, such as "|"; "space" and "tab" are also
    understood. null: recognised from the table, and told."""
    image_column: Text | None = None
    """Name of the column of a table that has the images. null: recognised, and told."""
    label_columns: Annotated[tuple[str, ...], Checked(values.texts, form="texts")] | None = None
    """Columns of a table that have labels, as [tags] or [cat, dog]. null: recognised, and told."""
    label_value: Text | None = None
    """The value that says "shows it" in a column of one class. null: 1, 1.0, true or yes."""
    image_from: Literal["stem", "field"] | None = None
    """VOC and LabelMe: an annotation belongs to the image of its own file name (stem), or to the
    image that it names inside (field). null: both must agree where both exist."""
    merge_names: bool | None = None
    """Class names that differ only in capitals, spaces or invisible characters: true makes them one
    class, false keeps them apart. null refuses them."""
    uncertain: Literal["unknown", "positive", "negative"] | None = None
    """What a label becomes that the source leaves open, such as -1 in a table or a difficult object
    of VOC (docs/data.md): unknown, positive (present) or negative (absent). null: unknown."""
    rename: Annotated[dict[str, str], Checked(values.rename, form="yaml")] | None = None
    """Other names for classes of the source, as {automobile: car, lorry: truck}. Classes that get
    one name, or the name of another class, become one class. null: the names stay."""

    @property
    def is_by_reference(self) -> bool:
        """Whether a data set is made of the source beside it, which stays as it is."""
        is_asked = self.src_dataset_type is not None and self.by_reference
        return not self.enable and (self.src_dataset_type == "auto" or is_asked)


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Section `CheckDataset.split`: a new partition into train.txt and val.txt."""

    enable: bool = False
    """true: divide all images of train.txt and val.txt again before the check. The old lists are
    kept as .bak."""
    train_percent: Percent | None = None
    """Share of the images that go to train.txt: a whole number of percent, 1 to 99."""
    val_percent: Percent | None = None
    """Share of the images that go to val.txt, in percent; both add up to 100."""
    strategy: Literal["stratified", "random"] = "stratified"
    """stratified (every class, rare ones too, has the same share in both lists) or random."""
    seed: Seed = 42
    """Seed of the split: 0 to 4294967295. The same seed gives the same lists."""
    group_regex: Annotated[str, Checked(values.pattern)] | None = None
    """Regular expression, searched in the path of each image; images with the same text in its
    parentheses stay in one list. '(video[0-9]+)_' keeps the frames of a video together."""


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Section `CheckDataset.repair`: paths that lead nowhere, and labels that others imply."""

    enable: bool = False
    """true: write the paths of train.txt and val.txt as the images are found: other capitals,
    another folder, separators of Windows, another ending. The old lists are kept as .bak."""
    relations: bool = False
    """true: add the labels that follow from relations.yaml to train.txt and val.txt: what a label
    implies is present, unknown classes that it excludes are absent. The old lists are kept as
    .bak."""


@dataclass(frozen=True, kw_only=True)
class CheckDatasetConfig:
    """Section `CheckDataset`."""

    convert: ConvertConfig = field(default_factory=ConvertConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    repair: RepairConfig = field(default_factory=RepairConfig)
    drop: Annotated[tuple[str, ...], Checked(values.some_of(DROPS), form="texts")] = ()
    """Lines to leave out of train.txt and val.txt, as [broken, missing]: broken (images that cannot
    be decoded), missing (no such file), empty (no label), duplicates (the same image again, by path
    or content). The old lists are kept as .bak."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Section `Train.loss`."""

    name: Literal["asymmetric", "bce", "two_way"] = "asymmetric"
    """asymmetric (arXiv:2009.14119), bce (binary cross-entropy) or two_way (CVPR 2023)."""
    gamma_neg: Annotated[float, Range(low=0)] = 4.0
    """Asymmetric loss: how strongly easy absent labels are weighted down; at least 0. Lower it when
    recall matters less than precision."""
    gamma_pos: Annotated[float, Range(low=0)] = 0.0
    """The same for easy present labels; at least 0 and usually 0: present labels are rare."""
    clip: Annotated[float, Range(low=0, high=1, below=True)] = 0.05  # at 1 no absent label costs
    """Absent labels with a score below this cost nothing: 0 to below 1. Raise it when labels are
    often missing."""
    pos_weight: Annotated[PosWeight, Checked(values.pos_weight, form="yaml")] | None = None
    """bce: weight of present labels, a list with one number per class in the order of label.txt, or
    auto (absent over present images of the class, at most 100). null: 1 for all."""
    temperature: Annotated[float, Range(low=0, above=True, typical=4.0)] = 4.0
    """two_way: at 1 the lowest score of the present labels counts most; above 1 all of them count
    more equally; above 0."""
    unknown: Unknown | None = None
    """What is learned from labels that nobody has looked for (-1 or nothing in train.txt): ignore
    (nothing), negative (the class is absent), weak_negative (the same with the weight 1 / (classes
    - 1), arXiv:2106.09708), em (the score stays undecided unless other images decide it,
    arXiv:2203.16219) or role (bce: labels are estimated while the model trains, the same paper as
    weak_negative). null: weak_negative with single_positive, else ignore."""
    em_alpha: Annotated[float, Range(low=0, above=True, typical=0.1)] = 0.1
    """em: how strongly the scores of unknown labels are drawn to 0.5, above 0. Published: 0.2 for
    20 classes, 0.1 for 80, 0.01 for 312."""
    role_labels: Annotated[float, Range(low=0, above=True, typical=1.5)] | None = None
    """role: labels that an image shows on average, above 0. null: as counted in val.txt."""
    label_smoothing: Annotated[float, Range(low=0, high=1, below=True)] = 0.0
    """Makes targets less certain by this much, half of it at 0 and half at 1: 0 to below 1. 0.1
    when labels are noisy. Not for two_way."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section `Train`. No default for the two keys whose good value depends on the model."""

    num_classes: Count | None = None
    """Number of classes, at least 1. null: the number of lines in label.txt. A number must equal
    it."""
    epochs_iters: Count = 20
    """Passes over train.txt (epochs), at least 1. More for a small data set, fewer for a very large
    one."""
    batch_size: Annotated[CountOrAuto, Checked(values.count_or_auto(BATCH_SIZE), form="yaml")] = (
        BATCH_SIZE
    )
    """Images per step and process, at least 1. When memory runs out, halve it and raise
    grad_accum_steps. auto: the largest that fits in memory, tried before a training starts, but
    not above what leaves an epoch 20 steps, unless the shipped size does (docs/plan.md)."""
    learning_rate: Annotated[float, Range(low=0, above=True, typical=1e-3)]
    """Peak rate of AdamW, reached when the warm-up ends; above 0, in training at most 0.01. Ten
    times smaller when the loss grows or the scores stay flat. From random weights PP-LCNet does
    better with 0.002. The published 0.0001 belongs to 118,000 images (docs/results.md)."""
    head_lr_mult: Annotated[float, Range(low=0, above=True)] = 1.0  # the default is that of PaddleX
    """The head learns at this multiple of the rate, above 0; 1: like the backbone. At the full rate
    a fresh head learns too fast, and head and backbone both end worse (docs/results.md)."""
    pretrain_weight_path: PathOrUrl | None = None
    """Weights to start from, of a whole model or of a backbone: a .pdparams or .safetensors file,
    or its URL. starter: a backbone of PP-LCNet that comes with paddlex_ml, trained on drawn images.
    null: random weights. The shipped URL: trained on COCO, 118,000 photographs of 80 kinds of
    objects; downloaded once into a cache of your user."""
    resume_path: PathOrUrl | None = None
    """Folder of a stopped run to resume, such as output/latest. auto: resume from the newest sound
    checkpoint in the output folder, or start where it has none yet. null: start a new run."""
    rescore_best: bool = False
    """true: a resumed run may go on with other lists: the best model so far is scored on the new
    val.txt first. false refuses lists that changed since the run began."""
    dist_ips: Annotated[str, Checked(values.addresses, form="texts")] | None = None
    """Addresses of the machines that train together, "192.168.0.1,192.168.0.2": start the same
    command on each of them. null: only this machine (docs/training.md)."""
    overlap_exchange: bool | None = None
    """Several processes: true exchanges gradients while the backward pass still computes, false
    after it. null: true on GPUs without recompute, else false: on the CPU it gains nothing."""
    sync_bn: bool = False
    """Several processes: true computes batch norm over the batches of all of them, which matters
    below about 8 images per process; false over the batch of each process."""
    warmup_steps: Annotated[float, Range(low=0, typical=1.0)]  # the name is that of PaddleX
    """Length of the linear warm-up in EPOCHS (not steps), fractions allowed; at least 0 and at most
    half of epochs_iters."""
    lr_schedule: Literal["cosine", "one_cycle"] = "cosine"
    """How the rate changes: cosine (a linear warm-up, then half a cosine wave down to almost 0) or
    one_cycle (half a wave up from 1/25 of the peak, then down to 1/10,000 of it; its warm-up is
    long, such as 30 % of the epochs)."""
    backbone_lr_mult: Annotated[float, Range(low=0, above=True)] = 1.0
    """The backbone learns at this multiple of the rate, above 0. Below 1 keeps more of the
    pretrained weights."""
    freeze_backbone_epochs: Annotated[int, Range(low=0)] = 0
    """Epochs in which only the head learns, at least 0 and below epochs_iters. 1 or 2 when the data
    set is small and the weights are pretrained."""
    log_interval: Count = 20
    """Steps between two lines of the log, at least 1."""
    eval_interval: Count = 1
    """Epochs between two evaluations on val.txt, at least 1. Raise it when an evaluation takes as
    long as an epoch of training."""
    start_eval_epoch: Count = 1
    """First epoch that is evaluated, at least 1. Raise it when the first epochs are known to be
    poor."""
    save_interval: Count = 1
    """Epochs between two epoch_N checkpoints, at least 1. Raise it to save disk space; latest and
    best_model are kept in any case."""
    keep_last: Count | None = None
    """How many epoch_N folders are kept, at least 1: a new one replaces the oldest. null: all."""
    save_latest_steps: Count | None = None
    """Also save latest within an epoch, every so many steps, at least 1. null: only at the end of
    epochs."""
    save_latest_minutes: Annotated[float, Range(low=0, above=True, typical=10.0)] | None = None
    """The same by time: minutes between two saves of latest, above 0. null: only at the end of
    epochs."""
    tensorboard: bool = False
    """true: the same as track=[tensorboard]."""
    track: Annotated[tuple[str, ...], Checked(values.some_of(TRACKERS), form="texts")] = ()
    """Where to send parameters, numbers, curves and the best model, as [mlflow, wandb]: mlflow,
    swanlab, wandb (each takes its address and its key from its own environment variables),
    tensorboard (event files in <output>/events). A resumed run goes on in the same entry there;
    mode evaluate adds its report (docs/tracking.md)."""
    ema_decay: Annotated[float, Range(low=0, high=1, below=True)] = 0.9997
    """Weight of the past in the averaged weights (EMA): 0 to below 1, 0 = no averaging. It warms up
    by itself on small data sets."""
    amp: Literal["OFF", "O1", "O2"] = "OFF"
    """Mixed precision on a GPU: OFF, O1 (float16 where it is safe) or O2 (float16 nearly
    everywhere). O1 saves time and memory."""
    amp_dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    """Number format of mixed precision: auto (bfloat16 if the device supports it, else float16),
    float16 (with loss scaling) or bfloat16."""
    channels_last: bool = False
    """true: with amp, convolutions compute in the layout NHWC, which the matrix units of GPUs
    prefer. For the convolutional models; not with compile, recompute or sync_bn."""
    auto: bool = True
    """true: a training that makes its data set of a source (CheckDataset.convert.src_dataset_type:
    auto) takes epochs and image size for the number of its images, where you have chosen none, and
    prints them (docs/training.md). false: those of this file."""
    compile: bool = False
    """true: train on the model as a static graph, which CINN compiles on a GPU whose Paddle has it.
    Meant for GPUs; on the CPU it is slower (docs/training.md). Not with recompute or sync_bn."""
    recompute: bool = False
    """true: keep fewer intermediate results and compute them again for the gradients: a third
    slower, far less memory. For CLIP_vit_base_patch16_448_ML and PP-HGNetV2-B6_ML."""
    num_workers: Annotated[int, Range(low=0)] | None = None
    """Processes that read images, at least 0. null: one per core, divided by the processes that
    train on this machine; 0: read in the main process, for debugging."""
    cache: Literal["none", "ram", "disk"] = "none"
    """Keep the resized images after the first epoch: none, ram (in memory) or disk (in cache_dir).
    Useful for large photographs, when "data" in the log is more than a few percent."""
    cache_dir: Path | None = None
    """Folder of the disk cache, which you may delete. null: in your user's cache folder."""
    reduced_decode: bool = True
    """true: decode a JPEG at a half, a quarter or an eighth of its size when that is still twice
    the size that training needs: several times faster for large photographs. false: always decode
    in full."""
    sampler: Literal["shuffle", "repeat_factor"] = "shuffle"
    """Which images an epoch draws: shuffle (each one once) or repeat_factor (images with rare
    classes several times, see repeat_threshold)."""
    repeat_threshold: Annotated[float, Range(low=0, high=1, above=True, typical=0.05)] = 0.05
    """repeat_factor: a class in a smaller share of the images than this is drawn more often, above
    0 to 1 (arXiv:1908.03195)."""
    grad_accum_steps: Count = 1
    """Batches whose gradients are added up before one update, at least 1: a large batch in little
    memory."""
    grad_clip_norm: Annotated[float, Range(low=0, above=True, typical=100.0)] | None = None
    """Largest norm of the gradients of one step, above 0; longer ones are shortened to it. null: no
    limit. The loss is a sum over the batch: typical norms are in the hundreds."""
    early_stop_patience: Count | None = None
    """Stop after so many evaluations without a better score, at least 1. null: never stop early."""
    image_size: Annotated[int, Range(low=32, high=2048, multiple=32)] = 448  # halved five times
    """Side of the square images in pixels: 32 to 2048, a multiple of 32. Smaller is faster and
    less accurate."""
    weight_decay: Share = 1e-4
    """Weight decay of AdamW: 0 to 1; biases and norms have none. Raise it against overfitting."""
    decoder_tokens: Literal["all_patches", "first_patch"] | None = None
    """Which tokens of an image the head of CLIP_vit_base_patch16_448_ML uses: all_patches, or
    first_patch, as in the published weights. null: all_patches in training, else those that the
    weights were trained with (docs/models.md). Other models: null."""
    single_positive: bool = False
    """true: an image may show more classes than train.txt names, such as photos with one tag each:
    every 0 there is unknown, not absent (see loss.unknown). val.txt stays as it is."""
    soft_labels: bool = False
    """true: train.txt may have values between 0 and 1, such as 0.7 where 7 of 10 annotators saw the
    class. false refuses them, as val.txt always does. Not for two_way (docs/labels.md)."""
    num_queries: Annotated[CountOrAuto, Checked(values.count_or_auto("auto"))] = "auto"
    """Queries of the head, at least 1 and at most one per class; each predicts ceil(classes /
    num_queries) classes. auto: one per class up to 100 classes, 100 for more, or those of the
    weights to start from (docs/training.md)."""
    teacher: Annotated[tuple[str, ...], Checked(values.path_texts, form="texts")] | None = None
    """A trained model whose scores are learned beside the labels: a weight file or its URL, the
    folder of a run or of an export, or an ONNX file; also a list of them, as [a, b], whose scores
    are averaged. It may be another of the six models (docs/training.md). null: none."""
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def trackers(self) -> tuple[str, ...]:
        """`track`, with what `tensorboard` adds."""
        return tuple(dict.fromkeys(self.track + ("tensorboard",) * self.tensorboard))

    @property
    def unknown_labels(self) -> Unknown:
        """`loss.unknown`, or what its null stands for."""
        return self.loss.unknown or ("weak_negative" if self.single_positive else "ignore")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `Evaluate`."""

    weight_path: PathOrUrl | None = None
    """Weights to evaluate: a weight file, its URL, or the folder of a static model. null: the best
    ones of the run in Global.output, <output>/best_model/best_model.pdparams."""
    log_interval: Count = 1
    """Batches between two lines of a log file, at least 1; there is at most a line every 2 seconds.
    A terminal shows a bar."""
    batch_size: Count | None = None
    """Images per batch, at least 1. null: Train.batch_size, or 32 where that is auto. It never
    changes the score."""
    reduced_decode: bool = False
    """true: mode evaluate, and the evaluations during a training, decode large JPEGs at reduced
    size: faster, but the scores differ in the third digit from those of full decoding, which
    prediction uses."""
    threshold: Annotated[Threshold, Checked(values.threshold, form="yaml")] | None = None
    """Score from which a class counts as present in precision, recall and F1, written as
    Predict.threshold. null: that of inference.yml for a static folder, 0.5 for weights."""
    bootstrap: Annotated[int, Range(low=0)] = 200
    """Rounds of the bootstrap that computes the 95 % intervals, at least 20: more rounds give
    steadier intervals. 0: no intervals."""
    tune_threshold: Literal["f1", "precision", "recall"] | None = "f1"
    """Find the best threshold of every class: f1 (the highest F1), precision or recall (at least
    tune_target of it, then as much as possible of the other). null: do not tune."""
    tune_target: Annotated[float, Range(low=0, high=1, above=True, typical=TUNE_TARGET)] = (
        TUNE_TARGET
    )
    """Precision or recall to reach, above 0 up to 1. Not for f1."""
    tune_min_positives: Annotated[int, Range(low=0)] = 10
    """Classes with fewer positive images use one threshold that is tuned on all classes together,
    at least 0: a threshold found on a few images is unreliable."""
    save_threshold: bool = False
    """true: write the tuned thresholds into the inference.yml of the static folder, or of all
    exports beside the weights; predict uses them from then on."""
    label_errors: Literal["val", "all"] | None = "val"
    """Look for wrong and missing labels: val, or all (train as well, which takes the time to score
    its images). null: do not look."""
    compare_with: PathOrUrl | None = None
    """Compare with: another weight file or static folder (scored on the same images), the
    evaluate_result.json of an earlier evaluation, or raw or ema, the other weights of the same
    checkpoint. null: nothing."""
    report: bool = True
    """true: write evaluate/report.html. false: only the numbers."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, as `load.load` returns it."""

    Global: GlobalConfig
    CheckDataset: CheckDatasetConfig = field(default_factory=CheckDatasetConfig)
    Train: TrainConfig
    Evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    Export: ExportConfig = field(default_factory=ExportConfig)
    Benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    Predict: PredictConfig = field(default_factory=PredictConfig)
