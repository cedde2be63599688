# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score

from paddlex_ml import cli
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.evaluate_result import ThresholdQuality
from paddlex_ml.config.schema import EvaluateConfig
from paddlex_ml.engines.evaluate import thresholds
from paddlex_ml.metrics.measures import ClassMeasures, summarise

Run = Callable[..., tuple[int, str]]
SAVE = ("Evaluate.save_threshold=true", "Evaluate.threshold=0.99")
"""No score of the toy model reaches 0.99, so that the tuned ones are better."""
QUICK = ("Evaluate.report=false", "Evaluate.label_errors=null", "Evaluate.bootstrap=0")


def read(folder: Path) -> Any:
    return json.loads((folder / "evaluate_result.json").read_text(encoding="utf-8"))


def draw() -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    targets = (random.random((300, 4)) < [0.02, 0.1, 0.3, 0.5]).astype(np.uint8)
    logits = random.standard_normal((300, 4)) + 2 * targets - 2.5
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, ["a", "b", "c", "d"]


def rows_of(scores: np.ndarray, targets: np.ndarray, names: list[str]) -> list[ClassMeasures]:
    return summarise(scores, targets, names, np.full(len(names), 0.5)).per_class


def test_every_figure_is_that_of_scikit_learn() -> None:
    scores, targets, names = draw()
    half, per_class = np.full(4, 0.5), rows_of(scores, targets, names)
    tuned, result, rows = thresholds.tune(
        EvaluateConfig(), scores, targets, half, per_class, seed=0
    )

    def macro(thresholds_in_use: np.ndarray) -> float:
        return float(
            f1_score(targets, scores >= thresholds_in_use.astype(np.float32), average="macro")
        )

    assert result.before.macro_f1 == pytest.approx(macro(half))
    assert result.tuned.macro_f1 == pytest.approx(macro(tuned.thresholds))
    before, held_out, after = (
        each.macro_f1 or 0.0 for each in (result.before, result.held_out, result.tuned)
    )
    assert 0.0 < before < held_out < after
    assert (result.method, result.target, result.min_positives) == ("f1", None, 10)
    assert result.shared_classes == ["a"]
    assert targets[:, 0].sum() < 10 <= targets[:, 1].sum()
    assert [row.tuned.threshold for row in rows] == tuned.thresholds.tolist()
    assert rows[0].tuned.threshold == result.shared
    decided = scores >= tuned.thresholds.astype(np.float32)
    f1 = f1_score(targets, decided, average=None)
    assert [row.tuned.f1 for row in rows] == pytest.approx(f1.tolist())


def test_what_is_held_out_knows_nothing_of_thresholds_that_were_tuned_on_all_images() -> None:
    scores, targets, names = draw()
    rows = rows_of(scores, targets, names)
    wanted = EvaluateConfig()
    tuned, first, _ = thresholds.tune(wanted, scores, targets, np.full(4, 0.5), rows, seed=0)
    _, again, _ = thresholds.tune(wanted, scores, targets, tuned.thresholds, rows, seed=0)
    assert again.before == first.tuned != first.before
    assert again.held_out == first.held_out
    typed = EvaluateConfig(threshold=tuned.thresholds.tolist())
    _, other, _ = thresholds.tune(typed, scores, targets, tuned.thresholds, rows, seed=0)
    assert other.held_out != first.held_out


def test_classes_that_cannot_reach_the_target_are_named() -> None:
    scores, targets, names = draw()
    scores[0, 3] = 0.99
    targets[0, 3] = 0  # the highest score of the class is a false alarm
    wanted = EvaluateConfig(tune_threshold="precision", tune_target=1.0)
    _, result, rows = thresholds.tune(
        wanted, scores, targets, np.full(4, 0.5), rows_of(scores, targets, names), seed=0
    )
    assert result.unreached == ["d"]
    assert result.target == 1.0
    precision = rows[3].tuned.precision
    assert precision is not None
    assert precision < 1


