# SPDX-License-Identifier: Apache-2.0
"""What users of other tools write where we have another key, another value, or nothing.

The words are those of PaddleX and PaddleClas, Ultralytics, timm, Keras, Lightning and the training
scripts of torchvision and Hugging Face. `validation` answers an unknown key with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from paddlex_ml import gpus
from paddlex_ml.config.schema import MODES

Meaning: TypeAlias = Callable[[Any], dict[str, Any]]
"""Their value -> our dotted keys with our values."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "amp": ("amp_level", "opt_level"),
    "batch_size": (
        *("bs", "batch", "train_batch_size", "per_device_train_batch_size", "batchsize"),
        *("samples_per_gpu", "per_device_batch_size"),
    ),
    "cache": ("cache_images", "cache_mode"),
    "compare_with": ("compare", "baseline"),
    "cpu_threads": ("threads", "num_threads", "cpu_num_threads", "cpu_math_library_num_threads"),
    "dataset_dir": (
        *("data", "data_dir", "data_path", "data_root", "dataset", "root", "dataset_path"),
        *("train_dir", "image_dir", "image_root", "img_dir", "directory", "dataset_root"),
        "dataset_name",
    ),
    "device": ("gpu", "gpus", "devices", "device_ids", "gpu_ids", "device_id"),
    "early_stop_patience": ("patience", "early_stopping", "early_stop"),
    "ema_decay": ("ema", "model_ema_decay", "model_ema"),
    "epochs_iters": (
        *("epochs", "epoch", "num_epochs", "n_epochs", "max_epochs", "num_train_epochs"),
        *("max_epoch", "nb_epoch", "total_epochs", "epoch_num", "epochs_iter", "fit_one_cycle"),
    ),
    "eval_interval": (
        *("eval_freq", "val_interval", "val_freq", "validation_freq", "eval_every", "val_period"),
        *("check_val_every_n_epoch", "val_every"),
    ),
    "freeze_backbone_epochs": ("freeze", "freeze_epochs", "freeze_backbone", "freeze_layers"),
    "grad_accum_steps": (
        *("accumulate", "accumulation_steps", "gradient_accumulation_steps", "update_freq"),
        *("accumulate_grad_batches", "grad_accum"),
    ),
    "grad_clip_norm": ("clip_grad", "max_grad_norm", "gradient_clip_val", "clip_norm", "grad_clip"),
    "head_lr_mult": ("head_lr", "classifier_lr_mult", "head_multiplier"),
    "image_size": (
        *("img_size", "imgsz", "imgsize", "size", "input_size", "resolution", "image_shape"),
        *("crop_size", "train_crop_size", "input_shape", "target_size"),
    ),
    "input": ("image", "images", "img", "source", "infer_imgs", "infer_img"),
    "learning_rate": ("lr", "lr0", "base_lr", "max_lr", "peak_lr", "init_lr", "initial_lr"),
    "log_interval": (
        *("log_iters", "log_every_n_steps", "print_freq", "print_batch_step", "logging_steps"),
        *("log_every", "log_freq"),
    ),
    "lr_schedule": ("scheduler", "lr_scheduler", "lr_scheduler_type", "sched"),
    "max_labels": ("topk", "top_k", "max_det"),
    "model": ("model_name", "arch", "architecture", "backbone"),
    "num_classes": ("classes", "nc", "class_num", "n_classes", "num_labels", "n_class"),
    "num_workers": (
        *("workers", "nw", "n_workers", "worker", "dataloader_num_workers", "num_worker"),
        "worker_num",
    ),
    "opset": ("opset_version", "onnx_opset"),
    "output": (
        *("out", "out_dir", "output_dir", "save_dir", "work_dir", "project", "default_root_dir"),
        *("log_dir", "logdir", "output_path", "result_dir", "run_name", "experiment", "exp_name"),
    ),
    "pos_weight": ("class_weight", "class_weights", "positive_weight"),
    "pretrain_weight_path": (
        *("pretrain", "pretrained_model", "weights", "pretrain_weights"),
        *("pretrained_weights", "init_weights", "initial_checkpoint"),
    ),
    "recompute": ("gradient_checkpointing", "grad_checkpointing"),
    "resume_path": (
        *("resume_from", "resume_from_checkpoint", "checkpoint", "checkpoints"),
        *("resume_checkpoint", "ckpt_path"),
    ),
    "save_img": (
        *("save_pictures", "save_picture", "save_image", "save_images", "save_vis", "visualize"),
        *("draw", "plot", "show"),
    ),
    "save_interval": ("save_freq", "save_period", "save_every", "save_interval_epochs"),
    "save_path": ("save_txt", "infer_output"),
    "seed": ("random_seed", "random_state", "manual_seed"),
    "single_positive": ("single_label",),
    "sync_bn": ("sync_batchnorm", "sync_batch_norm"),
    "track": ("report_to", "logger", "loggers"),
    "threshold": ("conf", "thresh", "score_threshold", "conf_thres", "confidence", "conf_thresh"),
    "warmup_steps": ("warmup", "warmup_epochs", "warmup_epoch", "lr_warmup_epochs"),
    "weight_decay": ("wd", "l2", "l2_coeff", "regularizer"),
    "weight_path": ("weight", "weights", "checkpoint", "model_path", "best_model", "params_path"),
}
"""Last part of a key -> what other tools, and people, call it, with values that mean the same."""


