# SPDX-License-Identifier: Apache-2.0
"""Values that mean what was typed, in a file and behind -o."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from paddlex_ml.config import load, yaml_text
from tests.config.test_load import MINIMAL, failure, merged


def held(folder: Path, key: str, *overrides: str, text: str = MINIMAL) -> Any:
    value: Any = merged(folder, *overrides, text=text)
    for name in key.split("."):
        value = getattr(value, name)
    return value


NAMES = ["0101", "007", "1e5", "123", "1.10", "0x1F", "true", "off", "~x", "a: b", "- a", "[ab]*"]
NAMES += ["{a}", "a #1", "#1", "*.jpg", "&a", "!x", "%d", "@list", "'tis", '"a" b', "C:\\new", ".5"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_behind_o_is_meant_as_it_is_typed(tmp_path: Path, name: str) -> None:
    assert held(tmp_path, "Global.output", f"Global.output={name}") == Path(name)
    assert (
        held(tmp_path, "Train.pretrain_weight_path", f"Train.pretrain_weight_path={name}") == name
    )
    key = "CheckDataset.convert.label_value"
    assert held(tmp_path, key, f"{key}={name}") == name
    key = "CheckDataset.convert.label_columns"
    if name[0] not in "[{":
        assert held(tmp_path, key, f"{key}={name}") == (name,)
        assert held(tmp_path, "Predict.input", f"Predict.input={name}") == name


@pytest.mark.parametrize("name", ["0101", "007", "1e5", "123", "1.10", "true", "off", "2024-01-01"])
def test_a_text_in_a_file_needs_no_quotes(tmp_path: Path, name: str) -> None:
    text = MINIMAL.replace("dataset_dir: data", f"dataset_dir: {name}")
    assert held(tmp_path, "Global.dataset_dir", text=text) == Path(name)
    convert = f"CheckDataset: {{convert: {{label_columns: [{name}, b], image_column: {name}}}}}\n"
    assert held(tmp_path, "CheckDataset.convert.label_columns", text=MINIMAL + convert) == (
        name,
        "b",
    )
    assert held(tmp_path, "CheckDataset.convert.image_column", text=MINIMAL + convert) == name


@pytest.mark.parametrize("quoted", ["'0101'", '"0101"', ' "0101" '])
def test_quotes_around_a_whole_text_are_none_of_it(tmp_path: Path, quoted: str) -> None:
    assert held(tmp_path, "Global.output", f"Global.output={quoted}") == Path("0101")


@pytest.mark.parametrize(
    "key", ["Train.pretrain_weight_path", "Predict.input", "Global.dataset_dir"]
)
def test_null_is_null_and_in_quotes_a_name(tmp_path: Path, key: str) -> None:
    data = "Global.mode=export"
    assert held(tmp_path, key, data, f"{key}=null") is None
    assert str(held(tmp_path, key, data, f'{key}="null"')) == "null"


def test_lists_and_mappings_behind_o_hold_texts_as_typed(tmp_path: Path) -> None:
    value = "Predict.input=[007.jpg, 1e5, 010, {img: 0101}]"
    assert held(tmp_path, "Predict.input", value) == ["007.jpg", "1e5", "010", {"img": "0101"}]
    section = "CheckDataset.convert={label_columns: [01, true], label_value: 1.0}"
    convert = held(tmp_path, "CheckDataset.convert", section)
    assert (convert.label_columns, convert.label_value) == (("01", "true"), "1.0")


def test_class_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    for text in ("{default: 0.5, 007: 0.1, 7: 0.2, 1e5: 0.3, true: 0.4}", "{default: 1}"):
        value = held(tmp_path, "Predict.threshold", f"Predict.threshold={text}")
    assert value == {"default": 1.0}
    value = "{default: 0.5, 007: 0.1, 7: 0.2, 1e5: 0.3, true: 0.4}"
    config = merged(tmp_path, f"Predict.threshold={value}")
    expected = {"default": 0.5, "007": 0.1, 7: 0.2, "1e5": 0.3, "true": 0.4}
    assert config.Predict.threshold == expected
    assert merged(tmp_path, text=load.dump(config)).Predict.threshold == expected


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("Train.batch_size", "010", 10),
        ("Train.learning_rate", "1e-4", 0.0001),
        ("Train.learning_rate", '"1e-4"', 0.0001),
        ("Train.sync_bn", '"true"', True),
        ("Train.batch_size", '"8"', 8),
        ("Global.seed", "'0'", 0),
        ("Train.sync_bn", "'False'", False),
        ("Train.num_classes", "null", None),
        ("Train.amp", "OFF", "OFF"),
    ],
)
def test_numbers_and_truths_are_what_they_spell(
    tmp_path: Path, key: str, text: str, value: Any
) -> None:
    assert held(tmp_path, key, f"{key}={text}") == value


@pytest.mark.parametrize(
    "key", ["Train.pretrain_weight_path", "Train.num_classes", "Evaluate.label_errors"]
)
def test_none_is_read_as_null_and_told(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(MINIMAL)
    loaded = load.load(Path("my.yaml"), [f"{key}=None"])
    assert loaded.notes == (f"{key} is None, which is read as null",)
    section, _, name = key.partition(".")
    assert getattr(getattr(loaded.config, section), name) is None
    if key == "Train.pretrain_weight_path":
        (tmp_path / "None").touch()
        assert held(tmp_path, key, f"{key}=None") == "None"
    column = "CheckDataset.convert.label_value"
    assert held(tmp_path, column, f"{column}=None") == "None"


def test_variables_and_the_home_folder_are_expanded_in_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("DATA", "/data 1")
    monkeypatch.delenv("NOWHERE", raising=False)
    keys = ["Global.output=~/run", "Global.dataset_dir=$DATA/x", "Predict.input=[$HOME/a, ~/b]"]
    config = merged(tmp_path, *keys)
    assert config.Global.output == Path("/home/ada/run")
    assert config.Global.dataset_dir == Path("/data 1/x")
    assert config.Predict.input == ["/home/ada/a", "/home/ada/b"]
    assert held(tmp_path, "Predict.input", "Predict.input=${HOME}/c") == "/home/ada/c"
    text = MINIMAL.replace("dataset_dir: data", "dataset_dir: $HOME/set")
    assert held(tmp_path, "Global.dataset_dir", text=text) == Path("/home/ada/set")
    url = "Train.pretrain_weight_path=https://host/$NOWHERE/a.pdparams"
    assert held(tmp_path, "Train.pretrain_weight_path", url).endswith("/$NOWHERE/a.pdparams")
    error = failure(tmp_path, "Global.output=$NOWHERE/run")
    assert error.what == (
        "Global.output is '$NOWHERE/run': names the variable NOWHERE, which is not set"
    )
    (tmp_path / "$NOWHERE").mkdir()
    assert held(tmp_path, "Global.output", "Global.output=$NOWHERE") == Path("$NOWHERE")
    for name in ("price$.jpg", "$5.jpg"):
        assert held(tmp_path, "Predict.input", f"Predict.input={name}") == name


def test_merge_keys_take_over_a_mapping_and_give_way_to_own_keys(tmp_path: Path) -> None:
    text = """\
