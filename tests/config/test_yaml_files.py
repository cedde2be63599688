# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.config import load, rules, shipped, validation, write_yaml, yaml_text
from paddlex_ml.config.shipped import MODELS
from paddlex_ml.errors import PaddlexMLError

BATCHES = {
    "PP-LCNet_x1_0_ML": 32,
    "PP-HGNetV2-B0_ML": 64,
    "PP-HGNetV2-B4_ML": 64,
    "PP-HGNetV2-B6_ML": 16,
    "ResNet50_ML": 64,
    "CLIP_vit_base_patch16_448_ML": 16,
}


def test_six_files_are_shipped_and_each_loads_without_a_note() -> None:
    files = sorted(shipped.folder().glob("*.yaml"))
    assert {file.stem for file in files} >= BATCHES.keys()
    seen = 0
    for file in files:
        loaded = load.load(file, ["Global.dataset_dir=data"])
        assert loaded.notes == ()
        assert loaded.config.Global.model == file.stem
        assert loaded.config.Train.batch_size == BATCHES.get(file.stem, 64)
        assert loaded.config.Train.learning_rate <= rules.RATE_DOUBTFUL
        seen += 1
    assert seen >= 6


def test_every_shipped_file_has_a_row_in_the_table() -> None:
    assert set(MODELS) == write_yaml.MODELS.keys(), "add a row to MODELS of config/write_yaml.py"


@pytest.mark.parametrize("model", MODELS)
def test_the_file_is_the_rendered_text(model: str) -> None:
    written = (shipped.folder() / f"{model}.yaml").read_bytes()
    again = "the file differs from the schema: run python -m paddlex_ml.config.write_yaml"
    assert written == write_yaml.render(model).encode(), again


@pytest.mark.parametrize(
    ("value", "text"),
    [("Train.ema_decay", "0.9997"), ("Train.loss.gamma_neg", "4"), ("Train.amp", "OFF")],
)
def test_values_are_written_as_people_write_them(value: str, text: str) -> None:
    lines = write_yaml.render("CLIP_vit_base_patch16_448_ML").splitlines()
    key = value.rpartition(".")[2]
    assert [line.strip() for line in lines if line.strip().startswith(f"{key}: ")] == [
        f"{key}: {text}"
    ]
    assert "  learning_rate: 0.00005" in lines


def test_the_comment_of_the_model_names_every_model() -> None:
    head, _, _ = write_yaml.render("ResNet50_ML").partition("\n  model:")
    assert all(model in head for model in MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_stands_in_the_file_below_a_comment(model: str) -> None:
    text = (shipped.folder() / f"{model}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    where = yaml_text.parse(text).lines
    assert set(validation.leaf_keys()) <= where.keys()
    bare = [
        key for key in validation.leaf_keys() if not lines[where[key] - 2].lstrip().startswith("# ")
    ]
    assert bare == []
    assert max(len(line) for line in lines if "://" not in line) <= 100


def test_the_files_differ_in_their_values_alone() -> None:
    differing: set[str] = set()
    documents = [
        yaml_text.parse((shipped.folder() / f"{model}.yaml").read_text(encoding="utf-8"))
        for model in MODELS
    ]
    for document in documents:
        assert document.lines == documents[0].lines
        for section, keys in document.value.items():
            first = documents[0].value[section]
            differing |= {f"{section}.{key}" for key in keys if keys[key] != first[key]}
    assert differing <= {
        "Global.model",
        "Train.batch_size",
        "Train.learning_rate",
        "Train.head_lr_mult",
        "Train.pretrain_weight_path",
    } | {f"Train.{key}" for key in ("epochs_iters", "warmup_steps")}


def test_a_model_name_and_a_path_of_paddlex_mean_the_shipped_file(tmp_path: Path) -> None:
    file = shipped.folder() / "ResNet50_ML.yaml"
    assert shipped.find("ResNet50_ML") == (file, f"using the shipped file {file}")
    name = "paddlex/configs/modules/image_multilabel_classification/ResNet50_ML.yaml"
    assert shipped.find(name) == (file, f"using the shipped file {file} for {name}")
    own = tmp_path / "ResNet50_ML.yaml"
    own.write_text("")
    assert shipped.find(str(own)) == (own, None)


def test_a_name_that_nothing_has_lists_the_models(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        shipped.find("configs/ResNet5_ML.yaml")
    assert caught.value.what == "the configuration configs/ResNet5_ML.yaml does not exist"
    assert caught.value.fix.startswith("-c ResNet50_ML, or the path of a YAML file; models: ")
    assert all(model in caught.value.fix for model in MODELS)
    with pytest.raises(PaddlexMLError, match="is a folder, not a YAML file"):
        shipped.find(str(tmp_path))


def test_the_newest_training_nearby_is_named_where_there_is_none_in_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("runs/old", "runs/new", "runs/no training")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        os.utime(folder / "config.yaml", (number, number))
        if name != "runs/no training":
            (folder / "run.json").touch()
    with pytest.raises(PaddlexMLError) as caught:
        shipped.find("output/config.yaml")
    assert caught.value.fix == "-c runs/new/config.yaml"
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.yaml").touch()
    assert shipped.find_trained() == shipped.TRAINED
    with pytest.raises(PaddlexMLError) as caught:
        shipped.find("runs/news/config.yaml")
    assert caught.value.fix == "-c runs/new/config.yaml"  # spelt like it, so before `TRAINED`


def test_folders_that_cannot_be_entered_hold_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    monkeypatch.chdir(tmp_path)

    stat = os.stat

    def enter(path: Any, **keywords: Any) -> os.stat_result:
        if Path("locked") in Path(path).parents:
            raise PermissionError(13, "Permission denied")
        return stat(path, **keywords)

    monkeypatch.setattr(os, "stat", enter)
    assert shipped.find_trained() == shipped.TRAINED


@pytest.mark.parametrize("typed", ["my run", "my run/", "my run/latest", "my run/config.yml"])
def test_a_run_in_the_place_of_its_configuration_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my run" / "latest").mkdir(parents=True)
    (tmp_path / "my run" / "config.yaml").touch()
    with pytest.raises(PaddlexMLError) as caught:
        shipped.find(typed)
    option, name = shlex.split(caught.value.fix)
    assert (option, name) == ("-c", "my run/config.yaml")
    assert shipped.find(name)[1] is None


def test_the_rate_offered_as_repair_is_the_one_in_the_file() -> None:
    path = shipped.folder() / "CLIP_vit_base_patch16_448_ML.yaml"
    rate = load.load(path, to_run=False).config.Train.learning_rate
    assert shipped.learning_rate("CLIP_vit_base_patch16_448_ML") == rate
