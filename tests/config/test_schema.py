# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.config import schema, validation, values
from paddlex_ml.config.schema import Config, GlobalConfig, TrainConfig

MINIMAL: dict[str, Any] = {
    "Global": {"model": "PP-LCNet_x1_0_ML", "mode": "train"},
    "Train": {"learning_rate": 0.001, "warmup_steps": 1},
}


def build(raw: dict[str, Any]) -> tuple[Config, list[validation.ConfigFault]]:
    faults: list[validation.ConfigFault] = []
    return validation.build(Config, raw, "", faults), faults


def fault_of(key: str, value: Any) -> validation.ConfigFault:
    """The one fault of a configuration that is good except for `key`."""
    section, _, name = key.partition(".")
    raw = {**MINIMAL, section: dict(MINIMAL.get(section, {}))}
    target = raw[section]
    *parents, name = name.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
    target[name] = value
    _, [fault] = build(raw)
    return fault


def test_a_minimal_configuration_gets_the_documented_defaults() -> None:
    config, faults = build(MINIMAL)
    assert faults == []
    assert (config.Train.batch_size, config.Train.epochs_iters, config.Global.seed) == (32, 20, 42)
    assert config.Global.output == Path("output")
    assert (config.Train.loss.gamma_neg, config.Train.loss.clip) == (4.0, 0.05)
    assert config.Predict.threshold is None
    assert config.Evaluate.weight_path is None


