# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.metrics.measures import summarise
from paddlex_ml.report import pairs
from paddlex_ml.report.figures import Figures


def figures(targets: np.ndarray) -> Figures:
    """Of a result whose classes have the positives of `targets`."""
    names = [f"class {i}" for i in range(targets.shape[1])]
    summary = summarise(np.zeros(targets.shape, np.float32), targets, names, np.full(len(names), 1))
    result = EvaluationResult(
        format_version=1, done_flag=True, weight_path="", val_digest="", metrics=summary.metrics,
        per_class=summary.per_class, thresholds=None, label_errors=None, comparison=None,
        per_class_csv="",
    )  # fmt: skip
    return Figures(result, names)


def strange() -> tuple[np.ndarray, np.ndarray]:
    """Class 0 is missed on 30 of 40 images that show class 1, and on 6 of 60 others."""
    targets = np.array([[1, 1]] * 40 + [[1, 0]] * 60 + [[0, 1]] * 50 + [[0, 0]] * 50)
    decided = targets == 1
    decided[:30, 0] = decided[40:46, 0] = False
    return decided, targets


def test_a_class_missed_beside_another_is_said_with_its_counts():
    decided, targets = strange()
    found = pairs.relate(figures(targets), decided, targets)
    (line,) = found.lists["misses"]
    assert line.striptags().replace("\xa0", " ") == (
        "class 0 is missed on 30 of the 40 images with it that also show class 1 (75 %), "
        "but on 6 of the 60 without that (10 %)"
    )
    assert found.lists["alarms"] == []


def test_false_alarms_beside_another_are_said_the_same_way():
    decided, targets = strange()
    decided = targets == 1
    decided[100:120, 0] = True  # 20 of the 50 images that show class 1 alone
    decided[150, 0] = True  # 1 of the 50 that show neither
    found = pairs.relate(figures(targets), decided, targets)
    (line,) = found.lists["alarms"]
    assert line.striptags().replace("\xa0", " ") == (
        "class 0 is falsely found on 20 of the 50 images without it that show class 1 (40 %), "
        "but on 1 of the 50 without both (2 %)"
    )


def test_the_tables_give_shares_of_the_images_that_show_the_row():
    decided, targets = strange()
    found = pairs.relate(figures(targets), decided, targets)
    assert found.classes == [0]  # class 1 has no errors
    decided[0, 1] = False
    found = pairs.relate(figures(targets), decided, targets)
    rows = {row.id: {c.id: c for c in row.cells} for row in found.tables["misses"]}
    assert (rows[1][0].count, rows[1][0].percent) == (30, "33")  # of 90
    assert (rows[0][0].count, rows[0][0].percent) == (36, "36")  # of 100
    assert rows[0][1].percent == "1"
    assert rows[0][0].shade == "0.50"  # the darkest


def test_chance_alone_gives_no_sentence():
    rng = np.random.default_rng(0)
    targets = (rng.random((2000, 20)) < 0.3).astype(np.uint8)
    decided = (targets == 1) ^ (rng.random(targets.shape) < 0.2)
    found = pairs.relate(figures(targets), decided, targets)
    assert found.lists == {"misses": [], "alarms": []}
    assert len(found.classes) == 20


def test_many_classes_are_cut_to_those_with_the_most_errors():
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 50)) < 0.3).astype(np.uint8)
    decided = targets == 1
    for i in range(50):
        decided[: i + 1, i] ^= True
    found = pairs.relate(figures(targets), decided, targets)
    assert found.classes == list(range(49, 25, -1))
    assert found.left_out == 26


def test_images_where_a_class_is_unknown_are_neither_with_it_nor_without():
    decided, targets = strange()
    found = pairs.relate(figures(targets), decided, targets)
    more = np.array([[1, -1], [-1, 1], [-1, -1]] * 30)
    partly = np.concatenate([targets, more])
    errors = np.concatenate([decided, more != 1])  # each known one of them is missed
    again = pairs.relate(figures(partly), errors, partly)
    assert again.lists == found.lists
    cells = {
        (row.id, cell.id): (cell.count, cell.shown)
        for row in again.tables["misses"]
        for cell in row.cells
    }
    assert cells[1, 0] == (30, 40 + 50)
    assert cells[0, 0] == (30 + 6 + 30, 100 + 30)  # those beside an unknown class too