def test_what_is_undefined_is_no_number() -> None:
    scores, targets, names = draw()
    targets[:, 1] = 0
    wanted = EvaluateConfig(tune_min_positives=0)
    _, result, rows = thresholds.tune(
        wanted, scores, targets, np.full(4, 0.5), rows_of(scores, targets, names), seed=0
    )
    assert rows[1].tuned.recall is None
    assert rows[1].tuned.threshold == 0.5  # no image has it: nothing can be better
    assert result.shared_classes == []
    json.dumps(msgspec.to_builtins([result, rows]), allow_nan=False)


def test_a_single_image_leaves_none_to_hold_out() -> None:
    scores, targets = np.array([[0.9, 0.1]], np.float32), np.array([[1, 0]], np.uint8)
    _, result, _ = thresholds.tune(
        EvaluateConfig(),
        scores,
        targets,
        np.full(2, 0.5),
        rows_of(scores, targets, ["a", "b"]),
        seed=0,
    )
    assert result.tuned.macro_f1 == 1.0
    assert result.held_out == ThresholdQuality(macro_f1=None, CP=None, CR=None)


@pytest.mark.parametrize("images", [2, 5, 10])
def test_tuned_thresholds_are_never_worse_on_the_images_that_they_were_tuned_on(
    images: int,
) -> None:
    half = np.full(3, 0.5)
    kept = 0
    for seed in range(100):
        random = np.random.default_rng([images, seed])
        targets = (random.random((images, 3)) < 0.5).astype(np.uint8)
        logits = 2 * random.standard_normal((images, 3)) + 2 * targets - 1
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        rows = rows_of(scores, targets, ["a", "b", "c"])
        wanted = EvaluateConfig(tune_min_positives=1)
        _, result, tuned = thresholds.tune(
            wanted, scores, targets, half, rows, seed=0, save_to=[Path("inference.yml")]
        )
        before, after = result.before.macro_f1 or 0.0, result.tuned.macro_f1 or 0.0
        assert after > before if result.is_better else after == before
        assert result.saved == (["inference.yml"] if result.is_better else [])
        kept += [row.tuned.threshold for row in tuned] == [0.5] * 3
    assert 0 < kept < 100