def _is_on(value: Any) -> bool:
    return str(value).lower() not in ("0", "0.0", "false", "no", "off", "none", "null", "")


def _is_yes(value: Any) -> bool:
    return str(value).lower() in ("1", "true", "yes", "on")


def _flip(value: Any) -> dict[str, Any]:
    return {"Train.augment.flip": _is_on(value)}


def _randaugment(value: Any) -> dict[str, Any]:
    return {"Train.augment.randaugment": _is_on(value)}


def _cutout(value: Any) -> dict[str, Any]:
    return {"Train.augment.cutout": 0.25 if _is_on(value) else 0.0}


def _amp(value: Any) -> dict[str, Any]:
    is_full = not _is_on(value) or "32" in str(value) or "64" in str(value)
    level = "OFF" if is_full else "O1"
    is_bfloat = not is_full and "bf" in str(value)
    return {"Train.amp": level} | ({"Train.amp_dtype": "bfloat16"} if is_bfloat else {})


def _amp_level(value: Any) -> Any:
    is_ours = re.fullmatch(r"O\d+", str(value), re.IGNORECASE)  # a slip, and no word of others
    return None if is_ours else _amp(value)["Train.amp"]


def _bfloat(value: Any) -> dict[str, Any]:
    return _amp("bf16" if _is_on(value) else "32")


def _loss(value: Any) -> dict[str, Any]:
    word = str(value).lower()
    is_bce = any(part in word for part in ("bce", "binary", "multilabel", "cross"))
    return {"Train.loss.name": "bce" if is_bce else "asymmetric"}


def _smoothing(value: Any) -> dict[str, Any]:
    return {"Train.loss.label_smoothing": value}


def _split(value: Any, *, is_train: bool = False) -> dict[str, Any]:
    share = re.fullmatch(r"0?\.\d+", str(value))
    percent = round(100 * float(value)) if share else (80 if is_train else 20)
    train = min(99, max(1, percent if is_train else 100 - percent))
    section = "CheckDataset.split"
    return {
        f"{section}.enable": True,
        f"{section}.train_percent": train,
        f"{section}.val_percent": 100 - train,
    }


def _train_split(value: Any) -> dict[str, Any]:
    return _split(value, is_train=True)


def _export_precision(name: str) -> Meaning:
    return lambda value: {"Export.precision": name if _is_on(value) else "fp32"}


def _cosine(value: Any) -> dict[str, Any]:
    return {"Train.lr_schedule": "cosine"}


