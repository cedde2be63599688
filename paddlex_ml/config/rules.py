# SPDX-License-Identifier: Apache-2.0
"""The rules about several keys, and what a mode needs before it may start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from typing import TypeAlias

from paddlex_ml import gpus, program
from paddlex_ml.config import shipped
from paddlex_ml.config.distillation_schema import DistillationConfig
from paddlex_ml.config.export_schema import FORMATS_WITH_PRECISION, OPSET, ExportConfig
from paddlex_ml.config.schema import (
    BATCH_SIZE,
    SOURCES,
    STARTER,
    STARTER_MODEL,
    TOKEN_MODELS,
    TUNE_TARGET,
    Config,
    LossConfig,
)
from paddlex_ml.config.validation import ConfigFault, override
from paddlex_ml.models import published

RATE_REFUSED = 0.01
"""AdamW above this rate destroys the weights within an epoch, whatever the model."""
RATE_DOUBTFUL = 0.002
"""Above this rate training was seen to end worse than below it."""
RATE_IDLE = 1e-6
"""Below this rate no weight changes noticeably in any usual number of epochs."""
LONGEST_WARMUP = 0.5
"""Share of the epochs: after a longer warm-up the rate falls before the model has learned."""
TRAINING = ("plan", "train")
"""Modes that read the options of a training."""
_YES_OR_NO = {
    **dict.fromkeys(("true", "yes", "on", "y", "1"), True),
    **dict.fromkeys(("false", "no", "off", "n", "0", "none"), False),
}
_LOSS = LossConfig()
_INT8_OPSET = 13  # the first version with a scale for every channel
_ROUNDS = 20  # of the bootstrap: with fewer, the percentiles are its lowest and highest round

Broken: TypeAlias = tuple[ConfigFault, tuple[str, ...]]
"""The fault of a broken rule, and the keys that the rule reads besides `fault.key`."""


def broken(config: Config, skip: set[str], *, to_run: bool) -> Iterator[ConfigFault]:
    """The faults of the rules of the mode, except those that read a key in `skip` (at fault).

    `to_run` adds what only a run needs; without it the rules that tie keys together remain.
    """
    groups = [_RULES.get(config.Global.mode), _token_rules]
    groups += [_word_rules, _run_rules] if to_run else []
    if to_run and config.Global.mode in TRAINING:
        groups.append(_rate_rules)
    for rules in groups if "Global.mode" not in skip else ():
        for fault, others in rules(config) if rules else ():
            if not skip.intersection((fault.key, *others)):
                yield fault


def notes(config: Config) -> Iterator[str]:
    """What is allowed but worth a line in the log."""
    rate, device = config.Train.learning_rate, config.Global.device
    if config.Global.mode == "check_dataset" and device.startswith("gpu") and gpus.are_missing():
        yield (
            f"Global.device is {device}, but this machine has no GPU, which a check does not need; "
            "for the training write into the YAML file, section Global: device: auto"
        )
    if config.Global.mode not in TRAINING:
        return
    if config.Train.pretrain_weight_path is None and config.Train.resume_path is None:
        offer = ""
        if config.Global.model == STARTER_MODEL:
            offer = f"; {override('Train.pretrain_weight_path', STARTER)} comes with paddlex_ml"
        yield (
            "training starts from random weights: with weights to start from "
            f"(Train.pretrain_weight_path) it needs far fewer images and epochs{offer}; without "
            "them PP-LCNet ended better at twice the shipped Train.learning_rate "
            f"({program.page('results.md')})"
        )
    usual = f"the shipped file for this model has {shipped.learning_rate(config.Global.model):g}"
    if rate > RATE_DOUBTFUL:
        yield (
            f"Train.learning_rate {rate:g} is high for AdamW: above {RATE_DOUBTFUL:g} training "
            f"often ends worse; {usual}"
        )
    if rate * max(1.0, config.Train.head_lr_mult) < RATE_IDLE:
        yield (
            f"Train.learning_rate {rate:g} is so low that nothing will move: below {RATE_IDLE:g} "
            f"scores stay what they are; {usual}"
        )


def _check_dataset_rules(config: Config) -> Iterator[Broken]:
    convert, split = config.CheckDataset.convert, config.CheckDataset.split
    train, val = split.train_percent, split.val_percent
    if split.enable and not (train and val and train + val == 100):
        key, other = "CheckDataset.split.train_percent", "CheckDataset.split.val_percent"
        what = f"{key} {train} and val_percent {val} must add up to 100"
        if train == 100 or val == 100:
            what = f"{key} {train} and val_percent {val} leave one of the lists without an image"
        train = train if train and train < 100 else 80
        fix = f"{override(key, train)} {override(other, 100 - train)}"
        yield ConfigFault(key, what, fix), (other,)
    yield from _by_reference_rules(config)
    if convert.enable and convert.src_dataset_type is None:
        key = "CheckDataset.convert.src_dataset_type"
        what = f"{key} is not set: choose auto, or one of {', '.join(SOURCES[1:])}"
        yield ConfigFault(key, what, override(key, "auto")), ()
    if convert.rename and not (convert.enable or convert.is_by_reference):
        key, other = "CheckDataset.convert.rename", "CheckDataset.convert.enable"
        what = f"{key} is set, but {other} is false: only a conversion renames classes"
        fix = f"{override(key, None)}, and for lists of ours: dataset_tools/rename_classes.py"
        yield ConfigFault(key, what, fix), (other,)


def _by_reference_rules(config: Config) -> Iterator[Broken]:
    """What belongs to a source of which a data set is made beside it."""
    convert, other = config.CheckDataset.convert, "CheckDataset.convert.src_dataset_type"
    if convert.image_root is not None and not convert.is_by_reference:
        key = "CheckDataset.convert.image_root"
        what = f"{key} is set, but only {other} auto without enable reads it"
        yield ConfigFault(key, what, override(key, None)), (other,)
    if (
        convert.is_by_reference
        and config.Train.dist_ips is not None
        and config.Global.mode == "train"
    ):
        what = (
            f"{other} is {convert.src_dataset_type}: several machines need a data set that is there"
        )
        fix = f"{override('Global.mode', 'check_dataset')} first, and train with what it has made"
        yield ConfigFault(other, what, fix), ("Train.dist_ips",)


def _starter_rules(config: Config) -> Iterator[Broken]:
    key, text, model = "Train.pretrain_weight_path", STARTER, config.Global.model
    if config.Train.pretrain_weight_path == text and model != STARTER_MODEL:
        what = f"{key} is {text}: there are such weights for {STARTER_MODEL} alone, not for {model}"
        fix = f"{override(key, None)} begins with random weights; a file named {text} is ./{text}"
        yield ConfigFault(key, what, fix), ("Global.model",)


def _train_rules(config: Config) -> Iterator[Broken]:
    yield from _by_reference_rules(config)
    yield from _starter_rules(config)
    train, loss, epochs = config.Train, config.Train.loss, config.Train.epochs_iters
    if train.warmup_steps > epochs * LONGEST_WARMUP:
        key, length = "Train.warmup_steps", f"a warm-up of {train.warmup_steps:g} epoch"
        length += "s" * (train.warmup_steps != 1)
        what = f"{length} leaves less than half of {epochs} to the full rate"
        if train.warmup_steps >= epochs:
            what = f"{length} never ends in {epochs}"
        fix = override(key, epochs / 10 if epochs < 10 else epochs // 10)
        yield ConfigFault(key, what, fix), ("Train.epochs_iters",)
    if train.freeze_backbone_epochs >= epochs:
        key = "Train.freeze_backbone_epochs"
        what = f"{key} {train.freeze_backbone_epochs} leaves no epoch of {epochs} to the backbone"
        fix = override(key, min(1, epochs - 1))
        yield ConfigFault(key, what, fix), ("Train.epochs_iters",)
    if train.start_eval_epoch > epochs:
        key = "Train.start_eval_epoch"
        what = f"{key} {train.start_eval_epoch} comes after the last epoch, {epochs}"
        yield ConfigFault(key, what, override(key, epochs)), ("Train.epochs_iters",)
    if loss.pos_weight is not None and loss.name != "bce":
        key = "Train.loss.pos_weight"
        what = f"{key} is set, but the loss {loss.name} has no such weight"
        yield ConfigFault(key, what, override("Train.loss.name", "bce")), ("Train.loss.name",)
    if loss.label_smoothing and loss.name == "two_way":
        key = "Train.loss.label_smoothing"
        what = f"{key} is {loss.label_smoothing:g}, but two_way only asks which labels are present"
        yield ConfigFault(key, what, override(key, 0)), ("Train.loss.name",)
    yield from _exclusive_rules(config)
    yield from _channels_last_rules(config)
    if loss.unknown == "role":
        yield from _role_rules(config)
    yield from _treatment_rules(config)
    if train.teacher is None:
        yield from _without_teacher_rules(config)
    if train.soft_labels and loss.name == "two_way":
        key = "Train.soft_labels"
        what = f"{key} is true, but the loss two_way only asks which labels are present"
        yield ConfigFault(key, what, override("Train.loss.name", "bce")), ("Train.loss.name",)
    if train.single_positive and train.unknown_labels != "negative":
        yield from _single_positive_rules(config)


def _exclusive_rules(config: Config) -> Iterator[Broken]:
    """Ways to compute a step that cannot be had together."""
    train = config.Train
    for key, other, reason in (
        ("compile", "recompute", "blocks of a static graph are not computed again"),
        ("compile", "sync_bn", "a static graph has no exchange of statistics"),
        ("overlap_exchange", "recompute", "Paddle's reducer cannot follow blocks that run again"),
        ("channels_last", "compile", "a static graph keeps the layout of the model"),
        ("channels_last", "recompute", "the blocks that run again would have another layout"),
        ("channels_last", "sync_bn", "the exchange of statistics reads the layout NCHW"),
    ):
        if getattr(train, key) and getattr(train, other):
            what = f"Train.{key} and Train.{other} are both true: {reason}"
            fix = f"{override(f'Train.{key}', False)}, or {override(f'Train.{other}', False)}"
            yield ConfigFault(f"Train.{key}", what, fix), (f"Train.{other}",)


def _channels_last_rules(config: Config) -> Iterator[Broken]:
    """Paddle changes the layout of convolutions in 16 bits alone."""
    key, amp = "Train.channels_last", "Train.amp"
    if not config.Train.channels_last:
        return
    off = override(key, False)
    if config.Train.amp == "OFF":
        what = f"{key} is true, but Paddle changes the layout in 16 bits alone, and {amp} is OFF"
        yield ConfigFault(key, what, f"{override(amp, 'O1')}, or {off}"), (amp,)
    if config.Global.model in TOKEN_MODELS:  # one convolution, and transformer layers
        what = f"{key} is true, but {config.Global.model} has no convolutions between its layers"
        yield ConfigFault(key, what, off), ("Global.model",)


def _without_teacher_rules(config: Config) -> Iterator[Broken]:
    """Numbers of a teacher, where none is named."""
    given, usual = config.Train.distillation, DistillationConfig()
    names = ("weight", "temperature")
    changed = [name for name in names if getattr(given, name) != getattr(usual, name)]
    if changed:
        keys = {f"Train.distillation.{name}": getattr(usual, name) for name in changed}
        key, *others = keys
        what = f"{' and '.join(keys)} {'are' if others else 'is'} set, but Train.teacher is null"
        fix = " ".join(override(each, value) for each, value in keys.items())
        teacher = override("Train.teacher", "other_run")
        fix = fix if others else f"{fix}, or {teacher}"
        yield ConfigFault(key, what, fix), ("Train.teacher", *others)


def _single_positive_rules(config: Config) -> Iterator[Broken]:
    """No label of train.txt is known to be absent: what cannot work without one."""
    train, loss, this = config.Train, config.Train.loss, "Train.single_positive"
    key, is_two_way = "Train.loss.unknown", loss.name == "two_way"
    if loss.unknown == "ignore" or (is_two_way and loss.unknown == "em"):
        what = f"{this} leaves no absent label: with {key} {train.unknown_labels} "
        what += "two_way has nothing to compare" if is_two_way else "every score would rise to 1"
        fix = override(key, "weak_negative")
        yield ConfigFault(key, what, fix), (this, key, "Train.loss.name")
    if loss.pos_weight == "auto":
        key = "Train.loss.pos_weight"
        what = f"{key} is auto, but {this} leaves no absent label to count"
        yield ConfigFault(key, what, override(key, None)), (this, "Train.loss.unknown")
    if train.augment.mixup:
        key = "Train.augment.mixup"
        what = (
            f"{key} is {train.augment.mixup:g}: what one of two images shows is unknown on their "
        )
        what += f"mixture, so that {this} leaves hardly any label"
        yield ConfigFault(key, what, override(key, 0)), (this, "Train.loss.unknown")


def _role_rules(config: Config) -> Iterator[Broken]:
    """Estimated labels: each belongs to one image, and to a binary cross-entropy."""
    train, this = config.Train, "Train.loss.unknown"
    if train.loss.name != "bce":
        other = "Train.loss.name"
        what = f"{this} is role, which {train.loss.name} has no form of: it is made for bce"
        yield ConfigFault(this, what, override(other, "bce")), (other,)
    if train.augment.mixup and not train.single_positive:  # which refuses it for its own reason
        key = "Train.augment.mixup"
        what = f"{key} is {train.augment.mixup:g}, but {this} role estimates labels of single "
        yield ConfigFault(key, f"{what}images", override(key, 0)), (this, "Train.single_positive")


def _treatment_rules(config: Config) -> Iterator[Broken]:
    """Numbers of one treatment of unknown labels, where another one is chosen."""
    train, loss, this = config.Train, config.Train.loss, "Train.loss.unknown"
    mixup, is_two_way = train.augment.mixup, loss.name == "two_way"
    is_hidden = train.single_positive and (is_two_way or loss.pos_weight == "auto" or mixup)
    # A treatment that another rule would refuse is no repair.
    fits = {"role": loss.name == "bce" and not mixup and not is_hidden, "em": not is_hidden}
    numbers = {"role": "role_labels", "em": "em_alpha"}
    given = [k for k, name in numbers.items() if getattr(loss, name) != getattr(_LOSS, name)]
    for treatment in given:
        if train.unknown_labels == treatment:
            continue
        key, default = f"Train.loss.{numbers[treatment]}", getattr(_LOSS, numbers[treatment])
        what = f"{key} is set, but {this} is {train.unknown_labels}, which has no such number"
        fix = override(key, default)
        if fits[treatment] and len(given) == 1:
            fix = f"{override(this, treatment)}, or {fix}"
        yield ConfigFault(key, what, fix), (this, "Train.single_positive")


def _token_rules(config: Config) -> Iterator[Broken]:
    """Every mode that has a model reads this key of the training."""
    key, tokens = "Train.decoder_tokens", config.Train.decoder_tokens
    has_choice = config.Global.model in TOKEN_MODELS or config.Global.mode == "check_dataset"
    if tokens is not None and not has_choice:
        what = f"{key} is {tokens}: only the head of {', '.join(TOKEN_MODELS)} has this choice"
        yield ConfigFault(key, what, override(key, None)), ("Global.model",)


def _evaluate_rules(config: Config) -> Iterator[Broken]:
    evaluate = config.Evaluate
    if evaluate.save_threshold and evaluate.tune_threshold is None:
        key, other = "Evaluate.save_threshold", "Evaluate.tune_threshold"
        what = f"{key} is true, but {other} is null: there is nothing to save"
        yield ConfigFault(key, what, override(other, "f1")), (other,)
    if 0 < evaluate.bootstrap < _ROUNDS:
        key = "Evaluate.bootstrap"
        what = f"{key} is {evaluate.bootstrap}: so few rounds have no middle 95 %"
        yield ConfigFault(key, what, override(key, _ROUNDS)), ()


_RULES = {
    "check_dataset": _check_dataset_rules,
    **dict.fromkeys(TRAINING, _train_rules),
    "evaluate": _evaluate_rules,
}
"""Mode -> the rules about the section that it alone reads."""


def _word_rules(config: Config) -> Iterator[Broken]:
    """A word for yes or no where a path to weights belongs."""
    train, evaluate = config.Train, config.Evaluate
    model = published.TABLE.get(config.Global.model)
    named: dict[str, tuple[str | None, str | None]] = {}
    if config.Global.mode in TRAINING:
        usual = model and published.weights_url(config.Global.model)
        named["Train.pretrain_weight_path"] = (train.pretrain_weight_path, usual)
        named["Train.resume_path"] = (train.resume_path, "auto")
        named["Train.teacher"] = (train.teacher[0] if train.teacher else None, None)
    elif config.Global.mode == "evaluate":
        named["Evaluate.weight_path"] = (evaluate.weight_path, None)
        named["Evaluate.compare_with"] = (evaluate.compare_with, None)
    elif config.Global.mode in ("export", "benchmark"):
        named["Export.weight_path"] = (config.Export.weight_path, None)
    for key, (text, meant) in named.items():
        if text is not None and text.lower() in _YES_OR_NO and not os.path.exists(text):
            what = f"{key} is {text}, which is a word for yes or no: a path or a URL belongs there"
            fix = override(key, meant if _YES_OR_NO[text.lower()] else None)
            yield ConfigFault(key, what, fix), ("Global.mode",)


def _run_rules(config: Config) -> Iterator[Broken]:
    mode, output, evaluate = config.Global.mode, config.Global.output, config.Evaluate
    for path in (output, *output.parents):  # os.path: no error in a folder without permission
        if os.path.exists(path) and not os.path.isdir(path):
            key = "Global.output"
            what = f"{key} is {str(output)!r}, but {path} is a file"
            free = next(name for n in count(2) if not os.path.exists(name := f"output_{n}"))
            yield ConfigFault(key, what, f"move that file, or {override(key, free)}"), ()
            break
    if config.Global.device.startswith("gpu") and mode != "check_dataset" and gpus.are_missing():
        key = "Global.device"
        what = f"{key} is {config.Global.device}, but this machine has no GPU, or no driver of it"
        fix = f"{override(key, 'auto')}, or for good in the YAML file, section Global: device: auto"
        yield ConfigFault(key, what, fix), ("Global.mode",)
    reads_data = mode in ("check_dataset", *TRAINING, "evaluate", "benchmark")
    if reads_data and config.Global.dataset_dir is None:
        key = "Global.dataset_dir"
        what = f"{key} is not set: mode {mode} reads a data set"
        yield ConfigFault(key, what, override(key, "./dataset/my_set")), ("Global.mode",)
    if mode == "export" and config.Export.format != "onnx" and config.Export.opset != OPSET:
        key, other = "Export.opset", "Export.format"
        what = f"{key} is {config.Export.opset}, but the format {config.Export.format} has no such "
        fault = ConfigFault(key, f"{what}version", override(other, "onnx"))
        yield fault, ("Global.mode", other)
    is_open = config.Export.format not in FORMATS_WITH_PRECISION
    if mode == "export" and is_open and config.Export.batch_size:
        key, other = "Export.batch_size", "Export.format"
        what = f"{key} is {config.Export.batch_size}, but a model of the format "
        what += f"{config.Export.format} takes batches of any size"
        fix = f"{override(key, None)}, or {override(other, 'onnx')}"
        yield ConfigFault(key, what, fix), ("Global.mode", other)
    if mode == "export":
        yield from _precision_rules(config)
    if config.Train.dist_ips:
        yield from _trial_rules(config)
    has_target = evaluate.tune_threshold in ("precision", "recall")
    if mode == "evaluate" and evaluate.tune_target != TUNE_TARGET and not has_target:
        key, other = "Evaluate.tune_target", "Evaluate.tune_threshold"
        method = evaluate.tune_threshold or "null"
        what = f"{key} is {evaluate.tune_target:g}, but {other} {method} has no target"
        fix = f"{override(other, 'precision')} (or recall), or {override(key, TUNE_TARGET)}"
        yield ConfigFault(key, what, fix), ("Global.mode", other)
    is_source = config.CheckDataset.convert.is_by_reference  # the command before predicts on it
    if mode == "predict" and config.Predict.input is None and not is_source:
        key = "Predict.input"
        what = f"{key} is not set: mode predict needs an image, a folder, a URL or a list of these"
        yield ConfigFault(key, what, override(key, "photo.jpg")), ("Global.mode",)


def _trial_rules(config: Config) -> Iterator[Broken]:
    """What is tried on this machine says nothing about other ones."""
    mode, key, other = config.Global.mode, "Train.dist_ips", "Train.batch_size"
    if mode == "plan":
        what = f"{key} names several machines, but mode plan measures this one alone"
        yield ConfigFault(key, what, override(key, None)), ("Global.mode",)
    if mode == "train" and config.Train.batch_size == "auto":
        what = f"{other} is auto, but each of the machines of {key} would choose its own size"
        yield ConfigFault(other, what, override(other, BATCH_SIZE)), ("Global.mode", key)


def _precision_rules(config: Config) -> Iterator[Broken]:
    wanted, key = config.Export, "Export.precision"
    readers = {
        "calibration_images": ("int8",),
        "max_changed_decisions": ("fp16", "int8"),
        "max_map_loss": ("fp16", "int8"),
    }
    for name, precisions in readers.items():
        usual = getattr(ExportConfig, name)
        if wanted.precision not in precisions and getattr(wanted, name) != usual:
            other = f"Export.{name}"
            what = f"{other} is {getattr(wanted, name):g}, but {key} {wanted.precision} "
            fix = f"{override(key, precisions[-1])}, or {override(other, usual)}"
            yield ConfigFault(other, f"{what}does not read it", fix), ("Global.mode", key)
    if wanted.precision == "fp32":
        return
    if wanted.format not in FORMATS_WITH_PRECISION:
        what = f"{key} is {wanted.precision}, but the format {wanted.format} has only fp32"
        fix = f"{override('Export.format', 'onnx')} (or openvino), or {override(key, 'fp32')}"
        yield ConfigFault(key, what, fix), ("Global.mode", "Export.format")
    if wanted.precision == "int8" and wanted.opset < _INT8_OPSET:
        other = "Export.opset"
        what = f"{key} is int8, but {other} {wanted.opset} has no scale for every channel"
        fix = f"{override(other, _INT8_OPSET)} or higher, or {override(key, 'fp16')}"
        yield ConfigFault(key, what, fix), ("Global.mode", other)
    if config.Global.dataset_dir is None:
        other = "Global.dataset_dir"
        what = f"{key} is {wanted.precision}, which is measured on val.txt, but {other} is not set"
        fix = f"{override(other, './dataset/my_set')}, or {override(key, 'fp32')}"
        yield ConfigFault(key, what, fix), ("Global.mode", other)


def _rate_rules(config: Config) -> Iterator[Broken]:
    train, rate_key = config.Train, "Train.learning_rate"
    rate = train.learning_rate
    destroys = f"AdamW destroys the weights above {RATE_REFUSED:g}"
    if rate > RATE_REFUSED:
        fix = f"{override(rate_key, shipped.learning_rate(config.Global.model))}, as it is shipped"
        fault = ConfigFault(rate_key, f"{rate_key} is {rate:g}: {destroys}", fix)
        yield fault, ("Global.model",)
        return
    for part, factor in (("head", train.head_lr_mult), ("backbone", train.backbone_lr_mult)):
        if rate * factor > RATE_REFUSED:
            key = f"Train.{part}_lr_mult"
            what = f"{key} {factor:g} makes the {part}'s rate {rate * factor:g}: {destroys}"
            yield ConfigFault(key, what, override(key, 1)), (rate_key,)
