# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from safetensors.numpy import save_file

from paddlex_ml import openvino_runtime, program
from paddlex_ml.artifacts import inference_yml, weights
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.storage import cache
from tests.artifacts.test_run_lock import another_process

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


def run_id(output: Path) -> str:
    return str(json.loads((output / "run.json").read_text())["id"])


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
    assert result.pop("run")["id"] == run_id(copy_of_run)
    assert result == {
        "done_flag": True,
        "format": "paddle",
        "model_name": "PP-LCNet_x1_0_ML",
        "weight_path": str(copy_of_run / "best_model" / "best_model.pdparams"),
        "inference_dir": str(folder),
        "files": [str(folder / name) for name in FILES],
    }


@pytest.mark.parametrize(
    ("form", "written"),
    [("paddle", "inference"), ("onnx", "inference_onnx"), ("safetensors", "latest.safetensors")],
)
def test_an_export_beside_a_running_training_says_that_it_will_be_removed(
    run: Run, copy_of_run: Path, form: str, written: str
) -> None:
    if form == "onnx":
        pytest.importorskip("paddle2onnx", exc_type=ImportError)
    weights = copy_of_run / "latest" / "latest.pdparams"
    keys = (f"Export.weight_path={weights}", f"Export.format={form}")
    path = copy_of_run / "latest" / written
    told = f"a training is writing into {copy_of_run} (process "
    with another_process(copy_of_run, "train"):
        code, err = run("export", None, copy_of_run, *keys)
    assert code == 0, err
    assert f"warning: {told}" in err
    assert f"it removes {written} when it replaces latest" in err
    assert f"or copy {path} into another folder now" in err
    code, err = run("export", None, copy_of_run, *keys)
    assert code == 0, err
    assert told not in err


