# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml import gpus
from paddlex_ml.config import load
from paddlex_ml.models import published
from tests.config.test_load import MINIMAL, PADDLEX, failure, merged, write


def test_a_random_start_is_noted_in_train_mode(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    train = ["Global.mode=train", "Global.dataset_dir=data"]
    (note,) = load.load(path, train).notes
    assert note.startswith("training starts from random weights")
    assert "(Train.pretrain_weight_path)" in note
    assert "-o Train.pretrain_weight_path=starter comes with paddlex_ml" in note
    (note,) = load.load(path, [*train, "Global.model=PP-HGNetV2-B0_ML"]).notes
    assert "starter" not in note
    for key in ("pretrain_weight_path=a.pdparams", "resume_path=output/latest"):
        assert load.load(path, [*train, f"Train.{key}"]).notes == ()
    assert load.load(path, ["Global.dataset_dir=data"]).notes == ()


def test_the_rate_of_paddlex_is_refused_in_train_mode(tmp_path: Path) -> None:
    error = failure(tmp_path, "Global.mode=train", text=PADDLEX)
    assert error.what == "Train.learning_rate is 0.1: AdamW destroys the weights above 0.01"
    assert error.where == f"{tmp_path / 'my.yaml'}:21"
    assert error.fix.startswith("-o Train.learning_rate=0.0")


@pytest.mark.parametrize("part", ["head", "backbone"])
def test_a_multiple_that_makes_a_parts_rate_too_high_is_refused_in_train_mode(
    tmp_path: Path, part: str
) -> None:
    key, rates = f"Train.{part}_lr_mult", ["Global.dataset_dir=data", "Train.learning_rate=0.002"]
    error = failure(tmp_path, "Global.mode=train", *rates, f"{key}=6")
    assert error.what == (
        f"{key} 6 makes the {part}'s rate 0.012: AdamW destroys the weights above 0.01"
    )
    assert (error.where, error.fix) == (f"-o {key}=6", f"-o {key}=1")
    assert merged(tmp_path, "Global.mode=train", *rates, f"{key}=5")
    assert merged(tmp_path, *rates, f"{key}=6").Global.mode == "check_dataset"


@pytest.mark.parametrize(
    ("overrides", "what", "fix"),
    [
        (
            ["Train.epochs_iters=5", "Train.freeze_backbone_epochs=5"],
            "Train.freeze_backbone_epochs 5 leaves no epoch of 5 to the backbone",
            "-o Train.freeze_backbone_epochs=1",
        ),
        (
            ["Train.epochs_iters=1", "Train.warmup_steps=0", "Train.freeze_backbone_epochs=1"],
            "Train.freeze_backbone_epochs 1 leaves no epoch of 1 to the backbone",
            "-o Train.freeze_backbone_epochs=0",
        ),
        (
            ["Train.epochs_iters=5", "Train.start_eval_epoch=6"],
            "Train.start_eval_epoch 6 comes after the last epoch, 5",
            "-o Train.start_eval_epoch=5",
        ),
        (
            ["Global.model=ResNet50_ML", "Train.pretrain_weight_path=starter"],
            "Train.pretrain_weight_path is starter: there are such weights for PP-LCNet_x1_0_ML "
            "alone, not for ResNet50_ML",
            "-o Train.pretrain_weight_path=null begins with random weights; a file named starter "
            "is ./starter",
        ),
        (
            ["Train.loss.pos_weight=auto"],
            "Train.loss.pos_weight is set, but the loss asymmetric has no such weight",
            "-o Train.loss.name=bce",
        ),
        (
            ["Train.loss.name=two_way", "Train.loss.pos_weight=[1, 2]"],
            "Train.loss.pos_weight is set, but the loss two_way has no such weight",
            "-o Train.loss.name=bce",
        ),
        (
            ["Train.loss.name=two_way", "Train.loss.label_smoothing=0.1"],
            "Train.loss.label_smoothing is 0.1, but two_way only asks which labels are present",
            "-o Train.loss.label_smoothing=0",
        ),
        (
            ["Train.recompute=true", "Train.compile=true"],
            "Train.compile and Train.recompute are both true: blocks of a static graph are not "
            "computed again",
            "-o Train.compile=false, or -o Train.recompute=false",
        ),
        (
            ["Train.sync_bn=true", "Train.compile=true"],
            "Train.compile and Train.sync_bn are both true: a static graph has no exchange of "
            "statistics",
            "-o Train.compile=false, or -o Train.sync_bn=false",
        ),
        (
            ["Train.recompute=true", "Train.overlap_exchange=true"],
            "Train.overlap_exchange and Train.recompute are both true: Paddle's reducer cannot "
            "follow blocks that run again",
            "-o Train.overlap_exchange=false, or -o Train.recompute=false",
        ),
        (
            ["Train.channels_last=true"],
            "Train.channels_last is true, but Paddle changes the layout in 16 bits alone, and "
            "Train.amp is OFF",
            "-o Train.amp=O1, or -o Train.channels_last=false",
        ),
        (
            [
                "Global.model=CLIP_vit_base_patch16_448_ML",
                "Train.amp=O1",
                "Train.channels_last=true",
            ],
            "Train.channels_last is true, but CLIP_vit_base_patch16_448_ML has no convolutions "
            "between its layers",
            "-o Train.channels_last=false",
        ),
        (
            ["Train.amp=O2", "Train.compile=true", "Train.channels_last=true"],
            "Train.channels_last and Train.compile are both true: a static graph keeps the layout "
            "of the model",
            "-o Train.channels_last=false, or -o Train.compile=false",
        ),
        (
            ["Train.loss.name=two_way", "Train.soft_labels=true"],
            "Train.soft_labels is true, but the loss two_way only asks which labels are present",
            "-o Train.loss.name=bce",
        ),
        (
            ["Train.single_positive=true", "Train.loss.unknown=ignore"],
            "Train.single_positive leaves no absent label: with Train.loss.unknown ignore every "
            "score would rise to 1",
            "-o Train.loss.unknown=weak_negative",
        ),
        (
            ["Train.loss.name=two_way", "Train.single_positive=true", "Train.loss.unknown=em"],
            "Train.single_positive leaves no absent label: with Train.loss.unknown em two_way has "
            "nothing to compare",
            "-o Train.loss.unknown=weak_negative",
        ),
        (
            ["Train.loss.name=two_way", "Train.single_positive=true", "Train.loss.unknown=ignore"],
            "Train.single_positive leaves no absent label: with Train.loss.unknown ignore two_way "
            "has nothing to compare",
            "-o Train.loss.unknown=weak_negative",
        ),
        (
            ["Train.single_positive=true", "Train.loss.name=bce", "Train.loss.pos_weight=auto"],
            "Train.loss.pos_weight is auto, but Train.single_positive leaves no absent label to "
            "count",
            "-o Train.loss.pos_weight=null",
        ),
        (
            ["Train.single_positive=true", "Train.augment.mixup=0.2"],
            "Train.augment.mixup is 0.2: what one of two images shows is unknown on their mixture, "
            "so that Train.single_positive leaves hardly any label",
            "-o Train.augment.mixup=0",
        ),
        (
            ["Train.distillation.weight=0.9"],
            "Train.distillation.weight is set, but Train.teacher is null",
            "-o Train.distillation.weight=0.5, or -o Train.teacher=other_run",
        ),
        (
            ["Train.distillation.temperature=2", "Train.distillation.weight=0.9"],
            "Train.distillation.weight and Train.distillation.temperature are set, but "
            "Train.teacher is null",
            "-o Train.distillation.weight=0.5 -o Train.distillation.temperature=1.0",
        ),
        (
            ["Train.loss.role_labels=3"],
            "Train.loss.role_labels is set, but Train.loss.unknown is ignore, which has no such "
            "number",
            "-o Train.loss.role_labels=null",
        ),
        (
            ["Train.loss.unknown=negative", "Train.loss.em_alpha=0.3"],
            "Train.loss.em_alpha is set, but Train.loss.unknown is negative, which has no such "
            "number",
            "-o Train.loss.unknown=em, or -o Train.loss.em_alpha=0.1",
        ),
        (
            ["Train.loss.unknown=role"],
            "Train.loss.unknown is role, which asymmetric has no form of: it is made for bce",
            "-o Train.loss.name=bce",
        ),
        (
            ["Train.loss.name=two_way", "Train.loss.unknown=role"],
            "Train.loss.unknown is role, which two_way has no form of: it is made for bce",
            "-o Train.loss.name=bce",
        ),
        (
            ["Train.loss.name=bce", "Train.loss.unknown=role", "Train.augment.mixup=0.2"],
            "Train.augment.mixup is 0.2, but Train.loss.unknown role estimates labels of single "
            "images",
            "-o Train.augment.mixup=0",
        ),
        (
            ["Evaluate.bootstrap=1"],
            "Evaluate.bootstrap is 1: so few rounds have no middle 95 %",
            "-o Evaluate.bootstrap=20",
        ),
    ],
)
def test_training_keys_that_contradict_each_other_are_refused(
    tmp_path: Path, overrides: list[str], what: str, fix: str
) -> None:
    mode = "evaluate" if overrides[0].startswith("Evaluate.") else "train"
    needed = ["Global.dataset_dir=data", f"Global.mode={mode}"]
    error = failure(tmp_path, *needed, *overrides)
    assert (error.what, error.where, error.fix) == (what, f"-o {overrides[-1]}", fix)
    for repair in fix.removeprefix("-o ").split(", or -o "):
        assert merged(tmp_path, *needed, *overrides, *repair.split(" -o "))
    others = ["predict", "export", "check_dataset", *({"train", "evaluate"} - {mode})]
    for other in others:
        keys = (f"Global.mode={other}", "Predict.input=a.jpg", "Global.dataset_dir=data")
        assert merged(tmp_path, *overrides, *keys).Global.mode == other


def test_one_tag_a_photo_composes_with_all_where_it_assumes_absent(tmp_path: Path) -> None:
    needed = ["Global.dataset_dir=data", "Global.mode=train", "Train.single_positive=true"]
    assert merged(tmp_path, *needed).Train.unknown_labels == "weak_negative"
    weights = ["Train.loss.name=bce", "Train.loss.pos_weight=auto", "Train.augment.mixup=0.2"]
    config = merged(tmp_path, *needed, *weights, "Train.loss.unknown=negative")
    assert config.Train.unknown_labels == "negative"
    two_way = merged(tmp_path, *needed, "Train.loss.name=two_way")
    assert two_way.Train.unknown_labels == "weak_negative"
    assert merged(tmp_path, *needed[:2]).Train.unknown_labels == "ignore"


def test_only_the_mode_that_reads_a_section_asks_for_its_rules(tmp_path: Path) -> None:
    whole = PADDLEX.replace("epochs_iters: 20", "epochs_iters: 2")
    config = merged(tmp_path, "CheckDataset.split.enable=false", text=whole)
    assert (config.Train.warmup_steps, config.Train.epochs_iters) == (5, 2)
    convert = ["CheckDataset.convert.enable=true", "CheckDataset.split.enable=true"]
    assert len(failure(tmp_path, *convert).what.splitlines()) == 7
    train = ["Global.mode=train", "Train.warmup_steps=1", "Train.learning_rate=1e-3"]
    assert merged(tmp_path, *convert, *train, text=PADDLEX).Global.mode == "train"


@pytest.mark.parametrize("mode", ["check_dataset", "evaluate", "export", "predict"])
def test_a_file_without_options_of_a_training_does_for_the_other_modes(
    tmp_path: Path, mode: str
) -> None:
    text = f"Global: {{model: ResNet50_ML, mode: {mode}, dataset_dir: d}}\nPredict: {{input: a}}\n"
    assert merged(tmp_path, text=text).Global.mode == mode
    error = failure(tmp_path, "Global.mode=train", text=text)
    assert "Train.learning_rate is missing" in error.what


def test_a_warm_up_of_more_than_half_of_the_epochs_is_refused(tmp_path: Path) -> None:
    keys = ["Global.mode=train", "Global.dataset_dir=data", "Train.epochs_iters=6"]
    error = failure(tmp_path, *keys, "Train.warmup_steps=5")
    assert error.what == "a warm-up of 5 epochs leaves less than half of 6 to the full rate"
    assert error.fix == "-o Train.warmup_steps=0.6"
    assert merged(tmp_path, *keys, "Train.warmup_steps=3").Train.warmup_steps == 3


def test_training_keys_at_the_edge_of_what_they_may_be_load(tmp_path: Path) -> None:
    train = merged(
        tmp_path,
        "Train.epochs_iters=5",
        "Train.freeze_backbone_epochs=4",
        "Train.start_eval_epoch=5",
        "Train.loss.name=bce",
        "Train.loss.pos_weight=[0.5, 2]",
        "Train.loss.label_smoothing=0.1",
    ).Train
    assert (train.freeze_backbone_epochs, train.start_eval_epoch) == (4, 5)
    assert train.loss.pos_weight == [0.5, 2.0]


def test_a_high_rate_is_noted_and_a_usual_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    train = ["Global.mode=train", "Train.pretrain_weight_path=a.pdparams"]
    high = load.load(path, [*train, "Train.learning_rate=0.005"])
    assert len(high.notes) == 1
    assert high.notes[0].startswith("Train.learning_rate 0.005 is high for AdamW: above 0.002")
    assert load.load(path, [*train, "Train.learning_rate=0.002"]).notes == ()


def test_a_rate_at_which_nothing_moves_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    train = ["Global.mode=train", "Train.pretrain_weight_path=a.pdparams"]
    (note,) = load.load(path, [*train, "Train.learning_rate=9e-7"]).notes
    assert note.startswith(
        "Train.learning_rate 9e-07 is so low that nothing will move: below 1e-06"
    )
    assert load.load(path, [*train, "Train.learning_rate=1e-6"]).notes == ()
    head = "Train.head_lr_mult=10"  # the head alone learns
    assert load.load(path, [*train, "Train.learning_rate=9e-7", head]).notes == ()


@pytest.mark.parametrize(
    ("overrides", "what", "fix"),
    [
        (
            ["CheckDataset.convert.enable=True"],
            "CheckDataset.convert.src_dataset_type is not set: choose auto, or one of COCO, VOC",
            "-o CheckDataset.convert.src_dataset_type=auto",
        ),
        (
            ["CheckDataset.split={enable: true, train_percent: 100, val_percent: 0}"],
            "CheckDataset.split.train_percent 100 and val_percent 0 leave one of the lists without",
            "-o CheckDataset.split.train_percent=80 -o CheckDataset.split.val_percent=20",
        ),
        (
            ["CheckDataset.split.group_regex=(a"],
            "CheckDataset.split.group_regex is '(a': must be a regular expression: missing )",
            "-o 'CheckDataset.split.group_regex=(.+)_[0-9]+', where (.+)_[0-9]+ is only an example",
        ),
        (
            ["CheckDataset.convert={enable: true, src_dataset_type: labelmee}"],
            "CheckDataset.convert.src_dataset_type is 'labelmee': must be one of auto, COCO, VOC, "
            "LabelMe, YOLO, CSV, ImageFolder, JSONL",
            "-o CheckDataset.convert.src_dataset_type=LabelMe",
        ),
        (
            ["Global.mode=train", "Global.dataset_dir=data", "Train.warmup_steps=20"],
            "a warm-up of 20 epochs never ends in 20",
            "-o Train.warmup_steps=2",
        ),
        (
            ["Global.mode=export", "Global.model=ResNet50_ML", "Train.decoder_tokens=all_patches"],
            "Train.decoder_tokens is all_patches: only the head of CLIP_vit_base_patch16_448_ML",
            "-o Train.decoder_tokens=null",
        ),
        (
            ["Global.mode=export", "Export.opset=13"],
            "Export.opset is 13, but the format paddle has no such version",
            "-o Export.format=onnx",
        ),
        (
            ["Global.mode=evaluate", "Global.dataset_dir=data", "Evaluate.tune_target=0.95"],
            "Evaluate.tune_target is 0.95, but Evaluate.tune_threshold f1 has no target",
            "-o Evaluate.tune_threshold=precision (or recall), or -o Evaluate.tune_target=0.9",
        ),
        (
            [
                *("Global.mode=evaluate", "Global.dataset_dir=data"),
                *("Evaluate.save_threshold=true", "Evaluate.tune_threshold=null"),
            ],
            "Evaluate.save_threshold is true, but Evaluate.tune_threshold is null",
            "-o Evaluate.tune_threshold=f1",
        ),
        (
            ["Global.mode=predict"],
            "Predict.input is not set: mode predict needs an image",
            "-o Predict.input=photo.jpg",
        ),
        (
            ["Global.mode=train", "Global.dataset_dir=data", "Train.resume_path=True"],
            "Train.resume_path is True, which is a word for yes or no",
            "-o Train.resume_path=auto",
        ),
        (
            ["Global.mode=train", "Global.dataset_dir=data", "Train.teacher=off"],
            "Train.teacher is off, which is a word for yes or no",
            "-o Train.teacher=null",
        ),
        (
            ["Global.mode=train", "Global.dataset_dir=data", "Train.pretrain_weight_path=yes"],
            "Train.pretrain_weight_path is yes, which is a word for yes or no",
            f"-o Train.pretrain_weight_path={published.weights_url('PP-LCNet_x1_0_ML')}",
        ),
    ],
)
def test_a_broken_rule_names_its_repair(
    tmp_path: Path, overrides: list[str], what: str, fix: str
) -> None:
    error = failure(tmp_path, *overrides)
    assert error.what.startswith(what)
    assert error.fix == fix


@pytest.mark.parametrize(
    ("mode", "method"), [("evaluate", "precision"), ("evaluate", "recall"), ("train", "f1")]
)
def test_a_target_is_accepted_where_it_is_used_or_has_no_effect(
    tmp_path: Path, mode: str, method: str
) -> None:
    keys = (f"Global.mode={mode}", "Global.dataset_dir=data", "Evaluate.tune_target=0.95")
    config = merged(tmp_path, *keys, f"Evaluate.tune_threshold={method}")
    assert config.Evaluate.tune_target == 0.95


@pytest.mark.parametrize(
    ("mode", "export", "opset"),
    [("export", "onnx", 13), ("export", "paddle", 17), ("train", "paddle", 13)],
)
def test_a_version_of_operators_is_accepted_where_it_has_no_effect(
    tmp_path: Path, mode: str, export: str, opset: int
) -> None:
    keys = (f"Global.mode={mode}", f"Export.format={export}", f"Export.opset={opset}")
    assert merged(tmp_path, *keys).Export.opset == opset


def test_percents_of_a_split_must_add_up(tmp_path: Path) -> None:
    error = failure(tmp_path, "CheckDataset.split={enable: true, train_percent: 90}")
    assert "train_percent 90 and val_percent None must add up to 100" in error.what
    assert error.fix.endswith("-o CheckDataset.split.val_percent=10")


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("")
    error = failure(tmp_path, f"Global.output={file / 'deeper'}")
    assert error.what == f"Global.output is '{file / 'deeper'}', but {file} is a file"
    assert error.fix == "move that file, or -o Global.output=output_2"


@pytest.mark.parametrize("mode", ["train", "evaluate", "export", "predict"])
def test_a_gpu_that_is_not_there_is_refused_with_the_line_for_the_file(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "are_missing", lambda: True)
    text = MINIMAL.replace("mode: check_dataset", f"mode: {mode}\n  device: gpu:0,1,2,3")
    input_image = ["Predict.input=a.jpg"]
    error = failure(tmp_path, *input_image, text=text)
    assert error.what == (
        "Global.device is gpu:0,1,2,3, but this machine has no GPU, or no driver of it"
    )
    assert error.where == f"{tmp_path / 'my.yaml'}:4"
    assert error.fix == (
        "-o Global.device=auto, or for good in the YAML file, section Global: device: auto"
    )
    assert merged(tmp_path, *input_image, "Global.device=auto", text=text)
    monkeypatch.setattr(gpus, "are_missing", lambda: False)
    assert merged(tmp_path, *input_image, text=text).Global.device == "gpu:0,1,2,3"


def test_a_check_notes_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "are_missing", lambda: True)
    loaded = load.load(write(tmp_path, MINIMAL), ["Global.device=gpu"])
    [note] = loaded.notes
    assert note.endswith("write into the YAML file, section Global: device: auto")