usual: &usual
  learning_rate: 1e-3
  warmup_steps: 1
  epochs_iters: 7
larger: &larger {image_size: 64, epochs_iters: 9}
name: &name 0101
Global: {model: PP-LCNet_x1_0_ML, mode: check_dataset, dataset_dir: *name}
Train:
  batch_size: 4
  <<: [*usual, *larger]
  learning_rate: 1e-4
Evaluate: &evaluate {batch_size: 3}
Predict:
  <<: *evaluate
"""
    config = merged(tmp_path, text=text)
    train = config.Train
    assert (train.learning_rate, train.warmup_steps, train.batch_size) == (1e-4, 1, 4)
    assert (train.epochs_iters, train.image_size) == (7, 64)
    assert config.Global.dataset_dir == Path("0101")
    assert (config.Evaluate.batch_size, config.Predict.batch_size) == (3, 3)


def test_a_whole_configuration_is_taken_over_and_templates_have_any_name(tmp_path: Path) -> None:
    text = """\
7: &small {image_size: 64}
usual: &usual
  Evaluate: {batch_size: 3}
<<: *usual
Global: {model: PP-LCNet_x1_0_ML, mode: check_dataset, dataset_dir: d}
Train: {learning_rate: 1e-3, warmup_steps: 1, <<: *small}
"""
    config = merged(tmp_path, text=text)
    assert (config.Evaluate.batch_size, config.Train.image_size) == (3, 64)


def test_faults_in_what_is_taken_over_are_found_at_their_line(tmp_path: Path) -> None:
    text = f"more: &more\n  batch_size: 0\n{MINIMAL}  <<: *more\n"
    error = failure(tmp_path, text=text)
    assert error.what == "Train.batch_size is 0: must be auto, or a whole number of at least 1"
    assert error.where == f"{tmp_path / 'my.yaml'}:2"
    unused = failure(tmp_path, text=f"more: {{batch_size: 1}}\n{MINIMAL}")
    assert unused.what == "unknown section more"
    assert "takes over a mapping" in failure(tmp_path, text=f"{MINIMAL}  <<: 3\n").what


def test_many_aliases_of_aliases_are_walked_once() -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: *a{i - 1}}}" for i in range(1, 40))]
    assert yaml_text.parse("\n".join(lines)).value["a39"] == {"x": 1}


def test_bad_syntax_has_its_line() -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        yaml_text.parse("a: 1\nb: [")
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == 2 - 1


@pytest.mark.parametrize("code", ["\x85", "\u2028", "\u2029", "\ufeff", "\x1b"])
def test_odd_ends_of_lines_in_a_path_are_read_back(code: str) -> None:
    path = Path(f"/data/a{code}b")
    text = yaml_text.write({"Global": {"output": path, "model": f"a{code}b"}})
    assert yaml_text.parse(text).value == {"Global": {"output": str(path), "model": path.name}}
    assert code not in text