def _pretrained(value: Any) -> dict[str, Any]:
    if _is_yes(value):
        return {}
    return {"Train.pretrain_weight_path": value if _is_on(value) else None}


def _fine_tune(value: Any) -> dict[str, Any]:
    is_number = str(value).isdecimal() and str(value) not in ("0", "1")  # of epochs, as in fastai
    return {"Train.epochs_iters": int(value)} if is_number else _pretrained(value)


def _resume(value: Any) -> dict[str, Any]:
    path = "auto" if _is_yes(value) else value if _is_on(value) else None
    return {"Train.resume_path": path}


def _gpu(value: Any) -> dict[str, Any]:
    return {"Global.device": our_device("cuda" if _is_on(value) else "cpu")}


def _no_gpu(value: Any) -> dict[str, Any]:
    return _gpu(not _is_on(value))


def _mode(name: str) -> Meaning:
    return lambda value: {"Global.mode": name}


def our_device(value: Any) -> str | None:
    """What `cuda:0`, `0,1` or `mps` are here; `auto` where this machine surely has no GPU.

    None for a range such as `gpu:0-3`, which the rule of the key itself repairs.
    """
    word = str(value).lower()
    if re.search(r"\d *- *\d", word):
        return None
    if word in ("-1", "cpu", "false", "none"):
        return "cpu"
    if gpus.are_missing() or word in ("mps", "tpu", "xpu"):
        return "auto"
    numbers = ",".join(re.findall(r"\d+", word))
    if not numbers:
        return "gpu" if _GPU.search(word) else None
    return f"gpu:{numbers}"


def _side(value: Any) -> int | None:
    numbers = re.findall(r"\d+", str(value))  # 224,224 and [3, 224, 224]
    return int(numbers[-1]) if len(numbers) in (2, 3) else None


NO_MODES: Mapping[str, str] = {
    "sweep": "-o Global.mode=train --sweep Train.learning_rate=0.0005,0.001",
    "search": "-o Global.mode=train --search tpe --trials 20 "
    "--sweep Train.learning_rate=0.0001..0.005",
    "reproduce": "--reproduce FOLDER, without Global.mode",
    "demo": "--demo, without other options",
}
"""Words for what an option does, and no mode -> the repair."""
_GPU = re.compile("gpu|cuda|rocm|nvidia|^(true|yes|on|auto)$")
_MODES = {
    **dict.fromkeys(("fit", "training", "finetune", "fine_tune"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "eval", "test"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "detect", "pred", "classify", "label"), "predict"),
    **dict.fromkeys(("check", "convert", "split", "dataset", "prepare"), "check_dataset"),
    **dict.fromkeys(("bench", "profile", "speed"), "benchmark"),
    **dict.fromkeys(("deploy", "onnx", "freeze"), "export"),
}


def our_mode(value: Any) -> str | None:
    """The mode that a word means, in any letters; None: it means none."""
    word = str(value).lower().replace("-", "_")
    return word if word in MODES else _MODES.get(word)


VALUES: Mapping[str, Callable[[Any], Any]] = {
    "Global.device": our_device,
    "Global.mode": our_mode,
    "Train.amp": _amp_level,
    "Train.early_stop_patience": lambda value: 10 if _is_yes(value) else None,
    "Train.ema_decay": lambda value: None if _is_on(value) else 0.0,
    "Train.image_size": _side,
}
"""A key of ours -> our value for one that it refuses; None: there is none."""