def test_thresholds_saved_beside_a_running_training_are_told_too(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    keys = ("Evaluate.save_threshold=true", "Evaluate.threshold=0.99")
    with another_process(copy_of_run, "train"):
        code, err = run("evaluate", toy, copy_of_run, *keys)
    assert code == 0, err
    assert f"a training is writing into {copy_of_run} (process " in err
    assert "it removes inference when it replaces best_model" in err


def result(output: Path) -> Any:
    return json.loads((output / "export_result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("form", "graphs", "more"),
    [
        ("onnx", ["inference.onnx"], {"precision": "fp32", "opset": 17, "batch_size": None}),
        ("pdmodel", ["inference.pdiparams", "inference.pdmodel"], {}),
        (
            "openvino",
            ["inference.bin", "inference.xml"],
            {"precision": "fp32", "batch_size": None},
        ),
    ],
)
def test_other_formats_have_folders_of_their_own_with_the_same_description(
    run: Run, copy_of_run: Path, form: str, graphs: list[str], more: dict[str, object]
) -> None:
    if form in ("onnx", "openvino"):
        pytest.importorskip("paddle2onnx")
        pytest.importorskip("onnxruntime")
    if form == "openvino":
        pytest.importorskip("openvino", reason="the package of the extra openvino")
    best = copy_of_run / "best_model"
    code, err = run("export", None, copy_of_run, f"Export.format={form}")
    assert code == 0, err
    folder = best / f"inference_{form}"
    assert f"-> {folder} (largest difference " in err
    assert sorted(os.listdir(folder)) == [*graphs, "inference.yml"]
    description = (folder / "inference.yml").read_bytes()
    assert description == (best / "inference" / "inference.yml").read_bytes()
    found = result(copy_of_run)
    assert 0 <= found.pop("static_difference") < 1e-4
    assert found.pop("run")["id"] == run_id(copy_of_run)
    assert found == {
        "done_flag": True,
        "format": form,
        "model_name": "PP-LCNet_x1_0_ML",
        "weight_path": str(best / "best_model.pdparams"),
        "inference_dir": str(folder),
        "files": [str(folder / name) for name in (*graphs, "inference.yml")],
        **more,
    }


def scores_of(folder: Path, picture: Path, threads: int = 1) -> list[float]:
    """The scores of the export in `folder`, by the class."""
    model = StaticModel(folder, "cpu", cpu_threads=threads)
    (found,) = Predictor(model).predict(str(picture), threshold=0.0)
    return [score for _, score in sorted(zip(found.class_ids, found.scores, strict=True))]


def test_a_fixed_batch_is_exported_and_still_predicts_any_number_of_images(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    code, err = run("export", None, copy_of_run, "Export.format=onnx", "Export.batch_size=4")
    assert code == 0, err
    assert result(copy_of_run)["batch_size"] == 4
    folder = copy_of_run / "best_model" / "inference_onnx"
    graph = onnx.load(folder / "inference.onnx").graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value in (1, 4)
    picture = next((toy / "images").iterdir())
    expected = scores_of(copy_of_run / "best_model" / "inference", picture)
    assert scores_of(folder, picture) == pytest.approx(expected, abs=2e-5)


def test_tuned_thresholds_go_into_the_onnx_file_too(run: Run, toy: Path, copy_of_run: Path) -> None:
    pytest.importorskip("paddle2onnx")
    assert run("export", None, copy_of_run, "Export.format=onnx")[0] == 0
    keys = ["Evaluate.save_threshold=true", "Evaluate.tune_min_positives=1"]
    keys += ["Evaluate.report=false", "Evaluate.threshold=0.99"]  # any other one is better
    assert run("evaluate", toy, copy_of_run, *keys)[0] == 0
    folder = copy_of_run / "best_model" / "inference_onnx"
    described = inference_yml.read_onnx(folder / "inference.onnx")
    assert described is not None
    assert described == inference_yml.read(folder / "inference.yml")
    assert isinstance(described.threshold, list)
    names = ["inference.onnx", "inference.yml", "inference.yml.bak"]
    assert sorted(os.listdir(folder)) == names


def test_a_batch_of_no_image_and_of_other_formats_is_refused(run: Run, copy_of_run: Path) -> None:
    code, err = run("export", None, copy_of_run, "Export.format=onnx", "Export.batch_size=0")
    assert code == 2
    assert "Export.batch_size" in err
    code, err = run("export", None, copy_of_run, "Export.batch_size=4")
    assert code == 2
    assert "but a model of the format paddle takes batches of any size" in err
    assert "-o Export.batch_size=null, or -o Export.format=onnx" in err


def test_tuned_thresholds_of_another_format_are_told(run: Run, copy_of_run: Path) -> None:
    tuned = copy_of_run / "best_model" / "inference"
    inference_yml.set_thresholds(tuned / "inference.yml", [0.3, 0.5, 0.7], 0.4)
    code, err = run("export", None, copy_of_run, "Export.format=pdmodel")
    assert code == 0, err
    assert f"{tuned} has tuned thresholds, this export has 0.5 for every class: to tune" in err


def test_an_older_program_is_evaluated_and_predicts_like_the_new_one(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    assert run("export", None, copy_of_run, "Export.format=pdmodel")[0] == 0
    folder = copy_of_run / "best_model" / "inference_pdmodel"
    code, err = run("evaluate", toy, copy_of_run, f"Evaluate.weight_path={folder}")
    assert code == 0, err
    metrics = json.loads((copy_of_run / "evaluate_result.json").read_text())["metrics"]
    best = json.loads((copy_of_run / "train_result.json").read_text())["models"]["best"]
    assert metrics["MultiLabelMAP"] == pytest.approx(best["score"], abs=1e-6)
    picture = next((toy / "images").iterdir())
    keys = f"Predict.model_dir={folder}", f"Predict.input={picture}"
    assert run("predict", None, copy_of_run, *keys)[0] == 0


def test_safetensors_stand_beside_the_weights_and_say_what_they_are(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    code, err = run("export", None, copy_of_run, "Export.format=safetensors")
    assert code == 0, err
    source = copy_of_run / "best_model" / "best_model.pdparams"
    path = source.with_suffix(".safetensors")
    assert f"exported {source} -> {path}" in err
    found = result(copy_of_run)
    assert found.pop("run")["id"] == run_id(copy_of_run)
    assert found == {
        "done_flag": True,
        "format": "safetensors",
        "model_name": "PP-LCNet_x1_0_ML",
        "weight_path": str(source),
        "files": [str(path)],
    }
    expected, found = weights.read(source), weights.read(path)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(found[name], expected[name])] == []
    # Alone, far from its checkpoint, it is evaluated and exported under its own names.
    moved = shutil.copy(path, tmp_path / "moved.safetensors")
    code, err = run("evaluate", toy, tmp_path / "out", f"Evaluate.weight_path={moved}")
    assert (code, "has no class names" in err) == (0, False), err
    metrics = json.loads((tmp_path / "out" / "evaluate_result.json").read_text())["metrics"]
    best = json.loads((copy_of_run / "train_result.json").read_text())["models"]["best"]
    assert metrics["MultiLabelMAP"] == pytest.approx(best["score"], abs=1e-6)
    assert run("export", None, tmp_path / "out", f"Export.weight_path={moved}")[0] == 0
    assert labels(tmp_path / "inference") == ["red", "green", "blue"]


def test_the_users_own_safetensors_are_not_overwritten(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    own = tmp_path / "w.safetensors"
    save_file(weights.read(toy_run / "best_model" / "best_model.pdparams"), own)
    before = own.read_bytes()
    keys = f"Export.weight_path={own}", "Export.format=safetensors"
    code, err = run("export", toy, tmp_path / "out", *keys)
    assert code == 2
    assert "error: a file that was not exported by this tool has the name of the export" in err
    assert own.read_bytes() == before


def test_missing_packages_are_told_before_the_weights_are_read(
    run: Run, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paddle2onnx")  # else the message is that this Python has none
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = copy_of_run / "best_model" / "damaged.pdparams"
    path.write_bytes(b"no weights")
    code, err = run("export", None, copy_of_run, "Export.format=onnx", f"Export.weight_path={path}")
    assert code == 2
    assert "onnxruntime, not installed here" in err
    assert "fix:   " + program.pip_install("paddlex-ml[onnx]") in err
    assert result(copy_of_run)["done_flag"] is False


def test_exports_of_old_weights_go_when_training_replaces_them(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    path = copy_of_run / "latest" / "latest.pdparams"
    for form in ("paddle", "safetensors", "pdmodel"):
        keys = f"Export.weight_path={path}", f"Export.format={form}"
        assert run("export", None, copy_of_run, *keys)[0] == 0
    made = [path.parent / name for name in ("inference", "inference_pdmodel", "latest.safetensors")]
    assert all(place.exists() for place in made)
    more = "Train.resume_path=auto", "Train.epochs_iters=3"
    assert run("train", toy, copy_of_run, *more)[0] == 0
    assert not any(place.exists() for place in made)
    assert (copy_of_run / "best_model" / "inference").is_dir()


def test_any_checkpoint_is_exported_beside_its_weights(run: Run, copy_of_run: Path) -> None:
    trained = json.loads((copy_of_run / "train_result.json").read_text(encoding="utf-8"))
    other = f"epoch_{3 - trained['models']['best']['epoch']}"  # of two
    path = copy_of_run / other / f"{other}.pdparams"
    assert run("export", None, copy_of_run, f"Export.weight_path={path}")[0] == 0
    static = copy_of_run / other / "inference"
    assert sorted(os.listdir(static)) == FILES
    best = copy_of_run / "best_model" / "inference"
    assert not np.array_equal(scores(static), scores(best))


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
    kept = cache.path_for(url)
    assert sorted(os.listdir(kept.parent)) == ["w.pdparams", "w.pdparams.lock"]
    result = json.loads((tmp_path / "export_result.json").read_text())
    assert result["weight_path"] == str(kept)
    for mode, key in (
        ("evaluate", "Evaluate.weight_path"),
        ("train", "Train.pretrain_weight_path"),
    ):
        code, err = run(mode, toy, tmp_path / mode, f"{key}={url}", "Train.epochs_iters=1")
        assert code == 0, err
    count = len(pickle.loads(kept.read_bytes()))
    assert f"loaded {count} of {count} entries from {kept}" in err
    assert len(site.asked) == 1
    keys = f"Export.weight_path={url}", "Export.format=safetensors"
    assert run("export", toy, tmp_path, *keys)[0] == 0
    assert (tmp_path / "w.safetensors").is_file()
    assert not kept.with_suffix(".safetensors").exists()


def test_an_export_to_openvino_without_it_names_the_package(
    run: Run, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paddle2onnx")

    def missing(part: str = "") -> None:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setattr(openvino_runtime, "load", missing)
    code, err = run("export", None, copy_of_run, "Export.format=openvino")
    assert code == 2
    assert "OpenVINO is not installed" in err
    assert "fix:   " + program.pip_install("paddlex-ml[openvino]") in err
    assert not (copy_of_run / "best_model" / "inference_openvino").exists()


def test_openvino_evaluates_predicts_and_gets_tuned_thresholds(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("openvino", reason="the package of the extra openvino")
    best = copy_of_run / "best_model"
    assert run("export", None, copy_of_run, "Export.format=openvino", "Export.batch_size=3")[0] == 0
    folder = best / "inference_openvino"
    # Of the weights: all exports beside them get the thresholds.
    keys = ["Evaluate.save_threshold=true", "Evaluate.tune_min_positives=1"]
    keys += ["Evaluate.report=false", "Evaluate.threshold=0.99"]
    assert run("evaluate", toy, copy_of_run, *keys)[0] == 0
    described = inference_yml.read(folder / "inference.yml")
    assert isinstance(described.threshold, list)
    assert f'<thresholds value="{json.dumps(described.threshold)}" />' in (
        folder / "inference.xml"
    ).read_text("utf-8")
    code, err = run(
        *("evaluate", toy, copy_of_run, f"Evaluate.weight_path={folder}"),
        f"Evaluate.compare_with={best / 'inference'}",
    )
    assert code == 0, err
    picture = next((toy / "images").iterdir())
    assert scores_of(folder, picture) == pytest.approx(
        scores_of(best / "inference", picture), abs=2e-5
    )
    code, err = run(
        *("predict", None, copy_of_run, f"Predict.input={picture}", f"Predict.model_dir={best}"),
        *("Predict.kernel_option.run_mode=openvino", "Predict.kernel_option.cpu_threads=1"),
    )
    assert code == 0, err
    assert "inference_openvino" in err