def test_every_section_is_frozen() -> None:
    config, _ = build(MINIMAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Train.batch_size = 1  # type: ignore[misc]


def test_the_modes_and_the_annotation_of_mode_agree() -> None:
    assert fault_of("Global.mode", "fly").what.endswith(", ".join(schema.MODES))


@pytest.mark.parametrize(
    ("key", "value", "message", "fix"),
    [
        (
            "Train.batch_size",
            0,
            "is 0: must be auto, or a whole number of at least 1",
            "-o Train.batch_size=32",
        ),
        ("Train.batch_size", True, "auto, or a whole number", "-o Train.batch_size=32"),
        ("Train.batch_size", 8.0, "auto, or a whole number", "-o Train.batch_size=8"),
        ("Train.batch_size", "8.0", "must be auto, or a whole number", "-o Train.batch_size=8"),
        ("Train.batch_size", None, "must be auto, or a whole number", "-o Train.batch_size=32"),
        ("Train.batch_size", {"x": 1}, "is a mapping: must be auto, or a whole number", "=32"),
        ("Train.image_size", 450, "from 32 to 2048, a multiple of 32", "-o Train.image_size=448"),
        ("Train.image_size", 4096, "from 32 to 2048", "-o Train.image_size=448"),
        ("Train.ema_decay", 1, "from 0 to below 1", "-o Train.ema_decay=0.9997"),
        ("Train.learning_rate", 0, "must be above 0", "-o Train.learning_rate=0.001"),
        ("Train.learning_rate", float("nan"), "must be a finite number", "=0.001"),
        ("Train.learning_rate", "inf", "must be a finite number", "=0.001"),
        ("Train.learning_rate", 10**400, "must be a number", "=0.001"),
        ("Train.learning_rate", True, "must be a number", "=0.001"),
        ("Train.loss.clip", float("inf"), "must be a finite number", "-o Train.loss.clip=0.05"),
        ("Train.amp", False, "must be one of OFF, O1, O2", "-o Train.amp=OFF"),
        ("Train.amp", "o1", "must be one of OFF, O1, O2", "-o Train.amp=O1"),
        ("Train.augment.randaugment", "off", "must be true or false", "randaugment=false"),
        ("Train.augment.randaugment", "T", "must be true or false", "randaugment=true"),
        ("Train.num_classes", 0, "must be at least 1", "-o Train.num_classes=null"),
        (
            "Train.loss",
            3,
            "must be a section with the keys name, gamma_neg, gamma_pos, clip, pos_weight",
            "name=asymmetric",
        ),
        ("Train.loss.name", "focal", "must be one of asymmetric, bce, two_way", "=asymmetric"),
        ("Train.loss.em_alpha", 0, "must be above 0", "=0.1"),
        ("Train.teacher", [], "must name at least one", "teacher=null"),
        ("Train.teacher", 3, "must be text", "teacher=null"),
        ("Train.teacher", ["a.pdparams", ""], "must not be empty", "teacher=null"),
        ("Train.distillation.weight", 0, "above 0 to 1", "distillation.weight=0.5"),
        ("Train.distillation.weight", 1.1, "above 0 to 1", "distillation.weight=0.5"),
        ("Train.distillation.temperature", 0, "must be above 0", "distillation.temperature=1.0"),
        ("Train.loss.role_labels", 0, "must be above 0", "role_labels=null"),
        ("Benchmark.batch_sizes", [8, 0], "must hold whole numbers of at least 1", "=[8, 32]'"),
        ("Benchmark.batch_sizes", [1.5], "must hold whole numbers of at least 1", "=[8, 32]'"),
        ("Benchmark.batch_sizes", [], "must hold whole numbers of at least 1", "=[8, 32]'"),
        ("Benchmark.minutes", 0, "must be above 0", "minutes=3"),
        ("Benchmark.images", 5, "must be at least 10", "images=400"),
        ("Train.loss.pos_weight", "balanced", "auto, or a list with one number per class", "=auto"),
        ("Train.loss.pos_weight", 2.0, "auto, or a list with one number per class", "=auto"),
        ("Train.loss.pos_weight", [], "auto, or a list with one number per class", "=auto"),
        ("Train.loss.pos_weight", [1, 0], "must hold numbers above 0", "=auto"),
        ("Train.loss.pos_weight", [1, "inf"], "must be a finite number", "pos_weight=null"),
        ("Train.loss.pos_weight", [1, True], "must be a number", "pos_weight=null"),
        ("Train.num_queries", 0, "auto, or a whole number of at least 1", "num_queries=auto"),
        ("Train.num_queries", True, "auto, or a whole number of at least 1", "num_queries=auto"),
        ("Train.num_queries", 2.5, "auto, or a whole number of at least 1", "num_queries=auto"),
        ("Train.num_queries", None, "auto, or a whole number of at least 1", "num_queries=auto"),
        ("Train.num_queries", "all", "auto, or a whole number of at least 1", "num_queries=auto"),
        ("Train.num_queries", "9" * 9999, "a whole number of at least 1", "num_queries=auto"),
        ("Train.loss.label_smoothing", 1, "from 0 to below 1", "label_smoothing=0.0"),
        ("Train.loss.temperature", 0, "must be above 0", "temperature=4.0"),
        ("Train.lr_schedule", "onecycle", "must be one of cosine, one_cycle", "=one_cycle"),
        ("Train.backbone_lr_mult", 0, "must be above 0", "backbone_lr_mult=1.0"),
        ("Train.freeze_backbone_epochs", -1, "must be at least 0", "freeze_backbone_epochs=0"),
        ("Train.grad_clip_norm", 0, "must be above 0", "grad_clip_norm=null"),
        ("Train.repeat_threshold", 0, "above 0 to 1", "repeat_threshold=0.05"),
        ("Train.augment.mixup", -0.1, "must be at least 0", "mixup=0.0"),
        ("Train.dist_ips", "10.0.0.1;10.0.0.2", "addresses separated by commas", "192.168.0.1,"),
        ("Train.dist_ips", "10.0.0.1,", "addresses separated by commas", "192.168.0.1,"),
        ("Train.dist_ips", ["-n"], "addresses separated by commas", "192.168.0.1,"),
        ("Train.dist_ips", "a, b,a", "names a machine twice", "-o Train.dist_ips=a,b"),
        ("Global.seed", 2**32, "from 0 to 4294967295", "-o Global.seed=42"),
        ("Global.mode", "evaluat", "must be one of check_dataset", "-o Global.mode=evaluate"),
        ("Global.model", "ResNet50", "must be one of", "-o Global.model=ResNet50_ML"),
        ("Global.device", "cuda", "must be auto, cpu, gpu", "-o Global.device=gpu"),
        ("Global.device", "gpu0", "must be auto, cpu, gpu", "-o Global.device=gpu:0"),
        ("Global.device", "GPU:0, 1", "must be auto", "-o Global.device=gpu:0,1"),
        ("Global.device", "gpu:0-3", "must be auto", "-o Global.device=gpu:0,1,2,3"),
        ("Global.device", "gpu:3-0", "must be auto", "-o Global.device=auto"),
        ("Global.device", "cuda:1", "must be auto", "-o Global.device=gpu:1"),
        ("Global.device", "gpu:0,00", "names a device twice", "-o Global.device=auto"),
        ("Global.output", ["a"], "must be text", "-o Global.output=output"),
        ("Global.output", "", "must not be empty", "-o Global.output=output"),
        ("Global.output", "a\0b", "no file name can have", "-o Global.output=output"),
        (
            "Export.format",
            "onx",
            "must be one of paddle, safetensors, onnx, pdmodel",
            "-o Export.format=onnx",
        ),
        ("Export.opset", 10, "from 11 to 21", "-o Export.opset=17"),
        ("Export.opset", 22, "from 11 to 21", "-o Export.opset=17"),
        ("Predict.kernel_option.run_mode", "mkldn", "must be one of paddle, mkldnn", "=mkldnn"),
        ("Predict.kernel_option.cpu_threads", 0, "must be at least 1", "cpu_threads=null"),
        ("Predict.max_labels", 0, "must be at least 1", "max_labels=null"),
        ("Predict.min_labels", -1, "must be at least 0", "min_labels=0"),
        ("Predict.on_error", "skip", "must be one of report, raise", "on_error=report"),
        ("Predict.threshold", 1.5, "numbers from 0 to 1", "-o Predict.threshold=0.5"),
        ("Predict.threshold", [0.5, float("nan")], "finite number", "threshold=null"),
        ("Predict.threshold", [], "the list is empty", "-o Predict.threshold=0.5"),
        ("Predict.threshold", {"cat": 0.3}, "the key default", "{default: 0.5, cat: 0.3}"),
        ("Predict.threshold", {"default": 0.5, 1.5: 0.1}, "by id or name, got 1.5", "=null"),
        ("Predict.input", ["a.jpg", None], "must be text", "-o Predict.input=null"),
        ("Predict.input", {"image": "a.jpg"}, "must be {img: path}", "{img: photo.jpg}"),
        ("CheckDataset.split.train_percent", 101, "from 0 to 100", "train_percent=null"),
        ("Global.output", "s3://bucket/run", "on this machine", "-o Global.output=./run"),
        ("Global.dataset_dir", "https://host/a/set?token=x", "not a URL", "dataset_dir=./set"),
        ("Predict.save_path", "htp://", "not a URL", "-o Predict.save_path=./my_set"),
    ],
)
def test_a_bad_value_names_its_rule_and_its_repair(
    key: str, value: Any, message: str, fix: str
) -> None:
    fault = fault_of(key, value)
    assert fault.what.startswith(f"{key} is ")
    assert message in fault.what
    assert fix in fault.fix


@pytest.mark.parametrize(
    "device", ["auto", "cpu", "gpu", "gpu:0", "gpu:0,1", "cpu:0,1", "gpu:0,1,2,3", "gpu:10,1"]
)
def test_every_documented_device_is_accepted(device: str) -> None:
    assert values.device(device) == device


@pytest.mark.parametrize(
    ("number", "rate"), [(1, 1.0), ("1e-4", 0.0001), ("0.001", 0.001), (0.05, 0.05)]
)
def test_a_float_field_takes_whole_numbers_and_text_that_is_a_number(
    number: Any, rate: float
) -> None:
    train = {"learning_rate": number, "warmup_steps": 0}
    config, faults = build({**MINIMAL, "Train": train})
    assert (config.Train.learning_rate, faults) == (rate, [])


def test_thresholds_keep_class_ids_and_names() -> None:
    threshold = {"default": 0.5, 1: 0.1, "cat": 1}
    config, faults = build({**MINIMAL, "Predict": {"threshold": threshold}})
    assert faults == []
    assert config.Predict.threshold == {"default": 0.5, 1: 0.1, "cat": 1.0}


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("192.168.0.1, 192.168.0.2", "192.168.0.1,192.168.0.2"),
        (["node-1.lab", "10.0.0.2"], "node-1.lab,10.0.0.2"),
        ("node1", "node1"),
        (None, None),
    ],
)
def test_addresses_of_machines_are_words_between_commas(value: Any, held: str | None) -> None:
    config, faults = build({**MINIMAL, "Train": {**MINIMAL["Train"], "dist_ips": value}})
    assert (config.Train.dist_ips, faults) == (held, [])


