# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.artifacts import weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.config import shipped
from paddlex_ml.config.load import load
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, preprocess
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.engines.evaluate import label_errors
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.engines.load_model import LoadedModel
from paddlex_ml.metrics import label_quality
from paddlex_ml.metrics.out_of_fold import score_out_of_fold
from paddlex_ml.models import zoo

Run = Callable[..., tuple[int, str]]
QUICK = ("Evaluate.bootstrap=0", "Evaluate.tune_threshold=null", "Evaluate.report=false")


def read(output: Path) -> tuple[Any, list[dict[str, str]]]:
    result = json.loads((output / "evaluate_result.json").read_text(encoding="utf-8"))
    with (output / "evaluate" / "label_errors.csv").open(encoding="utf-8", newline="") as file:
        return result, list(csv.DictReader(file))


def configure(data: Path, output: Path, *overrides: str) -> Config:
    keys = ("Global.mode=evaluate", f"Global.dataset_dir={data}", f"Global.output={output}")
    return load(shipped.find("PP-LCNet_x1_0_ML")[0], (*keys, *overrides)).config


@pytest.mark.parametrize("lists", ["val", "all"])
def test_the_table_says_what_the_result_counts(
    run: Run, toy: Path, copy_of_run: Path, lists: str
) -> None:
    code, err = run("evaluate", toy, copy_of_run, f"Evaluate.label_errors={lists}", *QUICK)
    assert code == 0, err
    result, rows = read(copy_of_run)
    errors = result["label_errors"]
    assert errors["csv"] == "evaluate/label_errors.csv"
    assert list(errors["lists"]) == (["val"] if lists == "val" else ["val", "train"])
    for name, counts in errors["lists"].items():
        own = [row for row in rows if row["list"] == name]
        problems = [row["problem"] for row in own]
        assert counts["suspected"] == len(own)
        assert counts["missing"] == problems.count("missing")
        assert counts["wrong"] == problems.count("wrong")
        told = f"labels to check in {name}: {len(own) or 'none found'} ({counts['missing']} perhaps"
        is_weak = not own and f"{name}: this model is too weak to find wrong labels" in err
        assert is_weak or told in err
        assert all(float(row["probability"]) > 0.5 for row in own)
        assert (counts["likely_true"] is None) == (own == [])
    assert errors["lists"]["val"]["scores"] == "held out"
    assert errors["lists"].get("train", {"scores": "out of fold"})["scores"] == "out of fold"
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    qualities = [float(row["quality"]) for row in rows]
    assert qualities == sorted(qualities)
    assert {(row["problem"], row["label"]) for row in rows} <= {("wrong", "1"), ("missing", "0")}


def test_a_turned_label_of_a_sure_model_is_the_first_of_all(toy: Path, tmp_path: Path) -> None:
    clean = annotation.read(toy)
    truth = np.tile(clean.val.targets, (10, 1))  # 120 images: of 12, nothing can be said
    present = truth == 1
    for image, class_id in ((5, 1), (8, 0)):
        odds = np.random.default_rng(image).standard_normal(truth.shape) + np.where(present, 3, -3)
        same = np.arange(image, 72, 12)  # six copies of the image have the error
        odds[same, class_id] = 6 if present[image, class_id] else -6
        odds[image, class_id] *= 1.5
        scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
        targets = truth.copy()
        targets[same, class_id] = 1 - targets[same, class_id]
        val = ImageList(clean.root, clean.val.paths * 10, targets)
        numbers = {path: i for i, path in enumerate(clean.val.paths)}
        suspects, result = label_errors.find(
            configure(toy, tmp_path, "Evaluate.label_errors=val"),
            EvaluatedModel(
                lambda images: images, clean.label_names, preprocess.standard(32), toy, 0.5
            ),
            MLClsDataset(clean.root, clean.label_names, clean.train, val),
            scores,
        )
        first = suspects[0]
        assert {numbers[s.shown] for s in suspects} == {image}
        likely = result.lists["val"].likely_true
        assert likely == pytest.approx(np.mean([s.probability for s in suspects]))
        assert likely is not None
        assert likely > 0.5
        assert (first.shown, first.label) == (val.paths[image], clean.label_names[class_id])
        assert first.given == bool(targets[image, class_id])
        assert first.path == val.path(image)
        assert first.score == pytest.approx(scores[image, class_id])


def test_without_the_search_there_is_no_table(run: Run, toy: Path, copy_of_run: Path) -> None:
    assert run("evaluate", toy, copy_of_run, "Evaluate.label_errors=null", *QUICK)[0] == 0
    result = json.loads((copy_of_run / "evaluate_result.json").read_text(encoding="utf-8"))
    assert result["label_errors"] is None
    assert not (copy_of_run / "evaluate" / "label_errors.csv").exists()


def test_a_static_folder_cannot_judge_the_list_that_it_learned(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = f"Evaluate.weight_path={copy_of_run / 'best_model' / 'inference'}"
    code, err = run("evaluate", toy, copy_of_run, folder, "Evaluate.label_errors=all")
    assert code == 2
    assert "a static folder gives scores alone" in err
    assert "-o Evaluate.label_errors=val" in err
    assert "[Eval]" not in err


def first(images: ImageList, count: int) -> ImageList:
    return ImageList(images.root, images.paths[:count], images.targets[:count])


def plant(images: ImageList, share: float, seed: int) -> tuple[ImageList, np.ndarray]:
    """Turn a share of the labels by chance; returns the new list and which were turned."""
    turned = np.random.default_rng(seed).random(images.targets.shape) < share
    targets = np.where(turned, 1 - images.targets, images.targets)
    return ImageList(images.root, images.paths, targets), turned


@pytest.mark.heavy
def test_labels_planted_in_photographs_come_first_and_a_weak_model_lists_none(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the features of a backbone that never saw these photographs. By chance: 5 of 100."""
    clean = annotation.read(shared / "data" / "natural_scenes")
    train, turned = plant(first(clean.train, 800), 0.05, seed=0)
    name, size = "PP-LCNet_x1_0_ML", 96
    model = zoo.build(name, 5)
    start = shared / "data" / "weights" / "PPLCNet_x1_0_doc_ori.pdparams"
    weights.fit(model, weights.read(start), head="fc.", where=str(start))
    model.eval()
    source = LoadedModel(model, ModelInfo(name, clean.label_names, size, None), start)
    evaluated = EvaluatedModel(
        model, clean.label_names, preprocess.standard(size), start, 0.5, source
    )
    config = configure(clean.root, tmp_path, "Evaluate.label_errors=all")
    scores = np.random.default_rng(0).random(clean.val.targets.shape).astype(np.float32)
    seen: list[np.ndarray] = []

    def watch(*arguments: Any, **more: Any) -> np.ndarray:
        seen.append(score_out_of_fold(*arguments, **more))
        return seen[-1]

    monkeypatch.setattr(label_errors, "score_out_of_fold", watch)
    suspects, result = label_errors.find(
        config,
        evaluated,
        MLClsDataset(clean.root, clean.label_names, train, clean.val),
        scores,
    )
    quality = label_quality.label_quality(seen[0], train.targets)
    quality[~label_quality.find_doubtful(seen[0], train.targets)] = 1
    worst = np.argsort(quality, axis=None, kind="stable")[:100]
    assert turned.ravel()[worst].sum() >= 20
    # Four of five would be right labels: so it lists none, and says that it cannot judge.
    assert [s for s in suspects if s.list_name == "train"] == []
    assert not result.lists["train"].is_able
