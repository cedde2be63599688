# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.artifacts import saved_scores
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.data import annotation
from paddlex_ml.engines.sweep.join_folds import join
from paddlex_ml.metrics.average_precision import mean_average_precision
from tests.finished_runs import draw_scores, draw_targets

NAMES = ["cat", "dog", "cow"]


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """Two folds of 80 images, in which six labels are wrong."""
    folder = SweepFolder(tmp_path)
    for number in (1, 2):
        data = folder.fold(number, 2)
        targets = draw_targets(80, 3, number)
        scores = draw_scores(targets, 5.0, number)
        if number == 2:
            targets[:6, 1] = 1 - targets[:6, 1]
            scores[:6, 1] = 0.01 + 0.98 * (1 - targets[:6, 1])
        (data / "images").mkdir(parents=True)
        paths = [f"images/{number}_{i}.jpg" for i in range(80)]
        for path in paths:
            (data / path).touch()
        annotation.write_labels(data / "label.txt", NAMES)
        annotation.write_list(data / "val.txt", paths, targets)
        saved_scores.write(
            RunFolder(tmp_path / f"run_{number}").val_scores, scores, targets,
            val_digest="0", label_names=NAMES, weights="raw", epoch=1,
        )  # fmt: skip
    return folder


def test_the_scores_of_all_images_are_kept_and_feed_the_label_errors(sweep):
    found = join(sweep, "all", ["run_1", "run_2"])
    assert found is not None
    parts = [
        saved_scores.read_table(RunFolder(sweep.output / f"run_{k}").val_scores) for k in (1, 2)
    ]
    scores, targets = (np.concatenate(each) for each in zip(*parts, strict=True))
    kept = saved_scores.read_table(found.folder / "val_scores.npz")
    assert (kept[0] == scores).all()
    assert (kept[1] == targets).all()
    assert found.images == 160
    assert found.map == pytest.approx(mean_average_precision(scores, targets), abs=1e-3)
    with (found.folder / "label_errors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.suspected >= 4
    wrong = {f"images/2_{i}.jpg" for i in range(6)}
    assert {(row["image"] in wrong, row["class"]) for row in rows[:4]} == {(True, "dog")}


def test_a_fold_without_scores_joins_nothing(sweep):
    assert join(sweep, "all", ["run_1", "run_3"]) is None
    assert not sweep.out_of_fold.exists()