def test_thresholds_that_cannot_be_better_are_not_saved_and_it_is_said(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    assert run("evaluate", toy, copy_of_run, *SAVE, *QUICK)[0] == 0
    tuned = inference_yml.read(folder / "inference.yml")
    keys = (f"Evaluate.weight_path={folder}", "Evaluate.save_threshold=true", *QUICK)
    code, err = run("evaluate", toy, copy_of_run, *keys)
    assert code == 0, err
    assert "these stay, and nothing is saved" in err
    result = read(copy_of_run)["thresholds"]
    assert (result["is_better"], result["saved"]) == (False, [])
    assert result["tuned"] == result["before"]
    assert inference_yml.read(folder / "inference.yml") == tuned
    assert not (folder / "inference.yml.bak.1").exists()


def thresholds_of(folder: Path) -> Any:
    return inference_yml.read(folder / "inference.yml").threshold


def test_tuned_thresholds_are_saved_on_request_and_predictions_use_them(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    some = "Evaluate.tune_min_positives=1"
    assert run("evaluate", toy, copy_of_run, some, *QUICK)[0] == 0
    assert thresholds_of(folder) == 0.5
    assert read(copy_of_run)["thresholds"]["saved"] == []
    code, err = run("evaluate", toy, copy_of_run, *SAVE, some, *QUICK)
    assert code == 0, err
    result = read(copy_of_run)
    thresholds_in_use = [row["tuned"]["threshold"] for row in result["per_class"]]
    assert thresholds_of(folder) == thresholds_in_use
    assert thresholds_in_use != [0.5] * 3
    assert result["thresholds"]["saved"] == [str(folder / "inference.yml")]
    content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    shared = content["PostProcess"]["MultiLabelThreshOutput"]["threshold"]
    assert shared == result["thresholds"]["shared"]
    assert inference_yml.read(folder / "inference.yml.bak").threshold == 0.5
    assert str(folder / "inference.yml.bak") in err

    every = ("Predict.return_all_scores=true", "Predict.save_img=false", "Predict.batch_size=5")
    assert run("predict", None, copy_of_run, f"Predict.input={toy / 'images'}", *every)[0] == 0
    found = json.loads((copy_of_run / "predict" / "predictions.json").read_text(encoding="utf-8"))
    assert len(found) == 36
    for image in found:
        scores = np.array(image["all_scores"])
        sure = (
            np.abs(scores - thresholds_in_use) > 1e-5
        )  # scores are rounded to five decimals there
        chosen = np.isin(np.arange(3), image["class_ids"])
        assert (chosen == (scores >= thresholds_in_use))[sure].all()


def test_a_second_evaluation_of_the_folder_starts_from_its_own_thresholds(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    keys = (f"Evaluate.weight_path={folder}", "Evaluate.tune_min_positives=1", *QUICK)
    assert run("evaluate", toy, copy_of_run, *keys, *SAVE)[0] == 0
    first = read(copy_of_run)
    assert run("evaluate", toy, copy_of_run, *keys)[0] == 0
    second = read(copy_of_run)
    tuned = [row["tuned"]["threshold"] for row in first["per_class"]]
    assert [row["threshold"] for row in second["per_class"]] == pytest.approx(tuned)
    assert second["thresholds"]["before"] == first["thresholds"]["tuned"]
    assert second["metrics"]["macro_f1"] == first["thresholds"]["tuned"]["macro_f1"]


def test_all_exports_beside_the_weights_get_the_thresholds(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    best = copy_of_run / "best_model"
    shutil.copytree(best / "inference", best / "inference_onnx")
    assert run("evaluate", toy, copy_of_run, *SAVE, *QUICK)[0] == 0
    assert thresholds_of(best / "inference") == thresholds_of(best / "inference_onnx")
    assert len(read(copy_of_run)["thresholds"]["saved"]) == 2


def test_without_an_export_nothing_is_evaluated_before_the_error(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    shutil.rmtree(copy_of_run / "best_model" / "inference")
    code, err = run("evaluate", toy, copy_of_run, "Evaluate.save_threshold=true")
    assert code == 2
    assert "there is no exported model whose thresholds could be set" in err
    assert "export first (-o Global.mode=export)" in err
    assert "[Eval]" not in err


def test_a_run_that_fails_has_changed_no_model(run: Run, toy: Path, copy_of_run: Path) -> None:
    (copy_of_run / "evaluate" / "per_class.csv").mkdir(parents=True)
    code, _ = run("evaluate", toy, copy_of_run, *SAVE, *QUICK)
    assert code == 2
    folder = copy_of_run / "best_model" / "inference"
    assert thresholds_of(folder) == 0.5
    assert not (folder / "inference.yml.bak").exists()


def test_saving_without_tuning_is_refused(run: Run, toy: Path, copy_of_run: Path) -> None:
    keys = ("Evaluate.save_threshold=true", "Evaluate.tune_threshold=null")
    code, err = run("evaluate", toy, copy_of_run, *keys)
    assert code == 2
    assert "there is nothing to save" in err


def test_an_export_of_the_same_weights_keeps_tuned_thresholds_in_use(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    assert run("evaluate", toy, copy_of_run, *SAVE, *QUICK)[0] == 0
    folder = copy_of_run / "best_model" / "inference"
    before = thresholds_of(folder)
    code, err = run("export", None, copy_of_run)
    assert code == 0
    assert "have not changed, so its thresholds stay in use" in err
    assert isinstance(before, list)
    assert thresholds_of(folder) == before
    assert "are kept in" not in err


def test_thresholds_in_use_are_those_of_the_configuration(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    keys = ("Evaluate.threshold={default: 0.4, green: 0.9}", "Evaluate.tune_threshold=null")
    assert run("evaluate", toy, copy_of_run, *keys, *QUICK)[0] == 0
    result = read(copy_of_run)
    assert [row["threshold"] for row in result["per_class"]] == pytest.approx([0.4, 0.9, 0.4])
    assert result["thresholds"] is None
    assert "tuned" not in result["per_class"][0]


def test_a_threshold_for_a_class_that_does_not_exist_is_refused(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    code, err = run("evaluate", toy, copy_of_run, "Evaluate.threshold={default: 0.4, gren: 0.9}")
    assert code == 2
    assert "the model has no class 'gren'" in err
    assert "write green" in err
    assert "where: Evaluate.threshold" in err


def test_after_saving_the_next_command_does_not_undo_it(
    command: Callable[..., list[str]],
    toy: Path,
    copy_of_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = copy_of_run / "best_model"
    keys = [f"Evaluate.weight_path={best / 'best_model.pdparams'}", *QUICK]
    assert cli.main(command("evaluate", toy, copy_of_run, *keys)) == 0
    assert "Global.mode=predict" in capsys.readouterr().out.splitlines()[-1]  # it is exported
    keys += SAVE
    assert cli.main(command("evaluate", toy, copy_of_run, *keys)) == 0
    following = capsys.readouterr().out.splitlines()[-1]
    assert "Global.mode=predict" in following
    assert f"Global.output={copy_of_run}" in following  # whose exported model has them
    assert "Global.mode=export" not in following


def in_use(output: Path) -> list[float]:
    return [row["threshold"] for row in read(output)["per_class"]]


def test_the_weights_are_evaluated_at_the_thresholds_that_predictions_use(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    assert run("evaluate", toy, copy_of_run, *SAVE, *QUICK)[0] == 0
    assert read(copy_of_run)["thresholds_from"] == "Evaluate.threshold"
    code, err = run("evaluate", toy, copy_of_run, *QUICK)
    assert code == 0, err
    assert in_use(copy_of_run) == pytest.approx(thresholds_of(folder), abs=1e-7)
    assert read(copy_of_run)["thresholds_from"] == str(folder)
    assert f"(of {folder})" in err.partition("thresholds in use: ")[2].splitlines()[0]


@pytest.mark.parametrize("what", ["of another training", "other weights", "no export"])
def test_thresholds_of_other_weights_are_not_those_in_use(
    run: Run, toy: Path, copy_of_run: Path, what: str
) -> None:
    folder, weights = copy_of_run / "best_model" / "inference", copy_of_run / "best_model"
    inference_yml.set_thresholds(folder / "inference.yml", [0.3, 0.4, 0.6], 0.5)
    if what == "of another training":
        content = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
        content["Global"]["run"]["id"] = "another"
        (folder / "inference.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    elif what == "other weights":
        weights = copy_of_run / "latest"
    else:
        shutil.rmtree(folder)
    keys = (f"Evaluate.weight_path={weights / weights.name}.pdparams", *QUICK)
    code, err = run("evaluate", toy, copy_of_run, *keys)
    assert code == 0, err
    assert in_use(copy_of_run) == [0.5, 0.5, 0.5]
    assert "thresholds_from" not in read(copy_of_run)
    assert "0.5 for every class (no export of these weights in float32 is beside them)" in err


def test_an_export_that_lacks_the_thresholds_in_use_gets_them(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    best = copy_of_run / "best_model"
    shutil.copytree(best / "inference", best / "inference_onnx")
    assert run("evaluate", toy, copy_of_run, *SAVE, *QUICK)[0] == 0
    shutil.copy(best / "inference_onnx/inference.yml.bak", best / "inference_onnx/inference.yml")
    code, err = run("evaluate", toy, copy_of_run, SAVE[0], *QUICK)
    assert code == 0, err
    assert "these stay, and the exports that have others get them" in err
    assert f"thresholds -> {best / 'inference_onnx'}" in err
    assert f"thresholds -> {best / 'inference'}{os.sep}" not in err  # it has them
    assert thresholds_of(best / "inference") == thresholds_of(best / "inference_onnx")
    assert read(copy_of_run)["thresholds"]["saved"] == [str(best / "inference_onnx/inference.yml")]
