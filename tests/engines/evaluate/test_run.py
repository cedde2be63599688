# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from paddlex_ml import evaluation
from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import Checkpoint
from paddlex_ml.data import annotation
from paddlex_ml.engines.evaluate import scores as scores_module
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from tests import repairs
from tests.shallow import whole_models

Run = Callable[..., tuple[int, str]]


def read_result(output: Path, mode: str = "evaluate") -> Any:
    return json.loads((output / f"{mode}_result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def score(toy_run: Path) -> float:
    """The recorded score of the best model."""
    return float(read_result(toy_run, "train")["models"]["best"]["score"])


def test_the_best_model_of_the_output_folder_is_the_default(
    run: Run, toy: Path, copy_of_run: Path, score: float
) -> None:
    code, err = run("evaluate", toy, copy_of_run, "Evaluate.batch_size=5")
    assert code == 0
    assert "[Eval][Iter 3/3]" in err
    line = rf"MultiLabelMAP\(integral\) {score:.4f} \(95 % interval 0\.\d+ to \d\.\d+\) \(constant"
    assert re.search(line, err)
    result = read_result(copy_of_run)
    assert result["format_version"] == 1
    assert list(result) == [
        "format_version", "done_flag", "weight_path", "val_digest", "metrics", "per_class",
        "thresholds", "label_errors", "comparison", "per_class_csv", "report",
        "run",
        "better_than_guessing",
        "thresholds_from", "epoch",
    ]  # fmt: skip
    assert result["weight_path"] == str(copy_of_run / "best_model" / "best_model.pdparams")
    metrics = result["metrics"]
    assert metrics["MultiLabelMAP"] == pytest.approx(score, abs=1e-6)
    assert (metrics["images"], metrics["undefined_classes"]) == (12, [])
    values = [row["average_precision"] for row in result["per_class"]]
    assert np.mean(values) == pytest.approx(metrics["MultiLabelMAP"])
    assert metrics["constant_predictor"] < metrics["MultiLabelMAP"]
    assert [row["name"] for row in result["per_class"]] == ["red", "green", "blue"]
    positives = annotation.read(toy).val.targets.sum(axis=0).tolist()
    assert [row["positives"] for row in result["per_class"]] == positives


@pytest.mark.parametrize("batch_size", [1, 12])
@pytest.mark.parametrize("what", ["best_model.pdparams", "inference"])
def test_weights_and_static_model_have_the_recorded_score(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, score: float, what: str, batch_size: int
) -> None:
    path = toy_run / "best_model" / what
    overrides = (f"Evaluate.weight_path={path}", f"Evaluate.batch_size={batch_size}")
    assert run("evaluate", toy, tmp_path, *overrides)[0] == 0
    assert read_result(tmp_path)["metrics"]["MultiLabelMAP"] == pytest.approx(score, abs=1e-4)


def test_a_model_that_learned_nothing_has_the_map_of_the_constant_predictor_everywhere(
    run: Run, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Three updates of random weights at 32 px: the scores differ in their last digits alone.
    with whole_models():  # the deeper, the smaller are the differences
        code, err = run("train", toy, tmp_path / "run", "Train.epochs_iters=1")
    assert code == 0, err
    trained = read_result(tmp_path / "run", "train")["metrics"]
    constant = trained["constant_map"]
    (row,) = trained["history"]
    assert trained["MultiLabelMAP"] == row["raw_map"] == row["ema_map"] == pytest.approx(constant)
    assert trained["better_than_guessing"] is False
    low, high = trained["MultiLabelMAP_ci95"]
    assert low < constant < high
    assert "best so far, but a guess: the scores of a class differ by less than 1e-05" in err
    assert "nothing was learned so far; 3 updates are few" in err
    assert "the best model is not better than guessing: its mAP is" in err
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "the best model is not better than guessing" in log
    for what in ("best_model.pdparams", "inference"):
        for batch_size in (1, 3, 8, 12):
            path = tmp_path / "run" / "best_model" / what
            keys = (f"Evaluate.weight_path={path}", f"Evaluate.batch_size={batch_size}")
            with whole_models():
                code, err = run("evaluate", toy, tmp_path, *keys, "Evaluate.label_errors=null")
            assert code == 0, err
            result = read_result(tmp_path)
            assert result["metrics"]["MultiLabelMAP"] == pytest.approx(constant, abs=1e-12)
            assert result["metrics"]["MultiLabelMAP_ci95"] == pytest.approx([low, high])
            assert result["better_than_guessing"] is False
            assert "this model is not better than guessing: the interval of its mAP holds" in err
    page = (tmp_path / "evaluate" / "report.html").read_text(encoding="utf-8")
    assert "Not usable: not better than guessing" in page


def test_training_and_evaluation_give_the_same_number(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    trained = read_result(toy_run, "train")["metrics"]
    keys = (f"Evaluate.weight_path={toy_run / 'best_model' / 'best_model.pdparams'}",)
    assert run("evaluate", toy, tmp_path, *keys, "Evaluate.report=false")[0] == 0
    result = read_result(tmp_path)
    for key in ("MultiLabelMAP", "MultiLabelMAP_ci95"):
        assert result["metrics"][key] == pytest.approx(trained[key], abs=1e-12)
    assert result["better_than_guessing"] == trained["better_than_guessing"]


def numbers(value: Any, key: str = "") -> dict[str, float]:
    """Every number of a result by its path."""
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = [(str(i), part) for i, part in enumerate(value)]
    else:
        return {key: float(value)} if isinstance(value, int | float) else {}
    return {k: v for name, part in parts for k, v in numbers(part, f"{key}.{name}").items()}


def test_weights_static_folder_and_onnx_folder_give_the_same_numbers(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip("paddle2onnx")
    assert run("export", None, copy_of_run, "Export.format=onnx")[0] == 0
    found = []
    for what in ("best_model.pdparams", "inference", "inference_onnx"):
        path = copy_of_run / "best_model" / what
        overrides = (f"Evaluate.weight_path={path}", "Evaluate.report=false")
        assert run("evaluate", toy, tmp_path, *overrides)[0] == 0
        result = read_result(tmp_path)
        found.append(numbers([result["metrics"], result["per_class"], result["thresholds"]]))
    for others in found[1:]:
        assert others == pytest.approx(found[0], abs=1e-4)
    assert len(found[0]) > 80


def test_the_card_beside_the_weights_beats_the_image_size_of_the_configuration(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, score: float
) -> None:
    path = toy_run / "best_model" / "best_model.pdparams"
    run("evaluate", toy, tmp_path, f"Evaluate.weight_path={path}", "Train.image_size=64")
    assert read_result(tmp_path)["metrics"]["MultiLabelMAP"] == pytest.approx(score, abs=1e-6)


def test_bare_weights_have_the_same_score(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, score: float
) -> None:
    bare = shutil.copy(toy_run / "best_model" / "best_model.pdparams", tmp_path / "w.pdparams")
    assert run("evaluate", toy, tmp_path, f"Evaluate.weight_path={bare}")[0] == 0
    assert read_result(tmp_path)["metrics"]["MultiLabelMAP"] == pytest.approx(score, abs=1e-6)


def test_the_raw_weights_of_that_epoch_have_the_raw_score(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    last = read_result(toy_run, "train")["models"]["last_1"]
    run("evaluate", toy, tmp_path, f"Evaluate.weight_path={toy_run / last['pdparams']}")
    value = read_result(tmp_path)["metrics"]["MultiLabelMAP"]
    assert value == pytest.approx(last["score"], abs=1e-6)


@pytest.mark.parametrize("named", [False, True])
def test_weights_that_a_kill_left_between_two_renames_are_found(
    run: Run, toy: Path, copy_of_run: Path, named: bool
) -> None:
    folder = copy_of_run / "best_model"
    folder.rename(copy_of_run / ".best_model.old")
    overrides = [f"Evaluate.weight_path={folder / 'best_model.pdparams'}"] if named else []
    assert run("evaluate", toy, copy_of_run, *overrides)[0] == 0


def test_classes_without_a_positive_image_are_listed_as_undefined(
    run: Run, toy_run: Path, draw_set: Callable[..., Path], tmp_path: Path
) -> None:
    data = draw_set(tmp_path / "set")
    val = annotation.read(data).val
    targets = val.targets.copy()
    targets[:, 1] = 0
    annotation.write_list(data / "val.txt", val.paths, targets)
    path = toy_run / "best_model" / "best_model.pdparams"
    code, err = run("evaluate", data, tmp_path, f"Evaluate.weight_path={path}")
    assert code == 0
    assert "green  undefined (no positive image)" in err
    result = read_result(tmp_path)
    assert result["metrics"]["undefined_classes"] == ["green"]
    values = [row["average_precision"] for row in result["per_class"]]
    assert values[1] is None
    assert result["metrics"]["MultiLabelMAP"] == pytest.approx((values[0] + values[2]) / 2)


def test_unknown_labels_are_told_and_change_the_known_ones_in_nothing(
    run: Run, toy_run: Path, draw_set: Callable[..., Path], tmp_path: Path
) -> None:
    data = draw_set(tmp_path / "set")
    path = toy_run / "best_model" / "best_model.pdparams"
    wanted = (f"Evaluate.weight_path={path}", "Evaluate.label_errors=all")
    code, err = run("evaluate", data, tmp_path / "known", *wanted)
    assert code == 0, err
    assert "unknown" not in err
    assert "unknown_labels" not in read_result(tmp_path / "known")
    known = read_result(tmp_path / "known")["per_class"]
    dataset = annotation.read(data)
    for name, listed in (("train", dataset.train), ("val", dataset.val)):
        targets = listed.targets.copy()
        targets[::2, 1] = -1  # green is unknown in every other image
        annotation.write_list(data / f"{name}.txt", listed.paths, targets)
    code, err = run("evaluate", data, tmp_path / "partly", *wanted)
    assert code == 0, err
    assert "6 of the 36 labels of val.txt are unknown: no measure counts them" in err
    result = read_result(tmp_path / "partly")
    assert result["unknown_labels"] == 6
    partly = result["per_class"]
    assert [row["positives"] + row["negatives"] for row in partly] == [12, 6, 12]
    ranked = ("average_precision", "precision", "recall", "f1", "expected_calibration_error")
    for key in ranked:
        assert [partly[i][key] for i in (0, 2)] == [known[i][key] for i in (0, 2)]
    with (tmp_path / "partly" / "evaluate" / "label_errors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    unknown = {
        (name, listed.paths[i])
        for name, listed in (("train", dataset.train), ("val", dataset.val))
        for i in range(0, len(listed), 2)
    }
    assert not [r for r in rows if r["class"] == "green" and (r["list"], r["image"]) in unknown]


@pytest.mark.parametrize("what", ["best_model.pdparams", "inference"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["red", "verde", "blue"], "class 1 is 'green' in the model and 'verde' in label.txt"),
        (["red", "green"], "the model has 3 classes, label.txt has 2"),
    ],
)
def test_a_data_set_of_other_classes_is_refused(
    run: Run,
    toy: Path,
    toy_run: Path,
    tmp_path: Path,
    what: str,
    labels: list[str],
    message: str,
) -> None:
    data = shutil.copytree(toy, tmp_path / "set")
    val = annotation.read(data).val
    annotation.write_labels(data / "label.txt", labels)
    annotation.write_list(data / "val.txt", val.paths, val.targets[:, : len(labels)])
    path = toy_run / "best_model" / what
    code, err = run("evaluate", data, tmp_path / "out", f"Evaluate.weight_path={path}")
    assert code == 2
    assert message in err
    assert "name the data set of the model's classes behind Global.dataset_dir" in err


def bare(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[..., Path]:
    """Copies the best weights, without their card, through `change`."""

    def copy(toy_run: Path, folder: Path) -> Path:
        entries = weights.read(toy_run / "best_model" / "best_model.pdparams")
        path = folder / "changed.pdparams"
        path.write_bytes(pickle.dumps(change(entries)))
        return path

    return copy


def without(prefix: str) -> Callable[..., Path]:
    return bare(lambda entries: {k: v for k, v in entries.items() if not k.startswith(prefix)})


def other_card(toy_run: Path, folder: Path) -> Path:
    """The best weights with a card that calls them ResNet50_ML."""
    saved = checkpoint.load(toy_run / "best_model")
    info = checkpoint.ModelInfo("ResNet50_ML", saved.info.label_names, saved.info.image_size)
    checkpoint.write(folder / "other", Checkpoint(**{**vars(saved), "info": info}))
    return folder / "other" / "other.pdparams"


def truncated(toy_run: Path, folder: Path) -> Path:
    content = (toy_run / "best_model" / "best_model.pdparams").read_bytes()
    path = folder / "changed.pdparams"
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize("mode", ["evaluate", "export"])
@pytest.mark.parametrize(
    ("make", "message", "fix"),
    [
        (other_card, "these are weights of ResNet50_ML, the configuration names PP", "-c ResNet50"),
        (without("conv1."), "the weights are incomplete: 5 entries are missing", "trained PP-LCN"),
        (without("fc."), "the weights have no classification head", "trained model"),
        (truncated, "not a weight file of Paddle, or a damaged one", "copy or download"),
        (
            bare(lambda entries: {f"model.{k}": v for k, v in entries.items()}),
            "the weights have no classification head",
            "trained model",
        ),
        (
            bare(lambda entries: {"fc.group_conv.bias": np.zeros(7, np.float32)}),
            "the weights have 7 classes, the data set has 3",
            "-o Global.dataset_dir=",
        ),
        (lambda *_: "missing", "no such weight file: missing", "weight_path=null"),
    ],
)
def test_weights_that_do_not_serve_are_refused_with_the_repair(
    run: Run,
    toy: Path,
    toy_run: Path,
    tmp_path: Path,
    mode: str,
    make: Callable[..., Path],
    message: str,
    fix: str,
) -> None:
    path = make(toy_run, tmp_path)
    key = f"{mode.capitalize()}.weight_path"
    code, err = run(mode, toy, tmp_path / "out", f"{key}={path}")
    assert code == 2
    assert message in err
    assert fix in err.rpartition("fix:")[2]
    assert "Traceback" not in err
    assert message in read_result(tmp_path / "out", mode)["err_msg"]


def test_without_a_trained_model_the_next_step_is_named(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    code, err = run("evaluate", toy, tmp_path / "out")
    assert code == 2
    assert f"{tmp_path / 'out/best_model/best_model.pdparams'} does not exist" in err
    assert "fix:   train first (-o Global.mode=train), or name a file *.pdparams" in err


def test_a_class_count_that_contradicts_the_weights_is_refused(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    code, err = run("evaluate", toy, copy_of_run, "Train.num_classes=4")
    assert code == 2
    assert "the weights have 3 classes, Train.num_classes is 4" in err
    assert "-o Train.num_classes=null" in err


def test_a_folder_that_is_no_static_model_is_refused(run: Run, toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.mkdir()
    code, err = run("evaluate", toy, tmp_path, f"Evaluate.weight_path={path}")
    assert code == 2
    assert "lacks inference.json" in err


def test_a_broken_image_is_named_and_never_replaced(
    run: Run, toy_run: Path, draw_set: Callable[..., Path], tmp_path: Path
) -> None:
    data = draw_set(tmp_path / "set")
    (data / "images" / "val_7.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    path = toy_run / "best_model" / "best_model.pdparams"
    code, err = run("evaluate", data, tmp_path, f"Evaluate.weight_path={path}")
    assert code == 2
    assert f"where: {data / 'images' / 'val_7.png'}" in err
    assert read_result(tmp_path)["done_flag"] is False


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the networks gave that were evaluated."""
    found: list[np.ndarray] = []

    def watched(*arguments: Any) -> Any:
        results = evaluate_models(*arguments)
        found.extend(result.outputs for result in results)
        return results

    evaluate_models = evaluation.evaluate
    monkeypatch.setattr(scores_module, "evaluate", watched)
    return found


def predicted(folder: Path, toy: Path, batch_size: int) -> np.ndarray:
    val = annotation.read(toy).val
    results = Predictor(StaticModel(folder, "cpu")).predict(
        [val.path(i) for i in range(len(val))], batch_size, return_all_scores=True
    )
    return np.array([result.all_scores for result in results])


@pytest.mark.parametrize("batch_size", [1, 5])
def test_predictions_have_the_scores_of_the_evaluation(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, outputs: list[np.ndarray], batch_size: int
) -> None:
    best = toy_run / "best_model"
    for what in ("best_model.pdparams", "inference"):
        size = f"Evaluate.batch_size={batch_size}"
        assert run("evaluate", toy, tmp_path, f"Evaluate.weight_path={best / what}", size)[0] == 0
    found = predicted(best / "inference", toy, 6 - batch_size)
    assert np.ptp(found, axis=0).max() > 0.01
    dynamic, static = (np.abs(found - scores).max() for scores in outputs)
    assert static < 1e-5  # predictions are rounded to five decimals
    assert dynamic < 5e-5  # other kernels


@pytest.mark.parametrize(
    "change",
    [
        {"ResizeImage": {"backend": "cv2", "size": 32}},
        {"ResizeImage": {"backend": "pil", "interpolation": "bicubic", "size": 32}},
        {"NormalizeImage": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "scale": "1/255"}},
    ],
)
def test_both_follow_the_preprocessing_of_the_folder(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, outputs: list[np.ndarray], change: Any
) -> None:
    folder = shutil.copytree(toy_run / "best_model" / "inference", tmp_path / "inference")
    content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    for step in content["PreProcess"]["transform_ops"]:
        step.update({name: values for name, values in change.items() if name in step})
    (folder / "inference.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert run("evaluate", toy, tmp_path, f"Evaluate.weight_path={folder}")[0] == 0
    (scores,) = outputs
    assert np.abs(predicted(folder, toy, 4) - scores).max() < 1.5e-5
    published = predicted(toy_run / "best_model" / "inference", toy, 4)
    assert np.abs(published - scores).max() > 1e-4


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("latest", "latest/latest.pdparams"),
        ("best_model/inference/inference.pdiparams", "best_model/inference"),
        ("best_model/inference/inference.json", "best_model/inference"),
    ],
)
def test_the_model_that_was_meant_is_named_and_can_be_evaluated(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, named: str, meant: str
) -> None:
    quick = ("Evaluate.report=false", "Evaluate.label_errors=null", "Evaluate.bootstrap=0")
    weights_key = f"Evaluate.weight_path={toy_run / named}"
    code, err = run("evaluate", toy, tmp_path / "new", *quick, weights_key)
    assert code == 2
    assert repairs.find(err) == [[f"Evaluate.weight_path={toy_run / meant}"]]
    code, err = run("evaluate", toy, tmp_path / "new", *quick, *repairs.find(err)[0])
    assert code == 0, err
