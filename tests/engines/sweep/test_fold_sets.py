# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.engines.sweep import fold_sets
from paddlex_ml.errors import PaddlexMLError


@pytest.fixture
def config(toy: Path) -> Config:
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    return load.load(path, ["Global.mode=train", f"Global.dataset_dir={toy}"]).config


def test_every_fold_is_a_data_set_that_a_training_reads(config, toy, tmp_path):
    (tmp_path / "relations").mkdir()
    own = shutil.copytree(toy, tmp_path / "set")
    (own / "relations.yaml").write_text("exclusive: [[red, green]]\n", encoding="utf-8")
    config = replace(config, Global=replace(config.Global, dataset_dir=own))
    sweep = SweepFolder(tmp_path / "out")
    fold_sets.write(sweep, config, 3)
    whole, seen = annotation.read(own), []
    for number in (1, 2, 3):
        fold = annotation.read(sweep.fold(number, 3))
        assert fold.label_names == whole.label_names
        assert len(fold.train) + len(fold.val) == 36
        assert fold.val.path(0).is_file()
        assert (fold.root / "relations.yaml").is_file()
        seen += fold.val.paths
    assert sorted(seen) == sorted([*whole.train.paths, *whole.val.paths])
    before = {path: path.stat().st_mtime_ns for path in sweep.folds.rglob("*.txt")}
    fold_sets.write(sweep, config, 3)  # as a sweep that goes on
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_folds_of_other_lists_are_refused(config, tmp_path):
    sweep = SweepFolder(tmp_path)
    fold_sets.write(sweep, config, 2)
    with (sweep.fold(1, 2) / "val.txt").open("a", encoding="utf-8") as file:
        file.write("images/x.png\t0,0,0\n")
    with pytest.raises(PaddlexMLError, match="made of other lists") as caught:
        fold_sets.write(sweep, config, 2)
    assert caught.value.where == str(sweep.fold(1, 2) / "val.txt")


def test_images_that_were_moved_are_found_and_those_of_another_set_are_refused(
    config, toy, tmp_path
):
    sweep = SweepFolder(tmp_path / "out")
    places = [shutil.copytree(toy, tmp_path / name) for name in ("first", "copy")]
    configs = [replace(config, Global=replace(config.Global, dataset_dir=p)) for p in places]
    fold_sets.write(sweep, configs[0], 2)
    with pytest.raises(PaddlexMLError, match="the folds here have the images of") as caught:
        fold_sets.write(sweep, configs[1], 2)
    assert caught.value.where == str(sweep.fold(1, 2) / "images")
    shutil.rmtree(places[0])
    fold_sets.write(sweep, configs[1], 2)
    assert (sweep.fold(2, 2) / "images").resolve() == (places[1] / "images").resolve()
