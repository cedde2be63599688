# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml

from paddlex_ml import cache

Run = Callable[..., tuple[int, str]]
FILES = ["inference.json", "inference.pdiparams", "inference.yml"]


def scores(folder: Path) -> np.ndarray:
    """What the static model in `folder` says about four random images."""
    images = np.random.default_rng(5).standard_normal((4, 3, 32, 32)).astype(np.float32)
    with paddle.no_grad():
        result: np.ndarray = paddle.jit.load(str(folder / "inference"))(
            paddle.to_tensor(images)
        ).numpy()
    assert np.ptp(result, axis=0).max() > 0.01
    return result


def labels(folder: Path) -> list[str]:
    content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    names: list[str] = content["PostProcess"]["MultiLabelThreshOutput"]["label_list"]
    return names


def test_the_best_model_is_exported_as_the_training_did_it(
    run: Run, toy_run: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    shutil.rmtree(folder)
    code, err = run("export", None, copy_of_run)
    assert code == 0
    assert f"-> {folder} (largest difference " in err
    assert sorted(os.listdir(folder)) == FILES
    assert np.array_equal(scores(folder), scores(toy_run / "best_model" / "inference"))
    assert labels(folder) == ["red", "green", "blue"]
    result = json.loads((copy_of_run / "export_result.json").read_text())
    assert 0 <= result.pop("static_difference") < 1e-5
    assert result == {
        "done_flag": True,
        "model_name": "PP-LCNet_x1_0_ML",
        "weight_path": str(copy_of_run / "best_model" / "best_model.pdparams"),
        "inference_dir": str(folder),
    }


def test_any_checkpoint_is_exported_beside_its_weights(run: Run, copy_of_run: Path) -> None:
    path = copy_of_run / "latest" / "latest.pdparams"
    assert run("export", None, copy_of_run, f"Export.weight_path={path}")[0] == 0
    static = copy_of_run / "latest" / "inference"
    assert sorted(os.listdir(static)) == FILES
    best = copy_of_run / "best_model" / "inference"
    assert not np.array_equal(scores(static), scores(best))


def test_an_export_of_other_weights_goes_when_training_replaces_them(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    path = copy_of_run / "latest" / "latest.pdparams"
    run("export", None, copy_of_run, f"Export.weight_path={path}")
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"
    assert run("train", toy, copy_of_run, resume)[0] == 0
    assert not (copy_of_run / "latest" / "inference").exists()
    assert (copy_of_run / "best_model" / "inference").is_dir()


def test_bare_weights_take_their_names_from_the_data_set_or_are_numbered(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    path = shutil.copy(toy_run / "best_model" / "best_model.pdparams", tmp_path / "w.pdparams")
    assert run("export", toy, tmp_path, f"Export.weight_path={path}")[0] == 0
    assert labels(tmp_path / "inference") == ["red", "green", "blue"]
    code, err = run("export", None, tmp_path, f"Export.weight_path={path}")
    assert code == 0
    assert f"warning: {path} has no class names and no data set is named: using numbers" in err
    assert labels(tmp_path / "inference") == ["0", "1", "2"]


def test_weights_behind_a_url_are_exported_into_the_output_and_not_the_cache(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, site: Any
) -> None:
    site["/w.pdparams"] = (toy_run / "best_model" / "best_model.pdparams").read_bytes()
    url = site.url("/w.pdparams")
    code, err = run("export", toy, tmp_path, f"Export.weight_path={url}")
    assert code == 0, err
    assert f"fetching {url} (" in err
    assert "HTTP Request" not in err
    assert sorted(os.listdir(tmp_path / "inference")) == FILES
    assert np.array_equal(scores(tmp_path / "inference"), scores(toy_run / "best_model/inference"))
    kept = cache.place(url)
    assert sorted(os.listdir(kept.parent)) == ["w.pdparams", "w.pdparams.lock"]
    result = json.loads((tmp_path / "export_result.json").read_text())
    assert result["weight_path"] == str(kept)
    for mode, key in (
        ("evaluate", "Evaluate.weight_path"),
        ("train", "Train.pretrain_weight_path"),
    ):
        code, err = run(mode, toy, tmp_path / mode, f"{key}={url}", "Train.epochs_iters=1")
        assert code == 0, err
    assert f"loaded 167 of 167 entries from {kept}" in err
    assert len(site.asked) == 1
