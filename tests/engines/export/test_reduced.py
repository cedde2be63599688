# SPDX-License-Identifier: Apache-2.0
"""Exports in lower precision, by the command."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout

from paddlex_ml.artifacts import checkpoint, export_report, inference_yml
from paddlex_ml.engines.export import images as export_images
from paddlex_ml.engines.export import reduced
from paddlex_ml.engines.export.images import Images
from paddlex_ml.export import layer_search
from paddlex_ml.export.layer_search import Trial
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.storage import files

pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")

Run = Callable[..., tuple[int, str]]
ONNX, INT8, FP16 = "Export.format=onnx", "Export.precision=int8", "Export.precision=fp16"
FEW = "Export.calibration_images=12"
ANY = ("Export.max_changed_decisions=1", "Export.max_map_loss=1")


def scores(folder: Path, data: Path) -> np.ndarray:
    """Scores [N, C] of a static model for the images of val.txt."""
    names = [line.split("\t")[0] for line in (data / "val.txt").read_text().splitlines()]
    paths = [str(data / name) for name in names]
    found = Predictor(StaticModel(folder, "cpu")).predict(paths, threshold=0.0)
    return np.array(
        [[s for _, s in sorted(zip(r.class_ids, r.scores, strict=True))] for r in found]
    )


@pytest.mark.parametrize(
    ("form", "key", "share"),
    [
        ("onnx", INT8, 0.3),
        ("onnx", FP16, 0.51),
        ("openvino", INT8, 0.3),
        ("openvino", FP16, 0.53),
    ],
)
def test_an_export_in_lower_precision_is_measured_evaluated_and_predicts(
    run: Run, toy: Path, copy_of_run: Path, form: str, key: str, share: float
) -> None:
    pytest.importorskip("openvino" if form == "openvino" else "onnxruntime")
    best, name, chosen = copy_of_run / "best_model", key.partition("=")[2], f"Export.format={form}"
    assert run("export", None, copy_of_run, chosen)[0] == 0
    few = [FEW] if key == INT8 else []
    code, err = run("export", toy, copy_of_run, chosen, key, *few, *ANY)
    assert code == 0, err
    folder = best / f"inference_{form}_{name}"
    graphs = ["inference.onnx"] if form == "onnx" else ["inference.bin", "inference.xml"]
    assert sorted(os.listdir(folder)) == ["export_report.json", *graphs, "inference.yml"]
    found = json.loads((copy_of_run / "export_result.json").read_text())
    assert found["precision"] == name
    assert found["report"] == str(folder / "export_report.json")
    usual, reduced = best / f"inference_{form}", folder
    sizes = [sum((each / n).stat().st_size for n in graphs) for each in (usual, reduced)]
    assert sizes[1] < share * sizes[0]

    report = export_report.read(folder)
    assert report is not None
    assert report.images == 12
    assert report.batch_size == 8
    assert report.alone is not None
    assert report.alone.images == 12
    assert report.alone.changed_decisions == 0
    assert report.alone.largest_difference < 1e-4
    assert report.bytes_fp32 == pytest.approx(sizes[0], rel=1e-4)  # two exports of one model
    assert report.bytes == pytest.approx(sizes[1], rel=0.01)  # without what describes it
    # What the report says is what predictions give.
    before, after = scores(usual, toy), scores(reduced, toy)
    moved = np.abs(before - after)
    assert report.largest_movement == pytest.approx(moved.max(), abs=1e-4)
    assert report.mean_movement == pytest.approx(moved.mean(), abs=1e-4)
    changed = ((before >= 0.5) != (after >= 0.5)).sum(axis=0)
    assert [row.changed for row in report.per_class] == changed.tolist()
    assert report.changed_decisions == pytest.approx(changed.sum() / before.size)
    assert report.calibration_images == (12 if key == INT8 else 0)

    code, err = run(
        *("evaluate", toy, copy_of_run, f"Evaluate.weight_path={folder}"),
        f"Evaluate.compare_with={usual}",
    )
    assert code == 0, err
    assert f"an export in {name}: " in err
    page = (copy_of_run / "evaluate" / "report.html").read_text("utf-8")
    assert f"This model is an export in {name}." in page
    result = json.loads((copy_of_run / "evaluate_result.json").read_text())
    assert result["metrics"]["MultiLabelMAP"] == pytest.approx(report.map, abs=1e-6)


def test_over_the_budget_nothing_is_exported_and_what_was_reached_is_told(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference_onnx_int8"
    # Thresholds in the middle of the scores, so that decisions change.
    assert run("export", toy, copy_of_run, ONNX)[0] == 0
    middle = np.median(scores(copy_of_run / "best_model" / "inference_onnx", toy), axis=0).tolist()
    usual = copy_of_run / "best_model" / "inference" / "inference.yml"
    inference_yml.set_thresholds(usual, middle, middle[0])
    assert run("export", toy, copy_of_run, ONNX, INT8, FEW, *ANY)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_search, "search", _try_all_in_8_bits)
        budget = ("Export.max_changed_decisions=0", "Export.max_map_loss=0")
        code, err = run("export", toy, copy_of_run, ONNX, INT8, FEW, *budget)
        assert code == 2
        assert "no int8 export keeps to the budgets (0.00% changed decisions, 0 mAP)" in err
        assert "nothing was exported" in err
        reached = err[err.index("8 bits  weights  float32") :].splitlines()
        assert re.match(r"8 bits +weights +float32 +changed +mAP loss +MB$", reached[0])
        assert re.match(r"\[[^]]*\] +[1-9]\d* +0 +0 +\d+\.\d\d% +-?0\.\d{4} ", reached[1])
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert not [name for name in os.listdir(folder.parent) if "new" in name]
        # The repair works as it is printed.
        fix = re.search(r"fix: +(-o .+), or -o Export.precision=fp32", err)
        assert fix is not None, err
        keys = [word for word in fix[1].split() if word != "-o"]
        code, err = run("export", toy, copy_of_run, ONNX, INT8, FEW, *budget, *keys)
        assert code == 0, err


def _try_all_in_8_bits(layers, effects, _, measure, holds):
    """A search that gives up after its first plan."""
    trial = Trial(dict.fromkeys(effects, "int8"), measure(dict.fromkeys(effects, "int8")))
    return (trial if holds(trial.measured) else None), [trial]


def test_tuned_thresholds_are_tuned_anew_for_this_precision(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    best = copy_of_run / "best_model"
    inference_yml.set_thresholds(best / "inference" / "inference.yml", [0.3, 0.5, 0.7], 0.4)
    tune = "Evaluate.tune_min_positives=1"
    code, err = run("export", toy, copy_of_run, ONNX, INT8, FEW, tune, *ANY)
    assert code == 0, err
    folder = best / "inference_onnx_int8"
    report = export_report.read(folder)
    assert report is not None
    assert [row.threshold for row in report.per_class] == pytest.approx([0.3, 0.5, 0.7])
    tuned = [row.tuned_threshold for row in report.per_class]
    for description in (
        inference_yml.read(folder / "inference.yml"),
        inference_yml.read_onnx(folder / "inference.onnx"),
    ):
        assert description is not None
        assert description.threshold == pytest.approx(tuned)
    assert not list(folder.glob("*.bak"))
    # An evaluation of the weights does not replace them by those of float32.
    keys = ["Evaluate.save_threshold=true", "Evaluate.threshold=0.99", "Evaluate.report=false"]
    assert run("evaluate", toy, copy_of_run, *keys, tune)[0] == 0
    assert inference_yml.read(folder / "inference.yml").threshold == pytest.approx(tuned)


def test_without_tuned_thresholds_the_usual_one_stays(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    assert run("export", toy, copy_of_run, ONNX, FP16, *ANY)[0] == 0
    folder = copy_of_run / "best_model" / "inference_onnx_fp16"
    assert inference_yml.read(folder / "inference.yml").threshold == 0.5


def test_few_images_and_other_classes_are_refused(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "set"
    data.mkdir()
    (data / "images").symlink_to(toy / "images")
    for name in ("label.txt", "val.txt"):
        (data / name).write_text((toy / name).read_text())
    lines = (toy / "train.txt").read_text().splitlines(keepends=True)
    (data / "train.txt").write_text(lines[0])
    code, err = run("export", data, copy_of_run, ONNX, INT8)
    assert code == 2
    assert "train.txt has 1 image: ranges for 8 bits need at least 10" in err
    assert "-o Export.precision=fp16" in err
    (data / "label.txt").write_text((toy / "label.txt").read_text().replace("\n", "x\n", 1))
    code, err = run("export", data, copy_of_run, ONNX, FP16)
    assert code == 2
    assert "the classes of the data set are not those of the model" in err
    (data / "label.txt").write_text((toy / "label.txt").read_text())
    (data / "val.txt").unlink()
    code, err = run("export", data, copy_of_run, ONNX, FP16)
    assert code == 2
    assert "val.txt" in err
    assert not list((copy_of_run / "best_model").glob("inference_onnx*"))


@pytest.mark.parametrize(
    ("keys", "what", "fix"),
    [
        (["Export.precision=int8"], "but the format paddle has only fp32", "Export.format=onnx"),
        ([ONNX, INT8, "Export.opset=12"], "has no scale for every channel", "Export.opset=13"),
        ([ONNX, FP16], "Global.dataset_dir is not set", "Global.dataset_dir=./dataset/my_set"),
        ([ONNX, INT8, "Export.calibration_images=1"], "Export.calibration_images", "10"),
        ([ONNX, "Export.precision=int4"], "Export.precision", "int8"),
        ([ONNX, "Export.max_map_loss=0.1"], "fp32 does not read it", "Export.max_map_loss=0.005"),
        ([ONNX, FP16, FEW], "fp16 does not read it", "Export.precision=int8"),
    ],
)
def test_bad_values_are_refused(
    run: Run, copy_of_run: Path, keys: list[str], what: str, fix: str
) -> None:
    code, err = run("export", None, copy_of_run, *keys)
    assert code == 2
    assert what in err
    assert fix in err


def test_a_long_val_list_is_drawn_from(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_images, "MOST_DECIDING", 7)
    assert run("export", toy, copy_of_run, ONNX, FP16, *ANY)[0] == 0
    report = export_report.read(copy_of_run / "best_model" / "inference_onnx_fp16")
    assert report is not None
    assert report.images == 7


@pytest.mark.parametrize("batch", [5, 12])
def test_a_fixed_batch_is_measured_in_such_batches(
    run: Run, toy: Path, copy_of_run: Path, batch: int
) -> None:
    size = f"Export.batch_size={batch}"
    code, err = run("export", toy, copy_of_run, ONNX, INT8, FEW, size, *ANY)
    assert code == 0, err
    report = export_report.read(copy_of_run / "best_model" / "inference_onnx_int8")
    assert report is not None
    assert report.images == 12
    assert (report.batch_size, report.alone) == (batch, None)
    assert 0 < report.largest_movement < 0.5


def test_thresholds_in_use_are_those_of_fp32_however_often_one_exports(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    best = copy_of_run / "best_model"
    inference_yml.set_thresholds(best / "inference" / "inference.yml", [0.3, 0.5, 0.7], 0.4)
    found = []
    for _ in range(2):
        keys = ("Evaluate.tune_min_positives=1", *ANY)
        assert run("export", toy, copy_of_run, ONNX, INT8, FEW, *keys)[0] == 0
        report = export_report.read(best / "inference_onnx_int8")
        assert report is not None
        found.append([row.threshold for row in report.per_class])
    assert found[0] == found[1] == pytest.approx([0.3, 0.5, 0.7])
    # Without tuning, or where new thresholds would change too much, those of fp32 stay.
    for keys in (
        ("Evaluate.tune_threshold=null", *ANY),
        ("Evaluate.tune_min_positives=1", "Export.max_changed_decisions=0.01", ANY[1]),
    ):
        assert run("export", toy, copy_of_run, ONNX, FP16, *keys)[0] == 0
        described = inference_yml.read(best / "inference_onnx_fp16" / "inference.yml")
        assert described.threshold == pytest.approx([0.3, 0.5, 0.7])


def test_scores_that_are_no_numbers_are_refused(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = reduced._score

    def spoil(model: Path | bytes, *rest: object) -> np.ndarray:
        scores = usual(model, *rest)  # type: ignore[arg-type]
        return scores if isinstance(model, Path) else np.full_like(scores, np.nan)

    monkeypatch.setattr(reduced, "_score", spoil)
    code, err = run("export", toy, copy_of_run, ONNX, FP16, *ANY)
    assert code == 2
    assert "in fp16 the model gives scores that are no numbers" in err
    assert not (copy_of_run / "best_model" / "inference_onnx_fp16").exists()


def test_an_image_alone_with_other_scores_than_in_a_batch_is_refused(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = reduced._score

    def spoil(model: Path | bytes, shown: Images, most=None, size=None) -> np.ndarray:
        scores = usual(model, shown, most, size)
        return 1 - scores if size == 1 else scores

    monkeypatch.setattr(reduced, "_score", spoil)
    budget = "Export.max_changed_decisions=0.5"
    code, err = run("export", toy, copy_of_run, ONNX, FP16, budget, ANY[1])
    assert code == 2
    assert "the fp16 export gives an image alone other scores than in a batch, by up to 0." in err
    assert "100.00% of the decisions on 12 images are other ones; nothing was exported" in err
    assert not (copy_of_run / "best_model" / "inference_onnx_fp16").exists()
    fix = "Export.batch_size=8"
    assert f"-o {fix}, which fills up smaller batches" in err
    assert run("export", toy, copy_of_run, ONNX, FP16, budget, ANY[1], fix)[0] == 0


def test_nobody_waits_for_the_folder_of_the_weights_while_layers_are_tried(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, usual = copy_of_run / "best_model", reduced._score
    states = []

    def look(model: Path | bytes, *rest: Any) -> np.ndarray:
        with ThreadPoolExecutor(1) as other:  # a lock may be acquired twice in one thread
            for folder in (best, best / "inference"):
                lock = files.lock_of(folder)
                states.append(other.submit(_is_free, lock).result())
        return usual(model, *rest)

    monkeypatch.setattr(reduced, "_score", look)
    assert run("export", toy, copy_of_run, ONNX, FP16, *ANY)[0] == 0
    assert states
    assert all(states)
    assert not (copy_of_run / ".export.new").exists()


def _is_free(lock: FileLock) -> bool:
    try:
        with lock.acquire(blocking=False):
            return True
    except Timeout:
        return False


def test_weights_that_are_replaced_meanwhile_get_no_export_of_others(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, latest, usual = copy_of_run / "best_model", copy_of_run / "latest", reduced._score

    def replace(model: Path | bytes, *rest: Any) -> np.ndarray:
        checkpoint.duplicate(latest, best)
        return usual(model, *rest)

    monkeypatch.setattr(reduced, "_score", replace)
    code, err = run("export", toy, copy_of_run, ONNX, FP16, *ANY)
    assert code == 2
    assert "the weights were replaced while their export was made: nothing was exported" in err
    assert "export again when the training has ended" in err
    assert not (best / "inference_onnx_fp16").exists()
    assert not (copy_of_run / ".export.new").exists()


def test_a_file_in_the_place_of_the_export_is_told_before_it_takes_minutes(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = copy_of_run / "best_model" / "inference_onnx_fp16"
    place.write_text("mine")
    monkeypatch.setattr(reduced.Reduction, "rework", lambda *_: pytest.fail("it took minutes"))
    code, err = run("export", toy, copy_of_run, ONNX, FP16, *ANY)
    assert code == 2
    assert f"where: {place}" in err
    assert "a file is where a folder is needed: move it" in err
    assert place.read_text() == "mine"


def test_an_interrupted_export_leaves_the_earlier_one(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("export", toy, copy_of_run, ONNX, FP16, *ANY)[0] == 0
    folder = copy_of_run / "best_model" / "inference_onnx_fp16"
    (folder / "mine.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    entries = sorted(os.walk(copy_of_run / "best_model"))
    usual = reduced._score

    def stop(*given: Any) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        return usual(*given)

    with monkeypatch.context() as patch:
        patch.setattr(reduced, "_score", stop)
        code, err = run("export", toy, copy_of_run, ONNX, FP16, *ANY)
    assert code == 130
    assert "stopped by SIGINT" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(os.walk(copy_of_run / "best_model")) == entries
    assert not (copy_of_run / ".export.new").exists()
    assert run("export", toy, copy_of_run, ONNX, FP16, *ANY)[0] == 0
    assert (folder / "mine.txt").read_text() == "mine"
