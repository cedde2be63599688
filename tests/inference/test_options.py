# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.options import PredictOptions


def test_keywords_are_the_fields():
    wanted = PredictOptions.read({"rgb": True, "max_labels": 2})
    assert (wanted.order.rgb, wanted.max_labels, wanted.on_error) == (True, 2, "report")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_label": 1}, r"predict has no option 'max_label'(.|\n)*write max_labels="),
        ({"xyz": 1}, r"no option 'xyz'(.|\n)*choose from max_labels, min_labels"),
        ({"layout": "hwc"}, "no layout of arrays is called 'hwc'"),
        ({"keep_side": 1.5}, "keep_side must be a whole number from 1"),
    ],
)
def test_other_names_and_values_are_refused(keywords, message):
    with pytest.raises(PaddlexMLError, match=message):
        PredictOptions.read(keywords).order  # noqa: B018
