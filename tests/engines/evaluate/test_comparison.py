# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from tests import repairs

Run = Callable[..., tuple[int, str]]
QUICK = ("Evaluate.report=false", "Evaluate.label_errors=null", "Evaluate.bootstrap=40")


def read(folder: Path) -> Any:
    return json.loads((folder / "evaluate_result.json").read_text(encoding="utf-8"))


def best(run: Path) -> str:
    return f"Evaluate.weight_path={run / 'best_model' / 'best_model.pdparams'}"


def rows(compared: Any) -> dict[str, Any]:
    return {row["name"]: row for row in compared["metrics"]}


@pytest.fixture(scope="module")
def averaged(toy_run: Path) -> bool:
    """Whether the best model of the toy run holds averaged weights."""
    found = json.loads((toy_run / "train_result.json").read_text(encoding="utf-8"))
    return bool(found["models"]["best"]["weights"] == "ema")


@pytest.fixture
def earlier(run: Run, toy: Path, toy_run: Path, tmp_path: Path) -> Path:
    """The folder of an evaluation of the best model."""
    assert run("evaluate", toy, tmp_path / "earlier", best(toy_run), *QUICK)[0] == 0
    return tmp_path / "earlier"


def test_the_other_weights_of_the_checkpoint_are_scored_on_the_same_images(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, averaged: bool
) -> None:
    word = "raw" if averaged else "ema"
    code, err = run(
        "evaluate", toy, tmp_path, best(toy_run), f"Evaluate.compare_with={word}", *QUICK
    )
    assert code == 0, err
    compared = read(tmp_path)["comparison"]
    assert compared["with"].endswith(f"best_model.pdparams ({word} weights)")
    assert compared["same_images"] is True
    trained = json.loads((toy_run / "train_result.json").read_text(encoding="utf-8"))
    scores = trained["models"]["best"]
    row = rows(compared)["MultiLabelMAP"]
    assert row["this"] == pytest.approx(scores["score"], abs=1e-6)
    assert row["difference"] == pytest.approx(row["this"] - row["other"])
    low, high = compared["MultiLabelMAP_difference_ci95"]
    assert low <= row["difference"] + 0.2
    assert low <= high
    for mine, twin in zip(compared["per_class"], read(tmp_path)["per_class"], strict=True):
        assert (mine["name"], mine["this"]) == (twin["name"], twin["average_precision"])
    assert f"mAP {row['difference']:+.4f}" in err


def test_the_weights_that_are_evaluated_are_no_comparison(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, averaged: bool
) -> None:
    same, other = ("ema", "raw") if averaged else ("raw", "ema")
    code, err = run("evaluate", toy, tmp_path, best(toy_run), f"Evaluate.compare_with={same}")
    assert code == 2
    assert f"the {same} weights of this checkpoint are the evaluated ones" in err
    assert f"-o Evaluate.compare_with={other}" in err


