# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.config import load, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.errors import PaddlexMLError

MINIMAL = """\
Global:
  model: PP-LCNet_x1_0_ML
  mode: check_dataset
  dataset_dir: data
Train:
  learning_rate: 1e-3
  warmup_steps: 1
"""

# The keys and values that PaddleX 3.7 ships for this model (written from its documentation).
PADDLEX = """\
Global:
  model: PP-LCNet_x1_0_ML
  mode: check_dataset # check_dataset/train/evaluate/predict
  dataset_dir: "dataset/mlcls_nus_examples"
  device: gpu:0,1,2,3
  output: "output"

CheckDataset:
  convert:
    enable: False
    src_dataset_type: null
  split:
    enable: False
    train_percent: null
    val_percent: null

Train:
  num_classes: 33
  epochs_iters: 20
  batch_size: 32
  learning_rate: 0.1
  pretrain_weight_path: https://example.com/PP-LCNet_x1_0_ML_pretrained.pdparams
  warmup_steps: 5
  resume_path: null
  log_interval: 20
  eval_interval: 1
  save_interval: 1

Evaluate:
  weight_path: "output/best_model/best_model.pdparams"
  log_interval: 1

Export:
  weight_path: https://example.com/PP-LCNet_x1_0_ML_pretrained.pdparams

Predict:
  batch_size: 1
  model_dir: "output/best_model/inference"
  input: "https://example.com/multilabel_classification_005.png"
  kernel_option:
    run_mode: paddle
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def merged(folder: Path, *overrides: str, text: str = MINIMAL) -> Config:
    return load.load(write(folder, text), overrides).config


def failure(folder: Path, *overrides: str, text: str = MINIMAL) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        load.load(write(folder, text), overrides)
    return caught.value


def test_the_yaml_of_paddlex_loads_unchanged(tmp_path: Path) -> None:
    loaded = load.load(write(tmp_path, PADDLEX))
    assert loaded.notes == ()
    assert loaded.config.Global.device == "gpu:0,1,2,3"
    assert loaded.config.Train.num_classes == 33
    assert loaded.config.Train.head_lr_mult == 1.0
    assert loaded.config.Evaluate.weight_path == "output/best_model/best_model.pdparams"
    assert loaded.config.Predict.kernel_option.run_mode == "paddle"


def test_a_random_start_is_noted_in_train_mode(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    train = ["Global.mode=train", "Global.dataset_dir=data"]
    (note,) = load.load(path, train).notes
    assert note.startswith("training starts from random weights")
    assert "(Train.pretrain_weight_path)" in note
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
            "Train.start_eval_epoch 6 comes after the last of 5 epochs",
            "-o Train.start_eval_epoch=5",
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
            ["Evaluate.bootstrap=1"],
            "Evaluate.bootstrap is 1: so few rounds have no middle 95 %",
            "-o Evaluate.bootstrap=20",
        ),
    ],
)
def test_training_keys_that_contradict_each_other_are_refused(
    tmp_path: Path, overrides: list[str], what: str, fix: str
) -> None:
    error = failure(tmp_path, *overrides)
    assert (error.what, error.where, error.fix) == (what, f"-o {overrides[-1]}", fix)
    key = fix.removeprefix("-o ")
    assert merged(tmp_path, *overrides, key).Global.mode == "check_dataset"


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


def test_paddlex_keys_without_meaning_are_noted(tmp_path: Path) -> None:
    overrides = ["Train.dy2st=True", "Global.export_with_pir=False"]
    assert load.load(write(tmp_path, MINIMAL), overrides).notes == (
        "Global.export_with_pir has no meaning here and is ignored",
        "Train.dy2st has no meaning here and is ignored",
    )


def test_overrides_are_read_as_yaml_and_the_last_one_counts(tmp_path: Path) -> None:
    config = merged(
        tmp_path,
        "Train.learning_rate=1e-4",
        "Train.batch_size=8",
        "Train.batch_size=4",
        "Train.amp=OFF",
        "Train.num_classes=null",
        "Train.loss.clip=0.1",
        "Train.loss={gamma_neg: 2}",
        "Predict.threshold={default: 0.5, cat: 0.3}",
        "Predict.input=https://host/a.jpg?x=1&y=2",
    )
    assert (config.Train.learning_rate, config.Train.batch_size) == (0.0001, 4)
    assert (config.Train.amp, config.Train.num_classes) == ("OFF", None)
    assert (config.Train.loss.gamma_neg, config.Train.loss.clip) == (2.0, 0.1)
    assert config.Predict.threshold == {"default": 0.5, "cat": 0.3}
    assert config.Predict.input == "https://host/a.jpg?x=1&y=2"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("*.jpg", "*.jpg"),
        ("@list", "@list"),
        ("photo #1.jpg", "photo #1.jpg"),
        ("#1.jpg", "#1.jpg"),
        (r"C:\photos\a.jpg", r"C:\photos\a.jpg"),
        ("2024-01-01", "2024-01-01"),
        ("off", "off"),
        ("[a.jpg, 'b c.jpg']", ["a.jpg", "b c.jpg"]),
        ('"[ab]*.jpg"', "[ab]*.jpg"),
        ("true", True),
        ("1_000", "1_000"),
        ("010", 10),
        ("-.5e-3", -0.0005),
        ("null", None),
        ("1:30", "1:30"),
    ],
)
def test_the_value_of_an_override_has_one_meaning(text: str, value: Any) -> None:
    assert yaml_text.parse_scalar_or_flow(text).value == value


@pytest.mark.parametrize("value", ["*.jpg", "off", "10", "true", "a: b", "[x", "", "图 1.jpg", "~"])
def test_a_text_written_for_an_override_is_read_back(value: str) -> None:
    line = yaml_text.write_inline(value)
    assert "\n" not in line
    assert yaml_text.parse_scalar_or_flow(line).value == value


@pytest.mark.parametrize(
    ("override", "what", "fix"),
    [
        ("Train.batch_size", "the override 'Train.batch_size' has no =", "as in -o Train.batch_"),
        ("=3", "the override '=3' has an empty key", "-o Section.key=value"),
        ("Train..amp=O1", "the override 'Train..amp=O1' has an empty key", "Section.key=value"),
        ("Train.resume_path=", "has no value", "-o Train.resume_path=null for none"),
        ("Train.batch_size.x=3", "Train.batch_size is a mapping", "-o Train.batch_size=32"),
        ("Train.warmup_steps.x=3", "Train.warmup_steps holds a value, it has no key x", "=3"),
        ("Predict.input=[ab]*.jpg", "Predict.input is bad YAML", "'Predict.input=\"[ab]*.jpg\"'"),
        ("Train.loss={clip: 0, clip: 0}", "Train.loss.clip is set twice", "remove one"),
        ("mode=train", "unknown section mode", "write Global.mode instead (-o Global.mode=train)"),
        ("Train.nu_workers=0", "unknown key Train.nu_workers", "(-o Train.num_workers=0)"),
    ],
)
def test_a_bad_override_is_named_as_it_was_typed(
    tmp_path: Path, override: str, what: str, fix: str
) -> None:
    error = failure(tmp_path, override)
    assert what in error.what
    assert error.where == f"-o {override}"
    assert fix in error.fix


def test_all_faults_come_in_one_message(tmp_path: Path) -> None:
    text = MINIMAL.replace("learning_rate: 1e-3", "learning_rate: .nan\n  batch_size: 0")
    error = failure(tmp_path, "Train.amp=O3", "Global.dataset_dir=null", text=text)
    path = tmp_path / "my.yaml"
    assert str(error).splitlines() == [
        "4 faults in the configuration",
        "  1. Train.batch_size is 0: must be at least 1",
        f"     where: {path}:7",
        "     fix:   -o Train.batch_size=32",
        "  2. Train.learning_rate is nan: must be a finite number",
        f"     where: {path}:6",
        "     fix:   -o Train.learning_rate=0.001",
        "  3. Train.amp is 'O3': must be one of OFF, O1, O2",
        "     where: -o Train.amp=O3",
        "     fix:   -o Train.amp=OFF",
        "  4. Global.dataset_dir is not set: mode check_dataset reads a data set",
        "     where: -o Global.dataset_dir=null",
        "     fix:   -o Global.dataset_dir=./dataset/my_set",
        f"  where: {path}",
        "  fix:   repair each fault as its own line says",
    ]


@pytest.mark.parametrize(
    ("text", "what", "position", "fix"),
    [
        ("- a\n- b\n", "a mapping of sections, it is a list", "", "--print-config"),
        ("", "it is empty", "", "--print-config"),
        ("just words\n", "it is a str", "", "--print-config"),
        ("Global:\n\tmode: train\n", "a tab", ":2, column 1", "spaces"),
        ("Global: [1\n", "bad YAML", ":2, column 1", "indents, quotes"),
        ("Global: !!python/name:os.system x\n", "has no meaning here", ":1, column 9", "YAML"),
        ("Global: &a [*a]\n", "a value contains itself", ":1, column 9", "YAML"),
        ("a: 1\n---\nb: 2\n", "another document", ":2, column 1", "YAML"),
        ("[1, 2]: 3\n", "a key must be one word", ":1, column 1", "YAML"),
    ],
)
def test_a_text_that_is_no_configuration_is_refused(
    tmp_path: Path, text: str, what: str, position: str, fix: str
) -> None:
    error = failure(tmp_path, text=text)
    assert what in error.what
    assert error.where == f"{tmp_path / 'my.yaml'}{position}"
    assert fix in error.fix


def test_a_key_that_is_set_twice_names_both_lines(tmp_path: Path) -> None:
    error = failure(tmp_path, text=MINIMAL + "  amp: O1\n  amp: O2\n")
    assert error.what == "Train.amp is set twice, in line 8 and in line 9"
    assert error.where == f"{tmp_path / 'my.yaml'}:9"


def test_a_missing_file_and_a_wrong_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="cannot be read: No such file"):
        load.load(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"Global:\n  output: caf\xe9\n")
    with pytest.raises(PaddlexMLError, match=r"not UTF-8 text\n  where: .*latin.yaml:2"):
        load.load(path)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load.load(path).config.Train.learning_rate == 0.001


@pytest.mark.parametrize(
    "overrides", [(), ("Train.amp=O1", "Global.output=图 #1: x", "Global.seed=0")]
)
def test_a_dumped_configuration_loads_to_the_same_one(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = merged(
        tmp_path,
        "Predict.threshold={default: 0.5, 1: 0.00001, off: 0.3}",
        "Predict.input=['1', 'true', '*.jpg', {img: x}]",
        *overrides,
    )
    assert merged(tmp_path, text=load.dump(config)) == config
    assert config.Predict.threshold == {"default": 0.5, 1: 0.00001, "off": 0.3}


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
            "-o 'CheckDataset.split.group_regex=(.+)_[0-9]+'",
        ),
        (
            ["CheckDataset.convert={enable: true, src_dataset_type: labelmee}"],
            "CheckDataset.convert.src_dataset_type is 'labelmee': must be one of auto, COCO, VOC, "
            "LabelMe, YOLO, CSV, ImageFolder, JSONL",
            "-o CheckDataset.convert.src_dataset_type=LabelMe",
        ),
        (
            ["Train.warmup_steps=20"],
            "a warm-up of 20 epochs never ends in 20",
            "-o Train.warmup_steps=2",
        ),
        (
            ["Global.model=ResNet50_ML", "Train.decoder_tokens=all_patches"],
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
            ["Evaluate.save_threshold=true", "Evaluate.tune_threshold=null"],
            "Evaluate.save_threshold is true, but Evaluate.tune_threshold is null",
            "-o Evaluate.tune_threshold=f1",
        ),
        (
            ["Global.mode=predict"],
            "Predict.input is not set: mode predict needs an image",
            "-o Predict.input=photo.jpg",
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


def test_what_only_a_run_needs_is_not_asked_for_when_showing(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    config = load.load(path, ["Global.dataset_dir=null"], to_run=False).config
    assert config.Global.dataset_dir is None


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (MINIMAL, ["Train.amp=O9"], ("check_dataset", Path("output"))),
        (MINIMAL, ["Global.output=a", "nonsense"], ("check_dataset", Path("a"))),
        (MINIMAL, ["Global.mode=fly"], None),
        (MINIMAL, ["Global.mode=[1]"], None),
        (MINIMAL, ["Global.output=3"], None),
        ("- a list\n", ["Global.mode=train", "Global.output=a"], ("train", Path("a"))),
        ("- a list\n", ["Global.mode=train"], None),
        ("Global: 3\n", [], None),
    ],
)
def test_the_folder_of_a_failed_result_is_found_when_it_can_be(
    tmp_path: Path, text: str, overrides: list[str], expected: tuple[str, Path] | None
) -> None:
    assert load.destination(write(tmp_path, text), overrides) == expected
