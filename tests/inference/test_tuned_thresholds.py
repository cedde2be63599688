# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5], "1 threshold is given, the model has 5 classes"),
        ([0.5, 0.5, 0.5, 0.5, 7], "a threshold must be a number from 0 to 1, got 7"),
        ("high", "a threshold must be a number from 0 to 1, got 'high'"),
    ],
)
def test_tuned_thresholds_that_fit_no_class_are_refused(altered, thresholds, message):
    folder = altered(lambda content: content["Global"].update(thresholds=thresholds))
    with pytest.raises(PaddlexMLError, match=message):
        Predictor(StaticModel(folder, "cpu"))


def test_predictions_use_tuned_thresholds_unless_told_otherwise(altered, predictor, photos):
    (every,) = predictor.predict(photos / "a.jpg", threshold=0.0)
    second, limits = every.class_ids[1], [1.0] * 5
    limits[second] = every.scores[1] - 1e-3
    folder = altered(lambda content: content["Global"].update(thresholds=limits))
    tuned = Predictor(StaticModel(folder, "cpu"))
    assert [result.class_ids for result in tuned.predict(photos / "a.jpg")] == [[second]]
    (told,) = tuned.predict(photos / "a.jpg", threshold=0.0)
    assert told.class_ids == every.class_ids
    constructed = Predictor(StaticModel(folder, "cpu"), threshold=0.0)
    assert [result.class_ids for result in constructed.predict(photos / "a.jpg")] == [
        every.class_ids
    ]