def test_a_model_is_no_better_than_its_own_export(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    folder = toy_run / "best_model" / "inference"
    code, err = run(
        "evaluate", toy, tmp_path, best(toy_run), f"Evaluate.compare_with={folder}", *QUICK
    )
    assert code == 0, err
    compared = read(tmp_path)["comparison"]
    assert max(abs(row["difference"]) for row in compared["metrics"]) < 1e-4
    low, high = compared["MultiLabelMAP_difference_ci95"]
    assert abs(low) < 1e-4
    assert abs(high) < 1e-4


def test_another_image_size_is_scored_at_its_own(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    import yaml

    folder = shutil.copytree(toy_run / "best_model" / "inference", tmp_path / "smaller")
    content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    for step in content["PreProcess"]["transform_ops"]:
        if "NormalizeImage" in step:
            step["NormalizeImage"].update(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    (folder / "inference.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    assert run("evaluate", toy, alone, f"Evaluate.weight_path={folder}", *QUICK)[0] == 0
    assert run(
        "evaluate", toy, beside, best(toy_run), f"Evaluate.compare_with={folder}", *QUICK
    )[0] == 0  # fmt: skip
    row = rows(read(beside)["comparison"])["expected_calibration_error"]
    expected = read(alone)["metrics"]["expected_calibration_error"]
    assert row["other"] == pytest.approx(expected, abs=1e-6)
    assert row["this"] != pytest.approx(row["other"], abs=1e-4)


@pytest.mark.parametrize("name", ["", "evaluate_result.json"])
def test_an_earlier_evaluation_stands_beside_the_new_one(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, earlier: Path, name: str
) -> None:
    code, err = run(
        "evaluate", toy, tmp_path / "new", best(toy_run),
        f"Evaluate.compare_with={earlier / name}", *QUICK,
    )  # fmt: skip
    assert code == 0, err
    compared = read(tmp_path / "new")["comparison"]
    assert compared["with"] == str(earlier / "evaluate_result.json")
    assert compared["same_images"] is True
    assert compared["MultiLabelMAP_difference_ci95"] is None
    assert {row["difference"] for row in compared["metrics"]} == {0.0}


def test_a_result_of_version_0_1_0_is_compared(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, earlier: Path
) -> None:
    result = read(earlier)
    del result["format_version"]  # the first release wrote the other keys alone
    path = tmp_path / "old.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    code, err = run(
        "evaluate", toy, tmp_path / "new", best(toy_run), f"Evaluate.compare_with={path}", *QUICK
    )
    assert code == 0, err
    compared = read(tmp_path / "new")["comparison"]
    assert compared["same_images"] is True
    assert {row["difference"] for row in compared["metrics"]} == {0.0}


def test_an_evaluation_on_other_labels_is_told_apart(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, earlier: Path
) -> None:
    data = shutil.copytree(toy, tmp_path / "set")
    val = annotation.read(data).val
    targets = val.targets.copy()
    targets[0] = 1 - targets[0]
    annotation.write_list(data / "val.txt", val.paths, targets)
    code, err = run(
        "evaluate",
        data,
        tmp_path / "new",
        best(toy_run),
        f"Evaluate.compare_with={earlier}",
        *QUICK,
    )
    assert code == 0, err
    assert read(tmp_path / "new")["comparison"]["same_images"] is False
    assert "was measured on other images or labels" in err


def other_classes(result: Any) -> None:
    result["per_class"][1]["name"] = "verde"


def fewer_classes(result: Any) -> None:
    del result["per_class"][1]


def no_metrics(result: Any) -> None:
    del result["metrics"]


def text_for_a_number(result: Any) -> None:
    result["per_class"][0]["average_precision"] = "high"


def no_average_precision(result: Any) -> None:
    del result["per_class"][0]["average_precision"]


def not_a_number(result: Any) -> None:
    result["metrics"]["CP"] = float("nan")


def infinite(result: Any) -> None:
    result["metrics"]["CP"] = float("inf")


def newer(result: Any) -> None:
    result["format_version"] = 2
    del result["metrics"]


def version_in_words(result: Any) -> None:
    result["format_version"] = "two"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_classes, "other classes: class 1 is 'verde' there and 'green' here"),
        (fewer_classes, "other classes: 2 of them, the model has 3"),
        (no_metrics, "this is not the result of an evaluation"),
        (text_for_a_number, "this is not the result of an evaluation"),
        (no_average_precision, "this is not the result of an evaluation"),
        (version_in_words, "this is not the result of an evaluation"),
        (not_a_number, "cannot be read: NaN is not a finite number"),
        (infinite, "cannot be read: Infinity is not a finite number"),
        (newer, "newer version of paddlex_ml: its format_version is 2, this version reads up to 1"),
    ],
)
def test_a_result_that_does_not_serve_is_refused_before_any_image_is_read(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, earlier: Path, change: Any, message: str
) -> None:
    result = read(earlier)
    change(result)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    code, err = run(
        "evaluate", toy, tmp_path / "new", best(toy_run), f"Evaluate.compare_with={path}"
    )
    assert code == 2
    assert message in err
    assert "[Eval]" not in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.json", "nothing to compare with there"),
        ("empty", "there is no such file"),
        ("broken.json", "cannot be read"),
        ("none", "nothing to compare with there"),
    ],
)
def test_what_is_not_there_to_compare_with_is_named(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    code, err = run(
        "evaluate", toy, tmp_path / "new", best(toy_run), f"Evaluate.compare_with={tmp_path / name}"
    )
    assert code == 2
    assert message in err
    assert str(tmp_path / name) in err


def test_the_result_that_this_run_replaces_is_no_comparison(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    assert run("evaluate", toy, copy_of_run, *QUICK)[0] == 0
    before = read(copy_of_run)
    for named in (copy_of_run, copy_of_run / "evaluate_result.json"):
        compared = (*QUICK, f"Evaluate.compare_with={named}")
        code, err = run("evaluate", toy, copy_of_run, *compared)
        assert code == 2
        assert "this evaluation writes its own result there" in err
        assert read(copy_of_run) == before
        [repair] = repairs.find(err)
        code, err = run("evaluate", toy, copy_of_run, *compared, *repair)
        assert code == 0, err
    assert read(copy_of_run.with_name("run_2"))["comparison"]["with"] == str(named)


def test_a_run_without_an_evaluation_names_the_command_for_it(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    output, compared = tmp_path / "new", f"Evaluate.compare_with={copy_of_run}"
    code, err = run("evaluate", toy, output, best(copy_of_run), *QUICK, compared)
    assert code == 2
    assert "the folder holds a training that was not evaluated" in err
    assert f" -c {copy_of_run / 'config.yaml'} -o Global.mode=evaluate" in err
    named = f"Evaluate.compare_with={copy_of_run / 'best_model' / 'best_model.pdparams'}"
    assert repairs.find(err) == [["Global.mode=evaluate"], [named]]
    code, err = run("evaluate", toy, output, best(copy_of_run), *QUICK, named)
    assert code == 0, err