MEANINGS: Mapping[str, Meaning] = {
    "Export.half": _export_precision("fp16"),
    "Export.fp16": _export_precision("fp16"),
    "Export.int8": _export_precision("int8"),
    "Export.quantize": _export_precision("int8"),
    "Arch.name": lambda value: {"Global.model": value},
    "name": lambda value: {"Global.output": value},
    "pretrained": _pretrained,
    **dict.fromkeys(("fine_tune", "finetune"), _fine_tune),
    **dict.fromkeys(("resume", "resume_training"), _resume),
    **dict.fromkeys(("use_gpu", "use_cuda", "cuda"), _gpu),
    **dict.fromkeys(("no_cuda", "cpu", "use_cpu"), _no_gpu),
    **dict.fromkeys(("do_train", "train_only"), _mode("train")),
    **dict.fromkeys(("do_eval", "eval_only", "evaluate_only"), _mode("evaluate")),
    "do_predict": _mode("predict"),
    "auto_find_batch_size": lambda value: {"Train.batch_size": "auto"},
    "per_device_eval_batch_size": lambda value: {"Evaluate.batch_size": value},
    **dict.fromkeys(("fliplr", "hflip", "horizontal_flip", "flip_prob", "random_flip"), _flip),
    **dict.fromkeys(("aa", "auto_augment", "rand_augment", "augmentation"), _randaugment),
    **dict.fromkeys(("reprob", "random_erase", "random_erasing", "erasing", "re_prob"), _cutout),
    **dict.fromkeys(("half", "fp16", "use_amp", "mixed_precision", "use_fp16"), _amp),
    **dict.fromkeys(("precision", "dtype"), _amp),
    "bf16": _bfloat,
    **dict.fromkeys(("loss_fn", "loss_function", "criterion", "loss_type"), _loss),
    "Train.loss.type": _loss,
    "bce_loss": lambda value: _loss("bce" if _is_on(value) else "asymmetric"),
    **dict.fromkeys(("smoothing", "label_smooth", "ls"), _smoothing),
    **dict.fromkeys(("validation_split", "val_split", "test_size", "val_ratio"), _split),
    **dict.fromkeys(("train_split", "train_ratio", "split_ratio", "train_size"), _train_split),
    "cos_lr": _cosine,
}
"""A word, or a dotted one where only that section means it, whose values are other ones here."""

_AUGMENT = "colour, rotation and the like are drawn by Train.augment.randaugment (true or false)"
_LISTS = "Global.dataset_dir holds label.txt, train.txt and val.txt; other files are converted by "
_LISTS += "CheckDataset.convert.enable=true"
_STEPS = "a training is counted in epochs: Train.epochs_iters"
_PROCESSES = "devices and processes are Global.device, such as gpu:0,1; machines are Train.dist_ips"
_START = "the shipped YAML starts from published weights; a file of others, or null for random "
_START += "ones, is Train.pretrain_weight_path"
_NETWORK = "each network has one form: Global.model chooses it"
_ADAMW = "the optimizer is AdamW, with Train.learning_rate and Train.weight_decay"

