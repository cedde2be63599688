# SPDX-License-Identifier: Apache-2.0
"""Weight files go both ways between PaddleX, PaddleClas and this project."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml.artifacts import weights
from paddlex_ml.inference.static_model import StaticModel
from tests.shallow import whole_models

Run = Callable[..., tuple[int, str]]
NAME = "PP-LCNet_x1_0_ML"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def expected(refdata: ModuleType) -> dict[str, list[int]]:
    """Name -> shape of a PP-LCNet of PaddleClas with three classes."""
    recorded = refdata.load_json("state_dict", f"{NAME}.json")
    shapes = {entry["name"]: entry["shape"] for entry in recorded["entries"]}
    by_class = [entry["name"] for entry in recorded["class_num_33"]["entries_that_differ"]]
    assert len(by_class) == 3
    return shapes | {name: [3, *shapes[name][1:]] for name in by_class}


@pytest.fixture(scope="module", params=[2, 4])
def theirs(
    toy_run: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """`best_model` of `toy_run` as PaddleClas leaves it, pickled by the protocol of the test."""
    folder = tmp_path_factory.mktemp("theirs") / "best_model"
    folder.mkdir()
    arrays = weights.read(toy_run / "best_model" / "best_model.pdparams")
    parameters = {name: f"parameter_{number}.w_0" for number, name in enumerate(arrays)}

    def save(suffix: str, content: Any) -> None:
        path = folder / f"best_model{suffix}"
        path.write_bytes(pickle.dumps(content, protocol=request.param))

    save(".pdparams", {**arrays, weights.NAME_TABLE: parameters})
    save(".pdema", {**arrays, weights.NAME_TABLE: parameters})
    save(".pdopt", [{"conv2d_0.w_0_moment1_0": np.zeros(3, np.float32)}])
    save(".pdstates", {"metric": 0.935, "epoch": 2})
    (folder / "best_model.info.json").write_text('{"metric": 0.935, "epoch": 2}')
    return folder


def test_our_weight_file_has_the_names_order_shapes_and_types_of_paddleclas(
    run: Run, toy: Path, tmp_path: Path, expected: dict[str, list[int]]
) -> None:
    with whole_models():
        assert run("train", toy, tmp_path, "Train.epochs_iters=1")[0] == 0
    for name in ("best_model", "latest"):
        path = tmp_path / name / f"{name}.pdparams"
        found = pickle.loads(path.read_bytes())  # as PaddleX does: without a word of ours
        assert [(key, list(value.shape)) for key, value in found.items()] == list(expected.items())
        assert {(type(value), value.dtype) for value in found.values()} == {
            (np.ndarray, np.dtype("float32"))
        }
        loaded = paddle.load(str(path))
        assert all(isinstance(value, paddle.Tensor) for value in loaded.values())


def test_a_weight_file_of_theirs_is_evaluated(
    run: Run, theirs: Path, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    path = theirs / "best_model.pdparams"
    code, err = run("evaluate", toy, tmp_path, f"Evaluate.weight_path={path}")
    assert code == 0, err
    score = read(toy_run / "train_result.json")["models"]["best"]["score"]
    found = read(tmp_path / "evaluate_result.json")["metrics"]["MultiLabelMAP"]
    assert found == pytest.approx(score, abs=1e-6)


def test_a_weight_file_of_theirs_is_exported_with_the_names_of_the_data_set(
    run: Run, theirs: Path, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(theirs, tmp_path / "their run" / "best_model")
    code, err = run("export", toy, tmp_path, f"Export.weight_path={own / 'best_model.pdparams'}")
    assert code == 0, err
    folder = Path(read(tmp_path / "export_result.json")["inference_dir"])
    found = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    assert found["PostProcess"]["MultiLabelThreshOutput"]["label_list"] == ["red", "green", "blue"]
    images = np.random.default_rng(5).standard_normal((4, 3, 32, 32), np.float32)
    expected = StaticModel(toy_run / "best_model" / "inference", "cpu").run(images)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert np.abs(StaticModel(folder, "cpu").run(images) - expected).max() < 1e-5


def test_a_training_starts_from_a_weight_file_of_theirs_and_leaves_nothing_out(
    run: Run, theirs: Path, toy: Path, tmp_path: Path
) -> None:
    start = f"Train.pretrain_weight_path={theirs / 'best_model.pdparams'}"
    code, err = run("train", toy, tmp_path, start, "Train.epochs_iters=1")
    assert code == 0, err
    count = len(pickle.loads((theirs / "best_model.pdparams").read_bytes())) - 1  # a table of names
    assert f"{count} of {count}" in err
    assert "random values" not in err
