# SPDX-License-Identifier: Apache-2.0
"""What ties several keys together, and what a mode needs before it may start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from paddlex_ml.config import shipped
from paddlex_ml.config.schema import OPSET, SOURCES, TOKEN_MODELS, TUNE_TARGET, Config
from paddlex_ml.config.validation import ConfigFault, override

RATE_REFUSED = 0.01
"""AdamW above this rate destroys the weights within an epoch, whatever the model."""
RATE_DOUBTFUL = 0.002
"""Above this rate training was seen to end worse than below it."""
RATE_IDLE = 1e-6
"""Below this rate no weight moves within the epochs that anybody waits for."""
_ROUNDS = 20  # of the bootstrap: with fewer, the percentiles are its lowest and highest round

Rule = Callable[[Config], ConfigFault | None]


def broken(config: Config, skip: set[str], *, to_run: bool) -> Iterator[ConfigFault]:
    """The faults of all rules, except those that look at a key in `skip` (already at fault).

    `to_run` adds what only a run needs; without it the rules that tie keys together remain.
    """
    for keys, rule in (*_ALWAYS, *(_TO_RUN if to_run else ())):
        fault = None if skip.intersection(keys) else rule(config)
        if fault:
            yield fault


def notes(config: Config) -> Iterator[str]:
    """What is allowed but worth a line in the log."""
    rate = config.Train.learning_rate
    if config.Global.mode != "train":
        return
    if config.Train.pretrain_weight_path is None and config.Train.resume_path is None:
        yield (
            "training starts from random weights: with weights to start from "
            "(Train.pretrain_weight_path) it needs far fewer images and epochs; without them "
            "PP-LCNet ended better at twice the shipped Train.learning_rate (docs/results.md)"
        )
    if rate > RATE_DOUBTFUL:
        yield (
            f"Train.learning_rate {rate:g} is high for AdamW: above {RATE_DOUBTFUL:g} training "
            f"often ends worse; the shipped file for this model has {_shipped_rate(config):g}"
        )
    if rate * max(1.0, config.Train.head_lr_mult) < RATE_IDLE:
        yield (
            f"Train.learning_rate {rate:g} is so low that nothing will move: below {RATE_IDLE:g} "
            f"scores stay what they are; the shipped file for this model has "
            f"{_shipped_rate(config):g}"
        )


def _warmup_ends(config: Config) -> ConfigFault | None:
    key, epochs = "Train.warmup_steps", config.Train.epochs_iters
    if config.Train.warmup_steps < epochs:
        return None
    what = f"a warm-up of {config.Train.warmup_steps:g} epochs never ends in {epochs}"
    return ConfigFault(key, what, override(key, epochs / 10 if epochs < 10 else epochs // 10))


def _percents_add_up(config: Config) -> ConfigFault | None:
    split = config.CheckDataset.split
    train, val = split.train_percent, split.val_percent
    if not split.enable or ((train or 0) + (val or 0) == 100 and train and val):
        return None
    key = "CheckDataset.split.train_percent"
    what = f"{key} {train} and val_percent {val} must add up to 100"
    if train == 100 or val == 100:
        what = f"{key} {train} and val_percent {val} leave one of the lists without an image"
    train = train if train and 0 < train < 100 else 80
    fix = f"{override(key, train)} {override('CheckDataset.split.val_percent', 100 - train)}"
    return ConfigFault(key, what, fix)


def _source_is_named(config: Config) -> ConfigFault | None:
    convert = config.CheckDataset.convert
    if not convert.enable or convert.src_dataset_type is not None:
        return None
    key = "CheckDataset.convert.src_dataset_type"
    what = f"{key} is not set: convert from one of {', '.join(SOURCES)}"
    return ConfigFault(key, what, override(key, "COCO"))


def _tokens_are_a_choice(config: Config) -> ConfigFault | None:
    key, tokens = "Train.decoder_tokens", config.Train.decoder_tokens
    if tokens is None or config.Global.model in TOKEN_MODELS:
        return None
    what = f"{key} is {tokens}: only the head of {', '.join(TOKEN_MODELS)} has this choice"
    return ConfigFault(key, what, f"-o {key}=null")


def _rate_trains(config: Config) -> ConfigFault | None:
    key, rate = "Train.learning_rate", config.Train.learning_rate
    if config.Global.mode != "train" or rate <= RATE_REFUSED:
        return None
    what = f"{key} is {rate:g}: AdamW destroys the weights above {RATE_REFUSED:g}"
    return ConfigFault(key, what, override(key, _shipped_rate(config)))


def _head_rate_trains(config: Config) -> ConfigFault | None:
    return _part_trains(config, "Train.head_lr_mult", "head", config.Train.head_lr_mult)


def _backbone_rate_trains(config: Config) -> ConfigFault | None:
    factor = config.Train.backbone_lr_mult
    return _part_trains(config, "Train.backbone_lr_mult", "backbone", factor)


def _part_trains(config: Config, key: str, part: str, factor: float) -> ConfigFault | None:
    rate = config.Train.learning_rate
    if config.Global.mode != "train" or rate > RATE_REFUSED or rate * factor <= RATE_REFUSED:
        return None
    what = (
        f"{key} {factor:g} makes the {part}'s rate {rate * factor:g}: AdamW destroys the weights "
        f"above {RATE_REFUSED:g}"
    )
    return ConfigFault(key, what, override(key, 1))


def _freezing_ends(config: Config) -> ConfigFault | None:
    key, train = "Train.freeze_backbone_epochs", config.Train
    if train.freeze_backbone_epochs < train.epochs_iters:
        return None
    frozen, epochs = train.freeze_backbone_epochs, train.epochs_iters
    what = f"{key} {frozen} leaves no epoch of {epochs} to the backbone"
    return ConfigFault(key, what, override(key, min(1, train.epochs_iters - 1)))


def _some_epoch_is_evaluated(config: Config) -> ConfigFault | None:
    key, train = "Train.start_eval_epoch", config.Train
    if train.start_eval_epoch <= train.epochs_iters:
        return None
    what = f"{key} {train.start_eval_epoch} comes after the last of {train.epochs_iters} epochs"
    return ConfigFault(key, what, override(key, train.epochs_iters))


def _pos_weight_is_used(config: Config) -> ConfigFault | None:
    key, loss = "Train.loss.pos_weight", config.Train.loss
    if loss.pos_weight is None or loss.name == "bce":
        return None
    what = f"{key} is set, but the loss {loss.name} has no such weight"
    return ConfigFault(key, what, override("Train.loss.name", "bce"))


def _smoothing_is_used(config: Config) -> ConfigFault | None:
    key, loss = "Train.loss.label_smoothing", config.Train.loss
    if not loss.label_smoothing or loss.name != "two_way":
        return None
    what = f"{key} is {loss.label_smoothing:g}, but two_way only asks which labels are present"
    return ConfigFault(key, what, override(key, 0))


def _opset_is_used(config: Config) -> ConfigFault | None:
    key, export = "Export.opset", config.Export
    if config.Global.mode != "export" or export.format == "onnx" or export.opset == OPSET:
        return None
    what = f"{key} is {export.opset}, but the format {export.format} has no such version"
    return ConfigFault(key, what, override("Export.format", "onnx"))


def _tuned_is_saved(config: Config) -> ConfigFault | None:
    key, wanted = "Evaluate.save_threshold", config.Evaluate
    if not wanted.save_threshold or wanted.tune_threshold is not None:
        return None
    what = f"{key} is true, but Evaluate.tune_threshold is null: there is nothing to save"
    return ConfigFault(key, what, override("Evaluate.tune_threshold", "f1"))


def _rounds_make_an_interval(config: Config) -> ConfigFault | None:
    key, rounds = "Evaluate.bootstrap", config.Evaluate.bootstrap
    if not 0 < rounds < _ROUNDS:
        return None
    what = f"{key} is {rounds}: so few rounds have no middle 95 %"
    return ConfigFault(key, what, override(key, _ROUNDS))


def _target_is_used(config: Config) -> ConfigFault | None:
    key, wanted = "Evaluate.tune_target", config.Evaluate
    is_set = config.Global.mode == "evaluate" and wanted.tune_target != TUNE_TARGET
    if not is_set or wanted.tune_threshold in ("precision", "recall"):
        return None
    chosen = wanted.tune_threshold or "null"
    what = f"{key} is {wanted.tune_target:g}, but Evaluate.tune_threshold {chosen} has no target"
    wish = override("Evaluate.tune_threshold", "precision")
    return ConfigFault(key, what, f"{wish} (or recall), or {override(key, TUNE_TARGET)}")


def _data_set_is_named(config: Config) -> ConfigFault | None:
    needed = config.Global.mode in ("check_dataset", "train", "evaluate")
    if not needed or config.Global.dataset_dir is not None:
        return None
    key = "Global.dataset_dir"
    what = f"{key} is not set: mode {config.Global.mode} reads a data set"
    return ConfigFault(key, what, override(key, "./dataset/my_set"))


def _input_is_named(config: Config) -> ConfigFault | None:
    if config.Global.mode != "predict" or config.Predict.input is not None:
        return None
    key = "Predict.input"
    what = f"{key} is not set: mode predict needs an image, a folder, a URL or a list of these"
    return ConfigFault(key, what, override(key, "photo.jpg"))


def _output_is_a_folder(config: Config) -> ConfigFault | None:
    key, output = "Global.output", config.Global.output
    for path in (output, *output.parents):  # os.path: a folder without permission is no error here
        if os.path.exists(path) and not os.path.isdir(path):
            what = f"{key} is {str(output)!r}, but {path} is a file"
            return ConfigFault(key, what, f"move that file, or {override(key, 'output_2')}")
    return None


def _shipped_rate(config: Config) -> float:
    return shipped.learning_rate(config.Global.model)


_ALWAYS: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("Train.warmup_steps", "Train.epochs_iters"), _warmup_ends),
    (
        ("CheckDataset.split.train_percent", "CheckDataset.split.val_percent"),
        _percents_add_up,
    ),
    (("CheckDataset.convert.src_dataset_type",), _source_is_named),
    (("Global.model", "Train.decoder_tokens"), _tokens_are_a_choice),
    (("Train.freeze_backbone_epochs", "Train.epochs_iters"), _freezing_ends),
    (("Train.start_eval_epoch", "Train.epochs_iters"), _some_epoch_is_evaluated),
    (("Train.loss.pos_weight", "Train.loss.name"), _pos_weight_is_used),
    (("Train.loss.label_smoothing", "Train.loss.name"), _smoothing_is_used),
    (("Evaluate.save_threshold", "Evaluate.tune_threshold"), _tuned_is_saved),
    (("Evaluate.bootstrap",), _rounds_make_an_interval),
)
_TO_RUN: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("Global.output",), _output_is_a_folder),
    (("Global.mode", "Global.dataset_dir"), _data_set_is_named),
    (("Global.mode", "Global.model", "Train.learning_rate"), _rate_trains),
    (("Global.mode", "Train.learning_rate", "Train.head_lr_mult"), _head_rate_trains),
    (("Global.mode", "Train.learning_rate", "Train.backbone_lr_mult"), _backbone_rate_trains),
    (("Global.mode", "Export.format", "Export.opset"), _opset_is_used),
    (("Global.mode", "Evaluate.tune_target", "Evaluate.tune_threshold"), _target_is_used),
    (("Global.mode", "Predict.input"), _input_is_named),
)