NOTES: Mapping[str, str] = {
    **dict.fromkeys(("optimizer", "opt", "optim", "momentum", "betas", "beta1"), _ADAMW),
    **dict.fromkeys(("nesterov", "beta2", "epsilon", "eps", "optimizer_name", "nbs"), _ADAMW),
    **dict.fromkeys(
        ("lrf", "min_lr", "final_lr", "eta_min", "gamma", "decay_rate", "decay_epochs"),
        "the rate falls to almost 0 by itself: Train.lr_schedule is cosine or one_cycle",
    ),
    **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "shear"), _AUGMENT),
    **dict.fromkeys(("color_jitter", "rotation_range", "brightness", "transforms"), _AUGMENT),
    **dict.fromkeys(("batch_tfms", "aug_transforms", "data_augmentation", "tfms"), _AUGMENT),
    **dict.fromkeys(("item_tfms", "resize", "multi_scale"), "all images get Train.image_size"),
    **dict.fromkeys(("pretrained", "fine_tune", "finetune"), _START),
    **dict.fromkeys(("hidden_size", "num_layers", "depth_multiple", "width_multiple"), _NETWORK),
    **dict.fromkeys(("depth", "width", "activation", "model_kwargs"), _NETWORK),
    **dict.fromkeys(
        ("evaluation_strategy", "eval_strategy", "noval", "val"),
        "a training evaluates val.txt of Global.dataset_dir every Train.eval_interval epochs",
    ),
    **dict.fromkeys(
        ("save_strategy", "save_total_limit", "load_best_model_at_end", "save_best"),
        "the best model and the latest are kept; Train.save_interval keeps others",
    ),
    **dict.fromkeys(
        ("warmup_ratio", "warmup_proportion", "pct_start"),
        "the warm-up is counted in epochs: Train.warmup_steps",
    ),
    **dict.fromkeys(
        ("lr_find", "auto_lr_find", "find_lr"), "--sweep tries values of Train.learning_rate"
    ),
    **dict.fromkeys(("deterministic", "cudnn_benchmark"), "Global.seed fixes a training on a CPU"),
    **dict.fromkeys(("local_rank", "ddp", "launcher"), _PROCESSES),
    **dict.fromkeys(
        ("mosaic", "cutmix", "close_mosaic", "copy_paste", "mixup_alpha"),
        "images are mixed by Train.augment.mixup alone, such as 0.2",
    ),
    **dict.fromkeys(
        ("flipud", "vflip", "vertical_flip"), "only Train.augment.flip mirrors, left to right"
    ),
    **dict.fromkeys(
        ("dropout", "drop_rate", "drop", "drop_path", "drop_path_rate"),
        "the models have no dropout: Train.weight_decay and Train.augment work against overfitting",
    ),
    **dict.fromkeys(("steps", "steps_per_epoch", "max_steps", "total_iters", "iterations"), _STEPS),
    **dict.fromkeys(("iters", "max_iters", "max_iter", "num_iters"), _STEPS),
    **dict.fromkeys(("cls_label_path", "train_list", "val_list", "train_file", "val_file"), _LISTS),
    **dict.fromkeys(("val_dir", "label_file", "label_path", "annotations", "csv", "names"), _LISTS),
    **dict.fromkeys(("test_dir", "label_list", "label_columns", "val_data"), _LISTS),
    **dict.fromkeys(
        ("task", "use_multilabel", "multi_label", "multilabel", "problem_type"),
        "there is one task, multi-label classification; the job is Global.mode",
    ),
    **dict.fromkeys(
        ("accelerator", "strategy", "distributed", "world_size", "num_gpus", "nproc_per_node"),
        _PROCESSES,
    ),
    **dict.fromkeys(
        ("metrics", "metric", "monitor", "eval_metric"),
        "the best model is the one with the highest mAP on val.txt",
    ),
    **dict.fromkeys(
        ("shuffle", "drop_last"), "train.txt is always shuffled; Train.sampler has the ways"
    ),
    **dict.fromkeys(
        ("callbacks", "verbose", "plots", "exist_ok", "use_visualdl", "profiler_options"),
        "reports are written by mode evaluate, event files by Train.tensorboard; "
        "Global.overwrite replaces an earlier run",
    ),
    **dict.fromkeys(
        ("rect", "iou", "box", "single_cls", "overlap_mask", "agnostic_nms", "cls"),
        "it belongs to object detection: here an image has labels, and no boxes"),
    **dict.fromkeys(
        ("dynamic", "simplify", "dynamic_axes"),
        "an ONNX export takes batches of any size; Export.batch_size fixes it",
    ),
    "split": "mode evaluate measures on val.txt of Global.dataset_dir",
}  # fmt: skip
"""A word that has no key here -> what there is instead."""

SECTIONS: Mapping[str, str] = {
    **dict.fromkeys(("arch", "optimizer", "dataloader", "loss", "metric", "infer"), "PaddleClas"),
    **dict.fromkeys(("postprocess", "amp"), "PaddleClas"),
    **dict.fromkeys(("trainer", "model", "data"), "Lightning"),
}
"""Sections of other tools, whose files are not ours, in small letters -> the tool."""
