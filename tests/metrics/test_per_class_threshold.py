# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.per_class_threshold import LabelSelection, choose, describe, resolve

LABELS = ["cat", "dog", "7", "red square"]


def test_a_number_counts_for_every_class():
    thresholds = resolve(0.3, LABELS)
    assert thresholds.dtype == np.float32
    assert thresholds.tolist() == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_list_gives_each_class_its_own(kind):
    assert resolve(kind([0, 0.25, 0.5, 1]), LABELS).tolist() == [0, 0.25, 0.5, 1]


def test_a_mapping_takes_names_ids_and_ids_in_quotes():
    thresholds = resolve({"default": 0.5, "cat": 0.125, 1: 0.25, "3": 1}, LABELS)
    assert thresholds.tolist() == [0.125, 0.25, 0.5, 1]


def test_a_class_called_7_goes_before_the_class_with_id_7():
    labels = [*LABELS, "a", "b", "c", "d"]
    assert np.flatnonzero(resolve({"default": 0, "7": 1}, labels)).tolist() == [2]
    assert np.flatnonzero(resolve({"default": 0, 7: 1}, labels)).tolist() == [7]


def test_a_float32_score_equal_to_the_threshold_reaches_it():
    assert np.float32(0.7) >= resolve(0.7, ["cat"])[0]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, "must be a number from 0 to 1, got 1.5"),
        (-0.1, "must be a number from 0 to 1, got -0.1"),
        (math.nan, "got nan"),
        (True, "got True"),
        ("0.5", "got '0.5'"),
        (None, "got None"),
        ([0.5, 0.5], "2 thresholds are given, the model has 4 classes"),
        ([0.5, 0.5, 2, 0.5], r"got 2\n  where: threshold\[2\]"),
        ({1: 0.5}, "the thresholds have no default"),
        ({"default": 0.5, "dig": 0.1}, r"no class 'dig'(.|\n)*write dog"),
        ({"default": 0.5, "zebra": 0.1}, "choose from cat, dog, 7, red square"),
        ({"default": 0.5, 4: 0.1}, "class ids go from 0 to 3"),
        ({"default": 0.5, "9" * 5000: 0.1}, "class ids go from 0 to 3"),
        ({"default": 0.5, -1: 0.1}, "the model has no class -1"),
        ({"default": 0.5, "cat": 7}, r"where: threshold\.cat"),
    ],
)
def test_what_fits_no_class_is_refused(threshold, message):
    with pytest.raises(PaddlexMLError, match=message):
        resolve(threshold, LABELS)


@pytest.mark.parametrize(
    ("each", "least", "most", "expected"),
    [
        ([0.5, 0.5, 0.5], 0, None, [1, 0]),
        ([0.95, 0.1, 0.1], 1, None, [1, 2]),  # one is there: the first by score stays out
        ([0.95, 1, 1], 1, None, [1]),
        ([0.95, 1, 0.1], 2, None, [1, 2]),
        ([0, 0, 0], 0, 1, [1]),
        ([1, 1, 1], 3, 3, [1, 0, 2]),
    ],
)
def test_labels_by_threshold_and_number(each, least, most, expected):
    selection = LabelSelection(np.array(each, np.float32), least, most)
    scores = np.array([0.6, 0.9, 0.3], np.float32)
    assert choose(scores, selection).tolist() == expected


def test_the_published_labels_come_out(refdata):
    golden = refdata.load_json("loss_metric", "postprocess.json")
    logits = refdata.load_npz("loss_metric", "loss.npz")["logits"][:4]
    selection = LabelSelection(np.full(logits.shape[1], golden["threshold"], np.float32), 0, None)
    for row, expected in zip(logits, golden["result"], strict=True):
        scores = (1 / (1 + np.exp(-row.astype(np.float64)))).astype(np.float32)
        found = choose(scores, selection)
        assert sorted(found.tolist()) == expected["class_ids"]
        by_id = dict(zip(expected["class_ids"], expected["scores"], strict=True))
        assert scores[found] == pytest.approx([by_id[int(i)] for i in found], abs=1e-5)
        assert (np.diff(scores[found]) <= 0).all()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0.5, 0.5, 0.5], "0.5 for every class"),
        ([0.3], "0.3 for every class"),
        ([0.5, 0.17, 0.5], "0.5, but b 0.17"),
        ([0.1, 0.2], "a 0.1, b 0.2"),
        ([0.5, 0.5, *(0.01 * i for i in range(1, 9))], "f 0.04, g 0.05, h 0.06 and 2 more"),
    ],
)
def test_thresholds_are_described_in_a_few_words(numbers: list[float], text: str) -> None:
    described = describe(np.array(numbers), "abcdefghij"[: len(numbers)])
    assert described.endswith(text)
    assert len(described) < 80
