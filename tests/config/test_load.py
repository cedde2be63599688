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
        ("Train.batch_size", "the override 'Train.batch_size' has no =", "-o Train.batch_size=32"),
        ("=3", "the override '=3' has an empty key", "a key of --print-config"),
        ("Train..amp=O1", "the override 'Train..amp=O1' has an empty key", "--print-config"),
        ("Train.resume_path=", "has no value", "-o Train.resume_path=null for none"),
        ("Train.batch_size.x=3", "Train.batch_size is a mapping", "-o Train.batch_size=32"),
        ("Train.warmup_steps.x=3", "Train.warmup_steps holds a value, it has no key x", "=3"),
        ("Predict.input=[ab]*.jpg", "Predict.input is bad YAML", "'Predict.input=\"[ab]*.jpg\"'"),
        ("Train.loss={clip: 0, clip: 0}", "Train.loss.clip is set twice", "remove one"),
        ("mode=train", "unknown key mode", "write Global.mode instead (-o Global.mode=train)"),
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
        "4 faults in the configuration: Train.batch_size, Train.learning_rate, Train.amp, "
        "Global.dataset_dir",
        "  fix:   repair each fault as its own line says",
        f"  where: {path}",
        "  1. Train.batch_size is 0: must be auto, or a whole number of at least 1",
        f"     where: {path}:7",
        "     fix:   -o Train.batch_size=32, where 32 is only an example",
        "  2. Train.learning_rate is nan: must be a finite number",
        f"     where: {path}:6",
        "     fix:   -o Train.learning_rate=0.001, where 0.001 is only an example",
        "  3. Train.amp is 'O3': must be one of OFF, O1, O2",
        "     where: -o Train.amp=O3",
        "     fix:   -o Train.amp=OFF, where OFF is only an example",
        "  4. Global.dataset_dir is not set: mode check_dataset reads a data set",
        "     where: -o Global.dataset_dir=null",
        "     fix:   -o Global.dataset_dir=./dataset/my_set",
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


def test_what_only_a_run_needs_is_not_asked_for_when_showing(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    config = load.load(path, ["Global.dataset_dir=null"], to_run=False).config
    assert config.Global.dataset_dir is None


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (MINIMAL, ["Train.amp=O9"], ("check_dataset", Path("output"))),
        (MINIMAL, ["Global.output=a", "Train.amp"], ("check_dataset", Path("a"))),
        (MINIMAL, ["Global.mode=fly"], None),
        (MINIMAL, ["Global.mode=[1]"], None),
        (MINIMAL, ["Global.output=s3://bucket/run"], None),
        (MINIMAL, ["Global.output=03"], ("check_dataset", Path("03"))),
        (MINIMAL + "Predict: {}\n", ["Global.output=null"], None),
        ("- a list\n", ["Global.mode=train", "Global.output=a"], ("train", Path("a"))),
        ("- a list\n", ["Global.mode=train"], None),
        ("Global: 3\n", [], None),
    ],
)
def test_the_folder_of_a_failed_result_is_found_when_it_can_be(
    tmp_path: Path, text: str, overrides: list[str], expected: tuple[str, Path] | None
) -> None:
    assert load.destination(write(tmp_path, text), overrides) == expected


LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "aliases repeat more than 10,000 values"),
        ("Global:\n  model: " + "[" * 5000, "more than 50 deep"),
        ("Global:\n  seed: !!float x\n", "the tag tag:yaml.org,2002:float has no meaning here"),
        ("Global:\n  seed: !!timestamp 1\n", "the tag tag:yaml.org,2002:timestamp has no meaning"),
        ("#" * 2_000_000, "it has 2,000,000 bytes, at most 1,048,576 are read"),
    ],
    ids=["aliases", "depth", "float", "timestamp", "size"],
)
def test_a_file_above_a_budget_is_one_error(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(PaddlexMLError, match=problem) as caught:
        load.load(path)
    assert len(str(caught.value)) < 1000


def test_an_override_above_a_budget_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="more than 50 deep") as caught:
        load.load(write(tmp_path, MINIMAL), ["Evaluate.threshold=" + "[" * 5000])
    assert "[" * 5000 not in caught.value.what


def test_of_hundreds_of_faults_the_first_are_shown(tmp_path: Path) -> None:
    text = MINIMAL + "".join(f"  key_{number}: 1\n" for number in range(600))
    message = failure(tmp_path, text=text).what
    assert message.startswith("600 faults in the configuration: Train.key_0, Train.key_1, ")
    assert " and 590 more\n" in message
    assert "  30. " in message
    assert "  31. " not in message
    assert "  ... and 570 more" in message


def test_a_misspelt_key_with_bad_yaml_is_told(tmp_path: Path) -> None:
    message = str(failure(tmp_path, "Predicct.input={"))
    assert "the value of Predicct.input is bad YAML" in message


def test_the_section_of_a_sweep_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    section = "Sweep:\n  Train.learning_rate: [1e-4, 5e-4]\n  seeds: 2\n"
    path.write_text(MINIMAL + section, encoding="utf-8")
    value, seed = load.find_sweep(path, ["Global.seed=7"])
    assert value == {"Train.learning_rate": [1e-4, 5e-4], "seeds": 2}
    assert seed == 7
    assert load.find_sweep(path, ["Sweep=null"]) == (None, None)
    assert load.find_sweep(path, ["Sweep.seeds=3"])[0]["seeds"] == 3
    loaded = load.load(path, to_run=False)
    assert any("Sweep has a meaning in mode train alone" in note for note in loaded.notes)
    assert not hasattr(loaded.config, "Sweep")
    assert load.load(path, ["Sweep=null"], to_run=False).notes == ()