@pytest.mark.parametrize(
    ("value", "held"),
    [("auto", "auto"), (None, None), ([1, "2.5", 1e-3], [1.0, 2.5, 0.001])],
)
def test_weights_of_present_labels_are_auto_or_numbers(value: Any, held: Any) -> None:
    loss = {"name": "bce", "pos_weight": value}
    config, faults = build({**MINIMAL, "Train": {**MINIMAL["Train"], "loss": loss}})
    assert (config.Train.loss.pos_weight, faults) == (held, [])


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    raw = {"model": "ResNet50_ML", "mode": "train", "output": "~/runs"}
    assert validation.build(GlobalConfig, raw, "Global", []).output == Path("/home/ada/runs")


def test_missing_keys_are_all_named_with_a_repair() -> None:
    _, faults = build({"Global": None})
    assert [(fault.what, fault.fix) for fault in faults] == [
        ("Global.model is missing", "-o Global.model=PP-LCNet_x1_0_ML"),
        ("Global.mode is missing", "-o Global.mode=check_dataset"),
        ("Train.learning_rate is missing", "-o Train.learning_rate=0.001"),
        ("Train.warmup_steps is missing", "-o Train.warmup_steps=1.0"),
    ]


@pytest.mark.parametrize(
    ("raw", "what", "fix"),
    [
        (
            {"learning_rte": 0.01},
            "unknown key Train.learning_rte",
            "write Train.learning_rate instead (-o Train.learning_rate=0.01)",
        ),
        (
            {"dataset_dir": "x"},
            "unknown key Train.dataset_dir",
            "write Global.dataset_dir instead (-o Global.dataset_dir=x)",
        ),
        (
            {"weight_path": "x"},
            "unknown key Train.weight_path",
            "write Evaluate.weight_path instead (-o Evaluate.weight_path=x), "
            "or write Export.weight_path instead (-o Export.weight_path=x)",
        ),
        ({"lss": {}}, "unknown key Train.lss", "write Train.loss instead"),
    ],
)
def test_an_unknown_key_names_the_right_one(raw: dict[str, Any], what: str, fix: str) -> None:
    faults: list[validation.ConfigFault] = []
    validation.build(TrainConfig, {"warmup_steps": 1, **raw}, "Train", faults)
    assert (faults[0].what, faults[0].fix) == (what, fix)


def test_a_key_like_no_other_lists_the_choices() -> None:
    fault = fault_of("Export.zzz", 1)
    keys = "Export.weight_path, Export.format, Export.opset, Export.batch_size, Export.precision, "
    keys += "Export.calibration_images, Export.max_changed_decisions, Export.max_map_loss"
    assert fault.fix == f"remove it, or choose from {keys}"


def test_a_misspelt_section_is_not_reported_as_missing_too() -> None:
    _, faults = build({"Global": MINIMAL["Global"], "Trian": {**MINIMAL["Train"], "amp": "O9"}})
    assert [fault.what for fault in faults] == [
        "unknown section Trian",
        "Train.amp is 'O9': must be one of OFF, O1, O2",
    ]
